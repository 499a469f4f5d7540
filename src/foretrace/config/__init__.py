"""What a person can choose, as checked and typed values; ``conf/`` gives the defaults.

Only what is cheap to import is imported, so that a wrong setting is answered at once.
"""

# isort: off
from foretrace.config.commands import (
    DescribeConfig, EvaluateConfig, Evaluation, ExportConfig, Model, Network, PredictConfig, Tracking, TrainConfig,
    Trainer,
)  # fmt: skip
from foretrace.config.data import (
    DataConfig, FilesData, Fraction, LeRobotData, MinariData, PublishedData, Reading, Settings, SimulatedData,
)  # fmt: skip

__all__ = [
    "DataConfig", "DescribeConfig", "EvaluateConfig", "Evaluation", "ExportConfig", "FilesData", "Fraction",
    "LeRobotData", "MinariData", "Model", "Network", "PredictConfig", "PublishedData", "Reading", "Settings",
    "SimulatedData", "Tracking", "TrainConfig", "Trainer",
]  # fmt: skip

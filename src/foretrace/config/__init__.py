"""What a person can choose, as checked and typed values; ``conf/`` gives the defaults.

Only what is cheap to import is imported, so that a wrong setting is answered at once.
"""

from foretrace.config.base import Fraction, Settings
from foretrace.config.commands import DescribeConfig, EvaluateConfig, ExportConfig, PredictConfig
from foretrace.config.data import (
    DataConfig,
    FilesData,
    LeRobotData,
    MinariData,
    PublishedData,
    Reading,
    SimulatedData,
)
from foretrace.config.training import Evaluation, Model, Network, Tracking, TrainConfig, Trainer

__all__ = [
    "DataConfig", "DescribeConfig", "EvaluateConfig", "Evaluation", "ExportConfig", "FilesData", "Fraction",
    "LeRobotData", "MinariData", "Model", "Network", "PredictConfig", "PublishedData", "Reading", "Settings",
    "SimulatedData", "Tracking", "TrainConfig", "Trainer",
]  # fmt: skip

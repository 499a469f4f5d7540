"""What a person can choose, as checked and typed values; ``conf/`` gives the defaults.

Only what is cheap to import is imported, so that a wrong setting is answered at once.
"""

from foretrace.config.base import Fraction, Settings
from foretrace.config.commands import (
    DescribeConfig,
    EvaluateConfig,
    ExportConfig,
    PredictConfig,
    Recordings,
    Store,
)
from foretrace.config.data import (
    DataConfig,
    FilesData,
    LeRobotData,
    MinariData,
    PublishedData,
    Reading,
    SimulatedData,
    Split,
    Windowing,
)
from foretrace.config.training import (
    EarlyStopping,
    Evaluation,
    Loss,
    Model,
    Network,
    OpenLoop,
    Optimizer,
    Scheduler,
    Sweep,
    Tracking,
    TrainConfig,
    Trainer,
)

__all__ = [
    "DataConfig",
    "DescribeConfig",
    "EarlyStopping",
    "EvaluateConfig",
    "Evaluation",
    "ExportConfig",
    "FilesData",
    "Fraction",
    "LeRobotData",
    "Loss",
    "MinariData",
    "Model",
    "Network",
    "OpenLoop",
    "Optimizer",
    "PredictConfig",
    "PublishedData",
    "Reading",
    "Recordings",
    "Scheduler",
    "Settings",
    "SimulatedData",
    "Split",
    "Store",
    "Sweep",
    "Tracking",
    "TrainConfig",
    "Trainer",
    "Windowing",
]

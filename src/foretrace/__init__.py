"""Stacked LSTMs on multivariate sequences: trained, tracked, and compared with trivial forecasts.

The public API: `train`, `load`, `runs`, `compare`, `Run` and `UserError`; see docs/python_api.md.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from foretrace.errors import UserError

# Before a library is imported or a thread exists: MLflow's telemetry changes the environment while others read it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# With more attempts MLflow's client would wait for minutes, unheard; what could not be sent waits on disk.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
# Where to look is said by us: the client would print the address with the password in it.
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"

if TYPE_CHECKING:
    from foretrace.commands.api import Run, compare, runs, train
    from foretrace.serving.loading import load

__all__ = ["Run", "UserError", "compare", "load", "runs", "train"]


def __getattr__(name: str) -> Any:
    """Import what is asked for: torch, Lightning and MLflow take seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'foretrace' has no attribute {name!r}")
    return getattr(
        import_module("foretrace.serving.loading" if name == "load" else "foretrace.commands.api"), name
    )

"""Stacked LSTMs on multivariate sequences: trained, tracked, and compared with trivial forecasts."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from foretrace.serving.predictor import Predictor


def load(where: "str | Path") -> "Predictor":
    """Load a trained model, ready to forecast in the data's own units; see `foretrace.serving.loading.load`.

    Args:
        where: ``runs:/<id>``, ``models:/<name>@<alias>``, or the path of a model file, a checkpoint, a run's folder
            or an MLflow model's folder.
    """
    from foretrace.serving import loading  # torch takes seconds to import

    return loading.load(where)

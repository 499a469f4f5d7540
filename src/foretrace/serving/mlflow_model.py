"""The code of our models in MLflow, which copies this file into each and runs it wherever one is loaded.

It needs foretrace to be installed there. What else it reads is the model file beside it.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from foretrace.errors import UserError
from foretrace.serving.loading import load_path


class Forecast(PythonModel):
    """A model that answers rows with the rows that follow, and intervals where ``intervals`` gives levels.

    Rows at the end that have covariates but no value in any feature are the future's: where the model has
    covariates, ``horizon`` − 1 of them are needed.
    """

    def load_context(self, context: Any) -> None:
        """Read the model file."""
        self.predictor = load_path(Path(context.artifacts["model"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Forecast ``horizon`` rows.

        Raises:
            MlflowException: If the rows do not fit; a server answers it with status 400.
        """
        predictor, rows, future = self.predictor, model_input, None
        if predictor.covariate_names:
            has_features = rows[list(predictor.feature_names)].notna().any(axis=1).to_numpy()
            seen = int(has_features.nonzero()[0].max(initial=-1)) + 1
            rows, future = rows.iloc[:seen], rows.iloc[seen:][list(predictor.covariate_names)]
        try:
            asked = params or {}
            intervals = [float(level) for level in asked.get("intervals", ())]
            return predictor.predict(rows, int(asked.get("horizon", 1)), future, intervals=intervals)
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


set_model(Forecast())

"""Several models that forecast together, as the seeds of a sweep's best settings do.

Shapes: T rows, F features, C columns, H steps ahead, M members.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from foretrace.errors import UserError
from foretrace.serving.predictor import Predictor
from foretrace.serving.rows import FloatArray
from foretrace.tracking.stored import StoredRun

MOST = 1000  # children that are looked at
SEED = "seed="


class Ensemble(Predictor):
    """A predictor that gives the mean of its members' forecasts, each of which reads its own forecasts.

    Args:
        members: Models of the same features and covariates.

    Raises:
        UserError: If they read or forecast something else than one another.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        super().__init__(members[0].card, members[0].model)
        self.members = list(members)
        for member in members:
            if (member.columns, member.feature_names) != (self.columns, self.feature_names):
                raise UserError("run: the models of the sweep's best settings have different columns")

    def start(self) -> Any:
        """Return the members' states before the first row."""
        return [(None, member.start()) for member in self.members]

    def forecast_steps(self, rows: FloatArray, state: Any) -> tuple[FloatArray, Any]:
        """Forecast one step ahead of each of the rows (T, C); the state is that of all members."""
        states = state or self.start()
        found = [
            member.forecast_steps(rows, old) for member, (_, old) in zip(self.members, states, strict=True)
        ]
        after = [(forecasts[-1], new) for forecasts, new in found]
        return np.mean([forecasts for forecasts, _ in found], axis=0, dtype=np.float32), after

    def continue_rollout(
        self, first: FloatArray, state: Any, horizon: int, covariates: FloatArray
    ) -> FloatArray:
        """Let each member's forecasts feed on themselves, and return their mean (H, F)."""
        rollouts = [
            member.continue_rollout(own_first, own_state, horizon, covariates)
            for member, (own_first, own_state) in zip(self.members, state, strict=True)
        ]
        mean: FloatArray = np.mean(rollouts, axis=0, dtype=np.float32)
        return mean


def best_settings_runs(parent: StoredRun, best: StoredRun) -> list[str]:
    """Return the ids of a sweep's finished runs that differ from its best child by the seed alone, that one first."""

    def settings(job: str) -> list[str]:
        return sorted(one for one in json.loads(job) if not one.lstrip("+").startswith(SEED))

    wanted = settings(best.logged_tags().get("sweep.job", "[]"))
    condition = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent.id}' and attributes.status = 'FINISHED'"
    experiment = parent.client.get_run(parent.id).info.experiment_id
    runs = parent.client.search_runs([experiment], condition, max_results=MOST)
    jobs = {run.info.run_id: run.data.tags.get("sweep.job") for run in runs if "pruned" not in run.data.tags}
    others = [run_id for run_id, job in jobs.items() if job and settings(job) == wanted and run_id != best.id]
    return [best.id, *sorted(others)]

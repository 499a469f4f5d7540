"""Several models that forecast together."""

import json

import numpy as np
import pytest
from helpers import client, made, rows
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from foretrace.model.ensemble import Ensemble
from foretrace.serving.loading import load_ensemble
from foretrace.serving.predictor import Predictor
from foretrace.workspace import Workspace

MEMBERS = [made(seed=seed) for seed in (1, 2, 3)]
TOGETHER = Predictor(MEMBERS[0].card, Ensemble([member.model for member in MEMBERS]))


def test_forecast_is_the_mean_of_the_members_own_rollouts():
    found = TOGETHER.predict(rows(20), 4, [[1.0]] * 3)
    each = [member.predict(rows(20), 4, [[1.0]] * 3).to_numpy() for member in MEMBERS]
    assert found.to_numpy() == pytest.approx(np.mean(each, axis=0), rel=1e-5)


def test_spread_of_the_ensemble_counts_its_members_disagreement():
    members, given = [made(seed=seed, gaussian=True) for seed in (1, 2)], rows(20).to_numpy(np.float32)
    together = Predictor(members[0].card, Ensemble([member.model for member in members]))
    found, spread, _ = together.forecast_steps(given, together.start())
    one, two = (member.forecast_steps(given, member.start()) for member in members)
    apart = (one[0] - two[0]) / 2 / members[0].model.scaling.scale.numpy()
    assert found == pytest.approx((one[0] + two[0]) / 2, rel=1e-4)
    assert spread == pytest.approx(np.sqrt((one[1] ** 2 + two[1] ** 2) / 2 + apart**2), rel=1e-3)


def test_step_by_step_the_ensemble_says_the_same():
    state = TOGETHER.start()
    for values in rows(20).to_numpy():
        forecast, state = TOGETHER.step(values, state)
    assert forecast == pytest.approx(TOGETHER.predict(rows(20)).to_numpy()[0], rel=1e-5)


def test_sweep_is_the_ensemble_of_the_seeds_of_its_best_settings(trained, bare):
    here = trained.copy(bare)
    store = client(here.root)
    parent = store.create_run("1", tags={"best_child": here.run_ids[0]}).info.run_id
    other = store.create_run("1").info.run_id
    store.set_terminated(other)
    jobs = [["model.dropout=0", "seed=1"], ["seed=2", "model.dropout=0"], ["model.dropout=0.1", "seed=1"]]
    for run_id, job in zip([*here.run_ids, other], jobs, strict=True):
        store.set_tag(run_id, MLFLOW_PARENT_RUN_ID, parent)
        store.set_tag(run_id, "sweep.job", json.dumps(job))
    found = load_ensemble(parent, Workspace(here.root))
    assert list(found.run_ids) == here.run_ids

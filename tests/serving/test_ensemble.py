"""Several models that forecast together."""

import json

import numpy as np
import pytest
from helpers import client, made, rows
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from foretrace.errors import UserError
from foretrace.serving.loading import load_ensemble
from foretrace.serving.predictor import Ensemble
from foretrace.workspace import Workspace

MEMBERS = [made(seed=seed) for seed in (1, 2, 3)]


def test_forecast_is_the_mean_of_the_members_own_rollouts():
    found = Ensemble(MEMBERS).predict(rows(20), 4, [[1.0]] * 3)
    each = [member.predict(rows(20), 4, [[1.0]] * 3).to_numpy() for member in MEMBERS]
    assert found.to_numpy() == pytest.approx(np.mean(each, axis=0), rel=1e-5)


def test_step_by_step_the_ensemble_says_the_same():
    ensemble = Ensemble(MEMBERS)
    state = ensemble.start()
    for values in rows(20).to_numpy():
        forecast, state = ensemble.step(values, state)
    assert forecast == pytest.approx(ensemble.predict(rows(20)).to_numpy()[0], rel=1e-5)


def test_models_of_other_columns_are_no_ensemble():
    with pytest.raises(UserError, match="different columns"):
        Ensemble([made(), made(covariates=False)])


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
    found = load_ensemble(parent, uri=None, workspace=Workspace(here.root))
    assert [member.card.run_id for member in found.members] == here.run_ids

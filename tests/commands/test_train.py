"""The whole path in this process: configurations in, a tracked run out."""

import os
import subprocess
import sys

import pandas as pd
import pytest
import torch
from helpers import ROOT, SHARED, SMALL, client, only_run

from foretrace.commands import train
from foretrace.errors import UserError
from foretrace.training.module import Forecaster
from foretrace.workspace import Workspace

PUBLISHED = {"halfcheetah_ltc": "halfcheetah_ltc", "walker2d_cfc": "walker2d"}
TINY = ["model.hidden_sizes=[4]", "trainer.max_epochs=1", "trainer.progress=false", "data.batch_size=2048"]
CHOICES = [
    f"{group.name}={option.stem}"
    for group in sorted((ROOT / "conf").iterdir())
    if group.is_dir() and group.name != "data"
    for option in sorted(group.glob("*.yaml"))
    if option.stem not in PUBLISHED
]
VALUES = [
    "data=halfcheetah",
    "data=walker2d",
    "data.random_offset=true",
    "model.output=value",
    "model.output=linear",
    "trainer.precision=bf16-mixed",
    "loss.input_noise=0.1",
    "loss.open_loop={weight: 1, horizon: 5, growth_epochs: 2}",
    "loss.kind=gaussian",
    "trainer.gradient_clip=1",
    "trainer.early_stopping={patience: 1, min_delta: 0}",
]


@pytest.fixture
def run(composed, here, no_pictures):
    return lambda *overrides: train.run(composed(*SMALL, *overrides), workspace=Workspace.default())


@pytest.mark.parametrize("choice", [*CHOICES, *VALUES])
def test_every_choice_trains_and_is_tested(composed, here, choice, no_pictures):
    small = ["model.hidden_sizes=[4,4,4]"] if choice.startswith("experiment") else []
    if choice == "experiment=rollout":
        small.append("loss.open_loop.horizon=5")  # of its 60 steps: windows have 10 here
    tracking = [f"tracking.run_name='{choice}'", "tracking.experiment=foretrace"]
    metrics = train.run(composed(*SMALL, choice, *small, *tracking), workspace=Workspace.default())
    assert metrics["test/l1"] <= metrics["test/mse"] ** 0.5
    assert metrics["skill"] == pytest.approx(1 - metrics["test/mse"] / metrics["persistence/mse"])
    [latest] = client(here).search_runs(["1"], max_results=1)
    assert (latest.info.run_name, latest.info.status) == (choice, "FINISHED")


@pytest.mark.parametrize("data", PUBLISHED)
def test_published_data_train_with_their_own_windows(composed, here, no_pictures, data):
    root = SHARED / PUBLISHED[data]
    if not root.exists():
        pytest.skip(f"the published recordings are not in {root}")
    train.run(composed(f"data={data}", f"data.root={root}", *TINY), workspace=Workspace.default())
    inputs = {i.dataset.name.split()[-1]: i.dataset.profile for i in only_run(here).inputs.dataset_inputs}
    windows = {"halfcheetah_ltc": (970, 485), "walker2d_cfc": (9684, 1272)}[data]
    assert all(f'"windows": {n}' in inputs[part] for n, part in zip(windows, ("train", "valid"), strict=True))


def test_missing_test_files_are_told(composed, here, no_pictures, capsys):
    root = SHARED / "walker2d"
    if not root.exists():
        pytest.skip(f"the published recordings are not in {root}")
    metrics = train.run(
        composed("data=walker2d_cfc", f"data.root={root}", *TINY), workspace=Workspace.default()
    )
    assert "test     not done: 60 of 60 test files" in capsys.readouterr().out
    assert "val/mse" in metrics
    assert "test/mse" not in metrics


def test_nothing_is_held_back_for_a_test_where_its_share_is_0(run, here, no_pictures, capsys):
    metrics = run("data.split={train: 0.8, valid: 0.2, test: 0}")
    assert "test/mse" not in metrics
    told = capsys.readouterr().out
    assert "test     not done: nothing was held back for it (data.split.test=0)" in told
    assert told.splitlines()[-1].endswith("status=FINISHED test/mse=nan test/l1=nan skill=nan")
    for shares in ("{train: 0, valid: 0, test: 1}", "{train: 1, valid: 0, test: 0}"):
        with pytest.raises(UserError, match="a share of 0 for training or validation"):
            run(f"data.split={shares}")


def test_what_a_run_holds(composed, here):
    changed = ["trainer.max_epochs=3", "data.batch_size=2", "data.episodes=5", "seed=7", "optimizer.lr=0.01"]
    train.run(composed(*SMALL, *changed), workspace=Workspace.default())
    found = only_run(here)
    data = found.data
    history = client(here).get_metric_history(found.info.run_id, "MSE train loss")
    assert [point.step for point in history] == [*range(18)]  # 3 episodes, 4 windows each, in pairs, 3 times
    for name in ("MSE train loss/epoch", "val/mse", "val/l1", "lr"):
        assert [p.step for p in client(here).get_metric_history(found.info.run_id, name)] == [0, 1, 2]
    expected = {
        f"{a}{b}" for a in ("test/", "test/raw/", "persistence/", "persistence/raw/") for b in ("mse", "l1")
    }
    expected |= {"skill", "parameters/trainable", "parameters/frozen"}
    expected |= {"carried_state/ridge/mse", "open_loop/mse", "open_loop/persistence/mse", "valid_time_steps"}
    assert expected <= set(data.metrics)
    assert "worse_than" in data.tags
    assert data.params["seed"] == "7"
    assert data.params["optimizer.lr"] == "0.01"
    tags = {"mlflow.source.git.commit", "git.dirty", "command", "version.torch", "host", "accelerator"}
    assert tags <= set(data.tags)
    assert {i.dataset.name for i in found.inputs.dataset_inputs} == {
        f"halfcheetah {p}" for p in ("train", "valid", "test")
    }
    folder = here / "mlruns" / "artifacts" / found.info.run_id / "artifacts"
    figures = {"train_loss_by_batch", "error_by_epoch", "layer_norms", "prediction_and_truth", "features"}
    figures |= {"gradients", "gates", "distributions", "residuals", "error_by_position", "error_by_horizon"}
    figures |= {"skill_map", "animation", "coverage", "fan_chart"}
    assert {path.stem for path in (folder / "figures").iterdir()} == figures
    page = (folder / "report.html").read_text()
    headings = ("Data", "Training", "Open loop", "Inside the network", "Record")
    assert all(f">{heading}</h2>" in page for heading in headings)
    assert (folder / "config.yaml").read_text().startswith("seed: 7")


def test_the_epoch_s_loss_is_the_mean_over_its_windows(run, here):
    """6 windows in batches of 4 and 2: a mean of the two batches' means would be another."""
    run("data.episodes=3", "data.batch_size=3", "data.steps=40")
    found = only_run(here)
    losses = [point.value for point in client(here).get_metric_history(found.info.run_id, "MSE train loss")]
    mean = (3 * losses[0] + losses[1]) / 4
    assert found.data.metrics["MSE train loss/epoch"] == pytest.approx(mean, rel=1e-5)


def test_checkpoints_hold_plain_data_and_rebuild_the_module(run, here):
    run("model.frozen=[lstm.0]")
    folder = here / "mlruns" / "artifacts" / only_run(here).info.run_id / "artifacts" / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"best.ckpt", "last.ckpt"}
    checkpoint = torch.load(folder / "best.ckpt", weights_only=True)
    rebuilt = Forecaster(**checkpoint["hyper_parameters"])
    rebuilt.load_state_dict(checkpoint["state_dict"])
    assert not rebuilt.model.layers()["lstm.0"].weight_ih_l0.requires_grad


def test_a_seed_gives_the_same_figures_twice(run):
    dropout = ["model.dropout=0.1", "model.hidden_sizes=[8,8]"]
    assert run("seed=3", *dropout) == run("seed=3", *dropout) != run("seed=4", *dropout)


def test_a_run_is_named_after_its_data_network_and_seed(trained_on_files):
    [run] = client(trained_on_files.root).search_runs(["1"])
    assert run.info.run_name == "*.csv 8-6 linear seed 1"


def test_curves_are_kept_as_one_table(run, here):
    run("tracking.csv=true")
    found = only_run(here)
    table = pd.read_csv(here / "mlruns" / "artifacts" / found.info.run_id / "artifacts" / "curves.csv")
    points = client(here).get_metric_history(found.info.run_id, "MSE train loss")
    kept = table[table["metric"] == "MSE train loss"]
    assert list(zip(kept["step"], kept["value"], strict=True)) == [(p.step, p.value) for p in points]
    assert set(table["metric"]) == set(found.data.metrics)


@pytest.mark.slow
def test_runs_start_in_an_environment_of_twenty_thousand_variables(here):
    variables = {f"VARIABLE_{number}": "x" for number in range(20_000)}
    command = [sys.executable, str(ROOT / "src" / "train.py"), *SMALL, "trainer.max_epochs=1"]
    for _ in range(3):
        done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_frozen_layers_stay_as_they_were_made(run, here):
    run("model.hidden_sizes=[4,4]", "model.frozen=[lstm.1]", "optimizer.lr=0.1")
    folder = here / "mlruns" / "artifacts" / only_run(here).info.run_id / "artifacts" / "checkpoints"
    trained = torch.load(folder / "last.ckpt", weights_only=True)
    torch.manual_seed(1)
    fresh = Forecaster(**trained["hyper_parameters"]).state_dict()
    lstm = {name: value for name, value in trained["state_dict"].items() if "lstm" in name}
    same = {name: torch.equal(fresh[name], value) for name, value in lstm.items()}
    assert same == {name: "lstm.1" in name for name in same}


def test_a_wrong_argument_leaves_nothing_behind(composed, bare):
    with pytest.raises(UserError, match=r"optimizer\.name"):
        train.run(composed(*SMALL, "optimizer.name=Adem"), workspace=Workspace(bare))
    assert list(bare.iterdir()) == []


def test_files_that_do_not_fit_leave_nothing_behind(composed, bare, tmp_path_factory):
    recording = tmp_path_factory.mktemp("recordings") / "one.csv"
    recording.write_text("height\n" + "\n".join("123456789012"))
    with pytest.raises(UserError, match=r"data\.window: no window of 50 steps fits"):
        train.run(composed("data=files", f"data.path='{recording}'"), workspace=Workspace.default())
    assert [path.name for path in bare.iterdir()] == [".cache"]  # what was read is kept for the next try

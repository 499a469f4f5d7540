"""Sweeps: many runs under one parent, whatever becomes of them."""

import csv
import io
import json
import signal
import subprocess
import sys
import time

import mlflow
import pytest
from helpers import SMALL, new_checkout, train

from foretrace.reports.figures.sweeps import Scale, setting_effect
from foretrace.sweeps import table
from foretrace.sweeps.children import Child, counted
from foretrace.sweeps.table import Estimate

TOO_WIDE = "[9]"  # for the review below
QUICK = [*SMALL, "trainer.diagnose_every=null"]
REVIEW = """def review(forecaster, *_: object, **__: object) -> dict[str, float]:
    if forecaster.hparams["model"]["hidden_sizes"] == [9]:
        raise MemoryError("no room")
    return {"test/mse": 1.0, "test/l1": 1.0, "skill": 0.5}
"""


def quick_checkout(root):
    """One in which trained models are not judged, which would take most of the time."""
    new_checkout(root)
    (root / "src/foretrace/review.py").write_text(REVIEW)
    return root


@pytest.fixture
def quick(tmp_path):
    return quick_checkout(tmp_path / "a checkout")


def found(checkout):
    """The parent and its children, oldest first."""
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{checkout / 'mlflow.db'}")
    runs = client.search_runs(["1"], order_by=["attributes.start_time ASC"])
    [parent] = [run for run in runs if "sweep.jobs" in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == len(runs) - 1
    return client, parent, children


def rows(checkout, parent, name):
    file = checkout / "mlruns/artifacts" / parent.info.run_id / "artifacts" / name
    return list(csv.DictReader(io.StringIO(file.read_text())))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two widths with two seeds each, and one that fails before them."""
    checkout = quick_checkout(tmp_path_factory.mktemp("sweep") / "a checkout")
    widths = f"model.hidden_sizes={TOO_WIDE},[8],[4]"
    return checkout, train(checkout, "-m", *QUICK, widths, "seed=range(1,3)", cwd=checkout)


def test_each_combination_is_a_child(swept):
    checkout, _ = swept
    _, parent, children = found(checkout)
    begun = {(run.data.tags["sweep.job"], run.info.status) for run in children}
    assert sorted(status for _, status in begun) == ["FAILED"] * 2 + ["FINISHED"] * 4
    assert {tuple(json.loads(job)[-1:]) for job, _ in begun} == {("seed=1",), ("seed=2",)}
    assert all("-m" not in run.data.tags["command"] for run in children)
    assert "seed=range(1,3)" in parent.data.tags["command"]


def test_a_failure_stops_no_other_and_is_told_at_once_and_at_the_end(swept):
    checkout, done = swept
    _, parent, _ = found(checkout)
    assert (done.returncode, parent.info.status) == (1, "FAILED")
    assert done.stderr.count("\nfailed   ") == 2
    last = done.stdout.splitlines()[-1]
    assert last.startswith(
        f"sweep={parent.info.run_id} status=FAILED 4 of 6 jobs done, 2 failed: model.hidden"
    )
    assert {parent.data.tags[f"sweep.{what}"] for what in ("done", "failed")} == {"4", "2"}
    failed = [row for row in rows(checkout, parent, "children.csv") if row["status"] == "FAILED"]
    assert len(failed) == 2
    assert all("no room" in row["error"] and not row["test/mse"] for row in failed)


def test_seeds_are_repeats(swept):
    checkout, _ = swept
    _, parent, children = found(checkout)
    by_settings = {row["model.hidden_sizes"]: row for row in rows(checkout, parent, "summary.csv")}
    assert {width: row["n"] for width, row in by_settings.items()} == {"[8]": "2", "[4]": "2", TOO_WIDE: "0"}
    errors = [
        run.data.metrics["val/mse"] for run in children if run.data.params.get("model.hidden_sizes") == "[8]"
    ]
    expected = Estimate.of(errors)
    assert float(by_settings["[8]"]["val/mse"]) == pytest.approx(expected.mean, rel=1e-5)
    assert float(by_settings["[8]"]["val/mse 95% high"]) == pytest.approx(expected.high, rel=1e-5)
    figures = checkout / "mlruns/artifacts" / parent.info.run_id / "artifacts/figures"
    assert [file.name for file in figures.iterdir()] == ["model.hidden_sizes.png"]  # none of the seed


def test_the_parent_names_the_best_by_validation_error(swept):
    checkout, _ = swept
    _, parent, _ = found(checkout)
    best = rows(checkout, parent, "summary.csv")[0]
    of_best = [
        row
        for row in rows(checkout, parent, "children.csv")
        if row["model.hidden_sizes"] == best["model.hidden_sizes"]
    ]
    child = min(of_best, key=lambda row: float(row["val/mse"]))
    assert parent.data.tags["best_child"] == child["run_id"]
    assert f"#/runs/{child['run_id']}" in parent.data.tags["mlflow.note.content"]
    assert parent.data.metrics["val/mse"] == pytest.approx(float(best["val/mse"]), rel=1e-5)


def test_nothing_is_left_outside_mlruns(swept):
    checkout, _ = swept
    assert {path.name for path in checkout.iterdir()} == {"src", "conf", "mlruns", "mlflow.db", ".cache"}
    assert not (checkout / "mlruns/multirun").exists()


WRONG = {
    "model.dropout=0,1.5": "job 2 of 2 (model.dropout=1.5): model.dropout: expected less than 1, received 1.5",
    "model.dropuot=0,0.1": "Did you mean 'model.dropout'",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_sweep_gets_one_line_and_makes_no_run(quick, override):
    done = train(quick, "-m", override, cwd=quick)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert WRONG[override] in line
    assert not (quick / "mlruns/artifacts").exists()


def test_a_killed_sweep_goes_on_where_it_was(quick):
    group = ["experiment=course_report", "tracking.experiment=foretrace"]  # settings of a job, not of a run
    command = [sys.executable, "src/train.py", "-m", *group, *QUICK, "trainer.max_epochs=40", "seed=range(3)"]
    process = subprocess.Popen(command, cwd=quick, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(quick.glob("mlruns/artifacts/*/artifacts/checkpoints/last.ckpt"))) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, parent, [finished, cut] = found(quick)
    checkpoints = quick / "mlruns/artifacts" / cut.info.run_id / "artifacts/checkpoints"
    if (checkpoints / "last.ckpt").exists():  # as a kill between two of them leaves it
        (checkpoints / "last.ckpt").replace(checkpoints / "previous.ckpt")
    done = train(quick, f"sweep.resume={parent.info.run_id}", cwd=quick)
    assert done.returncode == 0, done.stderr
    assert "2 jobs left of 3" in done.stdout
    client, parent, children = found(quick)
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    assert [run.info.run_id for run in children][:2] == [finished.info.run_id, cut.info.run_id]
    assert [int(run.data.tags.get("resumed", 0)) for run in children] == [0, 1, 0]
    assert [p.step for p in client.get_metric_history(cut.info.run_id, "val/mse")] == list(range(40))


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_jobs_at_once_fail_alone(quick, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    widths = f"model.hidden_sizes={TOO_WIDE},[8]"
    done = train(quick, "-m", f"hydra/launcher={launcher}", *QUICK, widths, cwd=quick)
    _, parent, children = found(quick)
    assert (done.returncode, parent.info.status) == (1, "FAILED"), done.stderr
    assert sorted(run.info.status for run in children) == ["FAILED", "FINISHED"]
    [told] = [line for line in done.stderr.splitlines() if line.startswith("failed ")]
    assert TOO_WIDE in told
    assert {path.name for path in quick.iterdir()} == {"src", "conf", "mlruns", "mlflow.db", ".cache"}


def child(width, seed, valid, *, test=1.0, status="FINISHED"):
    job = (f"model.hidden_sizes=[{width}]", f"seed={seed}")
    return Child(job, f"{width}-{seed}", status, metrics={"val/mse": valid, "test/mse": test})


def test_the_best_is_not_chosen_by_the_test_error_nor_by_few_seeds():
    children = [child(8, 1, 0.5, test=9), child(8, 2, 0.7, test=9), child(16, 1, 0.8), child(16, 2, 0.9)]
    lucky = [child(4, 1, 0.1), child(4, 2, 0.2, status="KILLED")]
    found = table.best(table.groups([*children, *lucky]))
    assert found is not None
    assert (found[0].settings, found[1].run_id) == ({"model.hidden_sizes": "[8]"}, "8-1")


def test_of_several_runs_of_a_job_the_finished_one_counts():
    killed, finished, begun = (
        Child(("seed=1",), run_id, status, has_checkpoint=status == "KILLED")
        for run_id, status in (("a", "KILLED"), ("b", "FINISHED"), ("c", "FAILED"))
    )
    assert counted([killed, finished, begun]).run_id == "b"
    assert counted([killed, begun]).run_id == "a"


def test_values_stand_where_a_reader_expects_them():
    assert Scale.of(["1e-4", "1e-3", "1e-2"]).kind == "log"
    assert Scale.of(["0", "0.1", "0.3"]).kind == "linear"
    assert Scale.of(["[8]", "[16]"]).kind == "categorical"


def test_what_diverged_is_shown_as_such():
    figure = setting_effect(
        ["0.1", "0.1", "1"],
        [1.0, 2.0, float("nan")],
        setting="optimizer.lr",
        interval=lambda results: (sum(results) / len(results), float("nan"), float("nan")),
    )
    assert "1 not finite" in figure.axes[0].get_title(loc="left")

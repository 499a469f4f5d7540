import math
import os
import resource
import signal
import threading
import time

import pytest
import torch
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from foretrace.errors import Interrupted, UserError
from foretrace.tracking.recovery import LOCK, is_locked
from foretrace.tracking.run import TrackedRun
from foretrace.tracking.store import find_run


@pytest.fixture
def tracked(begin):
    return begin()


def fail_in(tracked: TrackedRun) -> None:
    with tracked:
        tracked.log_metrics({"loss": math.nan}, step=0)
        _ = 1 / 0


def test_a_run_that_ends_well_is_finished_with_all_its_points(tracked, stored):
    with tracked:
        for step in range(1500):  # more than one request may hold
            tracked.log_metrics({"MSE train loss": torch.tensor(float(step))}, step=step)
        tracked.log_figures([("empty", Figure())])
    assert stored(tracked).info.status == "FINISHED"
    points = tracked.client.get_metric_history(tracked.id, "MSE train loss")
    assert [(p.step, p.value) for p in points] == [(step, float(step)) for step in range(1500)]
    assert tracked.history("MSE train loss") == (list(range(1500)), [float(step) for step in range(1500)])
    found = tracked.client.list_artifacts(tracked.id, "figures")
    assert [file.path for file in found] == ["figures/empty.png"]


def test_a_run_that_fails_says_why(tracked, stored):
    with pytest.raises(ZeroDivisionError):
        fail_in(tracked)
    assert stored(tracked).info.status == "FAILED"
    assert stored(tracked).data.tags["error"] == "ZeroDivisionError: division by zero"
    assert "1 / 0" in (tracked.folder / "traceback.txt").read_text()
    assert tracked.history("loss")[0] == [0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_is_killed(tracked, stored, number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted), tracked:
        signal.raise_signal(number)
    assert stored(tracked).info.status == "KILLED"
    assert signal.getsignal(number) == before


def test_a_deferred_signal_waits_for_a_complete_state(tracked, stored):
    def train() -> None:
        with tracked:
            tracked.signals.deferred = True
            signal.raise_signal(signal.SIGTERM)
            assert tracked.signals.pending
            tracked.log_text("checkpoint.txt", "complete")
            tracked.signals.raise_pending()

    with pytest.raises(Interrupted):
        train()
    assert (stored(tracked).info.status, tracked.has_artifact("checkpoint.txt")) == ("KILLED", True)


def test_a_second_signal_ends_the_wait_for_a_store_that_is_offline(
    tracked, stored, workspace, monkeypatch, capsys
):
    def end() -> None:
        with tracked:
            for request in ("log_batch", "set_terminated"):
                patch.setattr(MlflowClient, request, offline)
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
            raise Interrupted(signal.SIGTERM)

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError

    began = time.monotonic()
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="SIGTERM"):
        end()
    assert time.monotonic() - began < 10
    folder = tracked.folder.parents[2] / "staging" / tracked.id
    assert f"the rest waits in {folder}" in capsys.readouterr().err
    find_run(tracked.id, workspace).sync()
    assert stored(tracked).info.status == "KILLED"
    assert stored(tracked).data.tags["error"] == "Interrupted: SIGTERM"


def test_many_parameters_and_long_ones_fit(tracked, stored):
    with tracked:
        tracked.log_params({f"setting {n}": "x" * 7000 for n in range(250)})
    params = stored(tracked).data.params
    assert (len(params), {len(value) for value in params.values()}) == (250, {6000})


def test_names_that_are_no_text_are_recorded_as_far_as_they_are(tracked, stored):
    with tracked:
        tracked.set_tags({"file": os.fsdecode(b"caf\xe9.csv")})
    assert stored(tracked).data.tags["file"] == "caf?.csv"


def test_a_run_that_is_deleted_while_it_trains_says_so_and_leaves_the_way_free(begin, stored, workspace):
    tracked = begin()

    def train() -> None:
        with tracked:
            tracked.client.delete_run(tracked.id)
            tracked.set_tags({"color": "green"})
            tracked.flush(sync=True)
            tracked.set_tags({"color": "red"})
            tracked.flush()

    with pytest.raises(MlflowException, match="deleted"):
        train()
    assert not (workspace.staging / tracked.id / LOCK).exists()
    assert stored(begin()).info.status == "RUNNING"


def test_a_full_disk_leaves_the_run_failed(tracked, stored, workspace, capsys):
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def train() -> None:
        with tracked:
            resource.setrlimit(resource.RLIMIT_FSIZE, (9, before[1]))
            try:
                tracked.set_tags({"color": "green"})
                tracked.flush()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)

    try:
        with pytest.raises(OSError, match=r"records\.jsonl"):
            train()
    finally:
        signal.signal(signal.SIGXFSZ, handler)
    assert stored(tracked).info.status == "FAILED"


def test_a_run_at_work_is_entered_by_nobody_else(tracked, stored, workspace):
    again = find_run(tracked.id, workspace)
    with tracked, pytest.raises(UserError, match=f"process {os.getpid()} on .* is at work on {tracked.id}"):
        again.__enter__()
    assert not is_locked(workspace.staging / tracked.id)


def test_a_run_goes_on_after_another_process_with_what_that_recorded(tracked, stored, workspace):
    with tracked:
        tracked.log_metrics({"loss": 1.0}, step=0)
    with find_run(tracked.id, workspace) as again:
        assert again.history("loss") == ([0], [1.0])
        again.log_metrics({"loss": 5.0}, step=0)  # a resumed run comes by the step again
        again.log_metrics({"loss": 2.0}, step=1)
    assert [p.value for p in tracked.client.get_metric_history(tracked.id, "loss")] == [1.0, 2.0]


def test_a_run_that_had_ended_keeps_its_status(tracked, stored, workspace):
    with pytest.raises(ZeroDivisionError):
        fail_in(tracked)
    with find_run(tracked.id, workspace, ended=True) as again:
        again.log_metrics({"loss": 5.0}, step=0)
    assert (stored(tracked).info.status, stored(tracked).data.metrics["loss"]) == ("FAILED", 5.0)


def test_metrics_of_an_evaluation_made_again_replace_the_old(begin, stored, workspace):
    with begin() as tracked:
        tracked.log_metrics({"warm": 0.000975, "same": 1.0}, step=3)
        tracked.log_metrics({"warm": 0.001097}, step=3)  # as a resumed run comes by a step again
        assert tracked.history("warm") == ([3], [0.000975])
        tracked.flush(sync=True)
        tracked.log_metrics({"warm": 0.001097, "same": 1.0}, step=3, replace=True)
    assert stored(tracked).data.metrics == {"warm": 0.001097, "same": 1.0}
    assert len(tracked.client.get_metric_history(tracked.id, "same")) == 1
    with find_run(tracked.id, workspace, ended=True) as again:
        assert again.history("warm") == ([3], [0.001097])


def test_changed_settings_stand_beside_the_first(begin, stored):
    with begin() as tracked:
        for horizon in (25, 25, 10, 10, 25):
            tracked.log_params({"evaluation.horizon": horizon})
    names = ["evaluation.horizon", "evaluation.horizon: value 2", "evaluation.horizon: value 3"]
    assert stored(tracked).data.params == dict(zip(names, ["25", "10", "25"], strict=True))


def test_data_sets_are_told_by_the_digest_of_their_values(begin, stored, workspace):
    texts = dict.fromkeys(["schema", "profile", "context"], "{}")
    with begin() as tracked:
        tracked.log_input("waves train", digest="w1", origin='{"origin": "x", "sha256": "abc"}', **texts)
        assert tracked.inputs == {"waves train": "abc"}
    again = find_run(tracked.id, workspace)
    assert again.inputs == {"waves train": "abc"}

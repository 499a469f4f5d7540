"""Resuming a run with other settings, and repeating one."""

import time

import pytest
from helpers import SMALL, client, history, newest
from lightning.pytorch import Callback

from foretrace.commands import train as train_command
from foretrace.errors import UserError
from foretrace.workspace import Workspace

FEW = [*SMALL, "data.batch_size=2", "model.dropout=0", "loss.input_noise=0.1"]
STOPS_EARLY = "trainer.early_stopping={patience: 1, min_delta: 10}"  # after the second epoch


@pytest.fixture
def train(composed, here):
    def run(*overrides: str, evaluate: bool = False, **options: object) -> dict[str, float]:
        options = {"overrides": list(overrides), "workspace": Workspace(here), "evaluate": evaluate} | options
        return train_command.run(composed(*overrides), **options)

    return run


def resume(here) -> str:
    return f"resume={newest(here).info.run_id}"


def rates(here) -> list[float]:
    return [value for _, value in history(here, newest(here).info.run_id)["lr"]]


def test_a_finished_run_trains_for_longer_and_is_evaluated_again(train, here, no_pictures):
    train(*FEW, "trainer.max_epochs=2", evaluate=True)
    first = newest(here).info.run_id
    longer = train(f"resume={first}", "trainer.max_epochs=5", evaluate=True)
    at_once = train(*FEW, "trainer.max_epochs=5", evaluate=True)
    assert longer == at_once
    found = history(here, first)
    assert [step for step, _ in found["test/mse"]] == [2, 5]
    assert [step for step, _ in found["val/mse"]] == [0, 1, 2, 3, 4]
    tags = client(here).get_run(first).data.tags
    assert (tags["changed.trainer.max_epochs"], tags["progress"]) == ("2 → 5", "5/5 epochs")


def test_what_would_make_another_experiment_is_refused_by_name(train, here):
    train(*FEW)
    for override, key in [("seed=2", "seed"), ("data.window=8", "data.window"), ("optimizer=sgd", "optimizer.name"),
                          ("trainer.precision=bf16-mixed", "trainer.precision")]:  # fmt: skip
        with pytest.raises(UserError, match=f"{key}: the run began with .*, and cannot be resumed with"):
            train(resume(here), "trainer.max_epochs=2", override)
    assert newest(here).info.status == "FINISHED"


def test_a_run_with_no_epochs_left_says_so(train, here):
    train(*FEW)
    with pytest.raises(UserError, match=r"resume: the run has trained its 1 epochs\. .* trainer\.max_epochs"):
        train(resume(here))
    with pytest.raises(UserError, match="resume: all training runs have finished"):
        train("resume=last")


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_a_schedule_made_for_the_run_is_stretched_with_it(train, here, schedule):
    train(*FEW, f"scheduler={schedule}", "trainer.max_epochs=6")
    expected = rates(here)
    train(*FEW, f"scheduler={schedule}", "trainer.max_epochs=3")
    train(resume(here), "trainer.max_epochs=6")
    assert rates(here)[3:] == pytest.approx(expected[3:], abs=1e-9)


def test_a_schedule_that_would_end_with_the_epochs_begun_for_is_refused(train, here):
    train(*FEW, "scheduler=cosine", "scheduler.T_max=2", "trainer.max_epochs=1")
    with pytest.raises(
        UserError, match=r"trainer\.max_epochs: the schedule CosineAnnealingLR was made for 1 epochs"
    ):
        train(resume(here), "trainer.max_epochs=5")
    assert newest(here).info.status == "FINISHED"


def test_a_run_that_stopped_early_trains_on_with_more_patience(train, here):
    train(*FEW, "trainer.max_epochs=6", STOPS_EARLY)
    assert len(rates(here)) == 2
    with pytest.raises(UserError, match=r"resume: the run stopped early, after 2 of 6 epochs\. .*patience"):
        train(resume(here))
    train(resume(here), "trainer.early_stopping={patience: 3, min_delta: 10}")
    assert len(rates(here)) == 4
    train(resume(here), "trainer.early_stopping=null")
    assert len(rates(here)) == 6


def test_a_run_out_of_time_is_evaluated_and_can_be_resumed(train, here, capsys):
    class Slow(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 7:
                time.sleep(1.2)

    train(*FEW, "trainer.max_epochs=4")
    whole = history(here, newest(here).info.run_id)
    metrics = train(*FEW, "trainer.max_epochs=4", "trainer.max_minutes=0.02", callbacks=[Slow()])
    assert newest(here).info.status == "FINISHED"
    assert "val/mse" in metrics
    assert "stopped  after 0.02 minutes, in epoch 2" in capsys.readouterr().out
    train(resume(here), "trainer.max_minutes=null")
    assert {k: v for k, v in history(here, newest(here).info.run_id).items() if k != "best epoch"} == {
        k: v for k, v in whole.items() if k != "best epoch"
    }


def test_a_trial_of_a_few_batches_is_tagged_as_one(train, here):
    train(*FEW, "trainer.limit_batches=1", "trainer.max_epochs=2")
    run = newest(here)
    assert "limit_batches=1" in run.data.tags["trial"]
    assert len(history(here, run.info.run_id)["MSE train loss"]) == 2


def test_a_repetition_is_a_new_run_with_the_same_metrics(train, here, capsys):
    first = train(*FEW, "seed=5", "optimizer.lr=0.01")
    repeated = newest(here)
    assert train(f"rerun={repeated.info.run_id}") == first
    again = newest(here)
    assert again.info.run_id != repeated.info.run_id
    assert again.data.tags["rerun_of"] == repeated.info.run_id
    assert again.data.params == repeated.data.params
    assert "differs  in nothing that the run recorded" in capsys.readouterr().out


def test_a_repetition_says_what_differs(train, here, capsys):
    train(*FEW)
    train(f"rerun={newest(here).info.run_id}", "seed=2", "data.seed=1")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("differs")]
    assert {"differs  setting seed: 1 then, 2 now", "differs  setting data.seed: 0 then, 1 now"} <= set(lines)
    assert any(line.startswith("differs  data halfcheetah train: ") for line in lines)


def test_other_data_under_the_same_name_are_not_resumed(here, train, tmp_path_factory):
    recording = tmp_path_factory.mktemp("recordings") / "one.csv"
    recording.write_text("height\n" + "\n".join(str(n % 7) for n in range(400)))
    files = ["data=files", f"data.path='{recording}'", "data.window=10", "data.stride=10"]
    train(*[s for s in SMALL if not s.startswith("data.")], *files)
    recording.write_text("height\n" + "\n".join(str(n % 5) for n in range(400)))
    with pytest.raises(UserError, match=r"data: SHA-256 .*, but the run's was"):
        train(resume(here), "trainer.max_epochs=2")


def test_a_run_is_resumed_in_the_arithmetic_that_it_began_in(train, here, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": True})
    train(*FEW, "trainer.precision=auto", "trainer.max_epochs=1")
    run = newest(here)
    assert (run.data.params["trainer.precision"], run.data.tags["precision"]) == ("auto", "bf16-mixed")
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    with pytest.raises(
        UserError, match=r"trainer\.precision: the run began in bf16-mixed, and auto is 32-true"
    ):
        train(resume(here), "trainer.max_epochs=2")

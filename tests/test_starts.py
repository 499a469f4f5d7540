"""Going on with a run under other settings, and repeating one."""

import pytest
from helpers import SMALL, client, history, newest

from foretrace.commands import train as train_command
from foretrace.errors import InputError
from foretrace.workspace import Workspace

FEW = [*SMALL, "data.batch_size=2", "model.dropout=0", "loss.input_noise=0.1"]


@pytest.fixture
def train(composed, here, no_pictures):
    return lambda *overrides: train_command.run(
        composed(*overrides), overrides=list(overrides), workspace=Workspace.default()
    )


def test_a_finished_run_trains_for_longer_and_is_evaluated_again(train, here):
    train(*FEW, "trainer.max_epochs=2")
    first = newest(here).info.run_id
    longer = train(f"resume={first}", "trainer.max_epochs=5")
    at_once = train(*FEW, "trainer.max_epochs=5")
    assert longer == at_once
    found = history(here, first)
    assert [step for step, _ in found["test/mse"]] == [2, 5]
    assert [step for step, _ in found["val/mse"]] == [0, 1, 2, 3, 4]
    tags = client(here).get_run(first).data.tags
    assert (tags["changed.trainer.max_epochs"], tags["progress"]) == ("2 → 5", "5/5 epochs")


@pytest.mark.parametrize(
    ("override", "key"),
    [("seed=2", "seed"), ("data.window=8", r"data\.window"), ("model.hidden_sizes=[4]", r"model\.hidden_sizes"),
     ("optimizer=sgd", r"optimizer\.name"), ("trainer.precision=bf16-mixed", r"trainer\.precision")],
)  # fmt: skip
def test_what_would_make_another_experiment_is_refused_by_name(train, here, override, key):
    train(*FEW, "trainer.max_epochs=1")
    with pytest.raises(InputError, match=rf"{key}: expected .*, as the run began"):
        train(f"resume={newest(here).info.run_id}", "trainer.max_epochs=2", override)
    assert newest(here).info.status == "FINISHED"


def test_a_run_with_no_epochs_left_says_so(train, here):
    train(*FEW)
    with pytest.raises(InputError, match=r"resume: expected a run with epochs left, .* trainer\.max_epochs"):
        train(f"resume={newest(here).info.run_id}")
    with pytest.raises(InputError, match="resume: expected a training that did not finish"):
        train("resume=last")


def test_a_schedule_that_ends_is_not_trained_beyond(train, here):
    train(*FEW, "scheduler=one_cycle", "trainer.max_epochs=2")
    with pytest.raises(InputError, match=r"trainer\.max_epochs: expected at most 2, .*OneCycleLR"):
        train(f"resume={newest(here).info.run_id}", "trainer.max_epochs=3")


def test_a_repetition_is_a_new_run_with_the_same_figures(train, here, capsys):
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


def test_other_data_under_the_same_name_are_not_gone_on_with(composed, here, train, tmp_path_factory):
    recording = tmp_path_factory.mktemp("recordings") / "one.csv"
    recording.write_text("height\n" + "\n".join(str(n % 7) for n in range(400)))
    files = ["data=files", f"data.path='{recording}'", "data.window=10", "data.stride=10"]
    small = [s for s in SMALL if not s.startswith("data.")]
    train(*small, *files)
    recording.write_text("height\n" + "\n".join(str(n % 5) for n in range(400)))
    with pytest.raises(InputError, match="data: expected the run's data"):
        train(f"resume={newest(here).info.run_id}", "trainer.max_epochs=2")


def test_a_training_goes_on_in_the_arithmetic_that_it_began_in(train, here, monkeypatch):
    native = pytest.MonkeyPatch()
    native.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    train(*FEW, "trainer.precision=auto", "trainer.max_epochs=1")
    run = newest(here)
    assert (run.data.params["trainer.precision"], run.data.tags["precision"]) == ("auto", "bf16-mixed")
    native.undo()
    for flag in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(f"torch.cpu.{flag}", lambda: False)
    with pytest.raises(InputError, match=r"trainer\.precision: expected bf16-mixed, .* received 32-true"):
        train(f"resume={run.info.run_id}", "trainer.max_epochs=2")

"""A run that was cut and resumed ends as the one that was not cut, bit by bit."""

import pytest
from helpers import LONG, client, cut, newest, same_end

from foretrace.commands import train as train_command
from foretrace.errors import Interrupted
from foretrace.workspace import Workspace


@pytest.fixture
def train(composed, here):
    return lambda *overrides: train_command.run(
        composed(*overrides), overrides=list(overrides), workspace=Workspace(here), evaluate=False
    )


@pytest.mark.parametrize(
    ("at_step", "settings"),
    [
        pytest.param(0, [], id="at once"),
        pytest.param(3, [], id="as an epoch ends"),
        pytest.param(6, ["scheduler.step_size=2"], id="within an epoch"),
        pytest.param(15, [], id="in the last batch"),
        pytest.param(6, ["trainer.ema_decay=0.9", "scheduler=one_cycle"], id="with averaged weights"),
        pytest.param(6, ["trainer.precision=bf16-mixed"], id="bf16"),
        pytest.param(
            6,
            ["loss.kind=gaussian", "loss.open_loop={weight: 1, horizon: 4, growth_epochs: 2}"],
            id="with a spread",
        ),
        pytest.param(11, ["trainer.early_stopping={patience: 2, min_delta: 10}"], id="as it stops early"),
    ],
)
def test_a_run_that_was_cut_is_resumed_as_if_it_had_not_been(train, here, monkeypatch, at_step, settings):
    whole = train(*LONG, *settings)
    first = newest(here).info.run_id
    with monkeypatch.context() as patch:
        cut(patch, at_step=at_step)
        with pytest.raises(Interrupted):
            train(*LONG, *settings)
    second = newest(here)
    assert second.info.status == "KILLED"
    resumed = train(f"resume={second.info.run_id}")
    assert resumed == whole
    assert same_end(here, first, second.info.run_id)
    assert client(here).get_run(second.info.run_id).info.status == "FINISHED"

import pytest
from omegaconf import OmegaConf

from foretrace.config import TrainConfig
from foretrace.config import parse as parsing
from foretrace.config.parse import known_keys
from foretrace.errors import UserError


def parse(cfg):
    return parsing.parse(cfg, TrainConfig)


# Scripts outside of the project set these.
PROMISED = {
    "data": "episodes steps window stride batch_size root path",
    "model": "hidden_sizes dropout output frozen",
    "optimizer": "lr",
    "trainer": "max_epochs precision",
}


def test_promised_settings_exist():
    promised = {f"{group}.{key}" for group, keys in PROMISED.items() for key in keys.split()}
    assert promised | {"seed"} <= set(known_keys())


LATER = ["data.train_window", "model.input_clip", "loss.units", "trainer.devices", "trainer.checkpoint_minutes",
         "trainer.ema_decay"]  # fmt: skip


def test_a_record_of_the_first_version_is_understood(composed):
    today = parse(composed())
    record = today.model_dump()
    for group, name in (key.split(".") for key in LATER):
        del record[group][name]
    assert TrainConfig.model_validate(record) == today


def test_the_default_is_the_report_s_system(composed):
    checked = parse(composed())
    assert checked.model.hidden_sizes == [128, 256, 512]
    assert (checked.optimizer.name, checked.optimizer.lr, checked.trainer.max_epochs) == ("Adam", 0.001, 50)
    schedule = {"name": "StepLR", "interval": "epoch", "step_size": 25, "gamma": 0.1}
    assert checked.scheduler.model_dump() == schedule
    assert checked.data.batch_size == 256


def test_checked_settings_survive_a_round_trip(composed):
    checked = parse(composed("data=files", "data.path=x.csv", "data.units={a: m}"))
    assert parse(OmegaConf.create(checked.model_dump())) == checked
    assert isinstance(checked, TrainConfig)


def test_an_experiment_wins_over_the_main_job_and_the_command_line_over_it(composed):
    checked = parse(composed("experiment=halfcheetah_ltc", "data.root=x", "trainer.max_epochs=7"))
    assert (checked.loss.units, checked.trainer.ema_decay, checked.model.output) == ("raw", 0.99, "linear")
    assert checked.trainer.max_epochs == 7


WRONG = {
    "trainer.max_epochs=abc": "trainer.max_epochs: must be a valid integer, got 'abc'",
    "trainer.max_epochs=0": "trainer.max_epochs: must be greater than 0, got 0",
    "trainer.precision=16": "trainer.precision: must be 'auto', '32-true' or 'bf16-mixed', got 16",
    "optimizer.lr=inf": "optimizer.lr: must be a finite number, got inf",
    "model.hidden_sizes=[8,x]": r"model.hidden_sizes.1: must be a valid integer, got 'x'",
    "model.frozen=[lstm.3]": r"model: no layer 'lstm.3' to freeze. Did you mean lstm.2\?",
    "data.window=1001": r"data: window 1001 is longer than an episode \(data.steps=1000\)",
    "data.split.test=0.5": "data.split: shares must sum to 1, got",
    "+data.widow=3": r"data.widow: unknown setting. Did you mean data.window\?",
    "loss.open_loop={weight: 1, horizon: 50, growth_epochs: 5}": r"loss.open_loop.horizon: must be below .*window=50",
    "data.source=mars": "data.source: must be one of .*'halfcheetah'.* got mars",
}


@pytest.mark.parametrize("override", WRONG)
def test_what_cannot_be_used_is_named(composed, override):
    with pytest.raises(UserError, match=WRONG[override]) as caught:
        parse(composed(override))
    assert "\n" not in str(caught.value)


def test_a_head_that_has_to_learn_the_spread_cannot_be_frozen(composed):
    with pytest.raises(UserError, match=r"model\.frozen: with loss.kind=gaussian the head has to learn"):
        parse(composed("model.frozen=[head]", "loss.kind=gaussian"))


def test_a_value_that_must_be_given_is_asked_for(composed):
    with pytest.raises(UserError, match=r"data.path: needs a value. Set data.path="):
        parse(composed("data=files"))


def test_a_schedule_can_be_left_out(composed):
    assert parse(composed("scheduler=none")).scheduler is None

"""What is asked of a recorded run acts, however it is spelled, and nothing else changes."""

from copy import deepcopy

import pytest

from foretrace.commands.api import _written
from foretrace.config import TrainConfig
from foretrace.config.parse import parse
from foretrace.config.run_config import NOT_RECORDED, changes, merge_settings
from foretrace.errors import UserError

# Another value for settings of every kind and depth. A mapping stands for all of its settings at once.
OTHER = {
    "seed": 7,
    "data.split": {"train": 0.4, "valid": 0.3, "test": 0.3},
    "model.hidden_sizes": [4, 5],
    "model.output": "value",
    "loss.open_loop": {"weight": 5.0, "horizon": 7, "growth_epochs": 1},
    "optimizer.lr": 0.5,
    "trainer.max_epochs": 9,
    "trainer.gradient_clip": 2.0,
    "trainer.progress": False,
    "evaluation": {"warmup": 10, "horizon": 20, "season": 5, "boosting": True, "levels": [60.0, 95.0]},
    "tracking.tags": {"who": "me"},
}
OPTIONAL = ["loss.open_loop", "trainer.gradient_clip", "tracking.tags"]


def get(settings, key):
    for name in key.split("."):
        settings = settings[name]
    return settings


def dotted(key, value) -> list[str]:
    if isinstance(value, dict) and key not in OPTIONAL:
        return [one for name, inner in value.items() for one in dotted(f"{key}.{name}", inner)]
    return [f"{key}={_written(value)}"]


def mapping(key, value) -> list[str]:
    """The setting within a mapping of its group; Hydra takes none for a group of conf/."""
    group, _, rest = key.partition(".")
    if group in ("data", "model", "optimizer", "scheduler") and "." not in rest:
        return [f"{key}={_written(value)}"]
    for name in reversed(rest.split(".") if rest else []):
        value = {name: value}
    return [f"{group}={_written(value)}"]


@pytest.fixture
def recorded(composed):
    """The record of a run that differs from today's defaults in each of the settings above."""
    config = parse(
        composed(*(one for key, value in OTHER.items() for one in dotted(key, value))), TrainConfig
    )
    return config.model_dump(exclude=NOT_RECORDED)


@pytest.fixture
def plain(composed):
    config = parse(composed(), TrainConfig)
    return config.model_dump(exclude=NOT_RECORDED)


@pytest.mark.parametrize("spelling", [dotted, mapping])
@pytest.mark.parametrize("key", OTHER)
def test_override_of_a_recorded_run_acts_and_changes_nothing_else(composed, plain, key, spelling):
    overrides = spelling(key, OTHER[key])
    config, changed = merge_settings(deepcopy(plain), composed(*overrides), overrides)
    assert get(config.model_dump(), key) == OTHER[key]
    assert changed
    assert all(name.startswith(key) for name in changed)


@pytest.mark.parametrize("key", OPTIONAL)
def test_null_takes_a_recorded_setting_back(composed, recorded, key):
    overrides = [f"{key}=null"]
    config, changed = merge_settings(recorded, composed(*overrides), overrides)
    assert get(config.model_dump(), key) is None
    assert list(changed) == [key]


def test_one_name_of_a_mapping_leaves_the_others_as_recorded(composed, recorded):
    overrides = ["evaluation={warmup: 30}"]
    config, changed = merge_settings(recorded, composed(*overrides), overrides)
    assert (config.evaluation.warmup, config.evaluation.horizon) == (30, 20)
    assert changed == {"evaluation.warmup": (10, 30)}


def test_the_choice_that_a_run_was_made_with_keeps_its_values(composed, recorded):
    config, changed = merge_settings(recorded, composed("optimizer=adam"), ["optimizer=adam"])
    assert (config.optimizer.lr, changed) == (0.5, {})


def test_another_choice_brings_its_own_values(composed, recorded):
    overrides = ["scheduler=cosine", "optimizer=sgd", "optimizer.lr=0.2"]
    config, changed = merge_settings(recorded, composed(*overrides), overrides)
    assert config.optimizer.model_dump() == {"name": "SGD", "lr": 0.2, "momentum": 0.9}
    assert config.scheduler.model_dump()["T_max"] == 9  # the run's number of epochs
    assert {"optimizer.name", "optimizer.momentum", "scheduler.name"} <= set(changed)


def test_a_setting_is_added_and_taken_away(composed, plain):
    added = ["+optimizer.betas=[0.8,0.9]"]
    config, changed = merge_settings(deepcopy(plain), composed(*added), added)
    assert changed == {"optimizer.betas": ("not set", [0.8, 0.9])}
    record = config.model_dump(exclude=NOT_RECORDED)
    removed = ["~optimizer.betas"]
    config, changed = merge_settings(record, composed(), removed)
    assert changed == {"optimizer.betas": ([0.8, 0.9], "not set")}


def test_an_experiment_is_refused_by_name(composed, plain):
    overrides = ["experiment=halfcheetah_ltc", "data.root=x"]
    with pytest.raises(UserError, match="experiment: cannot be chosen for a recorded run"):
        merge_settings(plain, composed(*overrides), overrides)


def test_nothing_asked_changes_nothing(composed, recorded):
    config, changed = merge_settings(deepcopy(recorded), composed("resume=abc"), ["resume=abc"])
    assert changed == {}
    assert changes(recorded, config.model_dump(exclude={"resume", "rerun", "sweep"})) == {
        "tracking.uri": ("not set", None)
    }

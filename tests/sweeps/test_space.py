"""What a search tries: Hydra's grammar as Optuna's distributions, checked at both ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretrace.errors import UserError

pytest.importorskip("optuna")
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from foretrace.sweeps.space import Plan, check_space, typed

SETTINGS = {"n_trials": 3, "seed": 1, "pruning": None}


def plan(*overrides, **more):
    return Plan.of({"overrides": list(overrides)} | SETTINGS | more)


SPACES = {
    "a=interval(0,5)": FloatDistribution(0, 5),
    "a=int(interval(1,9))": IntDistribution(1, 9),
    "a=tag(log,interval(1e-4,1e-2))": FloatDistribution(1e-4, 1e-2, log=True),
    "a=tag(log,int(interval(1,100)))": IntDistribution(1, 100, log=True),
    "a=range(1,10,3)": IntDistribution(1, 7, step=3),  # Hydra's ranges end before their end
    "a=range(0,1,0.25)": FloatDistribution(0, 0.75, step=0.25),
    "a=range(9,1,-4)": IntDistribution(5, 9, step=4),
    "a=choice([32],[64])": CategoricalDistribution(("[32]", "[64]")),
    "a=1,2,x": CategoricalDistribution(("1", "2", "x")),
    "+a=1,2": CategoricalDistribution(("1", "2")),
}


@pytest.mark.parametrize("override", SPACES)
def test_grammar_says_what_is_searched(override):
    space, fixed = plan(override, "seed=3").space()
    assert (list(space.values()), fixed) == ([SPACES[override]], ["seed=3"])


def test_last_word_on_a_setting_counts():
    space, fixed = plan("a=1,2", "b=interval(0,1)", "a=3").space()
    assert (list(space), fixed) == (["b"], ["a=3"])


WRONG = ["a=interval(5,0)", "a=interval(0,inf)", "a=tag(log,interval(0,1))", "a=tag(lin,interval(0,1))",
         "a=tag(log,choice(1,2))", "a=range(3,3)", "a=3", "a=range(0,1,1e-9)"]  # fmt: skip


@pytest.mark.parametrize("override", WRONG)
def test_what_cannot_be_searched_is_refused(override):
    with pytest.raises(UserError):
        plan(override).space()


@pytest.mark.parametrize(
    "wrong", [{"n_trials": 0}, {"n_trials": "x"}, {"pruning": {"warmup": 2}}, {"nope": 1}]
)
def test_wrong_setting_of_a_search_is_named(wrong):
    with pytest.raises(UserError, match=r"hydra\.sweeper\."):
        plan("a=1,2", **wrong)


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("model.dropout=interval(0,1.5)", "model.dropout"),
        ("trainer.max_epochs=interval(1,5)", "trainer.max_epochs"),
    ],
)
def test_wrong_end_of_a_range_is_found(composed, override, name):
    with pytest.raises(UserError, match=f"^{name}: "):
        check_space(*plan(override).space(), lambda job: composed(*job))


@given(st.floats(1e-4, 1e-2))
def test_number_that_is_typed_stays_in_its_range(value):
    text = typed(FloatDistribution(1e-4, 1e-2, log=True), value)
    assert 1e-4 <= float(text) <= 1e-2
    assert float(text) == pytest.approx(value, rel=1e-4)

import dataclasses
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretrace.data.sequences import Sequences
from foretrace.errors import UserError
from foretrace.evaluation.compare import compare_errors, compare_with_baselines, in_words
from foretrace.evaluation.forecast_errors import ForecastErrors

NAMES = ("A", "B")


@pytest.fixture(scope="module")
def walks():
    episodes = np.random.default_rng(0).normal(size=(12, 60, 2)).cumsum(axis=1)
    return Sequences.from_episodes(list(episodes), feature_names=["x", "y"], dt_s=0.1)


@pytest.fixture(scope="module")
def biased(untrained, evaluated):
    """Evaluates persistence, off by a bias in raw units, from a model that scales by ``scale``."""

    def biased(sequences, *, scale=1.0, bias=0.0, **settings):
        model = untrained(sequences, output="change")
        ones, none = torch.ones(2), torch.zeros(0)
        model.set_statistics(
            mean=0 * ones, std=scale * ones, change=ones, covariate_mean=none, covariate_std=none
        )
        torch.nn.init.zeros_(model.stack.head.weight)
        torch.nn.init.constant_(model.stack.head.bias, bias)
        return evaluated(model, sequences, **({"horizon": 10} | settings))

    return biased


def errors(sums, count=100):
    sums = np.asarray(sums, float)[:, None]
    return ForecastErrors(squared=sums, absolute=np.sqrt(sums), count=np.full(len(sums), count))


def test_a_run_is_not_distinguishable_from_itself(biased, walks):
    run = biased(walks)
    found = run.compare(run, names=NAMES)
    assert list(found) == ["zero_state", "carried_state", *(f"open_loop/{steps}" for steps in (1, 2, 5, 10))]
    for comparison in found.values():
        assert comparison.p_value == 1
        assert "not distinguishable over 12 recordings: A's error is the same" in comparison.sentence()


def test_a_worse_run_is_told_by_how_much(biased, walks):
    """A bias b adds b² to every squared error, and the walk's steps have a variance of 1."""
    good, bad = biased(walks), biased(walks, bias=0.5)
    worse = bad.compare(good, names=("B", "A"))["carried_state"]
    assert worse.verdict == "worse"
    assert float(worse.ratio.value) == pytest.approx(1.25, abs=0.1)
    assert re.match(r"B's error is 2\d % higher than A's", worse.sentence())
    assert "lower than B's" in good.compare(bad, names=NAMES)["carried_state"].sentence()


def test_runs_that_scale_differently_are_compared_in_one_unit(biased, walks):
    found = biased(walks).compare(biased(walks, scale=3.0), names=NAMES)
    np.testing.assert_allclose([float(c.ratio.value) for c in found.values()], 1, rtol=1e-5)


def test_pieces_of_one_recording_count_once(biased, walks):
    run = biased(dataclasses.replace(walks, recordings=tuple("abcdef" * 2)))
    assert run.compare(run, names=NAMES)["carried_state"].groups == "6 recordings"


def test_runs_on_one_long_series_are_told_apart(biased):
    walk = np.random.default_rng(0).normal(size=(1000, 2)).cumsum(axis=0)
    series = Sequences.from_episodes([walk], feature_names=["x", "y"])
    worse = biased(series, bias=0.5).compare(biased(series), names=NAMES)["carried_state"]
    assert worse.verdict == "worse"
    assert worse.groups == "100 stretches of time"


def test_runs_on_other_episodes_or_steps_are_not_compared(biased, walks):
    run = biased(walks)
    with pytest.raises(UserError, match=r"different test data, .* \(12 episodes\) and .* \(6 episodes\)"):
        run.compare(biased(walks.select(range(6))), names=NAMES)
    assert list(run.compare(biased(walks, warmup=20), names=NAMES)) == ["zero_state"]
    with pytest.raises(UserError, match="different steps of the same data"):
        run.compare(biased(walks, warmup=20, length=5), names=NAMES)


def test_a_difference_within_chance_is_not_distinguishable():
    sums = np.random.default_rng(0).gamma(4.0, 25.0, size=16)
    now_better_now_worse = sums * np.tile([0.8, 1.2], 8)
    found = compare_errors(
        errors(sums), errors(now_better_now_worse), names=NAMES, where="zero_state", in_time=False
    )
    assert found.verdict == "not distinguishable"
    assert "95 % interval" in found.sentence()


def test_a_tiny_lead_or_a_single_start_is_no_verdict():
    lead, single = (
        compare_errors(
            errors(ours), errors(theirs), names=("model", "ridge"), where="open_loop/5", in_time=in_time
        )
        for ours, theirs, in_time in (
            (np.arange(1, 17) + 0.01 * np.tile([1, -0.9], 8), np.arange(1, 17), False),
            ([2.0], [1.0], True),
        )
    )
    assert lead.verdict == single.verdict == "not distinguishable"


@settings(max_examples=60, deadline=None)
@given(data=st.data(), number=st.integers(1, 9))
def test_sentences_say_what_the_errors_do(data, number):
    """Of any evaluation: each place of each baseline is in one sentence, and its errors are as that says."""
    positive = st.lists(st.floats(0, 1e6), min_size=number, max_size=number)
    tables = {
        where: {name: errors(data.draw(positive)) for name in ("model", "ridge", "mean")}
        for where in ("carried_state", "open_loop/1", "open_loop/50")
    }
    verdicts = compare_with_baselines(tables, in_time=False)
    said = {}
    for line in in_words(verdicts):
        verdict, name, places = re.fullmatch(r"(.+) (?:from|than) (ridge|mean) (.+) \(.+\)", line).groups()
        found = ["carried_state"] * ("state carried" in places)
        found += [f"open_loop/{steps}" for steps in re.findall(r"\b(1|50)\b", places)]
        said |= {(where, name): verdict for where in found}
    assert len(said) == len(verdicts) == 6
    for (where, name), verdict in said.items():
        ours, theirs = (float(tables[where][one].mean_mse) for one in ("model", name))
        if verdict != "not distinguishable":
            assert ours > theirs if verdict == "worse" else ours < theirs
            assert number >= 5

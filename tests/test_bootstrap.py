import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foretrace.data.sequences import Sequences
from foretrace.data.windows import WindowLoader, Windows
from foretrace.errors import InputError
from foretrace.evaluation.bootstrap import bootstrap_median, bootstrap_ratio, sign_flip_p_value
from foretrace.evaluation.compare import compare, compare_sums
from foretrace.evaluation.evaluate import evaluate
from foretrace.evaluation.one_step import evaluate_one_step
from foretrace.model.next_step import NextStepModel


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.fixture
def walks(generator):
    episodes = generator.normal(size=(12, 60, 2)).cumsum(axis=1)
    return Sequences.from_episodes(list(episodes), feature_names=["x", "y"], dt_s=0.1)


def assessed(sequences, *, scale=1.0, bias=0.0, warmup=10, length=10):
    """Of the persistence forecast, off by ``bias`` in raw units, from a model that scales by ``scale``."""
    model = NextStepModel(hidden_sizes=[2], num_features=2, output="change")
    zeros, ones = torch.zeros(2), torch.ones(2)
    none = torch.zeros(0)
    model.set_statistics(mean=zeros, std=scale * ones, change=ones, covariate_mean=none, covariate_std=none)
    torch.nn.init.zeros_(model.stack.head.weight)
    torch.nn.init.constant_(model.stack.head.bias, bias)
    windows = Windows(sequences, length=length, stride=10)
    cold = evaluate_one_step(model, WindowLoader(windows, batch_size=64), feature_names=("x", "y"))
    parts = {"train": sequences, "valid": sequences, "test": windows}
    return evaluate(model, cold=cold, **parts, warmup=warmup, horizon=10)


def test_the_interval_holds_the_truth_about_as_often_as_it_says(generator):
    held = 0
    for _ in range(300):
        lengths = generator.integers(50, 150, size=30)
        sums = generator.gamma(4.0, 0.25, size=30) * lengths  # episodes differ, with a mean of 1
        interval = bootstrap_ratio(sums, lengths, generator=generator, resamples=500)
        held += bool(interval.low <= 1 <= interval.high)
    assert 0.88 <= held / 300 <= 0.98


def test_steps_of_one_episode_are_no_independent_draws(generator):
    """16 episodes of 1000 equal errors each: the interval is that of 16 numbers."""
    errors = generator.gamma(4.0, 0.25, size=16)
    one, many = (
        bootstrap_ratio(errors * steps, np.full(16, steps), generator=np.random.default_rng(1))
        for steps in (1, 1000)
    )
    np.testing.assert_allclose([one.low, one.high], [many.low, many.high])
    assert one.high - one.low > 0.5 * errors.std()


def test_resamples_are_repeatable_at_each_step(generator):
    sums = generator.random((16, 100))
    first, second = (bootstrap_ratio(sums, np.ones(16), generator=np.random.default_rng(5)) for _ in range(2))
    assert first.low.shape == (100,)
    np.testing.assert_array_equal(first.low, second.low)
    assert (first.low < first.value).all()
    assert (first.value < first.high).all()


def test_there_is_no_interval_from_one_episode_or_from_infinite_errors(generator):
    assert not bootstrap_ratio(np.array([3.0]), np.array([2]), generator=generator).known
    assert not bootstrap_ratio(np.array([3.0, np.inf]), np.array([2, 2]), generator=generator).known


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=2, max_size=5))
def test_the_median_is_that_of_all_numbers_together(episodes):
    histograms = np.stack([np.bincount(numbers, minlength=10) for numbers in episodes])
    found = bootstrap_median(histograms, generator=np.random.default_rng(0), resamples=50)
    everything = sorted(number for numbers in episodes for number in numbers)
    assert float(found.value) == everything[(len(everything) - 1) // 2]
    assert found.low <= found.high


def test_the_p_value_is_exact_for_few_pairs_and_near_it_for_many(generator):
    assert sign_flip_p_value(np.ones(5), generator=generator) == 2 / 2**5
    assert sign_flip_p_value(np.zeros(20), generator=generator) == 1
    p_values = [sign_flip_p_value(generator.normal(size=20), generator=generator) for _ in range(200)]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.04)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.07)


def test_a_run_cannot_be_told_apart_from_itself(walks, generator):
    run = assessed(walks)
    found = compare(run, run, names=("A", "B"), generator=generator)
    assert list(found) == ["cold", "warm", *(f"open loop/{steps}" for steps in (1, 2, 5, 10))]
    for comparison in found.values():
        assert not comparison.told_apart
        assert comparison.p_value == 1
        assert "cannot be told apart over 12 episodes: A's error is the same" in comparison.sentence()


def test_a_worse_run_is_told_apart_and_by_how_much(walks, generator):
    """A bias b adds b² to every squared error, and the walk's steps have a variance of 1."""
    good, bad = assessed(walks), assessed(walks, bias=0.5)
    worse = compare(bad, good, names=("B", "A"), generator=generator)["warm"]
    assert worse.told_apart
    assert float(worse.ratio.value) == pytest.approx(1.25, abs=0.1)
    assert worse.sentence().startswith("B's error is 2")
    assert "% higher than A's" in worse.sentence()
    assert "lower than B's" in compare(good, bad, names=("A", "B"), generator=generator)["warm"].sentence()


def test_runs_that_scale_differently_are_compared_in_one_unit(walks, generator):
    found = compare(assessed(walks), assessed(walks, scale=3.0), names=("A", "B"), generator=generator)
    np.testing.assert_allclose([float(c.ratio.value) for c in found.values()], 1, rtol=1e-5)


def test_pieces_of_one_recording_count_once(walks, generator):
    halves = dataclasses.replace(walks, recordings=tuple("abcdef" * 2))
    run = assessed(halves)
    assert compare(run, run, names=("A", "B"), generator=generator)["warm"].num_episodes == 6


def test_runs_on_different_episodes_are_not_compared(walks, generator):
    run, other = assessed(walks), assessed(walks.select(range(6)))
    with pytest.raises(InputError, match=r"same test episodes, received test data .* \(6 episodes\)"):
        compare(run, other, names=("A", "B"), generator=generator)


def test_only_what_was_measured_on_the_same_steps_is_compared(walks, generator):
    run, other = assessed(walks), assessed(walks, warmup=20)
    assert list(compare(run, other, names=("A", "B"), generator=generator)) == ["cold"]
    with pytest.raises(InputError, match="windows of 10, warm-up 10, horizon 10 and windows of 5"):
        compare(run, assessed(walks, warmup=20, length=5), names=("A", "B"), generator=generator)


def test_a_difference_within_chance_is_no_difference(generator):
    sums = generator.gamma(4.0, 25.0, size=16)
    now_better_now_worse = sums * np.tile([0.8, 1.2], 8)
    comparison = compare_sums(
        sums, now_better_now_worse, np.full(16, 100), names=("A", "B"), generator=generator
    )
    assert not comparison.told_apart
    assert "95 % interval" in comparison.sentence()

import numpy as np
import pytest

from foretrace.evaluation.forecast_errors import ratio_interval, run_length, sign_flip_p_value


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_the_interval_holds_the_truth_about_as_often_as_it_says(generator):
    held = 0
    for _ in range(300):
        lengths = generator.integers(50, 150, size=30)
        sums = generator.gamma(4.0, 0.25, size=30) * lengths  # episodes differ, with a mean of 1
        interval = ratio_interval(sums, lengths, generator=generator, resamples=500)
        held += bool(interval.low <= 1 <= interval.high)
    assert 0.88 <= held / 300 <= 0.98


def test_steps_of_one_episode_are_no_independent_draws(generator):
    """16 episodes of 1000 equal errors each: the interval is that of 16 numbers."""
    errors = generator.gamma(4.0, 0.25, size=16)
    one, many = (
        ratio_interval(errors * steps, np.full(16, steps), generator=np.random.default_rng(1))
        for steps in (1, 1000)
    )
    np.testing.assert_allclose([one.low, one.high], [many.low, many.high])
    assert one.high - one.low > 0.5 * errors.std()


def test_resamples_are_repeatable_at_each_step(generator):
    sums = generator.random((16, 100))
    first, second = (ratio_interval(sums, np.ones(16), generator=np.random.default_rng(5)) for _ in range(2))
    assert first.low.shape == (100,)
    np.testing.assert_array_equal(first.low, second.low)
    assert (first.low < first.value).all()
    assert (first.value < first.high).all()


def test_there_is_no_interval_from_four_groups_or_from_infinite_errors(generator):
    assert not ratio_interval(np.arange(4.0), np.ones(4), generator=generator).known
    assert not ratio_interval(np.array([1, 2, 3, 4, np.inf]), np.ones(5), generator=generator).known


def test_the_p_value_is_exact_for_few_pairs_and_near_it_for_many(generator):
    assert sign_flip_p_value(np.ones(5), generator=generator) == 2 / 2**5
    assert sign_flip_p_value(np.zeros(20), generator=generator) == 1
    p_values = [sign_flip_p_value(generator.normal(size=20), generator=generator) for _ in range(200)]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.04)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.07)


def autocorrelated(generator, size, rho):
    noise, values = generator.normal(size=size), np.zeros(size)
    for t in range(1, size):
        values[t] = rho * values[t - 1] + noise[t]
    return 10 + values


def test_interval_over_time_holds_the_truth_where_one_of_single_draws_does_not(generator):
    held = {True: 0, False: 0}
    for _ in range(150):
        series = autocorrelated(generator, 300, 0.8)
        for in_time in held:
            interval = ratio_interval(
                series, np.ones(300), generator=generator, in_time=in_time, resamples=300
            )
            held[in_time] += bool(interval.low <= 10 <= interval.high)
    assert held[True] / 150 > 0.82
    assert held[False] / 150 < 0.65


def test_runs_are_longer_where_errors_last_longer(generator):
    lengths = [run_length(autocorrelated(generator, 1000, rho) - 10) for rho in (0, 0.5, 0.9)]
    assert lengths == sorted(lengths)
    assert lengths[0] <= 3
    assert lengths[2] > 15

"""A shuffled order that no table holds is a permutation, and as random as one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from foretrace.data.windows import KeyedPermutation

SIZE, KEYS = 1000, 2000


@pytest.fixture(scope="module")
def many():
    """As many orders of a thousand numbers, each with a key of its own."""
    return np.stack([KeyedPermutation(SIZE, seeds=(key, 0))(0, SIZE) for key in range(KEYS)])


@given(st.integers(1, 3000), st.integers(0, 2**32), st.integers(0, 10))
def test_every_number_comes_once_in_an_order_of_the_seeds_alone(size, seed, epoch):
    order = KeyedPermutation(size, seeds=(seed, epoch))
    whole = order(0, size)
    assert np.array_equal(np.sort(whole), np.arange(size))
    middle = size // 2
    assert np.array_equal(np.concatenate([order(0, middle), order(middle, size)]), whole)


def test_any_part_of_a_trillion_is_there_at_once():
    order = KeyedPermutation(10**12, seeds=(1, 2))
    part = order(10**12 - 1000, 10**12)
    assert len(set(part.tolist())) == 1000
    assert 0 <= part.min() < 10**11 < 9 * 10**11 < part.max() < 10**12


def chi_square(counts) -> float:
    return stats.chisquare(np.ravel(counts)).pvalue


def test_over_keys_each_place_gets_each_number_as_often(many):
    for place in (0, 1, SIZE // 2, SIZE - 1):
        assert chi_square(np.bincount(many[:, place] // 50, minlength=20)) > 1e-4


def test_over_keys_what_is_side_by_side_is_independent(many):
    pairs, _, _ = np.histogram2d(many[:, :-1].ravel(), many[:, 1:].ravel(), bins=20)
    assert chi_square(pairs) > 1e-4
    apart, _, _ = np.histogram2d(many[:, :-512].ravel(), many[:, 512:].ravel(), bins=20)
    assert chi_square(apart) > 1e-4


def test_over_keys_an_order_cannot_be_told_from_a_uniform_permutation(many):
    uniform = np.stack([np.random.default_rng(key).permutation(SIZE) for key in range(KEYS)])
    places = np.arange(SIZE)
    statistics = {
        "number of rises": lambda orders: (np.diff(orders) > 0).sum(axis=1),
        "sum of displacements": lambda orders: np.abs(orders - places).sum(axis=1),
        "correlation with the place": lambda orders: (orders * places).sum(axis=1),
        "even numbers in even places": lambda orders: (orders[:, ::2] % 2 == 0).sum(axis=1),
    }
    for name, of in statistics.items():
        assert stats.ks_2samp(of(many), of(uniform)).pvalue > 1e-3, name
    fixed = (many == places).sum(axis=1)  # one of them on average, as of a Poisson variable
    assert fixed.mean() == pytest.approx(1, abs=0.1)
    assert fixed.var() == pytest.approx(1, abs=0.15)

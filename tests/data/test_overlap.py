"""Rows that are in two parts of the data are found wherever they begin, also where only a share is compared."""

import numpy as np
import pytest

from foretrace.data.sequences import Sequences
from foretrace.data.splits import overlaps, split


def parts(*episodes):
    sequences = Sequences.from_episodes(list(episodes), feature_names=["a", "b"])
    return split(sequences, (0.6, 0.2, 0.2), by="episode")


@pytest.mark.parametrize("sampled", [1_000_000, 1000])
def test_a_stretch_of_a_training_episode_in_a_test_episode_is_named(monkeypatch, sampled):
    monkeypatch.setattr("foretrace.data.splits.SAMPLED", sampled)
    episodes = np.random.default_rng(0).normal(size=(5, 2000, 2))
    assert overlaps(parts(*episodes)) == []
    episodes[4, 100:400] = episodes[1, 937:1237]
    [told] = overlaps(parts(*episodes))
    assert (
        told
        == "the same rows are in different parts, so the test is no test: episode 1 (train) and episode 4 (test)"
    )


def test_the_same_file_twice_is_named_and_rows_that_stand_still_are_not():
    once = np.random.default_rng(0).normal(size=(50, 2))
    still = np.ones((50, 2))
    [told] = overlaps(parts(once, once, still, still, still))
    assert told == "the same rows came twice: episode 0 and episode 1"

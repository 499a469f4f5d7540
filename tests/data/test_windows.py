import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import numbered
from hypothesis import given
from hypothesis import strategies as st

from foretrace.config.data import Windowing
from foretrace.data.sequences import Sequences
from foretrace.data.sources import WindowDataModule
from foretrace.data.splits import split
from foretrace.data.windows import WindowLoader, Windows

lengths_of_episodes = st.lists(st.integers(1, 40), min_size=1, max_size=8)


@given(lengths_of_episodes, st.integers(1, 12), st.integers(1, 12), st.integers(0, 12))
def test_a_window_and_its_targets_are_consecutive_rows_of_one_episode(lengths, length, stride, shift):
    windows = Windows(numbered(lengths), length=length, stride=stride)
    assert len(windows) == sum(len(range(0, n - length, stride)) for n in lengths)
    if not len(windows):
        return
    offset = torch.full((len(lengths),), shift)
    batch = windows.gather(torch.arange(len(windows)), offset=offset)
    rows = torch.cat([batch.values[:, :, 0], batch.targets[:, -1:, 0]], dim=1)
    assert (rows.diff(dim=1) == 1).all()
    assert ((rows // 1000) == (rows[:, :1] // 1000)).all()
    ends = torch.tensor(lengths)[(rows[:, 0] // 1000).long()]
    assert (rows[:, -1] % 1000 < ends).all()


@given(lengths_of_episodes, st.integers(1, 12), st.integers(1, 12))
def test_windows_are_numbered_episode_by_episode_whatever_is_too_short(lengths, length, stride):
    windows = Windows(numbered(lengths), length=length, stride=stride)
    numbers = [[e, start] for e, n in enumerate(lengths) for start in range(0, n - length, stride)]
    assert windows.origins(torch.arange(len(windows))).tolist() == numbers


@given(st.lists(st.integers(12, 40), min_size=3, max_size=30), st.sampled_from(["auto", "episode", "time"]))
def test_no_row_is_in_two_parts(lengths, by):
    parts = split(numbered(lengths), (0.6, 0.2, 0.2), by=by)
    rows = [
        {v for e in range(len(p)) for v in p.episode(e)[:, 0]} for p in (parts.train, parts.valid, parts.test)
    ]
    assert all(rows)
    assert sum(map(len, rows)) == sum(lengths) == len(set.union(*rows))


@pytest.mark.parametrize("by", ["episode", "time"])
@pytest.mark.parametrize("shares", [(0.7, 0.3, 0.0), (0.0, 0.0, 1.0), (0.0, 0.4, 0.6)])
def test_a_part_whose_share_is_0_has_no_row(by, shares):
    dated = replace(numbered([20] * 5), times=np.tile(np.arange(20), 5), has_dates=True)
    for sequences in (numbered([20] * 5), dated):
        parts = split(sequences, shares, by=by)
        rows = [0 if p is None else p.num_rows for p in (parts.train, parts.valid, parts.test)]
        assert sum(rows) == 100
        assert rows == pytest.approx(np.multiply(shares, 100), abs=20 if by == "episode" else 5)
        assert [n > 0 for n in rows] == [share > 0 for share in shares]
        assert (parts.test is None) == bool(parts.test_missing)


@given(st.lists(st.integers(1, 30), min_size=3, max_size=12), st.booleans(), st.booleans(), st.randoms())
def test_statistics_and_digest_are_those_of_the_chosen_episodes_alone(
    lengths, has_covariates, is_thinned, random
):
    drawn = np.random.default_rng(random.randrange(1000)).normal(1e4, size=(sum(lengths), 4))
    episodes = np.split(drawn[:, :2], np.cumsum(lengths)[:-1])
    more = {"covariates": np.split(drawn[:, 2:], np.cumsum(lengths)[:-1]), "covariate_names": ["c", "d"]}
    more = (more if has_covariates else {}) | (
        {"next_values": [2 * e for e in episodes]} if is_thinned else {}
    )
    whole = Sequences.from_episodes(episodes, feature_names=["a", "b"], **more)
    chosen = random.sample(range(len(lengths)), 2)
    with pytest.MonkeyPatch.context() as patch:  # blocks end within episodes, and hold several
        patch.setattr("foretrace.data.sequences.BLOCK", 5)
        part = whole.select(chosen)
        found, digest = part.statistics, part.digest
    rows = [slice(*bounds) for bounds in part.bounds]
    values = [whole.values[r].astype(np.float64) for r in rows]
    changes = [
        whole.next_values[r] - v if is_thinned else np.diff(v, axis=0)
        for r, v in zip(rows, values, strict=True)
    ]
    joined, squared = np.concatenate(values), np.concatenate(changes) ** 2
    np.testing.assert_allclose([found.mean, found.std], [joined.mean(axis=0), joined.std(axis=0)], rtol=1e-9)
    np.testing.assert_allclose(found.change, np.sqrt(squared.mean(axis=0)) if len(squared) else 0, rtol=1e-9)
    known = np.concatenate([whole.covariates[r].astype(np.float64) for r in rows])
    np.testing.assert_allclose(found.covariate_mean, known.mean(axis=0), rtol=1e-9)
    sha = hashlib.sha256(repr((("a", "b"), part.covariate_names, part.lengths.tolist())).encode())
    for r in rows:
        for array in (whole.values, whole.covariates, whole.next_values):
            sha.update(b"" if array is None else array[r].tobytes())
    assert digest == sha.hexdigest()


def test_a_split_by_time_keeps_the_order_past_to_future():
    parts = split(numbered([100]), (0.7, 0.15, 0.15))
    assert [float(p.episode(0)[0, 0]) for p in (parts.train, parts.valid, parts.test)] == [0, 70, 85]


def test_a_recording_with_gaps_is_split_by_time_as_one():
    pieces = numbered([60, 30, 10], recordings=["one", "one", "one"])
    parts = split(pieces, (0.7, 0.15, 0.15))
    assert parts.train.lengths.tolist() == [60, 10]
    assert parts.valid.lengths.tolist() == [15]
    assert parts.test.episode(0)[0, 0] == 1025
    assert parts.test.lengths.tolist() == [5, 10]


def test_pieces_of_a_recording_are_not_spread_over_parts():
    pieces = numbered([20] * 6, recordings=["a", "b", "b", "b", "c", "c"])
    parts = split(pieces, (0.4, 0.3, 0.3), by="episode")
    assert [part.recordings for part in (parts.train, parts.valid, parts.test)] == [
        ("a",),
        ("b",) * 3,
        ("c",) * 2,
    ]


def test_rows_left_out_keep_what_followed_them():
    kept = numbered(
        [5], next_values=[np.arange(10.0, 15)[:, None]], covariates=[np.ones((5, 1))], covariate_names=["dt"]
    )
    batch = Windows(kept, length=5, stride=1).gather(torch.tensor([0]))
    assert batch.targets.flatten().tolist() == [10, 11, 12, 13, 14]
    assert batch.covariates.shape == (1, 5, 1)


def order_of(loader: WindowLoader) -> list[float]:
    return [float(v) for batch in loader for v in batch.values[:, 0, 0]]


def test_the_order_is_another_each_epoch_and_the_same_for_a_seed():
    windows = Windows(numbered([50, 30]), length=5, stride=5)
    one, same, other = (WindowLoader(windows, batch_size=4, seed=seed) for seed in (1, 1, 2))
    first = order_of(one)
    assert first == order_of(same) != order_of(other)
    assert sorted(first) == sorted(order_of(one))
    assert order_of(one) != first


def test_an_epoch_counts_from_its_start_even_if_it_is_cut_short():
    windows = Windows(numbered([50]), length=5, stride=5)
    cut, whole = (WindowLoader(windows, batch_size=4, seed=1) for _ in range(2))
    next(iter(cut))
    order_of(whole)
    assert order_of(cut) == order_of(whole)


def test_training_windows_may_be_shorter_than_those_that_judge():
    parts = split(numbered([100]), (0.6, 0.2, 0.2))
    cut = Windowing(window=10, stride=5, train_window=4, batch_size=100, random_offset=False)
    data = WindowDataModule(parts, cut, seed=1)
    trained = next(iter(data.train_dataloader())).values[:, :, 0]
    assert sorted(trained.flatten().tolist()) == list(
        range(56)
    )  # each row once; the last ones are targets only
    assert next(iter(data.val_dataloader())).values.shape == (2, 10, 1)


def test_a_random_offset_shows_windows_between_the_grid():
    windows = Windows(numbered([50]), length=5, stride=5)
    loader = WindowLoader(windows, batch_size=4, seed=1, random_offset=True)
    assert len({start % 5 for _ in range(20) for start in order_of(loader)}) == 5


@pytest.fixture
def without_a_table(monkeypatch):
    """As with more windows than a table of their order holds."""
    monkeypatch.setattr("foretrace.data.windows.MOST_IN_A_TABLE", 10)


def test_an_order_without_a_table_is_complete_resumable_and_the_same_for_all_processes(without_a_table):
    windows = Windows(numbered([500, 300]), length=5, stride=3)
    whole = WindowLoader(windows, batch_size=7, seed=1, random_offset=True)
    parts = [WindowLoader(windows, batch_size=7, seed=1, random_offset=True, shard=(r, 2)) for r in (0, 1)]
    for epoch in range(2):
        batches = list(whole)
        assert len({float(v) // 3 for batch in batches for v in batch.values[:, 0, 0]}) == len(windows)
        for one, two, batch in zip(*parts, batches, strict=True):
            assert torch.equal(torch.cat([one.values, two.values]), batch.values)
        resumed = WindowLoader(windows, batch_size=7, seed=1, random_offset=True)
        resumed.load_state_dict({"epoch": epoch, "batch": 20})
        assert all(torch.equal(a.values, b.values) for a, b in zip(resumed, batches[20:], strict=True))
        origins, again = whole.part(epoch, 3)
        assert torch.equal(again.values, batches[3].values)
        assert origins.shape == (7, 2)

"""Training, validation and test parts: split first, by whole episodes or by time, and window later.

A test on rows that are in the training part, too, would test memory: `overlaps` finds them.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from foretrace.data.sequences import Sequences

PARTS = ("train", "valid", "test")
FEWEST_TO_SPLIT_WHOLE = 10  # below, a part would be one recording, and the figures that one's
RUN = 16  # rows that are equal one after the other are no coincidence
SAMPLED = 1_000_000  # runs that are compared at most
BLOCK = 2**16  # rows at once


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The three parts of a data set."""

    train: Sequences  # what the model and its scaling are fitted to
    valid: Sequences  # what choices are made on
    # What the model is evaluated on; None where the data set came without it, or its share is 0.
    test: Sequences | None
    test_missing: str = ""  # why there is no test part, and what to do about it


def split(sequences: Sequences, shares: tuple[float, float, float], *, by: str = "auto") -> Splits:
    """Split into training, validation and test parts, over the same array.

    Args:
        sequences: Episodes of one or more recordings.
        shares: Shares of the three parts, of which some may be 0; their sum is 1.
        by: ``episode`` gives whole recordings to each part, in order. ``time`` cuts all recordings at two dates or,
            where rows have no dates, each one into an early, a middle and a late part. ``auto`` cuts by time if there
            are fewer than 10 recordings.

    Raises:
        ValueError: If there are too few recordings, or rows in one, for the parts.

    >>> ten = Sequences.from_episodes(np.zeros((10, 4, 1)), feature_names=["height"])
    >>> parts = split(ten, (0.8, 0.1, 0.1))
    >>> len(parts.train), parts.valid.episode_names, parts.test.episode_names
    (8, ('episode 8',), ('episode 9',))
    """
    recordings: dict[str, list[int]] = {}
    for episode, recording in enumerate(sequences.recordings):
        recordings.setdefault(recording, []).append(episode)
    groups = list(recordings.values())
    if by == "time" or (by == "auto" and len(groups) < FEWEST_TO_SPLIT_WHOLE):
        return _split_by_time(sequences, groups, shares)
    edges = np.cumsum([0, *divide(len(groups), shares)])
    chosen = [[e for group in groups[first:end] for e in group] for first, end in pairwise(edges)]
    return _splits(*map(sequences.select, chosen))


def divide(total: int, shares: tuple[float, float, float]) -> list[int]:
    """Return whole numbers that sum to ``total``, nearest to the shares, none of them 0 unless its share is.

    >>> divide(160, (0.8, 0.1, 0.1)), divide(3, (0.8, 0.1, 0.1)), divide(7, (0.9, 0.1, 0))
    ([128, 16, 16], [1, 1, 1], [6, 1, 0])
    """
    least = (np.asarray(shares) > 0).astype(int)
    spare = total - int(least.sum())
    if spare < 0:
        raise ValueError(f"{total} cannot be divided into {least.sum()} parts")
    exact = np.maximum(np.asarray(shares) * total - least, 0)
    exact = exact / exact.sum() * spare if exact.sum() else exact
    counts = np.floor(exact + 1e-9).astype(int)
    most_short = np.argsort(counts - exact, kind="stable")
    counts[most_short[: spare - counts.sum()]] += 1
    return [int(count) for count in counts + least]


def _split_by_time(
    sequences: Sequences, recordings: list[list[int]], shares: tuple[float, float, float]
) -> Splits:
    found: dict[str, list[tuple[int, int, int]]] = {part: [] for part in PARTS}  # episode, first row, end
    dates = _dates_between(sequences, shares) if sequences.has_dates and len(recordings) > 1 else None
    for pieces in recordings:
        total, before = int(sequences.lengths[pieces].sum()), 0  # of this recording; in pieces before
        if dates is None:
            inner = np.cumsum(divide(total, shares))[:-1].tolist()
        else:
            inner = [_rows_before(sequences, pieces, date) for date in dates]
            inner = [inner[0] if shares[0] else 0, inner[1] if shares[2] else total]
            inner = inner if shares[1] else [inner[shares[0] > 0]] * 2
        for episode in pieces:
            first, end = (int(row) for row in sequences.bounds[episode])
            for part, (early, late) in zip(PARTS, pairwise([0, *inner, total]), strict=True):
                begins, ends = max(first, first + early - before), min(end, first + late - before)
                if begins < ends:
                    found[part].append((episode, begins, ends))
            before += end - first
    if not all(rows or not share for rows, share in zip(found.values(), shares, strict=True)):
        raise ValueError("the dates of the recordings leave a part without rows: set data.split_by=episode")

    def cut(name: str) -> Sequences:
        whole = sequences.select([episode for episode, _, _ in found[name]])
        bounds = np.array([rows for _, *rows in found[name]], np.int64).reshape(-1, 2)
        return replace(
            whole, bounds=bounds, episode_names=tuple(f"{n} ({name})" for n in whole.episode_names)
        )

    return _splits(*map(cut, PARTS))


def _splits(train: Sequences, valid: Sequences, test: Sequences) -> Splits:
    missing = "" if len(test) else "nothing was held back for it (data.split.test=0)"
    return Splits(train=train, valid=valid, test=test if len(test) else None, test_missing=missing)


def _rows_before(sequences: Sequences, episodes: list[int], date: int) -> int:
    assert sequences.times is not None, "there are dates"
    return sum(int(np.searchsorted(sequences.times[a:b], date)) for a, b in sequences.bounds[episodes])


def _dates_between(sequences: Sequences, shares: tuple[float, float, float]) -> list[int]:
    """Return two dates, in ns, before which the shares of all rows lie: no part knows what comes after it."""
    assert sequences.times is not None, "there are dates"
    every = list(range(len(sequences)))
    low = int(sequences.times[sequences.bounds[:, 0]].min()) + 1
    high = int(sequences.times[sequences.bounds[:, 1] - 1].max())
    return [
        low
        + bisect_right(
            range(low, high), share * sequences.num_rows, key=partial(_rows_before, sequences, every)
        )
        for share in (shares[0], shares[0] + shares[1])
    ]


def overlaps(splits: Splits) -> list[str]:
    """Says which episodes of different parts share runs of equal rows, and which of one part are equal.

    Runs are found by their content, wherever they begin; of very many, a share is compared.
    """
    rows = sum(part.num_rows for part in (splits.train, splits.valid, splits.test) if part is not None)
    every = np.uint64(1 << max(0, (rows // SAMPLED).bit_length()))
    seen: dict[int, tuple[str, str]] = {}
    across, within = list[str](), list[str]()
    for name in PARTS:
        part: Sequences | None = getattr(splits, name)
        for episode, runs in _runs(part, every) if part is not None else ():
            found = {seen.setdefault(run, (name, episode)) for run in runs.tolist()}
            for where, there in sorted(found - {(name, episode)}):
                if where == name:
                    within.append(f"{there} and {episode}")
                else:
                    across.append(f"{there} ({where}) and {episode} ({name})")
    told = {
        "the same rows are in different parts, so the test is no test": across,
        "the same rows came twice": within,
    }
    return [
        f"{what}: {', '.join(pairs[:8])}{', …' * (len(pairs) > 8)}" for what, pairs in told.items() if pairs
    ]


def _runs(part: Sequences, every: np.uint64) -> Iterator[tuple[str, npt.NDArray[np.uint64]]]:
    """Hash runs of rows that vary, of each episode; of many rows, those runs whose first row's hash is a multiple."""
    drawn = np.random.default_rng(0).integers(1, 2**63, max(part.values.shape[1], RUN), np.uint64)
    factors = drawn | np.uint64(1)
    for name, (first, end) in zip(part.episode_names, part.bounds.tolist(), strict=True):
        found = []
        for start in range(first, end - RUN + 1, BLOCK):
            values = np.ascontiguousarray(part.values[start : min(start + BLOCK + RUN - 1, end)])
            mixed = values.view(np.uint32) * factors[: values.shape[1]]
            mixed ^= mixed >> np.uint64(29)
            rows = mixed.sum(axis=1, dtype=np.uint64)
            begins = np.flatnonzero(rows[: len(rows) - RUN + 1] % every == 0)
            runs = rows[begins[:, None] + np.arange(RUN)]  # (begins, RUN)
            varied = np.count_nonzero(np.diff(runs, axis=1), axis=1) >= RUN // 2
            found.append((runs[varied] * factors[:RUN]).sum(axis=1, dtype=np.uint64))
        if found:
            yield name, np.unique(np.concatenate(found))

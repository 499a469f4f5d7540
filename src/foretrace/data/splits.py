"""Training, validation and test parts: split first, by whole episodes or by time, and window later."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from foretrace.data.sequences import Sequences

PARTS = ("train", "valid", "test")
FEWEST_TO_SPLIT_WHOLE = 10  # below, a part would be one recording, and the figures that one's


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The three parts of a data set.

    Args:
        train: What the model and its scaling are fitted to.
        valid: What choices are made on.
        test: What the model is evaluated on; None where the data set came without it.
        test_missing: Why there is no test part, and what to do about it.
    """

    train: Sequences
    valid: Sequences
    test: Sequences | None
    test_missing: str = ""


def split(sequences: Sequences, shares: tuple[float, float, float], *, by: str = "auto") -> Splits:
    """Split into training, validation and test parts, over the same array.

    Args:
        sequences: Episodes of one or more recordings.
        shares: Shares of the three parts; their sum is 1.
        by: ``episode`` gives whole recordings to each part, in order. ``time`` cuts all recordings at two dates or,
            where rows have no dates, each one into an early, a middle and a late part. ``auto`` cuts by time if there
            are fewer than 10 recordings.

    Raises:
        ValueError: If there are too few recordings, or rows in one, for three parts.

    >>> ten = Sequences.from_episodes(np.zeros((10, 4, 1)), feature_names=["height"])
    >>> parts = split(ten, (0.8, 0.1, 0.1))
    >>> len(parts.train), parts.valid.episode_names, parts.test.episode_names
    (8, ('episode 8',), ('episode 9',))
    """
    recordings: dict[str, list[int]] = {}
    for episode, recording in enumerate(sequences.recordings):
        recordings.setdefault(recording, []).append(episode)
    if by == "auto":
        by = "time" if len(recordings) < FEWEST_TO_SPLIT_WHOLE else "episode"
    if by == "time":
        return _split_by_time(sequences, list(recordings.values()), shares)
    edges = np.cumsum([0, *divide(len(recordings), shares)])
    groups = list(recordings.values())
    train, valid, test = (
        sequences.select([e for group in groups[first:end] for e in group]) for first, end in pairwise(edges)
    )
    return Splits(train=train, valid=valid, test=test)


def divide(total: int, shares: tuple[float, float, float]) -> list[int]:
    """Return whole numbers that sum to ``total``, nearest to the shares, none of them 0.

    >>> divide(160, (0.8, 0.1, 0.1)), divide(3, (0.8, 0.1, 0.1))
    ([128, 16, 16], [1, 1, 1])
    """
    if total < len(shares):
        raise ValueError(f"{total} cannot be divided into {len(shares)} parts")
    spare = total - len(shares)
    exact = np.maximum(np.asarray(shares) * total - 1, 0)
    exact = exact / exact.sum() * spare if exact.sum() else exact
    counts = np.floor(exact + 1e-9).astype(int)
    most_short = np.argsort(counts - exact, kind="stable")
    counts[most_short[: spare - counts.sum()]] += 1
    return [int(count) + 1 for count in counts]


def _split_by_time(
    sequences: Sequences, recordings: list[list[int]], shares: tuple[float, float, float]
) -> Splits:
    episodes: list[list[int]] = [[] for _ in PARTS]
    bounds: list[list[tuple[int, int]]] = [[] for _ in PARTS]
    dates = _dates_between(sequences, shares) if sequences.has_dates and len(recordings) > 1 else None
    for pieces in recordings:
        if dates is None:
            edges = np.cumsum([0, *divide(int(sequences.lengths[pieces].sum()), shares)])
        else:
            counts = [_rows_before(sequences, pieces, date) for date in dates]
            edges = np.array([0, *counts, int(sequences.lengths[pieces].sum())])
        before = 0  # rows of this recording in the pieces before
        for episode in pieces:
            first, end = (int(row) for row in sequences.bounds[episode])
            for part, (early, late) in enumerate(pairwise(edges - before + first)):
                if max(first, early) < min(end, late):
                    episodes[part].append(episode)
                    bounds[part].append((max(first, early), min(end, late)))
            before += end - first
    if not all(episodes):
        raise ValueError("the dates of the recordings leave a part without rows: set data.split_by=episode")
    train, valid, test = (
        replace(
            sequences.select(chosen),
            bounds=np.asarray(rows, np.int64),
            episode_names=tuple(f"{sequences.episode_names[e]} ({part})" for e in chosen),
        )
        for part, chosen, rows in zip(PARTS, episodes, bounds, strict=True)
    )
    return Splits(train=train, valid=valid, test=test)


def _rows_before(sequences: Sequences, episodes: list[int], date: int) -> int:
    assert sequences.times is not None, "there are dates"
    return sum(int(np.searchsorted(sequences.times[a:b], date)) for a, b in sequences.bounds[episodes])


def _dates_between(sequences: Sequences, shares: tuple[float, float, float]) -> list[int]:
    """The two dates, in nanoseconds, before which the shares of all rows lie: no part knows what comes after it."""
    assert sequences.times is not None, "there are dates"
    every, dates = list(range(len(sequences))), list[int]()
    for share in (shares[0], shares[0] + shares[1]):
        low, high = (
            int(sequences.times[sequences.bounds[:, 0]].min()),
            int(sequences.times[sequences.bounds[:, 1] - 1].max()),
        )
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (low, middle)
                if _rows_before(sequences, every, middle) > share * sequences.num_rows
                else (middle, high)
            )
        dates.append(high)
    return dates

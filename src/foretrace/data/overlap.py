"""Whether rows of one part of the data are in another one, too: a test on them would test memory."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from foretrace.data.sequences import Sequences
from foretrace.data.splits import PARTS, Splits

RUN = 16  # rows that are equal one after the other are no coincidence
SAMPLED = 1_000_000  # runs that are compared at most
BLOCK = 2**16  # rows at once

Hashes = npt.NDArray[np.uint64]


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
            others = {seen[run] for run in runs.tolist() if run in seen} - {(name, episode)}
            across += [
                f"{there} ({where}) and {episode} ({name})"
                for where, there in sorted(others)
                if where != name
            ]
            within += [f"{there} and {episode}" for where, there in sorted(others) if where == name]
            for run in runs.tolist():
                seen.setdefault(run, (name, episode))
    told = {
        "the same rows are in different parts, so the test is no test": across,
        "the same rows came twice": within,
    }
    return [
        f"{what}: {', '.join(pairs[:8])}{', …' * (len(pairs) > 8)}" for what, pairs in told.items() if pairs
    ]


def _runs(part: Sequences, every: np.uint64) -> Iterator[tuple[str, Hashes]]:
    """Hash runs of rows that vary, of each episode; of many rows, those runs whose first row's hash is a multiple."""
    factors = np.random.default_rng(0).integers(
        1, 2**63, max(part.values.shape[1], RUN), np.uint64
    ) | np.uint64(1)
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

"""Windows of equal length over episodes, and the batches made of them.

Shapes: B windows in a batch, T steps, F features, K covariates, W windows.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foretrace.data.sequences import Sequences

BATCHES_PER_LOOKUP = 64  # looking rows up batch by batch takes as long as reading them
# Windows whose shuffled order is kept, 8 bytes each; beyond, it is computed as it is used.
MOST_IN_A_TABLE = 2**20
ROUNDS = 8  # four make a Feistel network of random functions random; these are hashes

Order = Callable[[int, int], Tensor]  # the numbers of windows from one place to another


class Batch(NamedTuple):
    """Windows side by side: what the model reads, and what came one step later."""

    values: Tensor  # (B, T, F)
    covariates: Tensor  # (B, T, K)
    targets: Tensor  # (B, T, F)
    weight: float = 1.0  # of its mean error, so that the mean over processes is that of the batch they share


class Windows:
    """Every window of ``length`` steps that starts at a multiple of ``stride`` within an episode.

    A window and its targets lie in one episode. A batch is one gather over the flat array, on the device on
    which the data lie, without a Python loop over samples.

    Args:
        sequences: The episodes.
        length: Steps that the model reads, T.
        stride: Steps from one start to the next.

    >>> ten_rows = Sequences.from_episodes([np.arange(10.0)[:, None]], feature_names=["height"])
    >>> windows = Windows(ten_rows, length=4, stride=3)
    >>> windows.origins(torch.arange(len(windows))).tolist()
    [[0, 0], [0, 3]]
    >>> windows.gather(torch.tensor([1])).targets.flatten().tolist()
    [4.0, 5.0, 6.0, 7.0]
    """

    def __init__(self, sequences: Sequences, *, length: int, stride: int) -> None:
        self.sequences, self.length, self.stride = sequences, length, stride
        self.last_start = sequences.num_targets - length  # (E,), < 0: too short
        per_episode = np.maximum(self.last_start // stride + 1, 0)
        self._count = int(per_episode.sum())
        # Numbers of each episode's windows, (E,). A table of all windows would grow with data that lie on disk.
        self._end = torch.from_numpy(np.cumsum(per_episode))
        self._begin = self._end - torch.from_numpy(per_episode)
        self._first_row = torch.from_numpy(sequences.bounds[:, 0])
        self._last_start = torch.from_numpy(self.last_start)
        self._values = torch.from_numpy(sequences.values)
        self._covariates = torch.from_numpy(sequences.covariates)
        following = sequences.next_values
        self._next = None if following is None else torch.from_numpy(following)

    def __len__(self) -> int:
        """Return the number of windows, W."""
        return self._count

    def to(self, device: torch.device) -> "Windows":
        """Move the data, so that batches are gathered on ``device``."""
        for name in ("_begin", "_end", "_first_row", "_last_start", "_values", "_covariates", "_next"):
            tensor = getattr(self, name)
            setattr(self, name, None if tensor is None else tensor.to(device))
        return self

    def origins(self, chosen: Tensor, *, offset: Tensor | None = None) -> Tensor:
        """Return the episode, and the first row in it, of windows by their number; see `gather`. Shape (B, 2)."""
        return torch.stack(self._find(chosen, offset), dim=1)

    def gather(self, chosen: Tensor, *, offset: Tensor | None = None) -> Batch:
        """Read windows by their number.

        Args:
            chosen: Numbers of windows. Shape (B,).
            offset: Steps by which each episode's windows start later, as far as it goes. Shape (E,).
        """
        return self.read(self.first_rows(chosen, offset=offset))

    def first_rows(self, chosen: Tensor, *, offset: Tensor | None = None) -> Tensor:
        """Return the rows of the flat array in which windows begin, by number; see `gather`. Shape (B,)."""
        episode, start = self._find(chosen, offset)
        return self._first_row.index_select(0, episode) + start

    def read(self, first: Tensor) -> Batch:
        """Read windows by their first rows. Shape (B,)."""
        covariates = _read(self._covariates, first, self.length)
        if self._next is None:
            values = _read(self._values, first, self.length + 1)
            return Batch(values[:, :-1], covariates, values[:, 1:])
        return Batch(
            _read(self._values, first, self.length), covariates, _read(self._next, first, self.length)
        )

    def _find(self, chosen: Tensor, offset: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return episodes and first rows in them, each (B,)."""
        chosen = chosen.to(self._end.device)
        episode = torch.searchsorted(self._end, chosen, right=True)
        # `index_select` takes a third of the time of indexing with brackets.
        start = (chosen - self._begin.index_select(0, episode)) * self.stride
        if offset is not None:
            later = start + offset.to(start.device).index_select(0, episode)
            start = torch.minimum(later, self._last_start.index_select(0, episode))
        return episode, start


class WindowLoader:
    """Batches of windows in an order that is a function of the seed and the epoch alone.

    Args:
        windows: Where the batches come from.
        batch_size: Windows in a batch; the last batch of an epoch holds what is left.
        seed: Shuffles anew each epoch; None keeps the windows' own order.
        random_offset: Shift each episode's windows by a random offset below the stride, another each epoch.
        shard: Which of how many equal parts of each batch to take; (0, 1) is all of it. The order is the same for
            all parts. Parts differ by one window where there is no other way; one without a window gets another's,
            with a weight of 0.

    >>> five_rows = Sequences.from_episodes([np.arange(6.0)[:, None]], feature_names=["height"])
    >>> windows = Windows(five_rows, length=1, stride=1)
    >>> [(len(batch.values), batch.weight) for batch in WindowLoader(windows, batch_size=3, shard=(1, 2))]
    [(1, 0.6666666666666666), (1, 1.0)]
    """

    def __init__(
        self,
        windows: Windows,
        *,
        batch_size: int,
        seed: int | None = None,
        random_offset: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.windows, self.batch_size, self.shard = windows, batch_size, shard
        self.seed, self.random_offset = seed, random_offset
        self._epoch = 0  # from which the next batch comes
        self._batch = 0  # the next batch's number in it
        self._is_restored = False

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.windows) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over one epoch, or what is left of it where a position was restored.

        The position moves on as a batch is handed out: the trainer need not exhaust the iterator.
        """
        if self._batch and not self._is_restored:  # the one before was cut short
            self._epoch, self._batch = self._epoch + 1, 0
        self._is_restored = False
        order, offset = self._draw(self._epoch)
        count, many = len(self.windows), BATCHES_PER_LOOKUP * self.batch_size
        for first in range(self._batch * self.batch_size, count, many):
            several = order(first, min(first + many, count))
            for whole in torch.split(self.windows.first_rows(several, offset=offset), self.batch_size):
                self._batch += 1
                if self._batch == len(self):
                    self._epoch, self._batch = self._epoch + 1, 0
                part, weight = self._part(whole)
                yield self.windows.read(part)._replace(weight=weight)

    def part(self, epoch: int, number: int) -> tuple[Tensor, Batch]:
        """Return any batch again, after the origin of each of its windows; see `Windows.origins`."""
        order, offset = self._draw(epoch)
        first = number * self.batch_size
        part, weight = self._part(order(first, min(first + self.batch_size, len(self.windows))))
        batch = self.windows.gather(part, offset=offset)
        return self.windows.origins(part, offset=offset), batch._replace(weight=weight)

    def state_dict(self) -> dict[str, int]:
        """Return the position: which batch of which epoch comes next."""
        return {"epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a position."""
        self._epoch, self._batch, self._is_restored = state["epoch"], state["batch"], True

    def _part(self, whole: Tensor) -> tuple[Tensor, float]:
        """Return what this process takes of a batch, and its weight."""
        rank, size = self.shard
        if size == 1:
            return whole, 1.0
        part = torch.tensor_split(whole, size)[rank]
        return (part if len(part) else whole[:1]), len(part) * size / len(whole)

    def _draw(self, epoch: int) -> tuple[Order, Tensor | None]:
        """Return the order of windows in an epoch, and the offset of each episode's windows, (E,)."""
        if self.seed is None:
            return torch.arange, None
        count = len(self.windows)
        words = np.random.SeedSequence([self.seed, epoch]).generate_state(2, np.uint32)
        generator = torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))
        order: Order
        if count > MOST_IN_A_TABLE:
            order = KeyedPermutation(count, seeds=(self.seed, epoch))
        else:
            order = partial(_part, torch.randperm(count, generator=generator))
        if not self.random_offset:
            return order, None
        return order, torch.randint(self.windows.stride, (len(self.windows.sequences),), generator=generator)


def _part(table: Tensor, first: int, end: int) -> Tensor:
    return table[first:end]


def _read(rows: Tensor, first: Tensor, length: int) -> Tensor:
    """Copy ``length`` rows of (N, C) from each of B first ones on. Shape (B, length, C).

    From a view of all windows that overlap, each is one piece of memory: eight times as fast as row by row.
    """
    if not rows.shape[1]:
        return rows.new_empty(len(first), length, 0)
    windows = rows.unfold(0, length, 1).transpose(1, 2)  # (N - length + 1, length, C)
    return windows.index_select(0, first)


class KeyedPermutation:
    """A permutation of 0 … size - 1 that is a function of its seeds alone.

    A Feistel network shuffles the numbers of as many bits as the size has: one half of the bits is changed by a hash
    of the other half, in turn, which can be undone whatever the hash. A result that is not below the size is
    shuffled again until it is (cycle walking, Black and Rogaway 2002), less than twice on average.

    Args:
        size: Numbers to shuffle, 1 to 2⁶².
        seeds: Whole numbers >= 0.

    >>> order = KeyedPermutation(10**12, seeds=(1, 0))
    >>> order(0, 3).tolist()
    [578791616745, 88999864534, 818964542763]
    >>> sorted(KeyedPermutation(5, seeds=(1, 0))(0, 5).tolist())
    [0, 1, 2, 3, 4]
    """

    def __init__(self, size: int, *, seeds: tuple[int, ...]) -> None:
        bits = max(2, (size - 1).bit_length())
        self._size, self._low = np.uint64(size), np.uint64(bits // 2)
        self._masks = [np.uint64((1 << n) - 1) for n in (bits // 2, bits - bits // 2)]
        self._keys = np.random.SeedSequence(seeds).generate_state(ROUNDS, np.uint64)

    def __call__(self, first: int, end: int) -> Tensor:
        """Return the numbers at places ``first`` to ``end`` - 1 of the order. Shape (end - first,)."""
        found = self._shuffle(np.arange(first, end, dtype=np.uint64))
        while len(outside := np.flatnonzero(found >= self._size)):
            found[outside] = self._shuffle(found[outside])
        return torch.from_numpy(found.astype(np.int64))

    def _shuffle(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        halves = [numbers & self._masks[0], numbers >> self._low]
        for turn, key in enumerate(self._keys):
            changed = turn % 2
            halves[changed] = halves[changed] ^ (_mix(halves[1 - changed] + key) & self._masks[changed])
        return halves[0] | (halves[1] << self._low)


def _mix(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a hash of 64 bits of each number; the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))

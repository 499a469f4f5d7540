"""A shuffled order without a table: any part of it is computed when it is wanted, so that it takes no memory."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

ROUNDS = 8  # four make a Feistel network of random functions random; these are hashes
LARGEST = 2**62


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
        if not 0 < size <= LARGEST:
            raise ValueError(f"a permutation has 1 to 2^62 numbers, got {size}")
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

"""The three parts of a data set as Lightning's data module."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from foretrace.config.data import Windowing
from foretrace.data.splits import Splits
from foretrace.data.windows import Batch, WindowLoader, Windows


class WindowDataModule(LightningDataModule):
    """Batches of windows for training, validation and test.

    Args:
        splits: The three parts.
        cut: How they are cut into windows and batches.
        seed: Of the order of training batches.
        warnings: What a person should know about the data before training; episodes without a window join them.

    Raises:
        ValueError: If a part has no window.
    """

    def __init__(
        self, splits: Splits, cut: Windowing, *, seed: int = 0, warnings: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.cut, self.seed = cut, seed
        self.test_missing, self.warnings = splits.test_missing, list(warnings)
        own = cut.train_window
        self.windows = {
            "train": Windows(splits.train, length=own or cut.window, stride=own or cut.stride),
            "valid": Windows(splits.valid, length=cut.window, stride=cut.stride),
        }
        if splits.test is not None:
            self.windows["test"] = Windows(splits.test, length=cut.window, stride=cut.stride)
        total, short = 0, list[str]()
        for name, windows in self.windows.items():
            sequences = windows.sequences
            if not len(windows):
                raise ValueError(
                    f"no window of {windows.length} steps fits: the longest {name} episode has"
                    f" {max(sequences.lengths, default=0)} rows"
                )
            total += len(sequences)
            short += [sequences.episode_names[e] for e in np.flatnonzero(windows.last_start < 0)]
        if short:
            few = ", ".join(short[:8]) + ", …" * (len(short) > 8)
            told = f"{len(short):,} of {total:,} episodes are shorter than a window and its target, and are not used"
            self.warnings.append(f"{told}: {few}")

    def setup(self, stage: str) -> None:
        """Move the data to where the model is: a batch is then a gather on that device, with no copy across."""
        if self.trainer is not None:
            for windows in self.windows.values():
                windows.to(self.trainer.strategy.root_device)

    def train_dataloader(self) -> WindowLoader:
        """Return training windows, shuffled anew each epoch; of each batch this process's part."""
        return self._loader(
            "train", seed=self.seed, random_offset=self.cut.random_offset, shard=self._shard()
        )

    def val_dataloader(self) -> WindowLoader:
        """Return validation windows, in order; of each batch this process's part."""
        return self._loader("valid", shard=self._shard())

    def test_dataloader(self) -> WindowLoader:
        """Return all test windows, in order: one process alone evaluates the model."""
        return self._loader("test")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Return the batch: it was made on the device."""
        return batch

    def _shard(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _loader(self, part: str, **how: Any) -> WindowLoader:
        return WindowLoader(self.windows[part], batch_size=self.cut.batch_size, **how)

"""The three parts of a data set as Lightning's data module."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from foretrace.data.splits import Splits
from foretrace.data.windows import Batch, WindowLoader, Windows


class WindowDataModule(LightningDataModule):
    """Batches of windows for training, validation and test.

    Args:
        splits: The three parts.
        window: Steps in a window.
        stride: Steps from one window's start to the next one's.
        train_window: Steps in a training window, each of which starts where the one before ends; None: as the others.
        batch_size: Windows in a batch.
        seed: Of the order of training batches.
        random_offset: Whether training windows start elsewhere each epoch.
        warnings: What a person should know about the data before training.

    Raises:
        ValueError: If a part has no window.
    """

    def __init__(
        self,
        splits: Splits,
        *,
        window: int,
        stride: int,
        train_window: int | None = None,
        batch_size: int,
        seed: int,
        random_offset: bool,
        warnings: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.batch_size, self.seed, self.random_offset = batch_size, seed, random_offset
        self.test_missing, self._warnings = splits.test_missing, tuple(warnings)
        parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
        cuts = dict.fromkeys(parts, (window, stride))
        if train_window is not None:
            cuts["train"] = train_window, train_window
        self.windows = {
            name: Windows(part, length=cuts[name][0], stride=cuts[name][1])
            for name, part in parts.items()
            if part is not None
        }
        for name, windows in self.windows.items():
            if not len(windows):
                longest = max(windows.sequences.lengths, default=0)
                raise ValueError(
                    f"no window of {windows.length} steps fits: the longest {name} episode has {longest} rows"
                )

    @property
    def warnings(self) -> list[str]:
        """What a person should know before training; episodes without a window among it."""
        windows = self.windows.values()
        short = [
            name
            for one in windows
            for name, last in zip(one.sequences.episode_names, one.last_start, strict=True)
            if last < 0
        ]
        if not short:
            return list(self._warnings)
        total, few = (
            sum(len(one.sequences) for one in windows),
            ", ".join(short[:8]) + ", …" * (len(short) > 8),
        )
        told = f"{len(short):,} of {total:,} episodes are shorter than a window and its target, and are not used: {few}"
        return [*self._warnings, told]

    def setup(self, stage: str) -> None:
        """Move the data to where the model is: a batch is then a gather on that device, with no copy across."""
        if self.trainer is not None:
            for windows in self.windows.values():
                windows.to(self.trainer.strategy.root_device)

    def train_dataloader(self) -> WindowLoader:
        """Return training windows, shuffled anew each epoch; of each batch this process's part."""
        return self._loader("train", seed=self.seed, random_offset=self.random_offset, shard=self._shard())

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
        return WindowLoader(self.windows[part], batch_size=self.batch_size, **how)

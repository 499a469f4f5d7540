"""From settings to the three parts of a data set, and to the loaders of their windows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from foretrace.config import FilesData, LeRobotData, MinariData, PublishedData, Reading, SimulatedData
from foretrace.config.data import Windowing
from foretrace.data.sequences import Sequences
from foretrace.data.splits import Splits, overlaps, split
from foretrace.data.windows import Batch, WindowLoader, Windows
from foretrace.errors import UserError

UnsplitData = SimulatedData | FilesData | LeRobotData | MinariData
DataSettings = PublishedData | UnsplitData


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
        how = {"seed": self.seed, "random_offset": self.cut.random_offset}
        return self._loader("train", **how, shard=self._shard())

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


def check(settings: DataSettings) -> None:
    """Check, without making anything, whether the data can be had at all.

    Raises:
        UserError: If they need a simulator that is not installed.
    """
    if isinstance(settings, SimulatedData):
        from foretrace.data.simulation.generate import installed_versions

        installed_versions()


def load(settings: DataSettings, *, cache: Path, seed: int = 0) -> WindowDataModule:
    """Simulate or read the data, split them, and cut the parts into windows.

    Args:
        settings: What data.
        cache: Where simulated data, and what was read from files, are kept.
        seed: Of the order of training batches.

    Raises:
        UserError: If they cannot be had as asked for, a part has no window, or training or validation has no share.
    """
    if not isinstance(settings, PublishedData) and not (settings.split.train and settings.split.valid):
        raise UserError(
            "data.split: a share of 0 for training or validation, which a model is fitted to and chosen by",
            hint="Only data.split.test may be 0",
        )
    if isinstance(settings, PublishedData):
        from foretrace.data import published

        loaders = {
            "halfcheetah_ltc": published.load_halfcheetah_ltc,
            "walker2d_cfc": published.load_walker2d_cfc,
        }
        splits, warnings = loaders[settings.source](Path(settings.root)), list[str]()
    else:
        splits, warnings = split_up(settings, read(settings, cache=cache)[0])
    try:
        return WindowDataModule(splits, settings, seed=seed, warnings=warnings)
    except ValueError as error:
        notes = splits.train.notes
        gaps = "data.gaps=keep, which spans the gaps in time" if notes.get("gaps in time") else ""
        holes = "data.missing=interpolate" if notes.get("rows left out") and not gaps else ""
        order = settings.order_column if isinstance(settings, FilesData) else None
        named = f" data.order_column={splits.train.reading['order_column']}" if gaps and not order else ""
        hint = f"Set a shorter data.window{gaps and ', or '}{gaps}{named}{holes and ', or '}{holes}"
        raise UserError(f"data.window: {error}", hint=hint) from error


def read(settings: UnsplitData, *, cache: Path) -> tuple[Sequences, dict[str, Any]]:
    """Simulate or read the data as a whole.

    Returns:
        The data, and what is known about how they were read; see `foretrace.data.tables.read.Recordings`.

    Raises:
        UserError: If they cannot be had as asked for.
    """
    # Each source is imported where it is wanted: the simulator and the table engine take time.
    if isinstance(settings, SimulatedData):
        from foretrace.data.simulation.generate import simulate

        numbers = settings.model_dump(include={"episodes", "steps", "frame_skip", "seed"})
        return simulate(settings.source, **numbers, cache=cache), {}
    from foretrace.data.published import load_lerobot, load_minari
    from foretrace.data.tables.read import read_recordings

    if isinstance(settings, LeRobotData):
        return load_lerobot(settings, cache=cache), {}
    if isinstance(settings, MinariData):
        return load_minari(settings), {}
    reading = Reading(**{name: getattr(settings, name) for name in Reading.model_fields})
    recordings = read_recordings(settings.path, reading, cache=cache)
    return recordings.sequences, recordings.report


def split_up(settings: UnsplitData, sequences: Sequences) -> tuple[Splits, list[str]]:
    """Split the data into three parts.

    Returns:
        The parts, and what a person should know before training.

    Raises:
        UserError: If there are too few episodes or rows.
    """
    by = "episode" if isinstance(settings, SimulatedData) else settings.split_by
    shares = settings.split.train, settings.split.valid, settings.split.test
    try:
        splits = split(sequences, shares, by=by)
        sequences, warnings = _without_absent_categories(sequences, splits.train)
        splits = split(sequences, shares, by=by) if warnings else splits
    except ValueError as error:
        raise UserError(f"data.split_by: {error}") from error
    repeated = [] if isinstance(settings, SimulatedData) else overlaps(splits)
    return splits, [*sequences.warnings, *warnings, *repeated]


def _without_absent_categories(sequences: Sequences, train: Sequences) -> tuple[Sequences, list[str]]:
    """Return the data without covariates for categories that no training row has, and what is said about these."""
    categories = train.reading.get("categories") or {}
    columns = {f"{name}={text}" for name, texts in categories.items() for text in texts}
    absent = [
        name
        for c, name in enumerate(train.covariate_names)
        if name in columns and not any(train.covariates[a:b, c].any() for a, b in train.bounds)
    ]
    if not (absent and len(train)):
        return sequences, []
    kept = [c for c, name in enumerate(sequences.covariate_names) if name not in absent]
    known = {name: [t for t in texts if f"{name}={t}" not in absent] for name, texts in categories.items()}
    without = replace(
        sequences,
        covariates=np.ascontiguousarray(sequences.covariates[:, kept]),
        covariate_names=tuple(sequences.covariate_names[c] for c in kept),
        reading=sequences.reading | {"categories": known},
    )
    return without, [f"category {name!r} is in no training row: it counts as none" for name in absent]

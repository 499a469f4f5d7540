"""From settings to the three parts of a data set."""

from collections.abc import Callable
from pathlib import Path

from foretrace.config import FilesData, PublishedData, SimulatedData, Split
from foretrace.data.datamodule import WindowDataModule
from foretrace.data.splits import Splits, split
from foretrace.errors import InputError

Progress = Callable[[int, int], None]
DataSettings = SimulatedData | PublishedData | FilesData


def check(settings: DataSettings) -> None:
    """Looks, without making anything, whether the data can be had at all.

    Raises:
        InputError: If they need a simulator that is not installed.
    """
    if isinstance(settings, SimulatedData):
        from foretrace.data.simulation.generate import installed_versions

        installed_versions()


def load(
    settings: DataSettings,
    *,
    cache: Path,
    seed: int = 0,
    progress: Progress | None = None,
) -> WindowDataModule:
    """Simulates or reads the data, splits them, and cuts the parts into windows.

    Args:
        settings: What data.
        cache: Where simulated data are kept.
        seed: Of the order of training batches.
        progress: Told how many episodes of how many have been simulated.

    Raises:
        InputError: If they cannot be had as asked for, or a part has no window.
    """
    splits = _load_splits(settings, cache=cache, progress=progress)
    try:
        return WindowDataModule(
            splits,
            window=settings.window,
            stride=settings.stride,
            train_window=settings.train_window,
            batch_size=settings.batch_size,
            seed=seed,
            random_offset=settings.random_offset,
        )
    except ValueError as error:
        raise InputError(
            "data.window", expected="episodes longer than a window", received=str(error)
        ) from error


def _load_splits(settings: DataSettings, *, cache: Path, progress: Progress | None) -> Splits:
    # Each source is imported where it is wanted: the simulator and pyarrow take a second each.
    if isinstance(settings, PublishedData):
        from foretrace.data import published

        loaders = {
            "halfcheetah_ltc": published.load_halfcheetah_ltc,
            "walker2d_cfc": published.load_walker2d_cfc,
        }
        return loaders[settings.source](Path(settings.root))
    if isinstance(settings, SimulatedData):
        from foretrace.data.simulation.generate import simulate

        sequences = simulate(
            settings.source,
            episodes=settings.episodes,
            steps=settings.steps,
            frame_skip=settings.frame_skip,
            seed=settings.seed,
            cache=cache,
            progress=progress,
        )
        return split(sequences, _shares(settings.split), by="episode")
    from foretrace.data.files import read_files

    sequences = read_files(
        settings.path,
        features=settings.features,
        inputs=settings.inputs,
        units=settings.units or {},
        episode_column=settings.episode_column,
        order_column=settings.order_column,
        dt_s=settings.dt_s,
        missing=settings.missing,
        missing_limit=settings.missing_limit,
    )
    try:
        return split(sequences, _shares(settings.split), by=settings.split_by)
    except ValueError as error:
        raise InputError(
            "data.split_by", expected="enough episodes or rows for three parts", received=str(error)
        ) from error


def _shares(settings: Split) -> tuple[float, float, float]:
    return settings.train, settings.valid, settings.test

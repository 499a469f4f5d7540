"""One NPY file read where it lies, so that data may be larger than memory.

Shapes: N rows, E episodes, T rows of one, F features.
"""

from pathlib import Path

import numpy as np

from foretrace.data.arrays import map_array, read_arrays
from foretrace.data.formats import file_format
from foretrace.data.sequences import Sequences, blocks
from foretrace.data.tables import LARGEST, MOST_COLUMNS


def map_file(file: Path, *, name: str, units: dict[str, str], dt_s: float | None) -> Sequences | None:
    """An NPY file of shape (T, F) or (E, T, F) as episodes over the mapped file, named as if it had been read.

    Args:
        file: Of any format.
        name: Of the episode, if it is but one.
        units: Unit of any feature, by name.
        dt_s: Time step in seconds, if known.

    Returns:
        None for what has to be converted or mended, and so copied: another format, another type than float32,
        missing values, values too large, too many columns, episodes of one row.

    Raises:
        InputError: If it cannot be read.
    """
    if file_format(file) != ".npy":
        return None
    arrays = read_arrays(file)  # E of shape (T, F)
    steps, features = next(iter(arrays.values())).shape
    # Changes would stay in memory; there are none, but torch takes no read-only array.
    whole = map_array(file, mode="c")
    if whole.dtype != np.float32 or not whole.flags.c_contiguous or steps < 2 or features > MOST_COLUMNS:
        return None
    values = whole.reshape(-1, features).view(np.ndarray)
    ends = steps * np.arange(1, len(arrays) + 1)
    bounds = np.stack([ends - steps, ends], axis=1)
    if not all((np.abs(values[first:end]) <= LARGEST).all() for first, end in blocks(bounds)):
        return None
    names = tuple(f"feature_{f}" for f in range(features))
    episodes = tuple(episode or name for episode in arrays)
    return Sequences(
        values=values,
        bounds=bounds,
        feature_names=names,
        units=tuple(units.get(feature, "") for feature in names),
        episode_names=episodes,
        recordings=episodes,
        dt_s=dt_s,
        covariates=np.zeros((len(values), 0), np.float32),
    )

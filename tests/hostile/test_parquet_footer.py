"""A Parquet file with one changed byte in its footer: the values that were written, or one line; never others."""

import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from corpus import read_or_refused
from pyarrow import parquet


@pytest.mark.slow
def test_a_changed_byte_in_the_footer_changes_no_value(tmp_path):
    generator = np.random.default_rng(0)
    columns = {"a": generator.normal(size=60), "b": generator.integers(0, 99, 60), "k": ["u", "v", "w"] * 20}
    file = Path(tmp_path / "run.parquet")
    parquet.write_table(pa.table(columns), file, row_group_size=40)
    good, right = file.read_bytes(), np.stack([columns["a"], columns["b"]], axis=1).astype(np.float32)
    first = len(good) - 8 - struct.unpack("<I", good[-8:-4])[0]
    wrong = []
    for place in range(first, len(good), 3):  # a third of the bytes, and another bit in each
        changed = bytearray(good)
        changed[place] ^= 1 << place % 8
        file.write_bytes(bytes(changed))
        found = read_or_refused(file)
        if found is not None and not np.array_equal(
            found.values[:, : right.shape[1]], right[:, : found.values.shape[1]]
        ):
            wrong.append((place - first, found.values.shape))
    assert not wrong

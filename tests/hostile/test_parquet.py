"""Parquet files that are broken or hold what is no number; links, pipes and names of files."""

import datetime
import decimal
import os
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest
from corpus import put, read, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from foretrace.errors import UserError

X = pa.array([1.0, 2.0, 3.0])
DAY = datetime.date(2024, 1, 1)
# Of the column y, and what is said about it as a feature, as an order and as a name of episodes; None: it can be used.
N, T = "is not a number", "neither as a number nor as a date"
COLUMNS = {
    "lists": (pa.array([[1.0], [2.0], [3.0]]), "no column 'y'", "no column 'y'", "no column 'y'"),
    "lists of other lengths": (
        pa.array([[1.0], [2.0, 1.0], [3.0]]),
        "are no columns",
        "are no columns",
        "are no columns",
    ),
    "structures": (pa.array([{"q": 1}] * 3), "holds struct", T, None),
    "maps": (pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64())), "holds map", T, None),
    "a dictionary": (pa.array(["a", "b", "a"]).dictionary_encode(), N, T, None),
    "decimals": (pa.array([decimal.Decimal("1.5")] * 3), None, "several rows", None),
    "wide decimals": (pa.array([decimal.Decimal(1)] * 3, pa.decimal256(76, 9)), None, "several rows", None),
    "time stamps": (pa.array([1, 1, 1], pa.timestamp("ns")), "holds timestamp", "several rows", None),
    "an unknown zone": (
        pa.array([1, 1, 1], pa.timestamp("ms", "Mars/X")),
        "holds timestamp",
        "several rows",
        None,
    ),
    "dates": (pa.array([DAY] * 3), "holds date", "several rows", None),
    "truth": (pa.array([True, False, True]), None, T, None),
    "nothing": (pa.nulls(3), "a value is missing", T, "no value"),
    "NaN": (pa.array([np.nan] * 3), "a value is missing", T, "no value"),
    "infinity": (pa.array([np.inf] * 3), "not finite", T, None),
    "1e308": (pa.array([1e308] * 3), "not finite", "is not a time", None),
    "bytes": (pa.array([b"\xff"] * 3), "holds blob", T, None),
    "text": (pa.array(["1", "2", "x"], pa.large_string()), "row 3", T, "no episode of 2 rows"),
}
SETTINGS = (
    {"features": ["x", "y"]},
    {"features": ["x"], "order_column": "y"},
    {"features": ["x"], "episode_column": "y"},
)
CASES = [(name, use) for name, (_, *said) in COLUMNS.items() for use in range(3) if said[use]]


def table(folder, columns, names, **options):
    parquet.write_table(pa.table(columns, names), folder / "run.parquet", **options)
    return folder / "run.parquet"


@pytest.mark.parametrize(("case", "use"), CASES)
def test_a_column_that_cannot_be_used_so_is_refused(tmp_path, case, use):
    column, *said = COLUMNS[case]
    assert said[use] in refused(table(tmp_path, [X, column], ["x", "y"]), **SETTINGS[use])


@pytest.mark.parametrize(
    ("columns", "names", "message"),
    [
        ([X, X], ["x\ny", "z"], "control characters"),
        ([X], ["a\0b"], "control characters"),
        ([X], ["n" * 100_000], "over 1000 characters"),
        ([X[:0]], ["x"], "not one row"),
        ([X[:1]], ["x"], "no episode of 2 rows"),
        ([], [], "cannot be read"),
        ([X] * 20_000, [f"c{n}" for n in range(20_000)], "is the table turned"),
        ([pa.array(["1", "2", "x"])], ["x"], "row 3: 'x' is not a number"),
    ],
    ids=range(8),
)
def test_a_table_that_is_no_recording_is_refused(tmp_path, columns, names, message):
    assert message in refused(table(tmp_path, columns, names))


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    generator = np.random.default_rng(0)
    columns = [pa.array(generator.normal(size=100)) for _ in range(3)]
    return table(tmp_path_factory.mktemp("good"), columns, ["a", "b", "c"]).read_bytes()


@pytest.mark.parametrize(
    "mangle",
    [
        lambda good: b"",
        lambda good: good[:4],
        lambda good: good[: len(good) // 2],
        lambda good: good[-100:],
        lambda good: b"PAR1" + b"\xff" * 100 + b"PAR1",
        lambda good: good[:-8] + b"\xff\xff\xff\x7fPAR1",
        lambda good: b"PARE" + good[4:-4] + b"PARE",
        lambda good: b"ARROW1\0\0" + bytes(100),
    ],
    ids=range(8),
)
def test_a_broken_file_is_refused(tmp_path, content, mangle):
    assert "cannot be read" in refused(put(tmp_path, mangle(content), "run.parquet"))


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 7)), min_size=1, max_size=4))
@settings(deadline=None)
def test_flipped_bits_are_read_or_refused(tmp_path_factory, content, flips):
    flipped = bytearray(content)
    for place, bit in flips:
        flipped[place % len(flipped)] ^= 1 << bit
    with suppress(UserError):
        assert np.isfinite(
            read(put(tmp_path_factory.getbasetemp(), bytes(flipped), "run.parquet")).values
        ).all()


def test_damage_to_a_number_of_rows_loses_none(tmp_path):
    """3 is written as 6: one of Arrow's readers would stop after 1 row, written as 2."""
    content = table(tmp_path, [X], ["x"]).read_bytes()
    lost = 0
    for place in (place for place, byte in enumerate(content) if byte == 6):
        damaged = put(tmp_path, content[:place] + b"\x02" + content[place + 1 :], "damaged.parquet")
        with suppress(OSError, pa.ArrowException):
            lost += parquet.read_metadata(damaged).row_group(0).num_rows == 1
        with suppress(UserError):
            assert len(read(damaged).values) == 3
    assert lost == 1


PATHS = ["", " ", "\n", "\0", "a\0b.csv", "-", "[", "[[[]]]*.csv", "**" * 50, "~nobody/x.csv", "/", "../" * 3000,
         "/" * 5000, "x" * 300 + ".csv", "$HOME/x.csv", "{a,b}.csv", "a.csv,b.csv", "C:\\x.csv", "file:///x.csv",
         "http://localhost/x.csv", "s3://bucket/x.csv", "/dev/null", "/dev/zero", "/dev/stdin",
         "\udcff.csv", "x.txt", "=1+1"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_a_path_to_no_recording_is_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    assert "data.path" in refused(path)


LINKS = {
    "dangling": "nowhere.csv",
    "itself": "run.csv",
    "a device": "/dev/zero",
    "a null device": "/dev/null",
}


@pytest.mark.parametrize("case", LINKS)
@pytest.mark.parametrize("given", ["run.csv", ""])
def test_a_link_to_no_file_is_refused(tmp_path, case, given):
    (tmp_path / "run.csv").symlink_to(LINKS[case])
    assert "run.csv" in refused(tmp_path / given)


@pytest.mark.parametrize("given", ["run.csv", ""])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, given):
    os.mkfifo(tmp_path / "run.csv")
    assert "run.csv: not a file" in refused(tmp_path / given)


@pytest.mark.parametrize(
    "name", ["line\nend.csv", "\x1b[31m.csv", "turned\u202e.csv", os.fsdecode(b"\xff\xfe.csv")]
)
def test_a_file_that_cannot_be_named_is_refused(tmp_path, name):
    (tmp_path / name).write_text("a\n1\n2\n")
    assert "Rename the file" in refused(tmp_path)


def test_names_of_files_are_kept(tmp_path):
    names = ["$x$_^", "%s", "<b>", "=1+1", "a b", "a'b\"", "x" * 240, "é", "🤖"]
    for name in names:
        (tmp_path / f"{name}.csv").write_text("a\n1\n2\n")
    assert sorted(read(tmp_path).episode_names) == names


def test_a_file_under_two_names_is_taken_once(tmp_path):
    put(tmp_path, "a\n1\n2\n", "b.csv")
    (tmp_path / "a.csv").symlink_to("b.csv")
    (tmp_path / "again").symlink_to(tmp_path)
    assert read(tmp_path / "**/*.csv").episode_names == ("b",)

"""The user's own recordings, as they come: mixed, holed, unsorted and broken."""

import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyarrow import csv, parquet

from foretrace.config import Reading
from foretrace.data.sequences import Sequences
from foretrace.data.tables.files import find_files
from foretrace.data.tables.read import read_recordings
from foretrace.data.tables.steps import Stretch, constant_step, cut
from foretrace.errors import UserError

WEATHER = ROOT.parent / "shared/datasets/nyc_weather/weather.csv"
HOURLY = "time,x\n2024-01-01T00:00:00Z,0\n2024-01-01T01:00:00Z,1\n2024-01-01T02:00:00Z,2\n"
HOLES = np.array([[np.nan], [1.0], [np.nan], [3.0], [np.nan], [np.nan], [6.0], [7.0]])


@pytest.fixture
def read(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")

    def read(path: Path | str, **choices) -> Sequences:
        return read_recordings(str(path), Reading(**({"missing_limit": 1} | choices)), cache=cache).sequences

    return read


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes, name: str = "run.csv") -> Path:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def test_one_episode_per_file_in_natural_order(read, write):
    for number in (10, 9):
        file = write(f"x,label\n{number},a\n0.5,b\n", f"run_{number}.csv")
    sequences = read(file.parent)
    assert sequences.episode_names == ("run_9", "run_10")
    assert sequences.feature_names == ("x",)
    assert sequences.values.ravel().tolist() == [9, 0.5, 10, 0.5]


def test_pattern_reaches_folders_below_and_names_stay_unique(read, write, tmp_path):
    for folder in "ab":
        write("x\n1\n2\n", f"{folder}/run.csv")
    assert read(tmp_path / "**/*.csv").episode_names == ("a/run.csv", "b/run.csv")


def test_all_formats_hold_the_same_data(read, write, tmp_path):
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    names = ["feature_0", "feature_1"]
    np.savetxt(tmp_path / "run.csv", values, delimiter=",", header=",".join(names), comments="")
    parquet.write_table(pa.table(list(values.T), names), tmp_path / "run.parquet")
    np.save(tmp_path / "run.npy", values)
    np.savez(tmp_path / "one.npz", run=values)
    files = [tmp_path / name for name in ("run.csv", "run.parquet", "run.npy", "one.npz")]
    sequences = [read(file) for file in files]
    assert len({each.digest for each in sequences}) == 1
    assert {each.episode_names for each in sequences} == {("run",)}


@pytest.mark.parametrize("shape", [(60, 3), (5, 12, 3)])
def test_an_array_of_float32_is_mapped_and_told_like_one_that_is_copied(read, tmp_path, shape):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for name, array in {"mapped": values, "copied": values.astype(np.float64)}.items():
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "run.npy", array)
    mapped, copied = (
        read(tmp_path / n / "run.npy", units={"feature_1": "m"}, dt_s=0.1) for n in ("mapped", "copied")
    )
    assert isinstance(mapped.values.base, np.memmap)
    assert mapped.digest == copied.digest
    told = ("bounds", "feature_names", "units", "episode_names", "recordings", "dt_s", "notes")
    assert all(np.array_equal(getattr(mapped, name), getattr(copied, name)) for name in told)
    values.flat[7] = np.nan
    np.save(tmp_path / "mapped" / "run.npy", values)
    with pytest.raises(UserError, match="a value is missing"):
        read(tmp_path / "mapped" / "run.npy")


def test_three_dimensions_and_archives_hold_several_episodes(read, tmp_path):
    np.save(tmp_path / "all.npy", np.zeros((2, 3, 4), np.int16))
    np.savez(tmp_path / "all.npz", left=np.zeros((3, 1)), right=np.zeros(5))
    assert read(tmp_path / "all.npy", covariates=["feature_3"]).covariates.shape == (6, 1)
    archive = read(tmp_path / "all.npz")
    assert (archive.episode_names, archive.lengths.tolist()) == (("left", "right"), [3, 5])


def test_episode_column_separates_interleaved_episodes(read, write):
    file = write("who,x,push\n007,1,5\nbo,2,6\n007,3,7\nbo,4,8\n")
    sequences = read(file, features=["x"], covariates=["push"], units={"x": "m"}, episode_column="who")
    assert sequences.episode_names == ("007", "bo")
    assert sequences.episode(0).ravel().tolist() == [1, 3]
    assert sequences.covariates.ravel().tolist() == [5, 7, 6, 8]
    assert sequences.units == ("m",)


def test_windows_line_ends_byte_order_mark_and_padding_are_read(read, write):
    file = write(b"\xef\xbb\xbftime,x\r\n1, 5\r\n2, NA\r\n3,7\r\n\r\n")
    sequences = read(file, features=["x"], order_column="time", missing="interpolate")
    assert sequences.values.ravel().tolist() == [5, 6, 7]


def test_blank_line_of_a_single_column_is_a_missing_value(read, write):
    assert read(write("x\n1\n\n3\n"), missing="interpolate").values.ravel().tolist() == [1, 2, 3]


def test_index_that_pandas_wrote_is_no_feature(read, write):
    assert read(write(",x\n0,5\n1,6\n")).feature_names == ("x",)


def test_rows_are_sorted_and_time_stamps_give_the_step(read, write):
    head, *rows = HOURLY.splitlines()
    sequences = read(write("\n".join([head, *reversed(rows)])), order_column="time")
    assert sequences.values.ravel().tolist() == [0, 1, 2]
    assert sequences.dt_s == 3600


def test_time_stamps_of_parquet_files_may_be_text(read, tmp_path):
    table = pa.table({"t": ["2024-01-01T00:00:00.05", "2024-01-01T00:00:00", "2024-01-01T00:00:00.1"]})
    parquet.write_table(table.append_column("x", pa.array([2, 1, 3])), tmp_path / "run.parquet")
    sequences = read(tmp_path / "run.parquet", order_column="t")
    assert (sequences.values.ravel().tolist(), sequences.dt_s) == ([1, 2, 3], 0.05)


def test_no_step_spans_a_jump_in_time(read, write):
    file = write(HOURLY + "2024-01-01T07:00:00Z,7\n2024-01-01T08:00:00Z,8\n2024-01-02T00:00:00Z,9\n")
    sequences = read(file, order_column="time")
    assert sequences.episode_names == ("run#1", "run#2")
    assert [sequences.episode(e).ravel().tolist() for e in (0, 1)] == [[0, 1, 2], [7, 8]]
    assert sequences.dt_s == 3600
    assert sequences.notes["gaps in time"] == 2
    assert sequences.notes["episodes too short"] == sequences.notes["rows left out"] == 1


def test_irregular_time_stamps_have_no_step_and_are_not_cut(read, write):
    text = "time,x\n2024-01-01,0\n2024-01-02,1\n2024-01-09,2\n2024-02-28,3\n"
    sequences = read(write(text), order_column="time")
    assert (len(sequences), sequences.dt_s) == (1, None)


def test_interpolation_fills_short_gaps_and_cuts_at_others(read, tmp_path):
    np.save(tmp_path / "run.npy", HOLES)
    sequences = read(tmp_path / "run.npy", missing="interpolate", missing_limit=1)
    assert [sequences.episode(e).ravel().tolist() for e in (0, 1)] == [[1, 2, 3], [6, 7]]
    notes = {name: count for name, count in sequences.notes.items() if count}
    assert notes == {"rows": 8, "missing values": 4, "values interpolated": 1, "rows left out": 3}


def test_drop_leaves_out_whole_episodes(read, tmp_path):
    np.savez(tmp_path / "runs.npz", holes=HOLES, whole=np.ones((3, 1)))
    sequences = read(tmp_path / "runs.npz", missing="drop")
    assert sequences.episode_names == ("whole",)
    assert (sequences.notes["episodes dropped"], sequences.notes["rows left out"]) == (1, 8)
    assert sequences.notes["values interpolated"] == 0


@pytest.mark.parametrize(
    ("text", "choices", "message"),
    [
        ("x\n1\nNA\n", {}, r"run.csv, column 'x', row 2: a value is missing .* data.missing=interpolate"),
        ("x\n1\n-inf\n", {"missing": "drop"}, r"column 'x', row 2: -inf is not finite"),
        ("x\n1\n1e39\n", {}, r"column 'x', row 2: 1e39 is not finite"),
        (
            "x\n1\noops\n",
            {"features": ["x"]},
            r"column 'x', row 2: 'oops' is not a number.*data.missing_values=\['oops'\]",
        ),
        (
            "speed\n1\n2\n",
            {"features": ["sped"]},
            r"no column 'sped' \(data.features\). Did you mean speed\?",
        ),
        ("x\n1\n2\n", {"units": {"y": "m"}}, "data.units: 'y' is no feature"),
        ("x\n1\n2\n", {"covariates": ["x"], "features": ["x"]}, "data.covariates: column 'x' is named twice"),
        ("x\n1\n2\n", {"covariates": ["x"]}, "no numeric column to predict among 'x'"),
        ("k,x\n1,5\n1,6\n", {"order_column": "k"}, "several rows have the time 1,"),
        ("k,x\n1,5\n,6\n", {"order_column": "k"}, "column 'k', row 2: no time"),
        ("k,x\na,5\nb,6\n", {"order_column": "k"}, "column 'k': 'a' can be read neither .* data.time_format"),
        ("k,x\na,5\n,6\n", {"episode_column": "k"}, "column 'k', row 2: no value, so no episode"),
        (HOURLY, {"order_column": "time", "dt_s": 60.0}, "data.dt_s: 60, but rows are 3600 s apart"),
        (
            HOURLY.replace(":00:00Z", ":30:00Z"),
            {"order_column": "time", "resample_s": 420.0, "resample": "linear"},
            "data.resample_s: no value at even times",
        ),
        ("x,y\n1,2\n3\n", {}, "run.csv: .* line 3 has 1 values where 2 are expected"),
        ("1.5,2\n1,2\n", {}, "run.csv, line 1: may be a header or a row .* data.header=true"),
        (b"caf\xe9\n1\n2\n", {}, "run.csv: not UTF-8 text .* data.encoding"),
    ],
)
def test_bad_tables_and_choices_are_named(read, write, text, choices, message):
    with pytest.raises(UserError, match=message):
        read(write(text), **choices)


@pytest.mark.parametrize("pattern", ["nothing/*.csv", "x.log", "x" * 5000])
def test_path_without_recordings_is_named(read, write, tmp_path, pattern):
    write("x", "x.txt")
    with pytest.raises(UserError, match=r"data\.path"):
        read(tmp_path / pattern)


def test_formats_are_not_mixed(write, tmp_path):
    write("x\n1\n2\n", "a.npy")
    with pytest.raises(UserError, match=r"1 \.npy, 1 text"):
        find_files(str(write("x\n1\n2\n").parent), cache=tmp_path)


@pytest.mark.parametrize("other", ["y\n1\n2\n", "x,y\n1,2\n3,4\n"])
def test_files_with_other_columns_are_named(read, write, other):
    write("x\n1\n2\n", "a.csv")
    with pytest.raises(UserError, match=r"b\.csv: .*column"):
        read(write(other, "b.csv").parent)


HOLED = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.sampled_from([np.nan, 0.0, 1.0, 5.0])
)


@given(HOLED, st.integers(0, 4), st.data())
def test_what_is_left_is_whole_and_between_what_was_recorded(values, limit, data):
    steps = data.draw(hnp.arrays(np.int64, len(values), elements=st.sampled_from([1, 1, 1, 5])))
    times, filled, notes = np.cumsum(steps), values.copy(), Counter[str]()
    whole = [Stretch(name="run", recording="run", first=0, end=len(values), step=1)]
    reading = Reading(missing="interpolate", missing_limit=limit or 1)
    pieces = cut(whole, [filled], times, reading, notes)
    known = ~np.isnan(values)
    assert np.array_equal(filled[known], values[known])
    for piece in pieces:
        assert piece.end - piece.first >= 2
        assert (np.diff(times[piece.first : piece.end]) == 1).all()
        assert np.isfinite(filled[piece.first : piece.end]).all()
    assert len(values) - sum(p.end - p.first for p in pieces) == notes["rows left out"]
    for column, before in zip(filled.T, values.T, strict=True):
        for low, high in pairwise(np.flatnonzero(~np.isnan(before))):
            inside = column[low + 1 : high]
            kept = [piece for piece in pieces if piece.first <= low and high < piece.end]
            if kept and len(inside):
                assert len(inside) <= reading.missing_limit
                assert ((inside >= before[[low, high]].min()) & (inside <= before[[low, high]].max())).all()


@given(st.floats(1e-3, 1e5), st.integers(2, 50))
def test_even_spacing_gives_its_step(step_s, count):
    times = np.round(np.arange(count) * step_s * 1e9).astype(np.int64)
    assert constant_step([times]) == pytest.approx(step_s, rel=1e-6)


@pytest.mark.skipif(not WEATHER.exists(), reason=f"{WEATHER} is not on this machine")
def test_real_weather_is_cut_where_hours_are_missing(read):
    features = ["temp", "dewp", "humid", "wind_speed", "pressure", "precip", "visib"]
    choices = {"episode_column": "origin", "order_column": "time_hour", "missing": "interpolate"}
    sequences = read(WEATHER, features=features, missing_limit=6, **choices)
    assert (len(sequences), sequences.num_rows, sequences.dt_s) == (72, 25881, 3600)
    assert {name.split("#")[0] for name in sequences.episode_names} == {"EWR", "JFK", "LGA"}
    assert np.isfinite(sequences.values).all()
    assert sequences.notes["gaps in time"] == 45
    assert sequences.notes["values interpolated"] == 2502
    assert sequences.notes["rows left out"] == 26115 - 25881


@pytest.mark.parametrize(("kind", "order"), [("csv", ["t"]), ("parquet", None), ("npy", None)])
def test_rows_of_long_recordings_stay_in_their_order(read, tmp_path, kind, order):
    """Over two of the engine's row groups, of 122,880 rows, which it reads side by side."""
    rows, file = np.arange(300_000), tmp_path / f"run.{kind}"
    table = pa.table({"t": rows, "who": rows // 100_000, "x": rows % 1000 / 8})
    if kind == "csv":
        csv.write_csv(table, file)
    elif kind == "parquet":
        parquet.write_table(table, file)
    else:
        np.save(file, np.stack([table["x"], table["who"]], axis=1))
    names = {"features": ["feature_0"], "episode_column": "feature_1"}
    settings = {"features": ["x"], "episode_column": "who", "order_column": order}
    sequences = read(file, **(names if kind == "npy" else settings))
    assert sequences.bounds.tolist() == [[0, 100_000], [100_000, 200_000], [200_000, 300_000]]
    assert np.array_equal(sequences.values[:, 0], rows % 1000 / 8)


def test_time_of_reading_grows_with_the_columns_and_not_with_their_square(read, write):
    values = np.random.default_rng(0).normal(size=(40, 1000)).round(3)
    lines = [",".join(f"c{n}" for n in range(1000)), *(",".join(map(str, row)) for row in values.tolist())]
    began = time.process_time()
    sequences = read(write("\n".join(lines)))
    assert time.process_time() - began < 10  # 3 s; 14 s where the square counts
    np.testing.assert_array_equal(sequences.values, values.astype(np.float32))


@pytest.mark.parametrize("path", ["", "/*.csv", "/run_10.csv"])
def test_files_behind_a_url_are_read(read, path):
    memory = fsspec.filesystem("memory")
    for number in (9, 10):
        memory.pipe(f"/recordings/run_{number}.csv", b"x,y\n1,2\n3,5\n")
    names = read(f"memory://recordings{path}").episode_names
    assert names == (("run_10",) if "10" in path else ("run_9", "run_10"))


def test_an_address_of_no_known_kind_is_refused(read):
    with pytest.raises(UserError, match=r"data\.path: 'odd://x' cannot be reached"):
        read("odd://x")

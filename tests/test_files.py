"""The user's own recordings, as they come: mixed, holed, unsorted and broken."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyarrow import parquet

from foretrace.data.files import read_files
from foretrace.data.formats import find_files
from foretrace.data.gaps import constant_step, interpolate, unbroken
from foretrace.data.sequences import Sequences
from foretrace.errors import InputError

WEATHER = Path(__file__).parents[2] / "shared/datasets/nyc_weather/weather.csv"
HOURLY = "time,x\n2024-01-01T00:00:00Z,0\n2024-01-01T01:00:00Z,1\n2024-01-01T02:00:00Z,2\n"
HOLES = np.array([[np.nan], [1.0], [np.nan], [3.0], [np.nan], [np.nan], [6.0], [7.0]])


def read(path: Path | str, **choices) -> Sequences:
    defaults = dict.fromkeys(["features", "episode_column", "order_column", "dt_s"])
    defaults |= {"inputs": [], "units": {}, "missing": "refuse", "missing_limit": 1}
    return read_files(str(path), **(defaults | choices))


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes, name: str = "run.csv") -> Path:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def test_one_episode_per_file_in_natural_order(write):
    for number in (10, 9):
        file = write(f"x,label\n{number},a\n0.5,b\n", f"run_{number}.csv")
    sequences = read(file.parent)
    assert sequences.episode_names == ("run_9", "run_10")
    assert sequences.feature_names == ("x",)
    assert sequences.values.ravel().tolist() == [9, 0.5, 10, 0.5]


def test_pattern_reaches_folders_below_and_names_stay_unique(write, tmp_path):
    for folder in "ab":
        write("x\n1\n2\n", f"{folder}/run.csv")
    assert read(tmp_path / "**/*.csv").episode_names == ("a/run.csv", "b/run.csv")


def test_all_formats_hold_the_same_data(write, tmp_path):
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
def test_an_array_of_float32_is_mapped_and_told_like_one_that_is_copied(tmp_path, shape):
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
    with pytest.raises(InputError, match="expected a value in each row"):
        read(tmp_path / "mapped" / "run.npy")


def test_three_dimensions_and_archives_hold_several_episodes(tmp_path):
    np.save(tmp_path / "all.npy", np.zeros((2, 3, 4), np.int16))
    np.savez(tmp_path / "all.npz", left=np.zeros((3, 1)), right=np.zeros(5))
    assert read(tmp_path / "all.npy", inputs=["feature_3"]).covariates.shape == (6, 1)
    archive = read(tmp_path / "all.npz")
    assert (archive.episode_names, archive.lengths.tolist()) == (("left", "right"), [3, 5])


def test_episode_column_separates_interleaved_episodes(write):
    file = write("who,x,push\n007,1,5\nbo,2,6\n007,3,7\nbo,4,8\n")
    sequences = read(file, features=["x"], inputs=["push"], units={"x": "m"}, episode_column="who")
    assert sequences.episode_names == ("007", "bo")
    assert sequences.episode(0).ravel().tolist() == [1, 3]
    assert sequences.covariates.ravel().tolist() == [5, 7, 6, 8]
    assert sequences.units == ("m",)


def test_windows_line_ends_byte_order_mark_and_padding_are_read(write):
    file = write(b"\xef\xbb\xbftime,x\r\n1, 5\r\n2, NA\r\n3,7\r\n\r\n")
    sequences = read(file, features=["x"], order_column="time", missing="interpolate")
    assert sequences.values.ravel().tolist() == [5, 6, 7]


def test_blank_line_of_a_single_column_is_a_missing_value(write):
    assert read(write("x\n1\n\n3\n"), missing="interpolate").values.ravel().tolist() == [1, 2, 3]


def test_index_that_pandas_wrote_is_no_feature(write):
    assert read(write(",x\n0,5\n1,6\n")).feature_names == ("x",)


def test_rows_are_sorted_and_time_stamps_give_the_step(write):
    head, *rows = HOURLY.splitlines()
    sequences = read(write("\n".join([head, *reversed(rows)])), order_column="time")
    assert sequences.values.ravel().tolist() == [0, 1, 2]
    assert sequences.dt_s == 3600


def test_time_stamps_of_parquet_files_may_be_text(tmp_path):
    table = pa.table({"t": ["2024-01-01T00:00:00.05", "2024-01-01T00:00:00", "2024-01-01T00:00:00.1"]})
    parquet.write_table(table.append_column("x", pa.array([2, 1, 3])), tmp_path / "run.parquet")
    sequences = read(tmp_path / "run.parquet", order_column="t")
    assert (sequences.values.ravel().tolist(), sequences.dt_s) == ([1, 2, 3], 0.05)


def test_no_step_spans_a_jump_in_time(write):
    file = write(HOURLY + "2024-01-01T07:00:00Z,7\n2024-01-01T08:00:00Z,8\n2024-01-02T00:00:00Z,9\n")
    sequences = read(file, order_column="time")
    assert sequences.episode_names == ("run#1", "run#2")
    assert [sequences.episode(e).ravel().tolist() for e in (0, 1)] == [[0, 1, 2], [7, 8]]
    assert sequences.dt_s == 3600
    assert sequences.notes["gaps in time"] == 2
    assert sequences.notes["episodes too short"] == sequences.notes["rows left out"] == 1


def test_irregular_time_stamps_have_no_step_and_are_not_cut(write):
    text = "time,x\n2024-01-01,0\n2024-01-02,1\n2024-01-09,2\n2024-02-28,3\n"
    sequences = read(write(text), order_column="time")
    assert (len(sequences), sequences.dt_s) == (1, None)


def test_interpolation_fills_short_gaps_and_cuts_at_others(tmp_path):
    np.save(tmp_path / "run.npy", HOLES)
    sequences = read(tmp_path / "run.npy", missing="interpolate", missing_limit=1)
    assert [sequences.episode(e).ravel().tolist() for e in (0, 1)] == [[1, 2, 3], [6, 7]]
    notes = {name: count for name, count in sequences.notes.items() if count}
    assert notes == {"rows": 8, "missing values": 4, "values interpolated": 1, "rows left out": 3}


def test_drop_leaves_out_whole_episodes(tmp_path):
    np.savez(tmp_path / "runs.npz", holes=HOLES, whole=np.ones((3, 1)))
    sequences = read(tmp_path / "runs.npz", missing="drop")
    assert sequences.episode_names == ("whole",)
    assert (sequences.notes["episodes dropped"], sequences.notes["rows left out"]) == (1, 8)
    assert sequences.notes["values interpolated"] == 0


@pytest.mark.parametrize(
    ("text", "choices", "message"),
    [
        ("x\n1\nNA\n", {}, r"run.csv, column 'x', row 2: .* 1 missing"),
        ("x\n1\n-inf\n", {"missing": "drop"}, r"column 'x', row 2: .* received -inf"),
        ("x\n1\n1e39\n", {}, r"column 'x', row 2: .*float32.* received 1e\+39"),
        ("x\n1\noops\n", {"features": ["x"]}, r"column 'x', row 2: .* the text 'oops'"),
        ("speed\n1\n2\n", {"features": ["sped"]}, r"column 'sped' \(data.features\).* mean 'speed'\?"),
        ("x\n1\n2\n", {"units": {"y": "m"}}, "data.units: .* received 'y'"),
        ("x\n1\n2\n", {"inputs": ["x"], "features": ["x"]}, "data.inputs: .* 'x' twice"),
        ("x\n1\n2\n", {"inputs": ["x"]}, "at least one numeric column"),
        ("x\n1\n2\n", {"missing": "ignore"}, "data.missing: .* received ignore"),
        ("x\nNA\nNA\n", {"missing": "drop"}, "data.missing: .* episodes dropped: 1"),
        ("k,x\n1,5\n1,6\n", {"order_column": "k"}, "once per episode, received 1 in rows 1 and 2"),
        ("k,x\n1,5\n,6\n", {"order_column": "k"}, "column 'k', row 2: .* no value in 1 of 2 rows"),
        ("k,x\na,5\nb,6\n", {"order_column": "k"}, "column 'k': expected numbers or ISO 8601"),
        ("k,x\n12:00:00,5\n12:00:01,6\n", {"order_column": "k"}, "column 'k': .* with a date"),
        ("k,x\na,5\n,6\n", {"episode_column": "k"}, "column 'k', row 2: expected an episode"),
        (HOURLY, {"order_column": "time", "dt_s": 60.0}, "data.dt_s: .* 3600 s, received 60"),
        ("x,y\n1,2\n3\n", {}, "run.csv: .* same number of values in each row, .* line 3"),
        ("x,x\n1,2\n", {}, "run.csv: expected names used once, received 'x'"),
        ("1.5,2\n1,2\n", {}, "run.csv: expected a header"),
        ("x\n", {}, "run.csv: expected at least one row"),
        ("", {}, "run.csv: expected a header .* an empty file"),
        (b"caf\xe9\n1\n2\n", {}, "run.csv: expected a CSV file in UTF-8"),
    ],
)
def test_bad_tables_and_choices_are_named(write, text, choices, message):
    with pytest.raises(InputError, match=message):
        read(write(text), **choices)


@pytest.mark.parametrize("name", ["run.npy", "run.npz", "run.parquet", "run.csv.gz"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04 PAR1 \x1f\x8b"])
def test_broken_files_are_named(write, name, content):
    with pytest.raises(InputError, match=name):
        read(write(content, name))


def test_pickled_objects_are_refused(tmp_path):
    np.save(tmp_path / "run.npy", np.array([[1.0], [None]]), allow_pickle=True)
    with pytest.raises(InputError, match=r"run.npy: .* without pickle"):
        read(tmp_path / "run.npy")


@pytest.mark.parametrize("pattern", ["nothing/*.csv", "", "x.txt", "x" * 5000])
def test_path_without_recordings_is_named(write, tmp_path, pattern):
    write("x", "x.txt")
    with pytest.raises(InputError, match=r"data\.path"):
        read(tmp_path / pattern)


def test_formats_are_not_mixed(write):
    write("x\n1\n2\n", "a.npy")
    with pytest.raises(InputError, match=r"1 \.csv, 1 \.npy"):
        find_files(str(write("x\n1\n2\n").parent))


@pytest.mark.parametrize("other", ["y\n1\n2\n", "x,y\n1,2\n3,4\n"])
def test_files_with_other_columns_are_named(write, other):
    write("x\n1\n2\n", "a.csv")
    with pytest.raises(InputError, match=r"b\.csv: .*column"):
        read(write(other, "b.csv").parent)


HOLED = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.sampled_from([np.nan, 0.0, 1.0, 5.0])
)


@given(HOLED, st.integers(0, 4), st.data())
def test_what_is_left_is_whole_and_as_recorded(values, limit, data):
    jumps = data.draw(hnp.arrays(bool, len(values) - 1))
    filled, stretches = unbroken(values, jumps=jumps, limit=limit)
    assert np.array_equal(filled[~np.isnan(values)], values[~np.isnan(values)])
    for first, end in stretches:
        assert not np.isnan(filled[first:end]).any()
        assert not jumps[first : end - 1].any()


@given(HOLED, st.integers(1, 4))
def test_interpolation_stays_between_the_values_beside_a_gap(values, limit):
    filled = interpolate(values, limit=limit)
    for column, before in zip(filled.T, values.T, strict=True):
        covariates = np.flatnonzero(~np.isnan(before))
        for low, high in pairwise(covariates):
            inside = column[low + 1 : high]
            if high - low - 1 > limit:
                assert np.isnan(inside).all()
            else:
                assert ((inside >= before[[low, high]].min()) & (inside <= before[[low, high]].max())).all()


@given(st.floats(1e-3, 1e5), st.integers(1, 50))
def test_even_spacing_gives_its_step(step_s, count):
    assert constant_step(np.full(count, step_s)) == pytest.approx(step_s, abs=1e-9)


@pytest.mark.skipif(not WEATHER.exists(), reason=f"{WEATHER} is not on this machine")
def test_real_weather_is_cut_where_hours_are_missing():
    features = ["temp", "dewp", "humid", "wind_speed", "pressure", "precip", "visib"]
    choices = {"episode_column": "origin", "order_column": "time_hour", "missing": "interpolate"}
    sequences = read(WEATHER, features=features, missing_limit=6, **choices)
    assert (len(sequences), sequences.num_rows, sequences.dt_s) == (72, 25881, 3600)
    assert {name.split("#")[0] for name in sequences.episode_names} == {"EWR", "JFK", "LGA"}
    assert np.isfinite(sequences.values).all()
    assert sequences.notes["gaps in time"] == 45
    assert sequences.notes["values interpolated"] == 2502
    assert sequences.notes["rows left out"] == 26115 - 25881

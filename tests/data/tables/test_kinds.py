"""Further habits of real files: each is read right, doubted aloud, or refused with what to set."""

import gzip
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from foretrace.config import Reading
from foretrace.data.tables.read import Recordings, read_recordings
from foretrace.errors import UserError

ROWS = 60
LEVEL = np.round(2 + np.sin(np.arange(ROWS) / 9), 4)
FLOW = np.round(3 + np.sin(np.arange(ROWS) / 13 + 1), 4)
HOURS = pd.date_range("2023-03-01", periods=ROWS, freq="h")
DAYS = pd.date_range("2022-01-03", periods=ROWS, freq="D")
MONTHS = pd.date_range("1990-01-01", periods=ROWS, freq="MS")
HOUR_S, DAY_S = 3600, 86400


def table(times, head="time,level,flow", *, number=str) -> str:
    """Text of a table of two signals; the character that separates names separates values."""
    separator = next((c for c in ";\t|," if c in head), ",")
    stamps = times.astype(str) if isinstance(times, pd.DatetimeIndex) else times
    lines = zip(stamps, map(number, LEVEL), map(number, FLOW), strict=True)
    return "\n".join([head, *map(separator.join, lines), ""])


def changed(row: int, old: str, new: str) -> str:
    """The plain table with another text in one of its lines."""
    lines = PLAIN.splitlines(keepends=True)
    lines[row] = lines[row].replace(old, new)
    return "".join(lines)


PLAIN = table(HOURS)
COMMA = {"number": lambda value: str(value).replace(".", ",")}
WITH_CONSTANT = PLAIN.replace("\n", ",518.67\n").replace("flow,518.67", "flow,p")
SIGNALS = "".join(f"{a},{b}\n" for a, b in zip(LEVEL, FLOW, strict=True))
READ = {  # text, settings, time step, what a warning says
    "a zone": (table(HOURS.strftime("%Y-%m-%dT%H:%M:%SZ")), {}, HOUR_S, ""),
    "an offset that changes": (
        table([t.isoformat() for t in pd.date_range("2023-10-28", periods=ROWS, freq="h", tz="Europe/Berlin")]),
        {}, HOUR_S, ""),
    "milliseconds": (table([f"2023-03-01T00:00:{k // 4:02}.{k % 4 * 250:03}" for k in range(ROWS)]), {}, 0.25, ""),
    "day first": (table(DAYS.strftime("%d/%m/%Y")), {}, DAY_S, "%d/%m/%Y"),
    "month first, am and pm": (table(HOURS.strftime("%m/%d/%Y %I:%M %p")), {}, HOUR_S, "%m/%d/%Y %I:%M %p"),
    "day.month.year, decimal commas in quotes": (
        table(HOURS.strftime('"%d.%m.%Y %H:%M"'), "Zeit;level;flow", number=lambda v: f'"{v}"'.replace(".", ",")),
        {}, HOUR_S, ""),
    "date and clock apart": (table(HOURS.strftime("%m/%d/%Y;%I:%M %p"), "Date;Time;level;flow"), {}, HOUR_S, ""),
    "date and hour apart": (table(HOURS.strftime("%Y-%m-%d,%H"), "date,hour,level,flow"), {}, HOUR_S, ""),
    "year, month, day in short": (table(DAYS.strftime("%Y,%m,%d"), "YEAR,MO,DY,level,flow"), {}, DAY_S, "'MO'"),
    "year and week": (
        table([f"{2010 + k // 52},{k % 52 + 1}" for k in range(ROWS)], "Year,Week,level,flow"),
        {"order_column": ["Year", "Week"]}, 7 * DAY_S, ""),
    "months in words": (table(MONTHS.strftime("%b-%y")), {}, None, "%b-%y"),
    "ends of months": (table(pd.date_range("1990-01-31", periods=ROWS, freq="ME")), {}, None, ""),
    "months in one number": (table(MONTHS.strftime("%Y%m"), "Period,level,flow"), {}, None, "%Y%m"),
    "year and month in words": (table(MONTHS.strftime("%Y,%b"), "Year,Month,level,flow"), {}, None, "%Y %b"),
    "years": (table([str(1900 + k) for k in range(ROWS)], "Year,level,flow"), {}, None, "'Year'"),
    "days in one number": (table(DAYS.strftime("%Y%m%d"), "DATE,level,flow"), {}, DAY_S, "%Y%m%d"),
    "microseconds since 1970": (table([str(1_403_636_579_758_555 + 5000 * k) for k in range(ROWS)]), {}, 0.005, "us"),
    "seconds since 1970, no name for them": (
        table([f"{1_403_636_579 + k / 10:.1f}" for k in range(ROWS)], "x0,level,flow"), {}, 0.1, "'x0'"),
    "milliseconds of its own": (table([str(20 * k) for k in range(ROWS)], "Time (ms),level,flow"), {}, 0.02, "(ms)"),
    "seconds in another language": (
        table([f"{k / 50:.2f}" for k in range(ROWS)], "Zeit [s],level,flow"), {}, 0.02, "'Zeit [s]'"),
    "seconds and nanoseconds of ROS": (
        table([f"{k},{1_403_636_579 + k // 10},{k % 10 * 10**8}" for k in range(ROWS)],
              ".header.seq,.header.stamp.secs,.header.stamp.nsecs,level,flow"), {}, 0.1, "'.header.stamp.secs'"),
    "a log's milliseconds": (
        table([f"2023-03-01 00:00:{k:02},250" for k in range(ROWS)], "time;level;flow"), {}, 1, "%f"),
    "spaces before quoted names": (
        PLAIN.replace("time,level,flow", '"time", "level", "flow"'), {}, HOUR_S, "'time'"),
    "a zone after a space": (table(HOURS.strftime("%Y-%m-%d %H:%M:%S +0000")), {}, HOUR_S, ""),
    "UTC in words": (table(HOURS.strftime("%Y-%m-%d %H:%M:%S UTC")), {}, HOUR_S, "UTC"),
    "as short as it can be": (table(HOURS.strftime("%Y%m%dT%H%M%SZ")), {}, HOUR_S, "%Y%m%dT%H%M%SZ"),
    "a header of mail": (table(HOURS.strftime('"%a, %d %b %Y %H:%M:%S GMT"')), {}, HOUR_S, "GMT"),
    "as C prints it": (table(HOURS.strftime("%a %b %d %H:%M:%S %Y")), {}, HOUR_S, "%a %b %d"),
    "24 o'clock": (table([f"{t - pd.Timedelta('1h'):%d.%m.%Y} 24:00" if t.hour == 0 else f"{t:%d.%m.%Y %H:%M}"
        for t in HOURS]), {}, HOUR_S, "%d.%m.%Y %H:%M"),
    "hours 1 to 24": (table([f"{t:%Y%m%d},{t.hour + 1}" for t in HOURS], "date,hour,level,flow"), {}, HOUR_S, ""),
    "day of the year": (table(DAYS.strftime("%Y-%j")), {}, DAY_S, "%Y-%j"),
    "year, day of the year, hour": (table(HOURS.strftime("%Y,%j,%H"), "YEAR,DOY,HR,level,flow"), {}, HOUR_S, "%j"),
    "minutes and seconds": (table([f"{k // 60:02}:{k % 60:02}.0" for k in range(ROWS)]), {}, 1, "%M:%S.%f"),
    "minutes": (table([f"{k / 4}" for k in range(ROWS)], "t [min],level,flow"), {}, 15, "(min)"),
    "hours of its own": (table([f"{k / 4}" for k in range(ROWS)], "time_h,level,flow"), {}, 900, "(h)"),
    "decimal commas in the time, too": (table([f"{k / 50:.2f}".replace(".", ",") for k in range(ROWS)],
        "Zeit [s];level;flow", **COMMA), {}, 0.02, "'Zeit [s]'"),
    "days of Excel": (table([f"{44_986 + k / 24:.9f}" for k in range(ROWS)], "Date,level,flow"), {}, HOUR_S, "excel"),
    "days of Matlab": (table([f"{738_946 + k / 24:.9f}" for k in range(ROWS)], "datenum,level,flow"), {}, HOUR_S,
        "matlab"),
    "Julian days": (table([f"{2_459_945.5 + k / 24:.7f}" for k in range(ROWS)], "JD,level,flow"), {}, HOUR_S, "julian"),
    "decimal years": (table([f"{1958 + k / 12:.4f}" for k in range(ROWS)], "decimal date,level,flow"), {}, None,
        "decimal_year"),
    "settings of an oscilloscope as wide as its rows": (
        f"Model,T2024\nInterval,4e-06\nlevel,flow\n{SIGNALS}", {}, None, "'Model,T2024'"),
    "a last column of remarks": (PLAIN.replace("flow", "flow,remark"), {}, HOUR_S, "'remark' (no value)"),
    "business days": (
        table(pd.bdate_range("2020-01-01", periods=ROWS)), {"gaps": "keep"}, None, "time taken"),
    "newest first, since 1970": (
        table([str(1_700_000_000 + 60 * k) for k in range(ROWS)]).replace("\n", "\r\n"), {}, 60, ""),
    "a byte order mark": ("\ufeff" + PLAIN, {}, HOUR_S, ""),
    "UTF-16": (PLAIN.encode("utf-16"), {"encoding": "utf-16"}, HOUR_S, ""),
    "Latin-1": (table(HOURS, "Zeit\xb0,level,flow").encode("latin-1"), {"encoding": "latin-1"}, HOUR_S, ""),
    "separators at the ends": (PLAIN.replace(",", ";").replace("\n", ";\n"), {}, HOUR_S, ""),
    "line ends of several kinds": (PLAIN.replace("\n", "\r\n", 30), {}, HOUR_S, ""),
    "spaces that align": (table([f"{k:5d}" for k in range(ROWS)]).replace(",", "   "), {}, 1, ""),
    "a title": (f"Logger: 5\nSite: A\n\n{PLAIN}", {}, HOUR_S, "'Logger: 5', 'Site: A'"),
    "a title as wide as the rows": (f"Station 5,,\n{PLAIN}", {}, HOUR_S, "'Station 5,,'"),
    "the header again": (changed(30, "\n", "\ntime,level,flow\n"), {}, HOUR_S, "1 line(s) with the header again"),
    "a row twice": (changed(30, "\n", f"\n{PLAIN.splitlines()[30]}\n"), {}, HOUR_S, "1 rows came twice"),
    "comments and units": (
        f"% a\n% b\nlevel,flow\nm,m3/s\n{SIGNALS}", {"comment": "%", "units_row": True}, None, ""),
    "a column that is constant": (WITH_CONSTANT, {
        "features": ["level", "flow"]}, HOUR_S, ""),
    "R's row names": (table([str(k) for k in range(1, ROWS + 1)]).replace("time,", ""), {}, None, "only counts rows"),
    "a sentinel of its own": (changed(30, f",{LEVEL[29]}", ",-6999"), {"missing_values": [-6999],
        "missing": "interpolate"}, HOUR_S, ""),
    "two stations": (
        PLAIN.replace("time", "site,time").replace("\n2023", "\nA,2023") + "".join(
            f"B,{line}\n" for line in PLAIN.splitlines()[1:]), {"episode_column": "site"}, HOUR_S, ""),
}  # fmt: skip
DOUBTED = {
    "a number far outside": (changed(30, f",{LEVEL[29]}", ",-999.25"), {}, "-999.25 (1 times) lies far outside"),
    "a second sentinel": (
        changed(30, f",{LEVEL[29]}", ",9999"), {"missing_values": [-9999]}, "9999 (1 times) looks like a missing"),
    "constant columns": (
        WITH_CONSTANT, {"missing": "interpolate"}, "constant column"),
    "quarters": (table([f"{1950 + k // 4}Q{k % 4 + 1}" for k in range(ROWS)], "Q,level,flow"), {}, "'Q' (text)"),
    "calendar columns": (
        table([f"{2010 + k // 52},{k % 52 + 1}" for k in range(ROWS)], "Year,Week,level,flow"), {}, "[Year,Week]"),
    "engines by number": (
        table([f"{1 + k // 20} {k % 20 + 1}" for k in range(ROWS)]).partition("\n")[2].replace(",", " "),
        {"header": False}, "data.order_column=column_1 data.episode_column=column_0"),
    "business days": (table(pd.bdate_range("2020-01-01", periods=ROWS)), {}, "data.gaps=keep"),
    "a time that begins again": (
        table([f"{k % 30 / 100}" for k in range(ROWS)], "t,level,flow"), {}, "time of several recordings"),
    "a count beside the time": (table([f"{t},{k}" for k, t in enumerate(HOURS)], "time,Data_Point,level,flow"), {},
        "'Data_Point': rises or falls throughout"),
    "rows left out": (table([str(k if k < 45 else 10 * k) for k in range(ROWS)]), {}, "15 rows left out"),
    "currency": (PLAIN.replace(",2", ",$2").replace(",3", ",€3"), {}, "signs of percent or currency"),
    "percent": (PLAIN.replace("\n", "%\n").replace("flow%", "flow"), {}, "percent or currency dropped: 'flow'"),
}  # fmt: skip
ASKED = {
    "days that may be months": (table(DAYS[:ROWS]).partition("\n")[0] + "".join(
        f"\n01/{k:02}/2020,{k % 3},{k % 5}" for k in range(1, 13)), {}, "data.time_format"),
    "a sentinel": (changed(30, f",{LEVEL[29]}", ",99999"), {}, "row 30: 99999 (1 times) looks like a missing value"),
    "many sentinels": (re.sub(r",2\.9\d*", ",-9999.0", PLAIN), {}, "data.missing_values=[-9999]"),
    "a word for missing": (changed(30, f",{LEVEL[29]}", ",n.d."), {}, "data.missing_values=['n.d.']"),
    "below a limit": (changed(1, f",{LEVEL[0]}", ",<1"), {}, "data.missing_values=['<1']"),
    "a blank": (changed(30, f",{LEVEL[29]}", ","), {}, "row 30: a value is missing (level: 1 in all)"),
    "a mean below": (f"{PLAIN}Mean,2.0,3.0\n", {}, "row 61: 'Mean' is not a time"),
    "sums below": (f"{PLAIN},120.1,180.2\n", {}, "row 61: no time"),
    "a note below": (f"{PLAIN}\nSource: agency\n", {}, "'Source: agency'"),
    "units": (changed(0, "\n", "\n[-],[m],[m3/s]\n"), {}, "data.units_row=true"),
    "no header": (PLAIN.partition("\n")[2], {}, "data.header=false"),
    "years for names": (f"1990,1991\n{SIGNALS}", {}, "data.header=true"),
    "points for thousands": (
        table([str(k) for k in range(ROWS)], "n;level;flow", number=lambda v: f"{1000 * v:,.2f}".translate(
            str.maketrans(",.", ".,"))), {}, "data.thousands='.' data.decimal=','"),
    "spaces for thousands": ("time;volume\n" + "".join(f"{h};1 {k + 100}\n" for k, h in enumerate(HOURS)), {},
        "data.thousands=' '"),
    "one time, several values": (changed(30, "\n", f"\n{HOURS[29]},5,5\n"), {}, "several rows have the time"),
    "two stations": (PLAIN + PLAIN.partition("\n")[2], {}, "data.episode_column"),
    "Latin-1": (table(HOURS, "Zeit,Füllstand,flow").encode("latin-1"), {}, "data.encoding=latin-1"),
    "UTF-16": (PLAIN.encode("utf-16"), {}, "data.encoding=utf-16"),
    "a long table": (table([f"{t},{s}" for t in HOURS[: ROWS // 2] for s in "ab"], "time,sensor,level,flow"), {},
        "data.order_column=time, and data.episode_column=sensor if each of its values is a recording"),
    "names in two lines": (f"Price,Close,High\nTicker,A,A\nDate,,\n{PLAIN.partition(chr(10))[2]}", {},
        "second line of names"),
    "units with numbers": (re.sub(r"(,\d[\d.]*)", r"\1 °C", PLAIN), {}, "°C"),
    "a clock that was put back": (table(
        pd.date_range("2023-10-28", periods=ROWS, freq="h", tz="Europe/Berlin").strftime("%Y-%m-%d %H:%M")), {},
        "in UTC"),
    "lines of JSON": (pd.DataFrame({"level": LEVEL}).to_json(orient="records", lines=True), {}, "as CSV or Parquet"),
}  # fmt: skip


@pytest.fixture
def read(tmp_path):
    def read(content: str | bytes, settings: dict, name: str = "run.csv") -> Recordings:
        file: Path = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_recordings(str(file), Reading(**settings), cache=tmp_path / "cache")

    return read


@pytest.mark.parametrize("case", READ)
def test_a_file_of_this_kind_is_read_right(read, case):
    content, settings, dt_s, told = READ[case]
    found = read(content, settings)
    level = found.sequences.values[:ROWS, found.sequences.feature_names.index("level")]
    expected = (
        np.interp(range(ROWS), np.delete(range(ROWS), 29), np.delete(LEVEL, 29)) if "sent" in case else LEVEL
    )
    assert level == pytest.approx(expected, abs=1e-4)
    assert (found.sequences.feature_names, found.sequences.dt_s) == (("level", "flow"), pytest.approx(dt_s))
    assert told in " ".join(found.sequences.warnings)


@pytest.mark.parametrize("case", DOUBTED)
def test_what_is_doubtful_is_said(read, case):
    content, settings, told = DOUBTED[case]
    assert told in " ".join(read(content, settings).sequences.warnings)


@pytest.mark.parametrize("case", ASKED)
def test_what_cannot_be_told_is_asked(read, case):
    content, settings, told = ASKED[case]
    with pytest.raises(UserError) as caught:
        read(content, settings)
    assert told in str(caught.value)


@pytest.mark.parametrize(("name", "pack"), [
    ("run.csv.gz", gzip.compress), ("run.txt.zst", lambda text: pa.compress(text, codec="zstd", asbytes=True)),
])  # fmt: skip
def test_compressed_text_is_read_whole_or_refused(read, name, pack):
    packed = pack(PLAIN.encode())
    assert read(packed, {}, name).sequences.num_rows == ROWS
    with pytest.raises(UserError, match="cannot be read"):
        read(packed[: len(packed) // 2], {}, name)


COLUMNS = {
    "a list": pa.array([[a, b] for a, b in zip(LEVEL, FLOW, strict=True)]),
    "a decimal": pa.array(LEVEL).cast(pa.decimal128(10, 4)),
    "a text": pa.array(LEVEL.astype(str)),
    "a small float": pa.array(LEVEL.astype(np.float16)),
}
TIMES = {
    "us": pa.array(HOURS, pa.timestamp("us")),
    "a zone": pa.array(HOURS, pa.timestamp("ms")).cast(pa.timestamp("ms", "UTC")),
    "text": pa.array([str(hour) for hour in HOURS]),
    "ns": pa.array(HOURS.as_unit("ns").astype(np.int64).astype(np.uint64)),
}  # fmt: skip


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("column", COLUMNS)
def test_types_of_parquet_are_read_as_numbers_and_times(tmp_path, column, time):
    modes = pa.array(["auto", "manual"] * (ROWS // 2)).dictionary_encode()
    parquet.write_table(
        pa.table({"t": TIMES[time], "x": COLUMNS[column], "mode": modes}), tmp_path / "run.parquet"
    )
    found = read_recordings(str(tmp_path), Reading(covariates=["mode"]), cache=tmp_path / ".cache").sequences
    assert found.values[:, 0] == pytest.approx(LEVEL, abs=2e-3)
    assert (found.dt_s, found.covariate_names) == (HOUR_S, ("mode=auto", "mode=manual"))


def test_recordings_of_several_time_steps_have_none_and_it_is_said(tmp_path):
    for name, times in {"a": HOURS, "b": DAYS}.items():
        (tmp_path / f"{name}.csv").write_text(table(times))
    found = read_recordings(str(tmp_path), Reading(), cache=tmp_path / ".cache")
    assert found.sequences.dt_s is None
    assert "time steps differ from recording to recording: 3600 to 86400 s" in found.sequences.warnings

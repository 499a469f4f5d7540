"""How a file of text is written: separator, header, units, comments, encoding.

The engine parses the rows. Where they begin is settled here, by the first lines: its own guess takes a header of
numbers for a row, or a row for a header, without a word.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import pyarrow as pa

from foretrace.config.data import Reading
from foretrace.data.tables.files import check_width
from foretrace.errors import UserError

UNSET = Reading()
BOMB = 200  # rows of numbers take at most so many times the bytes of their file
HEAD = 2**20  # characters of a file by which its dialect is judged
LINES = 60
ENDS = re.compile(r"\r\n|\n|\r")
NAMES = {"\t": "tabs", ";": "semicolons", "|": "|", ",": "commas", " ": "spaces"}
ABSENT = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
     "NULL", "NaN", "None", "n/a", "nan", "null", "NAN")
)  # fmt: skip
SIGNS = " \t%$€£¥"  # around numbers, without which they are read
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(?i:inf|infinity)", re.ASCII)
VALUES = ("number", "date")
Kinds = list[list[str]]  # of cells, row by row
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*|\d{4}-\d{2}|\d{1,2}:\d{2}.*")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What the engine is told about a file."""

    separator: str  # between two values; a space stands for any number of them
    skip: int  # lines before the first row
    # Place of each named column; those without a name and without values are left out.
    columns: dict[str, int]
    width: int  # values in a row
    units: dict[str, str]  # by column, where the file has a row of them
    above: tuple[str, ...]  # lines above the header that are passed over
    # Whether it is UTF-8, not compressed, with one separator between two values and one kind of line ends.
    is_plain: bool
    is_ragged: bool  # whether most rows lack the last columns, e.g. one of remarks

    def __str__(self) -> str:
        between = NAMES.get(self.separator, self.separator)
        return f"values between {between}, {self.skip} line(s) above the first row"


def find_dialect(file: Path, reading: Reading) -> Dialect:
    """How a file is written, by its first lines and by what the settings say.

    Raises:
        UserError: If it is not text, is empty, or leaves open where its rows begin.
    """
    text = _head(file, reading)
    lines = list(enumerate(ENDS.split(text)[: 40 * LINES]))
    if reading.comment:  # the engine counts no such lines
        lines = list(enumerate(line for _, line in lines if not line.startswith(reading.comment)))
    lines = [(number, line) for number, line in lines if line.strip()][:LINES]
    if not lines:
        raise UserError(f"{file}: an empty file, without a header and rows")
    if lines[0][1].lstrip().startswith("{"):
        raise UserError(f"{file}: looks like JSON", hint="Save it as CSV or Parquet, e.g. with pandas")
    separator = reading.separator
    if named := re.fullmatch("sep=(.)", lines[0][1].strip()):  # a line by which Excel is told
        separator, lines = separator or named[1], lines[1:] or lines
    separator = separator or _separator([line for _, line in lines])
    cells = [_split(line, separator) for _, line in lines]
    check_width(str(file), len(cells[0]))
    kinds = [[_kind(cell, reading) for cell in row] for row in cells]
    if reading.header == "auto":
        _check_comments(file, lines, kinds, reading)
    above = _lines_above(kinds) if reading.header == "auto" else 0
    if any(line.count('"') % 2 for _, line in lines[:above]):  # a quoted name over several lines
        above = 0
    title, lines, cells, kinds = lines[:above], lines[above:], cells[above:], kinds[above:]
    body = cells[1:] or cells
    usual = _most_often(map(len, body))
    usual_rows = [row for row in body if len(row) == usual]
    numbered = [int(row[0]) for row in usual_rows if row[0].isdecimal()]
    if usual == len(cells[0]) + 1 and numbered[1:2] == [number + 1 for number in numbered[:1]] != []:
        cells[0].insert(0, "")  # R gives row numbers no name
        kinds[0].insert(0, "absent")
    width = max(len(cells[0]), 1)
    if usual > width and (usual > width + 1 or any(row[-1] for row in usual_rows)):
        raise UserError(
            f"{file}, line {lines[0][0] + 1}: {width} values where the lines below have {usual}",
            hint="Remove lines above the header, or set data.comment if they are comments, or data.separator",
        )
    has_header = _has_header(file, cells[0], kinds, reading) if reading.header == "auto" else reading.header
    names = [name.strip() for name in cells[0]] if has_header else [f"column_{n}" for n in range(width)]
    if reading.units_row and (len(cells) < 2 or not has_header):
        raise UserError(f"{file}: data.units_row=true needs a header with a row of units under it")
    units = cells[1] if reading.units_row else []
    kept = [n for n, name in enumerate(names) if name or any("".join(row[n : n + 1]) for row in body)]
    if not kept:
        raise UserError(f"{file}: no column with a name or a value")
    twice, count = Counter(names[n] for n in kept).most_common(1)[0]
    if count > 1:
        hint = "Rename one, or set data.header=false"
        raise UserError(f"{file}: two columns called {twice!r}", hint=hint)
    is_packed = file.suffix.lower() in (".gz", ".zst")  # the engine takes one that ends too soon for whole
    has_one_end = len({*ENDS.findall(text)}) < 2
    return Dialect(
        separator=separator,
        skip=lines[reading.units_row][0] + 1 if has_header else 0,
        columns={names[n]: n for n in kept},
        width=width,
        units={name: unit.strip() for name, unit in zip(names, units, strict=False) if unit.strip()},
        above=tuple(line.strip() for _, line in title),
        is_plain=reading.encoding is None and separator != " " and has_one_end and not is_packed,
        is_ragged=usual < width,
    )


def plain_copy(file: Path, dialect: Dialect, reading: Reading, scratch: Path) -> Path:
    """Return the file itself if it is plain, else a copy of it that is."""
    if dialect.is_plain:
        return file
    copy, has_spaces = scratch / f"{abs(hash(file))}.txt", dialect.separator == " "
    most = BOMB * file.stat().st_size + BOMB * HEAD
    try:
        with _open(file, reading) as text, copy.open("w", encoding="utf-8") as out:
            for piece in iter(lambda: text.readline(HEAD) if has_spaces else text.read(HEAD), ""):
                most -= out.write(f"{' '.join(piece.split())}\n" if has_spaces else piece)
                if most < 0:
                    break
    except (OSError, UnicodeError) as error:
        raise UserError(f"{file}: cannot be read: {error}", hint="Set another data.encoding") from error
    if most < 0:
        raise UserError(f"{file}: over {BOMB} times as long as its bytes on disk", hint="Unpack it")
    return copy


def as_number(text: str, reading: Reading) -> str:
    """Return a number's text as Python writes it, without the user's separators and signs around it."""
    text = text.strip(SIGNS).replace(reading.thousands or "\0", "")
    return text.replace(reading.decimal, ".") if reading.decimal else text


def _open(file: Path, reading: Reading, *, newline: str | None = None) -> io.TextIOWrapper:
    """Open a text, unpacked and decoded."""
    return io.TextIOWrapper(
        pa.input_stream(str(file)), encoding=reading.encoding or "utf-8-sig", newline=newline
    )


def _head(file: Path, reading: Reading) -> str:
    """Return the first lines, as they end."""
    try:
        with _open(file, reading, newline="") as stream:
            text = stream.read(HEAD).removeprefix("\ufeff")
    except LookupError as error:
        hint = "Give one of Python's, e.g. latin-1 or utf-16"
        raise UserError(f"data.encoding: {error}", hint=hint) from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error}") from error
    except UnicodeError as error:
        head: bytes = getattr(error, "object", b"")
        if reading.encoding or not (head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head):
            hint = "Set data.encoding, e.g. data.encoding=latin-1"
            raise UserError(f"{file}: not {reading.encoding or 'UTF-8'} text ({error})", hint=hint) from error
        text = "\0"
    if reading.encoding is None and "\0" in text:
        hint = "Set data.encoding=utf-16 if it is text; save a spreadsheet, HDF5 or MATLAB file as CSV or Parquet"
        raise UserError(f"{file}: bytes of zero, so not UTF-8 text", hint=hint)
    whole = text if len(text) < HEAD else text[: text.rfind("\n") + 1]
    if text and not whole:
        hint = "Is it text with a row for each line?"
        raise UserError(f"{file}: a first line of more than {HEAD:,} characters", hint=hint)
    return whole


def _split(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return line.split(separator)


def _separator(lines: list[str]) -> str:
    """Return the character that stands equally often in most lines; else spaces, if numbers stand between them."""

    def agreement(separator: str) -> float:
        width, times = Counter(len(_split(line, separator)) for line in lines).most_common(1)[0]
        return times / len(lines) if width > 1 else 0.0

    best = max("\t;|,", key=agreement)
    last = lines[-1].split()
    has_numbers = 2 * sum(NUMBER.fullmatch(word) is not None for word in last) >= len(last) > 1
    if agreement(best) >= 0.5:
        return best
    return " " if agreement(" ") >= 0.5 and has_numbers else ","


def _check_comments(file: Path, lines: list[tuple[int, str]], kinds: Kinds, reading: Reading) -> None:
    """Ask about a first line that looks like a comment: one of names may begin so, too."""
    marks, widths = [line.lstrip()[0] for _, line in lines], [len(row) for row in kinds]
    if reading.comment or marks[0] not in "#%;!/":
        return
    is_above_names = marks[0] != "#" and _are_units(kinds[1:])
    if marks[1:2] == marks[:1] or is_above_names or widths[0] != _most_often(widths[1:] or widths):
        later = [row for mark, row in zip(marks, kinds, strict=True) if mark != marks[0]]
        units = " data.units_row=true" if _are_units(later[1:]) else ""
        raise UserError(
            f"{file}, line {lines[0][0] + 1}: looks like a comment, not a header",
            hint=f"Set data.comment='{marks[0]}'{units}, or data.header=true if it holds the names",
        )


def _lines_above(kinds: Kinds) -> int:
    """Count the lines above one of names, with values under it, that are no names themselves."""
    widths = [max((n + 1 for n, kind in enumerate(row) if kind != "absent"), default=0) for row in kinds]
    usual = _most_often(widths[1:] or widths)
    is_value = _are_values(kinds, usual)
    are_names = [w >= usual and {*row[:usual]} == {"text"} for w, row in zip(widths, kinds, strict=True)]
    for first in range(len(kinds)):
        below = [list(compress(row, is_value)) for row in kinds[first + 1 : first + 3]]
        if are_names[first] and any({*VALUES} & {*row} and "text" not in row for row in below):
            return 0 if first and are_names[first - 1] else first
    return 0


def _has_header(file: Path, first: list[str], kinds: Kinds, reading: Reading) -> bool:
    is_value = _are_values(kinds[1:], len(first))
    below = [list(compress(row, is_value)) for row in kinds[1:3]]
    if len(below) == 2 and all("text" in row for row in below):
        hint = "Keep one of them, e.g. with pandas.read_csv(…, header=[0, 1]), whose names can be joined"
        raise UserError(f"{file}, line 2: looks like a second line of names", hint=hint)
    if "text" in compress(kinds[0], is_value):
        if _are_units(kinds[1:]) and not reading.units_row:
            hint = "Set data.units_row=true"
            raise UserError(f"{file}, line 2: looks like units under the header", hint=hint)
    elif {*VALUES} & {*kinds[0]}:
        raise UserError(
            f"{file}, line 1: may be a header or a row of values ({', '.join(first[:4])})",
            hint="Set data.header=true if these are names, or data.header=false (columns column_0, column_1, …)",
        )
    return True


def _are_units(kinds: Kinds) -> bool:
    """Whether the first of some rows has texts where the others have numbers, and no value."""
    is_above = len(kinds) > 1 and ("text", "number") in zip(kinds[0], kinds[1], strict=False)
    return is_above and not {*VALUES} & {*kinds[0]}


def _kind(cell: str, reading: Reading) -> str:
    """Tell whether a cell holds a number, a date, a text, or nothing (absent)."""
    text = cell.strip()
    if text in ABSENT or text in map(str, reading.missing_values or ()):
        return "absent"
    number = as_number(text, reading)
    if NUMBER.fullmatch(number) or NUMBER.fullmatch(number.replace(",", ".", 1)):
        return "number"
    return "date" if DATE.fullmatch(text) else "text"


def _are_values(kinds: Kinds, width: int) -> list[bool]:
    """Whether each column holds numbers or dates, in most rows that hold something."""
    columns = (Counter(row[n] for row in kinds if n < len(row) and row[n] != "absent") for n in range(width))
    return [bool(column) and column.most_common(1)[0][0] in VALUES for column in columns]


def _most_often(numbers: Iterable[int]) -> int:
    return Counter(numbers).most_common(1)[0][0]

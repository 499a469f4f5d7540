"""How a file of text is written: separator, header, units, comments, encoding.

The engine parses the rows. Where they begin is settled here, by the first lines: its own guess takes a header of
numbers for a row, or a row for a header, without a word.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from foretrace.config.data import Reading
from foretrace.data.tables.files import check_width
from foretrace.errors import UserError

UNSET = Reading()
BOMB = 200  # rows of numbers take at most so many times the bytes of their file
HEAD = 2**20  # bytes of a file by which its dialect is judged
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
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*|\d{4}-\d{2}|\d{1,2}:\d{2}.*")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What the engine is told about a file."""

    separator: str  # between two values; a space stands for any number of them
    skip: int  # lines before the first row
    # Place of each named column; those without a name and without values are left out.
    columns: dict[str, int]
    width: int  # values in a row
    units: dict[str, str] = field(default_factory=dict)  # by column, where the file has a row of them
    comment: str = ""  # with what lines that are passed over begin
    above: tuple[str, ...] = ()  # lines above the header that are passed over
    # Whether it is UTF-8, not compressed, with one separator between two values and one kind of line ends.
    is_plain: bool = True
    is_ragged: bool = False  # whether most rows lack the last columns, e.g. one of remarks

    def __str__(self) -> str:
        comments = f", comments after {self.comment}" if self.comment else ""
        between = NAMES.get(self.separator, self.separator)
        return f"values between {between}, {self.skip} line(s) above the first row{comments}"


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
    _check_comments(file, lines, cells, reading)
    above = _lines_above(cells) if reading.header == "auto" else 0
    if any(line.count('"') % 2 for _, line in lines[:above]):  # a quoted name over several lines
        above = 0
    title, lines, cells = lines[:above], lines[above:], cells[above:]
    width, body = max(len(cells[0]), 1), cells[1:] or cells
    usual = Counter(map(len, body)).most_common(1)[0][0]
    usual_rows = [row for row in body if len(row) == usual]
    numbered = [int(row[0]) for row in usual_rows if row[0].isdecimal()]
    if usual == width + 1 and numbered[1:2] == [number + 1 for number in numbered[:1]] != []:
        cells[0].insert(0, "")  # R gives row numbers no name
        width += 1
    if usual > width and (usual > width + 1 or any(row[-1] for row in usual_rows)):
        raise UserError(
            f"{file}, line {lines[0][0] + 1}: {width} values where the lines below have {usual}",
            hint="Remove lines above the header, or set data.comment if they are comments, or data.separator",
        )
    has_header = _has_header(file, cells, reading)
    names = [name.strip() for name in cells[0]] if has_header else [f"column_{n}" for n in range(width)]
    if reading.units_row and (len(cells) < 2 or not has_header):
        raise UserError(f"{file}: data.units_row=true needs a header with a row of units under it")
    units = cells[1] if reading.units_row else []
    kept = [n for n, name in enumerate(names) if name or any("".join(row[n : n + 1]) for row in body)]
    twice = [name for name, count in Counter(names[n] for n in kept).items() if count > 1]
    if twice:
        hint = "Rename one, or set data.header=false"
        raise UserError(f"{file}: two columns called {twice[0]!r}", hint=hint)
    if not kept:
        raise UserError(f"{file}: no column with a name or a value")
    is_packed = file.suffix.lower() in (".gz", ".zst")  # the engine takes one that ends too soon for whole
    has_one_end = len({*ENDS.findall(text)}) < 2
    is_plain = reading.encoding is None and separator != " " and has_one_end and not is_packed
    return Dialect(
        separator=separator,
        skip=lines[1][0] + 1 if reading.units_row else lines[0][0] + 1 if has_header else 0,
        columns={names[n]: n for n in kept},
        width=width,
        units={name: unit.strip() for name, unit in zip(names, units, strict=False) if unit.strip()},
        comment=reading.comment or "",
        above=tuple(line.strip() for _, line in title),
        is_plain=is_plain,
        is_ragged=usual < width,
    )


def plain_copy(file: Path, dialect: Dialect, reading: Reading, scratch: Path) -> Path:
    """Return the file itself if it is plain, else a copy of it that is."""
    if dialect.is_plain:
        return file
    copy, encoding = scratch / f"{abs(hash(file))}.txt", reading.encoding or "utf-8-sig"
    has_spaces, most = dialect.separator == " ", BOMB * file.stat().st_size + BOMB * HEAD
    try:
        with (
            io.TextIOWrapper(pa.input_stream(str(file)), encoding=encoding) as text,
            copy.open("w", encoding="utf-8") as out,
        ):
            for piece in iter(lambda: text.readline(HEAD) if has_spaces else text.read(HEAD), ""):
                most -= out.write(f"{' '.join(piece.split())}\n" if has_spaces else piece)
                if most < 0:
                    raise UserError(
                        f"{file}: over {BOMB} times as long as its bytes on disk", hint="Unpack it"
                    )
    except (OSError, UnicodeError) as error:
        raise UserError(f"{file}: cannot be read: {error}", hint="Set another data.encoding") from error
    return copy


def as_number(text: str, reading: Reading) -> str:
    """Return a number's text as Python writes it, without the user's separators and signs around it."""
    text = text.strip(SIGNS).replace(reading.thousands or "\0", "")
    return text.replace(reading.decimal, ".") if reading.decimal else text


def _head(file: Path, reading: Reading) -> str:
    try:
        with pa.input_stream(str(file)) as stream:
            head: bytes = stream.read(HEAD)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error}") from error
    if reading.encoding is None and (head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head):
        hint = "Set data.encoding=utf-16 if it is text; save a spreadsheet, HDF5 or MATLAB file as CSV or Parquet"
        raise UserError(f"{file}: bytes of zero, so not UTF-8 text", hint=hint)
    whole = head if len(head) < HEAD else head[: head.rfind(b"\n") + 1]
    if not whole and head:
        hint = "Is it text with a row for each line?"
        raise UserError(f"{file}: a first line of more than {HEAD:,} bytes", hint=hint)
    try:
        return (
            codecs.getincrementaldecoder(reading.encoding or "utf-8-sig")()
            .decode(whole)
            .removeprefix("\ufeff")
        )
    except LookupError as error:
        raise UserError(
            f"data.encoding: {error}", hint="Give one of Python's, e.g. latin-1 or utf-16"
        ) from error
    except UnicodeDecodeError as error:
        hint = "Set data.encoding, e.g. data.encoding=latin-1"
        told = f"not {reading.encoding or 'UTF-8'} text ({error.reason} at byte {error.start})"
        raise UserError(f"{file}: {told}", hint=hint) from error


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


def _check_comments(
    file: Path, lines: list[tuple[int, str]], cells: list[list[str]], reading: Reading
) -> None:
    """Ask about a first line that looks like a comment: one of names may begin so, too."""
    marks, widths = [line.lstrip()[0] for _, line in lines], [len(row) for row in cells]
    if reading.comment or reading.header != "auto" or marks[0] not in "#%;!/":
        return
    is_above_names = marks[0] != "#" and _are_units(cells[1:])
    usual = Counter(widths[1:] or widths).most_common(1)[0][0]
    if marks[1:2] == marks[:1] or is_above_names or widths[0] != usual:
        later = [row for mark, row in zip(marks, cells, strict=True) if mark != marks[0]]
        units = " data.units_row=true" if _are_units(later[1:]) else ""
        raise UserError(
            f"{file}, line {lines[0][0] + 1}: looks like a comment, not a header",
            hint=f"Set data.comment='{marks[0]}'{units}, or data.header=true if it holds the names",
        )


def _lines_above(cells: list[list[str]]) -> int:
    """Count the lines above one of names, with values under it, that are no names themselves."""
    widths = [max((n + 1 for n, cell in enumerate(row) if cell.strip()), default=0) for row in cells]
    usual = Counter(widths[1:] or widths).most_common(1)[0][0]
    kinds = [[_kind(cell) for cell in row[:usual]] for row in cells]
    filled = [n for n in range(usual) if _usual(row[n] for row in kinds if n < len(row)) in VALUES]
    are_names = [width >= usual and {*row} == {"text"} for width, row in zip(widths, kinds, strict=True)]
    for first in range(len(kinds)):
        below = [[each[n] for n in filled if n < len(each)] for each in kinds[first + 1 : first + 3]]
        are_values = any({*VALUES} & {*each} and "text" not in each for each in below)
        if are_names[first] and are_values:
            return 0 if first and are_names[first - 1] else first
    return 0


def _has_header(file: Path, cells: list[list[str]], reading: Reading) -> bool:
    if reading.header != "auto":
        return bool(reading.header)
    first, body = cells[0], cells[1:]
    named = [_kind(name, reading) for name in first]
    values = [_usual_kind([row[n] for row in body if n < len(row)], reading) for n in range(len(first))]
    evidence = any(n == "text" and v in VALUES for n, v in zip(named, values, strict=True))
    below = [
        [_kind(cell, reading) for cell, v in zip(row, values, strict=False) if v in VALUES]
        for row in body[:2]
    ]
    if len(below) == 2 and all("text" in kinds for kinds in below):
        hint = "Keep one of them, e.g. with pandas.read_csv(…, header=[0, 1]), whose names can be joined"
        raise UserError(f"{file}, line 2: looks like a second line of names", hint=hint)
    if evidence and _are_units(body) and not reading.units_row:
        raise UserError(f"{file}, line 2: looks like units under the header", hint="Set data.units_row=true")
    if evidence or not {"number", "date"} & {*named}:
        return True
    raise UserError(
        f"{file}, line 1: may be a header or a row of values ({', '.join(first[:4])})",
        hint="Set data.header=true if these are names, or data.header=false (columns column_0, column_1, …)",
    )


def _are_units(rows: list[list[str]]) -> bool:
    """Whether the first of some rows has texts where the others have numbers, and no value."""
    kinds = [[_kind(cell) for cell in row] for row in rows[:2]]
    if len(kinds) < 2 or {*VALUES} & {*kinds[0]}:
        return False
    return ("text", "number") in zip(kinds[0], kinds[1], strict=False)


def _kind(cell: str, reading: Reading = UNSET) -> str:
    text = cell.strip()
    if text in ABSENT or text in map(str, reading.missing_values or ()):
        return "absent"
    number = as_number(text, reading)
    if NUMBER.fullmatch(number) or NUMBER.fullmatch(number.replace(",", ".", 1)):
        return "number"
    return "date" if DATE.fullmatch(text) else "text"


def _usual_kind(texts: list[str], reading: Reading) -> str:
    return _usual(_kind(text, reading) for text in texts)


def _usual(kinds: Iterable[str]) -> str:
    counts = Counter(kind for kind in kinds if kind != "absent")
    return counts.most_common(1)[0][0] if counts else "absent"

"""How a file of text is written: separator, header, units, comments, encoding.

The engine parses the rows. Where they begin is settled here, by the first lines: its own guess takes a header of
numbers for a row, or a row for a header, without a word.
"""

import codecs
import csv
import gzip
import io
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from foretrace.config.data import Reading
from foretrace.errors import UserError

HEAD = 2**20  # bytes of a file by which its dialect is judged
LINES = 60
SEPARATORS = "\t;|,"
ABSENT = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
     "NULL", "NaN", "None", "n/a", "nan", "null", "NAN")
)  # fmt: skip
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?%?|[+-]?(?i:inf|infinity)")
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*|\d{4}-\d{2}|\d{1,2}:\d{2}.*")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What the engine is told about a file.

    Args:
        separator: Between two values; a space stands for any number of them.
        skip: Lines before the first row.
        columns: Place and name of each column; those without a name and without values are left out.
        width: Values in a row.
        units: By column, where the file has a row of them.
        comment: With what lines that are passed over begin.
        is_mixed: Whether lines end in several ways, which the engine does not take.
    """

    separator: str
    skip: int
    columns: tuple[tuple[int, str], ...]
    width: int
    units: dict[str, str] = field(default_factory=dict)
    comment: str = ""
    is_mixed: bool = False

    def __str__(self) -> str:
        names = {"\t": "tabs", " ": "spaces", ",": "commas", ";": "semicolons"}
        rows = f"values between {names.get(self.separator, self.separator)}, {self.skip} line(s) above the first row"
        return rows + (f", comments after {self.comment}" if self.comment else "")

    def relation(self, file: str) -> str:
        """What follows FROM in a query of the file, which is given as SQL writes it; columns c0, c1, …, all text."""
        columns = ", ".join(f"'c{n}': 'VARCHAR'" for n in range(self.width))
        comment = f", comment = '{self.comment}'" if self.comment else ""
        separator = self.separator.replace("'", "''")
        return (
            f"read_csv({file}, auto_detect = false, header = false, skip = {self.skip}, delim = '{separator}', "
            f"quote = '\"', escape = '\"', columns = {{{columns}}}{comment})"
        )


def find_dialect(file: Path, reading: Reading) -> Dialect:
    """How a file is written, by its first lines and by what the settings say.

    Raises:
        UserError: If it is not text, is empty, or leaves open where its rows begin.
    """
    text = _head(file, reading)
    lines = re.split(r"\r\n|\n|\r", text)[: 40 * LINES]
    is_mixed = len({*re.findall(r"\r\n|\n|\r", text)}) > 1
    if reading.comment:  # the engine counts no such lines
        lines = [line for line in lines if not line.startswith(reading.comment)]
    rows = [(number, line) for number, line in enumerate(lines) if line.strip(" \t")]
    if not rows:
        raise UserError(f"{file}: an empty file, without a header and rows")
    rows, separator = rows[:LINES], reading.separator
    if named := re.fullmatch("sep=(.)", rows[0][1].strip()):  # a line by which Excel is told
        separator, rows = separator or named[1], rows[1:] or rows
    separator = separator or _separator([line for _, line in rows])
    cells = [(number, _split(line, separator)) for number, line in rows]
    _check_comments(file, rows, cells, reading)
    width = max(len(cells[0][1]), 1)
    body = cells[1:] if len(cells) > 1 else cells
    usual = Counter(len(row) for _, row in body).most_common(1)[0][0]
    numbered = [row[0] for _, row in body if len(row) == usual and row[0].isdecimal()]
    if usual == width + 1 and len(numbered) > 1 and int(numbered[1]) == int(numbered[0]) + 1:
        cells[0][1].insert(0, "")  # R gives row numbers no name
        width += 1
    if usual > width and not (
        usual == width + 1 and all(not row[-1] for _, row in body if len(row) == usual)
    ):
        raise UserError(
            f"{file}, line {rows[0][0] + 1}: {width} values where the lines below have {usual}",
            hint="Remove lines above the header, or set data.comment if they are comments, or data.separator",
        )
    has_header = _has_header(file, [row for _, row in cells], reading)
    names = [name.strip() for name in cells[0][1]] if has_header else [f"column_{n}" for n in range(width)]
    units: dict[str, str] = {}
    skip = cells[0][0] + 1 if has_header else 0
    if reading.units_row:
        if len(cells) < 2 or not has_header:
            raise UserError(f"{file}: data.units_row=true needs a header with a row of units under it")
        skip = cells[1][0] + 1
        units = {name: unit.strip() for name, unit in zip(names, cells[1][1], strict=False) if unit.strip()}
    kept = [
        (n, name)
        for n, name in enumerate(names)
        if name or any(row[n : n + 1] not in ([], [""]) for _, row in body)
    ]
    twice = [name for name, count in Counter(name for _, name in kept).items() if count > 1]
    if twice:
        raise UserError(
            f"{file}: two columns called {twice[0]!r}", hint="Rename one, or set data.header=false"
        )
    if not kept:
        raise UserError(f"{file}: no column with a name or a value")
    return Dialect(separator=separator, skip=skip, columns=tuple(kept), width=width, units=units,
                   comment=reading.comment or "", is_mixed=is_mixed)  # fmt: skip


def plain_copy(file: Path, dialect: Dialect, reading: Reading, scratch: Path) -> Path:
    """The file itself, or a copy of it in UTF-8 with one separator between two values, where it is not so."""
    if reading.encoding is None and dialect.separator != " " and not dialect.is_mixed:
        return file
    copy = scratch / f"{abs(hash(file))}.txt"
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with (
            opened(file, "rt", encoding=reading.encoding or "utf-8-sig") as text,
            copy.open("w", encoding="utf-8") as out,
        ):
            for line in text:
                out.write(f"{' '.join(line.split())}\n" if dialect.separator == " " else line)
    except (OSError, EOFError, UnicodeError) as error:
        raise UserError(f"{file}: cannot be read: {error}", hint="Set another data.encoding") from error
    return copy


def as_number(text: str, reading: Reading) -> str:
    """A number's text as Python writes it, without the user's separators."""
    text = text.strip().replace(reading.thousands, "") if reading.thousands else text.strip()
    return text.replace(reading.decimal, ".") if reading.decimal else text


def _head(file: Path, reading: Reading) -> str:
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as stream:
            head = stream.read(HEAD)
    except (OSError, EOFError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from error
    if reading.encoding is None and (head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head):
        raise UserError(
            f"{file}: bytes of zero, so not UTF-8 text", hint="If it is text, set data.encoding=utf-16"
        )
    whole = head if len(head) < HEAD else head[: head.rfind(b"\n") + 1]
    if not whole and head:
        raise UserError(
            f"{file}: a first line of more than {HEAD:,} bytes", hint="Is it text with a row for each line?"
        )
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
        raise UserError(f"{file}: not {reading.encoding or 'UTF-8'} text ({error.reason} at byte {error.start})",
                        hint="Set data.encoding, e.g. data.encoding=latin-1") from error  # fmt: skip


def _split(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    try:
        return next(csv.reader(io.StringIO(line), delimiter=separator), [])
    except csv.Error:
        return line.split(separator)


def _separator(lines: list[str]) -> str:
    """The character that stands equally often in most lines; else spaces, if numbers stand between them."""

    def agreement(separator: str) -> float:
        counts = [len(_split(line, separator)) for line in lines]
        width, times = Counter(counts).most_common(1)[0]
        return times / len(lines) if width > 1 else 0.0

    best = max(SEPARATORS, key=agreement)
    if agreement(best) >= 0.5:
        return best
    last = lines[-1].split()
    numbers = sum(NUMBER.fullmatch(word) is not None for word in last)
    return " " if agreement(" ") >= 0.5 and len(last) > 1 and 2 * numbers >= len(last) else ","


def _check_comments(
    file: Path, rows: list[tuple[int, str]], cells: list[tuple[int, list[str]]], reading: Reading
) -> None:
    """Asks about a first line that looks like a comment: one of names may begin so, too."""
    mark = rows[0][1].lstrip()[:1]
    if reading.comment or reading.header != "auto" or mark not in tuple("#%;!/"):
        return
    second = rows[1][1].lstrip()[:1] if len(rows) > 1 else ""
    widths = [len(row) for _, row in cells]
    is_above_names = mark != "#" and _are_units([row for _, row in cells[1:]])
    if second == mark or is_above_names or widths[0] != Counter(widths[1:] or widths).most_common(1)[0][0]:
        later = [
            row for (_, line), (_, row) in zip(rows, cells, strict=True) if not line.lstrip().startswith(mark)
        ]
        units = " data.units_row=true" if _are_units(later[1:]) else ""
        raise UserError(
            f"{file}, line {rows[0][0] + 1}: looks like a comment, not a header",
            hint=f"Set data.comment='{mark}'{units}, or data.header=true if it holds the names",
        )


def _has_header(file: Path, cells: list[list[str]], reading: Reading) -> bool:
    if reading.header != "auto":
        return bool(reading.header)
    first, body = cells[0], cells[1:]
    named = [_kind(name, reading) for name in first]
    values = [_usual_kind([row[n] for row in body if n < len(row)], reading) for n in range(len(first))]
    evidence = any(n == "text" and v in ("number", "date") for n, v in zip(named, values, strict=True))
    if _are_units(cells[1:]) and not reading.units_row and evidence:
        raise UserError(f"{file}, line 2: looks like units under the header", hint="Set data.units_row=true")
    if evidence or not any(kind in ("number", "date") for kind in named):
        return True
    raise UserError(
        f"{file}, line 1: may be a header or a row of values ({', '.join(first[:4])})",
        hint="Set data.header=true if these are names, or data.header=false (columns column_0, column_1, …)",
    )


def _are_units(rows: list[list[str]]) -> bool:
    """Whether the first of some rows has texts where the others have numbers, and no number."""
    kinds = [[_kind(cell) for cell in row] for row in rows]
    if len(kinds) < 2 or "number" in kinds[0]:
        return False
    return any(
        above == "text" and below == "number" for above, below in zip(kinds[0], kinds[1], strict=False)
    )


def _kind(cell: str, reading: Reading | None = None) -> str:
    text = cell.strip()
    if text in ABSENT or (reading and reading.missing_values and text in map(str, reading.missing_values)):
        return "absent"
    number = as_number(text, reading) if reading else text
    if NUMBER.fullmatch(number) or NUMBER.fullmatch(number.replace(",", ".", 1)):
        return "number"
    return "date" if DATE.fullmatch(text) else "text"


def _usual_kind(texts: list[str], reading: Reading) -> str:
    kinds = Counter(kind for kind in (_kind(text, reading) for text in texts) if kind != "absent")
    return kinds.most_common(1)[0][0] if kinds else "absent"

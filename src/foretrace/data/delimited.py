"""CSV files: what their columns are called, and how their values are told apart.

Nothing is guessed: the separator is read off the header, and a decimal comma off the values. A file in another
encoding than UTF-8, or with a quote that is never closed, is refused, as rows could be lost without a word.
"""

import codecs
import csv as text_csv
import io
import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from foretrace.errors import InputError

LONGEST_HEADER = 2**20  # bytes
BLOCK_BYTES = 2**20
SEPARATORS = ",;\t|"  # the first of these that stands in the header, outside of quotes
# UTF-32 before UTF-16, whose mark begins as that of UTF-32 does.
MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a CSV file is written.

    Args:
        names: Of all columns.
        separator: What stands between two values.
        decimal: What stands before the decimals of a number.

    >>> Layout(names=("speed", "angle"), separator=";", decimal=",").separator
    ';'
    """

    names: tuple[str, ...]
    separator: str = ","
    decimal: str = "."


def layout(file: Path) -> Layout:
    """Looks at the first megabyte of a file, to which its header has to be confined.

    Raises:
        InputError: If it is not text in UTF-8, or has no header on one line.
        OSError: If it cannot be read.
    """
    with closing(_open(file)) as stream:
        head = stream.read(LONGEST_HEADER)
    _check_encoding(file, head)
    head = head.removeprefix(codecs.BOM_UTF8)
    blank, head = head.startswith((b"\r", b"\n")), head.lstrip(b"\r\n")
    line, _, rows = _first_line(head)
    if not line.strip():
        raise InputError(
            str(file), expected="a header with the names of the columns", received="an empty file"
        )
    if len(head) == len(line):
        long = len(head) > LONGEST_HEADER - 8
        received = f"a line of more than {LONGEST_HEADER:,} bytes" if long else "a header alone"
        raise InputError(str(file), expected="a header, and rows of values below it", received=received)
    try:
        header = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _foreign(file, "LATIN1", received="a header in another encoding") from error
    outside = re.sub(r'"[^"]*"', "", header)
    if '"' in outside:
        remedy = "Close the quotes, and write no name over two lines."
        raise InputError(str(file), expected="a header on one line", received="an open quote", remedy=remedy)
    separator = next((one for one in SEPARATORS if one in outside), ",")
    # Else the comma stands between values; and in a number of a file like that, it has no other meaning.
    number = rb"(?:^|[\r\n;\t|])\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*(?:[\r\n;\t|]|$)"
    decimal = "," if separator != "," and re.search(number, rows) else "."
    names = _names(file, header, separator)
    if len(names) == 1 and blank:  # of a single column, a blank line is a missing value
        raise InputError(str(file), expected="a header on the first line", received="a blank line")
    return Layout(names=names, separator=separator, decimal=decimal)


def check_quotes(file: Path) -> None:
    """Makes sure that each quote is closed: all rows after an open one would be taken for one value.

    Raises:
        InputError: If their number is odd.
        OSError: If it cannot be read.
    """
    quotes = 0
    with closing(_open(file)) as stream:
        while block := stream.read(BLOCK_BYTES):
            quotes += block.count(b'"')
    if quotes % 2:
        received = f"{quotes}, so that one is never closed"
        remedy = 'Close it; a quote within a quoted value is written twice ("").'
        raise InputError(str(file), expected="an even number of quotes", received=received, remedy=remedy)


def _open(file: Path) -> pa.NativeFile:
    return pa.input_stream(str(file), compression="gzip" if file.name.lower().endswith(".gz") else None)


def _first_line(head: bytes) -> tuple[bytes, bytes, bytes]:
    end = re.search(rb"[\r\n]", head)
    return (head, b"", b"") if end is None else (head[: end.start()], end.group(), head[end.end() :])


def _check_encoding(file: Path, head: bytes) -> None:
    for mark, encoding in MARKS:
        if head.startswith(mark):
            raise _foreign(file, encoding, received=f"one in {encoding}")
    if b"\0" in head:
        raise InputError(
            str(file), expected="a CSV file in UTF-8", received="bytes of zero, as in a binary file"
        )


def _foreign(file: Path, encoding: str, *, received: str) -> InputError:
    remedy = f"Convert it, for instance by iconv -f {encoding} -t UTF-8."
    return InputError(str(file), expected="a CSV file in UTF-8", received=received, remedy=remedy)


def _names(file: Path, header: str, separator: str) -> tuple[str, ...]:
    parts = re.sub(r'"(?:[^"]|"")*"', '"', header).split(separator)
    if any('"' in part and part != '"' for part in parts):
        received = "quotes within one, about which readers of CSV disagree"
        raise InputError(str(file), expected="names in quotes as a whole, or without", received=received)
    try:
        return tuple(next(text_csv.reader(io.StringIO(header), delimiter=separator)))
    except text_csv.Error as error:
        raise InputError(str(file), expected="a header", received=str(error)) from error

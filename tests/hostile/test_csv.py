"""CSV files as the world writes them: refused in one line, or read without a loss."""

import gzip
from contextlib import suppress

import numpy as np
import pytest
from corpus import put, read, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from foretrace.errors import UserError

TABLE = "a,b\n1,2\n3,4\n5,6\n"
MANY = "1,2\n" * 400_000
STAMPS = "".join(f"{1_700_000_000_000 + 10 * n},{n}\n" for n in range(100))

REFUSED = {
    "nothing": ("", "an empty file"),
    "blank lines": ("\n\r\n\n", "an empty file"),
    "spaces": ("   \n  \n", "an empty file"),
    "a byte order mark alone": (b"\xef\xbb\xbf", "an empty file"),
    "a header alone": ("a,b", "not one row"),
    "a header and a line end": ("a,b\n", "not one row"),
    "one row": ("a,b\n1,2\n", "no episode of 2 rows"),
    "UTF-16": (TABLE.encode("utf-16"), "data.encoding=utf-16"),
    "UTF-16, the other way round": (b"\xfe\xff" + TABLE.encode("utf-16-be"), "data.encoding=utf-16"),
    "UTF-16 without a mark": (TABLE.encode("utf-16-le"), "bytes of zero"),
    "UTF-32": (TABLE.encode("utf-32"), "bytes of zero"),
    "Latin-1 in the header": ("température,b\n1,2\n3,4\n".encode("latin-1"), "data.encoding=latin-1"),
    "zeros": (bytes(10_000), "bytes of zero"),
    "a zero among numbers": (b"a,b\n1,\x002\n3,4\n", "bytes of zero"),
    "random bytes": (bytes(range(256)) * 20, "bytes of zero"),
    "a compressed file": (gzip.compress(TABLE.encode()), "bytes of zero"),
    "a web page": ("<html>\n<body>\n404, no\n</body>\n</html>\n", "line 3"),
    "JSON": ('{"a": [1, 2]}', "looks like JSON"),
    "a pointer of Git LFS": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:a\n",
        "no numeric column",
    ),
    "a comment above": ("# made by hand\na,b\n1,2\n3,4\n", "data.comment"),
    "comma as separator and decimal": ("a,b\n1,5,2,5\n3,5,4,0\n", "2 values where the lines below have 4"),
    "a row too long": ("a,b\n1,2\n3,4,5\n", "line 3"),
    "a row too short": ("a,b\n1,2\n3\n", "line 3"),
    "one name twice": ("a,a\n1,2\n", "two columns called 'a'"),
    "no names": (",,\n1,2,3\n4,5,6\n", "two columns called ''"),
    "numbers for names": ("1,2\n3,4\n", "data.header=true"),
    "decimal commas for names": ("1,5;2,5\n3;4\n", "data.header=true"),
    "an open quote": ('a,b\n1,"2\n3,4\n5,6\n', "unterminated quote"),
    "an open quote in a text": ('a,label\n1,"x\n2,y\n3,z\n', "unterminated quote"),
    "a name over two lines": ('"a\nb",c\n1,2\n3,4\n', "1 values where"),
    "a name with an escape sequence": ("\x1b[31ma,b\n1,2\n3,4\n", "control characters"),
    "a name that turns the direction": ("a\u202e,b\n1,2\n3,4\n", "control characters"),
    "a name of 1001 characters": ("a" * 1001 + ",b\n1,2\n3,4\n", "over 1000 characters"),
    "a name of 200 000 characters": ("a" * 200_000 + ",b\n1,2\n", "over 1000 characters"),
    "a header of 3 MB": ("a" * 3_000_000 + ",b\n1,2\n", "more than 1,048,576 characters"),
    "a million columns": (
        ",".join(f"c{n}" for n in range(1_000_000)) + "\n",
        "more than 1,048,576 characters",
    ),
    "100 000 columns": (",".join(f"c{n}" for n in range(100_000)) + "\n1\n", "is the table turned"),
    "a cell of 3 MB": ("a,b\n1," + "9" * 3_000_000 + "\n1,2\n", "run.csv"),
    "a text among numbers": ("a,b\n1,2\nx,4\n", "row 2: 'x' is not a number"),
    "a text after 400 000 numbers": (f"a,b\n{MANY}x,4\n", "row 400001"),
    "a number missing after 400 000": (f"a,b\n{MANY},4\n", "row 400001: a value is missing"),
    "thousands": ('a,b\n"1,000",2\n"3,000",4\n', "data.thousands=','"),
    "a small signal on 1e9": ("a\n1000000000.1\n1000000000.7\n1000000000.3\n", "in the 7 digits"),
    "less than float32 can hold": ("a\n1e-46\n2e-46\n5e-46\n", "in the 7 digits"),
}
READ = {  # refused before
    "Excel's separator line": "sep=;\na;b\n1;2\n3;4\n",
    "separated by spaces": "a b\n1 2\n3 4\n",
    "commas at the ends of rows": "a,b\n1,2,\n3,4,\n",
    "a blank line above": "\na,b\n1,2\n3,4\n",
    "quotes within a name": 'a""b,c\n1,2\n3,4\n',
    "a column of nothing": "a,c,b\n1,,2\n3,,4\n",
    "a column of time stamps in ms": "time,a,b\n1700000000000,1,2\n1700000000010,3,4\n1700000000020,5,6\n",
}
CELLS = {
    "inf": "not finite", "-inf": "not finite", "Infinity": "not finite", "1e308": "not finite",
    "1e400": "not finite", "-1e37": "not finite",
    "nan": "missing", "NULL": "missing", "#N/A": "missing", "None": "missing", "\x1b[31m5": "x1b", "x" * 100_000: "xxx",
} | dict.fromkeys(
    ("-", "?", "1_000", "1e", "٣", "1 2", "true", "2024-01-01", "12:00", "1d5", "'=1+1'", '"x\ny"'),
    "is not a number",
)  # fmt: skip
ORDERS = {
    "no stamp at all": (",", "neither as a number nor as a date"), "truth": ("true,false", "neither as a number"),
    "infinity": ("inf,1", "neither as a number"), "the same twice": ("1,1", "several rows have the time 1"),
    "30 February": ("2024-02-30,2024-02-29", "neither as a number"),
    "zones and none": ("2024-01-01T00:00:00Z,2024-01-01T00:00:01", "others have none"),
    "a long text": ("x" * 50_000 + ",y", "neither as a number"), "a code": ("=1+1,=2+2", "neither as a number"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, case):
    content, message = REFUSED[case]
    assert message in refused(put(tmp_path, content))


@pytest.mark.parametrize("case", READ)
def test_a_file_of_an_unusual_form_is_read(tmp_path, case):
    assert read(put(tmp_path, READ[case])).values[:2].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("cell", CELLS, ids=range(len(CELLS)))
def test_a_value_that_is_no_number_is_named(tmp_path, cell):
    line = refused(put(tmp_path, f"a,b\n1,2\n{cell},4\n5,6\n"), features=["a", "b"])
    assert "column 'a', row 2" in line
    assert CELLS[cell] in line


@pytest.mark.parametrize("case", ORDERS)
def test_what_cannot_be_sorted_by_is_refused(tmp_path, case):
    values, message = ORDERS[case]
    rows = [f"{value},{n}" for n, value in enumerate(values.split(","))]
    assert message in refused(put(tmp_path, "\n".join(["t,x", *rows])), order_column="t")


@pytest.mark.parametrize(
    "cut", [b"", TABLE.encode(), gzip.compress(TABLE.encode() * 99)[:40]], ids=["empty", "plain", "cut"]
)
def test_a_broken_archive_is_refused(tmp_path, cut):
    assert "run.csv.gz" in refused(put(tmp_path, cut, "run.csv.gz"))


@pytest.mark.parametrize(
    "text",
    [
        "a;b\n1,5;2\n3;4,25\n",
        "a\tb\n1.5\t2\n3\t4.25\n",
        "a|b\r\n1.5|2\r\n3|4.25\r\n",
        '"a";b\n"1,5";2\n3;4,25\n',
    ],
)
def test_other_separators_and_decimal_commas_are_read(tmp_path, text):
    assert read(put(tmp_path, text)).values.tolist() == [[1.5, 2], [3, 4.25]]


def test_names_of_every_kind_are_kept(tmp_path):
    names = [
        "=1+1",
        "../../x",
        "<script>alert(1)</script>",
        "$x$ _^",
        "🤖",
        "x, y",
        'an "x"',
        "@SUM",
        "%s",
        "é",
    ]
    header = ",".join(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in names)
    rows = "".join(",".join("123456789"[n] for _ in names) + "\n" for n in range(3))
    assert list(read(put(tmp_path, f"{header}\n{rows}")).feature_names) == names


PIECES = ["a", "b", ",", ";", "\t", "|", "\n", "\r\n", "\r", '"', '""', "1", "2.5", "1,5", "inf", "nan", "é", "\ufeff",
          "2024-01-01", "true", "\0", " ", "=1+1", "$", "9" * 30, "1e-40"]  # fmt: skip


def read_or_refused(folder, content):
    with suppress(UserError):
        assert np.isfinite(read(put(folder, content, "fuzzed.csv")).values).all()


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    read_or_refused(tmp_path_factory.getbasetemp(), content)


@given(st.sampled_from(["", "a,b\n", "a;b\n", "a\n"]), st.lists(st.sampled_from(PIECES), max_size=40))
@settings(deadline=None)
def test_random_pieces_are_read_or_refused(tmp_path_factory, header, pieces):
    read_or_refused(tmp_path_factory.getbasetemp(), header + "".join(pieces))

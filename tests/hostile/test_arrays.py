"""NPY and NPZ files that are broken, hostile or of another kind."""

import io
import struct
import tracemalloc
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from corpus import put, read, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from foretrace.data.tables import files
from foretrace.data.tables.files import open_arrays
from foretrace.errors import UserError


def npy(array, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def claim(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)


def archive(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as members_of:
        for name, content in members:
            members_of.writestr(name, content)
    return file.getvalue()


class Opens:
    """Makes a file when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


GOOD = npy(np.arange(200.0).reshape(50, 4))
ARRAYS = {
    "truth": np.ones((3, 2), bool), "complex": np.ones((3, 2), complex), "text": np.array(["a", "b"]),
    "bytes": np.zeros((3, 2), "S5"), "records": np.zeros(3, [("a", float)]), "dates": np.array(["2024"], "M8[s]"),
    "durations": np.zeros((3, 2), "m8[s]"), "void": np.zeros((3, 2), "V8"), "a number": np.float64(3),
    "four dimensions": np.zeros((2, 2, 2, 2)), "no rows": np.zeros((0, 3)), "no columns": np.zeros((3, 0)),
    "one row": np.ones((1, 3)), "episodes of a row": np.zeros((5, 1, 2)), "NaN": np.full((4, 2), np.nan),
    "infinity": np.full((4, 2), np.inf), "half infinity": np.full((4, 2), np.inf, np.float16),
    "1e308": np.full((4, 2), 1e308), "1e37 in float32": np.full((4, 2), 1e37, np.float32),
    "100 000 columns": np.zeros((3, 100_000)), "a million columns": np.zeros((3, 1_000_000), np.float32),
    "1e9 and a little": 1e9 + np.arange(8.0).reshape(4, 2),
    "stamps in ms": 1_700_000_000_000 + np.arange(8).reshape(4, 2),
}  # fmt: skip
BROKEN = {
    "empty": b"", "magic alone": GOOD[:6], "half a header": GOOD[:20], "half the values": GOOD[:900],
    "version 9": GOOD[:6] + b"\x09\x00" + GOOD[8:], "zeros": bytes(1000), "text": b"1 2 3\n4 5 6\n",
    "a shape of 32 TB": claim("{'descr':'<f8','fortran_order':False,'shape':(1000000000000,4)}\n"),
    "a shape beyond 64 bits": claim("{'descr':'<f8','fortran_order':False,'shape':(10000000000000000000000,4)}\n"),
    "a negative shape": claim("{'descr':'<f8','fortran_order':False,'shape':(-1,4)}\n"),
    "a shape of truth": claim("{'descr':'<f8','fortran_order':False,'shape':(True,)}\n"),
    "a shape of text": claim("{'descr':'<f8','fortran_order':False,'shape':'abc'}\n"),
    "a shape of halves": claim("{'descr':'<f8','fortran_order':False,'shape':(3.5,)}\n"),
    "a type of objects": claim("{'descr':'|O','fortran_order':False,'shape':(3,)}\n"),
    "a type that is none": claim("{'descr':'zz','fortran_order':False,'shape':(3,)}\n"),
    "a type of 5": claim("{'descr':5,'fortran_order':False,'shape':(3,)}\n"),
    "keys missing": claim("{'descr':'<f8'}\n"), "code": claim("__import__('os').getpid()\n"),
    "deep brackets": claim("(" * 9000 + ")" * 9000 + "\n"), "zeros as a header": claim("\0" * 50),
    "a header of 2 GB": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31 - 1) + b"{" * 999,
    "a header not in UTF-8": b"\x93NUMPY\x03\x00" + struct.pack("<I", 50) + b"\xff" * 50,
}  # fmt: skip
ARCHIVES = {
    "nothing in it": (b"PK\x05\x06" + bytes(18), "no array in it"),
    "no archive": (b"PK\x03\x04junk", "saved without pickle"),
    "a text": (archive(("a.txt", b"hi")), "no array (*.npy) with a plain name"),
    "a gigabyte of text": (archive(("a.txt", bytes(2**28))), "no array (*.npy) with a plain name"),
    "an archive in it": (archive(("a.npz", archive(("b.npy", GOOD)))), "no array (*.npy) with a plain name"),
    "a folder": (archive(("a/", b"")), "no array (*.npy) with a plain name"),
    "a name with a line end": (archive(("a\nb\x1b[31m.npy", GOOD)), "no array (*.npy) with a plain name"),
    "a name with and without suffix": (
        archive(("a", GOOD), ("a.npy", GOOD)),
        "no array (*.npy) with a plain name",
    ),
    "three dimensions": (archive(("a.npy", npy(np.zeros((3, 2, 2))))), "(T, F)"),
    "other widths": (archive(("a.npy", GOOD), ("b.npy", npy(np.zeros((3, 5))))), "also has 'feature_4'"),
    "fewer columns": (
        archive(("a.npy", GOOD), ("b.npy", npy(np.zeros((3, 2))))),
        "lacks 'feature_2', 'feature_3'",
    ),
    "an array cut short": (archive(("a.npy", GOOD[:200])), "saved without pickle"),
    "half of it": (archive(("a.npy", GOOD))[:200], "saved without pickle"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_an_array_that_is_no_recording_is_refused(tmp_path, case):
    refused(put(tmp_path, npy(ARRAYS[case]), "run.npy"))


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_array_is_refused(tmp_path, case):
    assert "saved without pickle" in refused(put(tmp_path, BROKEN[case], "run.npy"))


def test_an_array_of_python_2_is_read_without_a_warning(tmp_path):
    header = claim("{'descr':'<f8','fortran_order':False,'shape':(3L,2L)}\n")
    read(put(tmp_path, header + np.arange(6.0).tobytes(), "run.npy"))


@pytest.mark.parametrize("case", ARCHIVES)
def test_a_broken_archive_is_refused(tmp_path, case):
    content, message = ARCHIVES[case]
    assert message in refused(put(tmp_path, content, "run.npz"))


@pytest.mark.filterwarnings("ignore:Duplicate name")  # by zipfile, on writing it
def test_an_archive_with_two_arrays_of_one_name_is_refused(tmp_path):
    assert "two arrays called 'a'" in refused(
        put(tmp_path, archive(("a.npy", GOOD), ("a.npy", GOOD)), "run.npz")
    )


@pytest.mark.parametrize("name", ["run.npy", "run.npz"])
def test_nothing_is_unpickled(tmp_path, name):
    trap = tmp_path / "opened"
    pickled = npy(np.array([Opens(trap)], object), allow_pickle=True)
    content = pickled if name == "run.npy" else archive(("a.npy", pickled))
    refused(put(tmp_path, content, name))
    assert not trap.exists()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_ARCHIVE", 2**20)
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__init__", None)  # nobody comes to call it
    bomb = archive(("a.npy", npy(np.zeros((2**18, 4)))))
    assert len(bomb) < 2**15
    assert "at most 1,048,576 are unpacked" in refused(put(tmp_path, bomb, "run.npz"))


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 7)), min_size=1, max_size=4))
@settings(deadline=None)
@pytest.mark.parametrize("name", ["run.npy", "run.npz"])
def test_flipped_bits_are_read_or_refused(tmp_path_factory, name, flips):
    content = bytearray(GOOD if name == "run.npy" else archive(("a.npy", GOOD)))
    for place, bit in flips:
        content[place % len(content)] ^= 1 << bit
    with suppress(UserError):
        assert np.isfinite(read(put(tmp_path_factory.getbasetemp(), bytes(content), name)).values).all()


def test_an_archive_is_unpacked_to_disk_and_not_into_memory(tmp_path):
    (tmp_path / "scratch").mkdir()
    np.savez_compressed(tmp_path / "runs.npz", a=np.zeros((100_000, 20)), b=np.ones((100_000, 5)))
    tracemalloc.start()
    arrays = open_arrays(tmp_path / "runs.npz", tmp_path / "scratch")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6 < sum(array.nbytes for array in arrays.values())
    assert (arrays["a"].sum(), arrays["b"].sum()) == (0, 500_000)

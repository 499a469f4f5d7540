"""Model files and folders that are broken, hostile or of something else."""

import json
import os
import pickle
import struct
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import calibrated, made, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from trained import Opens, refused, saved

import foretrace
from foretrace.errors import UserError
from foretrace.serving.model_file import DIGEST, digest, save_model, write_mlflow_model

MODEL, CALIBRATED = made(), calibrated(made())
TEXTS = MODEL.card.texts()
TENSORS = MODEL.model.state_dict()
WEIGHT = "stack.lstm.0.weight_hh_l0"


def file(texts=None, tensors=None, *, sealed: bool = True) -> bytes:
    """As `save_model` writes it, with whatever somebody changed; sealed with the SHA-256 of that."""
    texts, tensors = TEXTS | (texts or {}), TENSORS | (tensors or {})
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    seal = {DIGEST: digest(texts, tensors)} if sealed else {}
    return save(tensors, texts | seal)


def headed(header: bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def array(**fields) -> bytes:
    """A file with one array that says of itself what it likes."""
    about = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | fields
    return headed(json.dumps({"a": about, "__metadata__": {"format": "2"}}).encode(), bytes(8))


def card(**fields) -> bytes:
    return file({name: json.dumps(value) for name, value in fields.items()})


def network(**fields) -> bytes:
    return card(model=MODEL.card.model.model_dump() | fields)


WHOLE = file()
FILES = {
    "nothing": b"", "seven bytes": bytes(7), "eight": bytes(8), "text": b"a model, really", "zeros": bytes(1000),
    "half": WHOLE[: len(WHOLE) // 2], "all but a byte": WHOLE[:-1], "a byte more": WHOLE + b"\0",
    "no array": headed(b"{}"), "a header of 16 EB": headed(b"{}", length=2**64 - 1), "no JSON": headed(b"nothing"),
    "a header of 100 MB": headed(b"{}", length=100_000_000), "a list for a header": headed(b"[]"),
    "a deep header": headed(b'{"a":' * 5000 + b"1" + b"}" * 5000), "not in UTF-8": headed(b'{"\xff": 1}'),
    "a type that is none": array(dtype="F33"), "a shape of 4 TB": array(shape=[2**40]),
    "a negative shape": array(shape=[-2]),
    "a shape that overflows": array(shape=[2**40, 2**40]), "offsets beyond the end": array(data_offsets=[0, 800]),
    "offsets backwards": array(data_offsets=[8, 0]), "offsets of 8 EB": array(data_offsets=[0, 2**63]),
    "offsets of text": array(data_offsets=["0", "8"]), "without our text": save(TENSORS), "one array alone": array(),
    "a pickle": pickle.dumps({"a": 1}), "torch's": saved(TENSORS), "an array of NumPy's": np.zeros(3).tobytes(),
}  # fmt: skip
CHANGED = {
    "a later format": (file({"format": "9", "foretrace_version": '"9.1"'}), "format 9. Use foretrace 9.1 or later"),
    "no format": (file({"format": "null"}), "format null"),
    "a format of text": (file({"format": '"3"'}), "format "),
    "no SHA-256": (file(sealed=False), "differs from its SHA-256"),
    "another unit": (file().replace(b'\\"m\\"', b'\\"k\\"'), "differs from its SHA-256"),
    "a name with a line end": (card(feature_names=["a\n\x1b[31m", "a\n\x1b[31m"]), "two columns of one name"),
    "no JSON": (file({"units": "m, rad"}), "Expecting value"),
    "deep": (file({"units": "[" * 50_000}), "recursion"),
    "names of numbers": (card(feature_names=[1, 2]), "valid string"),
    "no names": (card(feature_names=[]), "at least 1"),
    "names as a text": (card(feature_names="ab"), "valid tuple"),
    "a unit too few": (card(units=["m"]), "1 units for 2"),
    "a name too many": (card(feature_names=["a", "b", "c"], units=[]), "size mismatch"),
    "another input": (card(covariate_names=["a", "b"]), "size mismatch"),
    "a step of 0": (card(dt_s=0), "greater than 0"),
    "a step of NaN": (file({"dt_s": "NaN"}), "finite number"), "a digest of 5": (card(data_digest=5), "valid string"),
    "no network": (card(model=None), "valid dictionary or instance of Network"),
    "a network of text": (card(model="big"), "valid dictionary"),
    "too many units": (network(hidden_sizes=[2**18, 2**18]), "less than or equal to 65536"),
    "80 GB of units": (network(hidden_sizes=[2**16, 2**16]), "numbers, where the network takes 51,54"),
    "a million layers": (network(hidden_sizes=[1] * 1_000_000), "at most 100 items"),
    "units of text": (network(hidden_sizes=["many"]), "valid integer"),
    "no units": (network(hidden_sizes=[0]), "than 0"),
    "a target": (network(_target_="os.system"), "_target_"), "code": (network(output="eval('1')"), "'value', 'change'"),
    "another form": (network(output="change"), "Unexpected key"),
    "a clip of -1": (network(input_clip=-1), "greater than"),
    "an array missing": (file(tensors={"stack.head.bias": None}), "Missing key"),
    "an array too many": (file(tensors={"more": torch.zeros(3)}), "Unexpected key"),
    "an array of another shape": (file(tensors={WEIGHT: torch.zeros(3, 3)}), "numbers, where"),
    "double precision": (file(tensors={WEIGHT: TENSORS[WEIGHT].double()}), "is torch.float64"),
    "half precision": (file(tensors={WEIGHT: TENSORS[WEIGHT].half()}), "is torch.float16"),
    "whole numbers": (file(tensors={WEIGHT: TENSORS[WEIGHT].int()}), "is torch.int32"),
    "NaN": (file(tensors={WEIGHT: TENSORS[WEIGHT] * float("nan")}), "not finite"),
    "a scale of zero": (file(tensors={"scaling.scale": torch.zeros(2)}), "not positive"),
}  # fmt: skip


def put(folder, content: bytes, name: str = "model.safetensors"):
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_model_is_refused(tmp_path, case):
    assert "model file" in refused(put(tmp_path, FILES[case]))


@pytest.mark.parametrize("case", CHANGED)
def test_a_model_that_was_changed_is_refused(tmp_path, case):
    content, message = CHANGED[case]
    assert message in refused(put(tmp_path, content))


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "model.onnx", "model.pth", "model"])
def test_a_pickle_of_any_name_is_not_read(tmp_path, name):
    refused(put(tmp_path, pickle.dumps(Opens(tmp_path / "opened")), name))
    assert not (tmp_path / "opened").exists()


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    (tmp_path / "away.safetensors").symlink_to("/etc/passwd")
    (tmp_path / "folder.ckpt").mkdir()
    for path in [
        *tmp_path.iterdir(),
        "/dev/zero",
        tmp_path / ("x" * 300),
        tmp_path / "\0",
        "",
        "runs:/../../x",
    ]:
        refused(path)


def test_code_in_a_models_folder_is_not_run(tmp_path):
    folder, trap = tmp_path / "model", tmp_path / "ran"
    write_mlflow_model(folder, MODEL)
    evil = f"open({str(trap)!r}, 'w')\n"
    for path in [*folder.rglob("*.py"), folder / "__init__.py", folder / "conftest.py"]:
        path.write_text(evil)
    (folder / "MLmodel").write_text(f"flavors: !!python/object/apply:builtins.open [{str(trap)!r}, w]\n")
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Opens(trap)))
    assert foretrace.load(folder).card.feature_names == MODEL.card.feature_names
    assert not trap.exists()
    (folder / "artifacts" / "model.safetensors").unlink()
    assert "no model in the folder" in refused(folder)


def test_a_model_of_the_first_format_has_no_digest_and_is_read(tmp_path):
    texts = TEXTS | {"format": "1"}
    assert foretrace.load(put(tmp_path, save(TENSORS, texts))).predict(rows(9)).equals(MODEL.predict(rows(9)))


def test_model_of_version_0_1_0_is_read(tmp_path):
    texts = {
        key: value for key, value in TEXTS.items() if key not in ("covariate_names", "reading", "calibration")
    }
    texts |= {"format": "2", "known_names": TEXTS["covariate_names"]}
    tensors = {name.replace("covariate_scaling", "known_scaling"): tensor for name, tensor in TENSORS.items()}
    path = put(tmp_path, save(tensors, texts | {DIGEST: digest(texts, tensors)}))
    assert foretrace.load(path).predict(rows(9)).equals(MODEL.predict(rows(9)))


def test_reading_and_calibration_travel_with_the_model(tmp_path):
    card = MODEL.card.model_copy(update={"reading": {"missing": "drop"}})
    save_model(tmp_path / "model.safetensors", card, MODEL.model, CALIBRATED.calibration)
    found = foretrace.load(tmp_path)
    assert found.card.reading == card.reading
    assert found.calibration.facts() == CALIBRATED.calibration.facts()
    forecast = {"rows": rows(9), "horizon": 4, "future": [[1.0]] * 3, "intervals": [90, 50]}
    pd.testing.assert_frame_equal(found.predict(**forecast), CALIBRATED.predict(**forecast))


@given(place=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
@settings(deadline=None)
def test_no_flipped_bit_changes_a_forecast(tmp_path_factory, place, bit):
    content = bytearray(WHOLE)
    content[place] ^= 1 << bit
    path = put(tmp_path_factory.getbasetemp(), bytes(content))
    with suppress(UserError):
        found = foretrace.load(path)
        assert found.card == MODEL.card
        assert all(torch.equal(tensor, TENSORS[name]) for name, tensor in found.model.state_dict().items())

"""Checkpoints that are broken, hostile or of something else."""

import io
import math
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trained import Opens, checkpoint, refused, saved, with_pickle

import foretrace
from foretrace.errors import UserError
from foretrace.training.checkpoint_io import latest_valid_checkpoint, read_checkpoint
from foretrace.training.module import Forecaster

WHOLE = saved(checkpoint())
WEIGHT = "model.stack.lstm.0.weight_hh_l0"
PICKLE = zipfile.ZipFile(io.BytesIO(WHOLE)).read("archive/data.pkl")


def edited(change) -> bytes:
    content = checkpoint()
    change(content)
    return saved(content)


def weight(value, name: str = WEIGHT) -> bytes:
    return edited(lambda c: c["state_dict"].update({name: value(c["state_dict"][name])}))


def setting(group: str, name: str, value) -> bytes:
    return edited(lambda c: c["hyper_parameters"][group].update({name: value}))


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", PICKLE)
        archive.writestr("archive/data/0", bytes(2**28))
    return file.getvalue()


def with_member(name: str) -> bytes:
    file = io.BytesIO(WHOLE)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(name, PICKLE)
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3))
    return file.getvalue()


def flipped(content: bytes, place: int, bit: int = 0) -> bytes:
    changed = bytearray(content)
    changed[place % len(content)] ^= 1 << bit
    return bytes(changed)


FILES = {
    "nothing": b"", "text": b"epoch: 3\n", "noise": bytes(range(256)) * 40, "half": WHOLE[: len(WHOLE) // 2],
    "all but a byte": WHOLE[:-1], "without its start": WHOLE[100:], "an empty archive": b"PK\x05\x06" + bytes(18),
    "arrays": npz(), "the same twice": with_member("other/data.pkl"), "compressed": bomb(),
    "TorchScript's": with_member("archive/constants.pkl"),
    "a pickle alone": pickle.dumps(checkpoint()["hyper_parameters"]),
    "of an old torch": saved(checkpoint(), _use_new_zipfile_serialization=False),
    "a flipped bit in a weight": flipped(WHOLE, WHOLE.index(checkpoint()["state_dict"][WEIGHT].numpy().tobytes()), 6),
}  # fmt: skip
BIG = b"\x8a\x08" + struct.pack("<q", 2**33)
PICKLES = {
    "a command": b"cos\nsystem\n(S'touch TRAP'\ntR.", "an instance": b"(ios\nsystem\n.",
    "eval": b"\x80\x02cbuiltins\neval\nX\x0a\x00\x00\x00open('x')\x0a\x85R.",
    "a name from the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "8 GB": b"\x80\x02cbuiltins\nbytearray\n" + BIG + b"\x85R.", "torch's own loader": b"ctorch\nload\n)R.",
    "8 GB of Python 2": b"\x80\x02c__builtin__\nbytearray\n" + BIG + b"\x85R.",
    "a hub": b"\x80\x02ctorch.hub\nload\nX\x01\x00\x00\x00a\x85R.", "nothing": b"", "no end": b"\x80\x02",
    "a number for a storage": b"\x80\x02K\x05Q.", "an empty stack": b"\x80\x02R.", "a truth": b"\x80\x02\x88.",
    "a length beyond the end": b"X\xff\xff\xff\x7fab.", "many marks": b"(" * 100_000 + b".",
    "many lists": b"]" * 100_000 + b"a" * 99_999 + b".",
}  # fmt: skip
CONTENTS = {
    "no settings": (edited(lambda c: c.pop("hyper_parameters")), "it has no hyper_parameters"),
    "no weights": (edited(lambda c: c.pop("state_dict")), "it has no state_dict"),
    "no features": (edited(lambda c: c["hyper_parameters"].pop("features")), "features"),
    "settings of text": (edited(lambda c: c["hyper_parameters"].update(model="big")), "model"),
    "a weight missing": (edited(lambda c: c["state_dict"].pop(WEIGHT)), "numbers, where the network takes"),
    "a weight too many": (edited(lambda c: c["state_dict"].update({"model.more": torch.zeros(2)})), "more"),
    "a weight of text": (weight(lambda _: "big"), "is str"),
    "another shape": (weight(lambda w: w[:-1].clone()), "size mismatch"),
    "double": (weight(torch.Tensor.double), "is torch.float64"),
    "NaN": (weight(lambda w: w * math.nan), "not finite"),
    "an array of 4 TB": (weight(lambda _: torch.zeros(1).expand(2**40)), "not an array"),
    "a scale of zero": (weight(lambda s: s * 0, "model.scaling.scale"), "not positive"),
    "a network of 1 TB": (setting("model", "hidden_sizes", [2**16, 2**16]), "numbers, where the network takes"),
    "a million layers": (setting("model", "hidden_sizes", [1] * 1_000_000), "at most 100 items"),
    "a target": (setting("model", "_target_", "os.system"), "_target_"),
    "a clip of NaN": (setting("model", "input_clip", math.nan), "finite number"),
    "one feature more": (setting("features", "names", ["a", "b", "c"]), "2 units for 3 features"),
    "a feature twice": (setting("features", "names", ["a", "a"]), "two columns of one name"),
    "a step backwards": (setting("features", "dt_s", -0.1), "greater than 0"),
    "a name that colours": (setting("features", "names", ["\x1b[31m\n", "\x1b[31m\n"]), "two columns"),
}  # fmt: skip


def put(folder, content: bytes):
    path = folder / "best.ckpt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, case):
    said = refused(put(tmp_path, FILES[case]))
    assert "no checkpoint that can be read" in said or "holds more than plain data" in said
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


@pytest.mark.parametrize("case", PICKLES)
def test_a_pickle_runs_nothing(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    refused(put(tmp_path, with_pickle(PICKLES[case], WHOLE)))
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


@pytest.mark.parametrize("case", CONTENTS)
def test_a_content_that_is_no_model_is_named(tmp_path, case):
    content, message = CONTENTS[case]
    assert message in refused(put(tmp_path, content))


def test_an_object_in_a_checkpoint_is_not_made(tmp_path):
    trap = tmp_path / "opened"
    assert "holds more than plain data" in refused(
        put(tmp_path, edited(lambda c: c.update(more=Opens(trap))))
    )
    assert not trap.exists()


def test_a_whole_checkpoint_is_read(tmp_path):
    assert foretrace.load(put(tmp_path, WHOLE)).units == ("m", "rad")


@pytest.mark.parametrize("case", ["half", "a flipped bit in a weight", "nothing", "of an old torch"])
def test_a_broken_checkpoint_is_not_resumed(tmp_path, case):
    (tmp_path / "last.ckpt").write_bytes(FILES[case])
    with pytest.raises(UserError, match=r"no checkpoint is whole: .*last\.ckpt: "):
        latest_valid_checkpoint(tmp_path)


def test_a_checkpoint_of_another_format_names_the_version_that_can_resume_it(tmp_path):
    older = checkpoint() | {"foretrace": {"format": 1, "version": "0.0.9"}}
    (tmp_path / "last.ckpt").write_bytes(saved(older))
    with pytest.raises(UserError, match=r"format 1, .* foretrace 0\.0\.9 can resume it"):
        latest_valid_checkpoint(tmp_path)


def test_a_checkpoint_of_version_0_1_0_is_read_by_today_s_names(tmp_path):
    older = checkpoint()
    older["hyper_parameters"]["features"]["known"] = older["hyper_parameters"]["features"].pop("covariates")
    older["hyper_parameters"]["loss"] = {"units": "scaled", "input_noise": 0.0, "open_loop": None}
    older["state_dict"] = {
        name.replace("covariate_scaling", "known_scaling"): tensor
        for name, tensor in older["state_dict"].items()
    }
    found = read_checkpoint(put(tmp_path, saved(older)))
    rebuilt = Forecaster(**found["hyper_parameters"])
    rebuilt.load_state_dict(found["state_dict"])
    assert rebuilt.hparams["features"]["covariates"] == ["push"]


@given(place=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
@settings(deadline=None)
def test_no_flipped_bit_changes_a_weight(tmp_path_factory, place, bit):
    path = put(tmp_path_factory.getbasetemp(), flipped(WHOLE, place, bit))
    try:
        found = read_checkpoint(path)["state_dict"]
    except UserError:
        return
    assert all(torch.equal(found[name], tensor) for name, tensor in checkpoint()["state_dict"].items())

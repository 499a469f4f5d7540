"""What is fuzzed, and from which inputs on; see fuzz.py."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus import read_or_refused, readable
from hydra import compose, initialize_config_dir

from foretrace.commands import cli
from foretrace.config import TrainConfig
from foretrace.config.parse import parse
from foretrace.config.run_config import check_overrides, read_json, read_run_config
from foretrace.errors import UserError, is_plain
from foretrace.serving.loading import load_path
from foretrace.serving.model_file import FORMAT, ModelCard, save_model
from foretrace.training.optimizers import check_optimizer

CONF = Path(__file__).parents[2] / "conf"
sys.path.insert(0, str(Path(__file__).parents[1]))
# A table's first byte chooses one.
WAYS: list[dict[str, Any]] = [
    {}, {"order_column": "t"}, {"episode_column": "e"}, {"missing": "interpolate", "missing_limit": 2},
    {"order_column": "t", "episode_column": "e", "missing": "drop", "covariates": ["x"]}, {"features": ["x", "a", "b"]},
]  # fmt: skip
TABLES = [
    "0a,b\n1,2\n3,4\n5,6\n", "0a;b\n1,5;2\n3;4,25\n", '0a|"b, c"\r\n1|2\r\n3|4\r\n', "3a,b\n1,\n,4\n5,NA\n7,8\n",
    "1t,x\n2024-01-01T00:00:00Z,1\n2024-01-01T00:00:01Z,2\n2024-01-01T00:00:03Z,3\n",
    "4t,e,x,a\n1.5,p,1,4\n2,p,2,5\n1,q,3,6\n3,q,4,7\n", "0a,b\n1e30,-1e-30\n3e30,2e-30\n0,5e-30\n",
    "2e,x\n007,1\n007,2\n8,3\n8,4\n",
]  # fmt: skip
NETWORKS = [{"hidden_sizes": [3]}, {"hidden_sizes": [2, 3], "output": "linear", "input_clip": 5.0}]
LARGEST_SEED = 20_000  # bytes: more only takes time
RECORD = (
    "seed: 1\ndata: {source: files, path: '*.csv', features: [a]}\ntrainer: {max_epochs: 5}\nloss: null\n"
)


@dataclass(frozen=True)
class Target:
    """Inputs to begin with, and what reads one; it may write into the working directory."""

    seeds: Callable[[], Iterator[bytes]]
    read: Callable[[bytes], None]


def table(suffix: str) -> Callable[[bytes], None]:
    """Reads a file as for a training run."""
    file = Path(f"run{suffix}")

    def read(content: bytes) -> None:
        way = WAYS[(content[0] - ord("0")) % len(WAYS)] if content else {}
        file.write_bytes(content[1:])
        read_or_refused(file, **way)

    return read


def model(suffix: str) -> Callable[[bytes], None]:
    """Loads a file, and has a model that could be loaded make a forecast."""
    file = Path(f"model{suffix}")

    def read(content: bytes) -> None:
        file.write_bytes(content)
        try:
            found = load_path(file)
        except UserError as error:
            readable(error)
            return
        future = np.zeros((1, len(found.covariate_names)))
        forecast = found.predict(
            np.zeros((2, len(found.columns))), 2, future if found.covariate_names else None
        )
        assert forecast.shape == (2, len(found.feature_names))

    return read


def words(content: bytes) -> list[str]:
    """A command line, as the operating system hands it over: a word on each line of the input."""
    return [word.replace("\0", "") for word in content.decode(errors="surrogateescape").split("\n")]


def command(content: bytes) -> None:
    """Composes and checks settings as the command does: status 0, or 2 and one line."""

    def main() -> None:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = compose("train", overrides=sys.argv[1:])
        with cli.input_errors():
            check_optimizer(parse(composed, TrainConfig))

    sys.argv, errors, status = ["train.py", *words(content)], io.StringIO(), 0
    with redirect_stdout(io.StringIO()), redirect_stderr(errors):
        try:
            status = cli.call(main)
        except SystemExit as ended:
            status = ended.code
    said = errors.getvalue()
    assert status in (0, None) or (status == 2 and said.startswith("error: ")), said
    assert said.count("\n") <= 1, said
    assert all(map(is_plain, said.removesuffix("\n"))), said


def record(content: bytes) -> None:
    """Takes it for the settings, the jobs and the overrides of a run's record."""
    file = Path("record")
    file.write_bytes(content)
    for read in (
        lambda: parse(read_run_config(file, key="rerun"), TrainConfig),
        lambda: read_json(file, key="sweep.resume"),
        lambda: check_overrides(words(content), key="sweep.resume"),
    ):
        try:
            read()
        except UserError as error:
            readable(error)


def tables() -> Iterator[bytes]:
    """Small ones of each kind, and those of the tests."""
    from test_csv import REFUSED

    yield from (text.encode() for text in TABLES)
    for content, _ in REFUSED.values():
        if len(content) < LARGEST_SEED:
            yield b"0" + (content if isinstance(content, bytes) else content.encode())


def arrays() -> Iterator[bytes]:
    """Those of the tests, and two that are read where they lie."""
    from test_arrays import ARRAYS, BROKEN, GOOD, npy

    for array in (
        np.ones((4, 2), np.float32),
        np.ones((2, 3, 2), np.float32),
        np.ones(4, ">i2"),
        *ARRAYS.values(),
    ):
        if array.nbytes < LARGEST_SEED:
            yield b"0" + npy(array)
    yield from (b"0" + content for content in (GOOD, *BROKEN.values()))


def archives() -> Iterator[bytes]:
    """Those of the tests."""
    from test_arrays import ARCHIVES, GOOD, archive, npy

    short = npy(np.arange(6.0).reshape(3, 2))
    yield from (b"0" + archive(("a.npy", one), ("b.npy", one)) for one in (short, GOOD))
    yield from (b"0" + content for content, _ in ARCHIVES.values())


def parquets() -> Iterator[bytes]:
    """One with each column of the tests."""
    from pyarrow import BufferOutputStream, parquet
    from pyarrow import table as of_columns
    from test_parquet import COLUMNS, X

    for column, *_ in COLUMNS.values():
        for way in (b"0", b"1"):
            stream = BufferOutputStream()
            checksums = way == b"1"
            parquet.write_table(of_columns([X, column], ["x", "t"]), stream, write_page_checksum=checksums)
            yield way + stream.getvalue().to_pybytes()


def cards() -> Iterator[ModelCard]:
    """Two models, without and with covariates."""
    for network, covariates in zip(NETWORKS, ([], ["u"]), strict=True):
        yield ModelCard(feature_names=["a", "b"], units=["m", ""], covariate_names=covariates, dt_s=0.1,
                   data_digest="0", model=network | {"frozen": [], "dropout": 0.0}, format=1)  # fmt: skip


def models() -> Iterator[bytes]:
    """In the format whose SHA-256 is not compared, so that a mutation comes further, and in today's."""
    for card in cards():
        for version in (1, FORMAT):
            save_model(Path("seed"), card.model_copy(update={"format": version}), card.build())
            yield Path("seed").read_bytes()


def checkpoints() -> Iterator[bytes]:
    """As a training's are, but for the optimiser."""
    for card in cards():
        features = {
            "names": card.feature_names,
            "units": card.units,
            "covariates": card.covariate_names,
            "dt_s": 0.1,
        }
        features |= {"digest": "0"}
        state = {f"model.{name}": tensor for name, tensor in card.build().state_dict().items()}
        held = {
            "state_dict": state,
            "hyper_parameters": {"features": features, "model": card.model.model_dump()},
        }
        file = io.BytesIO()
        torch.save(held | {"global_step": 5, "epoch": 1, "loops": {}, "lr_schedulers": []}, file)
        yield file.getvalue()


def commands() -> Iterator[bytes]:
    """Those of the tests."""
    from test_settings import LINES

    yield from ("\n".join(line[1:]).encode() for line in LINES if line[0] == "train")


def records() -> Iterator[bytes]:
    """Of a run and of a sweep."""
    yield RECORD.encode()
    yield b"a: &x [1, *x]\nb: !!python/object/apply:os.system [id]\nc: ${oc.env:HOME}\n"
    yield json.dumps({"jobs": [["seed=1", "+optimizer.betas=[0.8,0.9]"]], "n": 1e400}).encode()
    yield b"data=files\n~loss\n+a.b=c\nhydra.run.dir=/\n"


TARGETS = {
    "csv": Target(tables, table(".csv")),
    "npy": Target(arrays, table(".npy")),
    "npz": Target(archives, table(".npz")),
    "parquet": Target(parquets, table(".parquet")),
    "model": Target(models, model(".safetensors")),
    "checkpoint": Target(checkpoints, model(".ckpt")),
    "command": Target(commands, command),
    "record": Target(records, record),
}

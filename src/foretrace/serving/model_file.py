"""A trained model on disk: one file with weights, scaling and what the numbers mean, and MLflow's folder around it.

The format is safetensors, which holds arrays and text and can run nothing. Neither data nor settings are needed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from foretrace.config import Network
from foretrace.data.sequences import Sequences
from foretrace.data.tables.steps import SAME_STEP
from foretrace.errors import UserError, sanitize
from foretrace.evaluation.calibration import Calibration
from foretrace.model.next_step import NextStepModel
from foretrace.training.checkpoint_io import upgrade_names
from foretrace.workspace import atomic_write

if TYPE_CHECKING:
    from foretrace.serving.predictor import Predictor

FORMAT = 3  # to be raised when older versions cannot read it any more
READABLE = ("1", "2", "3")  # 1 has no digest; in 1 and 2, covariates were called known inputs
DIGEST = "sha256"  # of everything else in the file
MODEL, FILE = "model", "model.safetensors"  # MLflow's folder among a run's artifacts, and our file within
CODE = Path(__file__).with_name("mlflow_model.py")
# What it takes to run it, beside foretrace itself, which is in no registry: it has to be installed.
LIBRARIES = ("mlflow", "numpy", "pandas", "pydantic", "safetensors", "torch")
EXAMPLE_ROWS = 3
CALIBRATION = "calibration."  # prefix of the arrays that say how wrong forecasts may be
UNUSABLE = (ValueError, TypeError, KeyError, RuntimeError)  # what cards and weights of unknown origin come to


class ModelCard(BaseModel):
    """What a model's numbers mean: beside the weights, everything that it takes to use it.

    >>> card = ModelCard(
    ...     feature_names=["height"], units=["m"], covariate_names=[], dt_s=0.01, data_digest="",
    ...     model={"hidden_sizes": [4]},
    ... )
    >>> ModelCard.from_texts(card.texts()) == card
    True
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    # Read and forecast, in the order of the columns.
    feature_names: Annotated[tuple[str, ...], Field(min_length=1)]
    units: tuple[str, ...]  # one per feature; empty where unknown
    covariate_names: tuple[str, ...]  # read but not forecast, in the columns after the features
    dt_s: PositiveFloat | None  # from one row to the next in seconds; None where unknown
    data_digest: str  # SHA-256 of the training data
    model: Network
    reading: dict[str, Any] = {}  # how files become rows, in plain JSON: categories, time, missing values …
    calibration: dict[str, Any] = {}  # what the calibration's arrays mean, in plain JSON
    run_id: str | None = None  # the run that trained it
    foretrace_version: str = metadata.version("foretrace")  # of the code that wrote the card
    format: int = FORMAT

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read: features, then covariates."""
        return self.feature_names + self.covariate_names

    def check_columns(self, sequences: Sequences) -> None:
        """Check that recordings have the model's columns, and mean by them what they meant in training.

        Raises:
            UserError: If a name, the time step or a feature's unit is another.
        """
        for what, ours, theirs in (
            ("features", self.feature_names, sequences.feature_names),
            ("covariates", self.covariate_names, sequences.covariate_names),
        ):
            if ours != tuple(theirs):
                names = [", ".join(names) or "none" for names in (theirs, ours)]
                raise UserError(f"data: the {what} are {names[0]}, where the model was trained on {names[1]}")
        self.check_units(sequences)

    def check_units(self, sequences: Sequences) -> None:
        """Check that a step and a number mean in recordings what they meant in training, as far as both are known.

        Raises:
            UserError: If the time step or a feature's unit is another.
        """
        ours, theirs, origin = self.dt_s, sequences.dt_s, sequences.origin
        if ours is not None and theirs is not None and abs(theirs - ours) > SAME_STEP * ours:
            told = f"a time step of {theirs:g} s, where the model was trained on steps of {ours:g} s"
            raise UserError(f"{origin}: {told}", hint="Resample the rows")
        for name, unit, other in zip(self.feature_names, self.units, sequences.units, strict=False):
            if unit and other and unit != other:
                told = f"{name} is in {other}, where the model was trained on {unit}"
                raise UserError(f"{origin}: {told}", hint="Convert it first")

    @model_validator(mode="after")
    def _names_agree(self) -> "ModelCard":
        if len(self.units) not in (0, len(self.feature_names)):
            raise ValueError(f"{len(self.units)} units for {len(self.feature_names)} features")
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("two columns of one name")
        return self

    @classmethod
    def from_training(cls, features: dict[str, Any], model: dict[str, Any]) -> "ModelCard":
        """Return the card for what a checkpoint holds, see `foretrace.training.module.Forecaster`."""
        given = {
            "feature_names": features["names"],
            "units": features["units"],
            "covariate_names": features["covariates"],
            "dt_s": features["dt_s"],
            "data_digest": features["digest"],
            "reading": features.get("reading") or {},
        }
        return cls.model_validate({**given, "model": model})

    def texts(self) -> dict[str, str]:
        """Return each field as JSON, which files of weights can hold."""
        return {key: json.dumps(value) for key, value in self.model_dump(mode="json").items()}

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> "ModelCard":
        """Return the card that `texts` was made from; other keys are ignored.

        Raises:
            ValueError: If something is missing or of the wrong kind.
        """
        known = {"covariate_names": texts["known_names"]} if "known_names" in texts else {}
        given = {**known, **texts}
        return cls.model_validate({key: json.loads(given[key]) for key in cls.model_fields if key in given})

    def build(self, weights: Mapping[str, Any] | None = None) -> NextStepModel:
        """Return the network in evaluation mode; leaves torch's random numbers as they are.

        Args:
            weights: Of unknown origin: no memory is taken for what they do not hold. None: random ones.

        Raises:
            ValueError: If a weight is no array of finite float32, or there are too few.
            RuntimeError: If the weights are those of another network.
        """
        features, outputs = len(self.feature_names), 0
        if weights is not None:
            self._check(weights)
            outputs = len(weights.get("stack.head.bias", ()))
        with torch.random.fork_rng(devices=[]):
            model = NextStepModel(
                num_features=features,
                spread=outputs == 2 * features,  # of a Gaussian loss
                num_covariates=len(self.covariate_names),
                **self.model.model_dump(exclude={"frozen"}),
            )
        if weights is not None:
            model.load_state_dict(weights)
        if not (model.scaling.scale > 0).all() or not (model.covariate_scaling.scale > 0).all():
            raise ValueError("a scale that is not positive")
        return model.eval()

    def _check(self, weights: Mapping[str, Any]) -> None:
        for name, tensor in weights.items():
            kind = f"{tensor.dtype}" if isinstance(tensor, Tensor) else type(tensor).__name__
            if kind != "torch.float32" or not tensor.is_contiguous() or tensor.is_meta:
                raise ValueError(f"{name} is {kind}, not an array of float32")
            if not tensor.isfinite().all():
                raise ValueError(f"{name} has values that are not finite")
        columns, features, sizes = len(self.columns), len(self.feature_names), self.model.hidden_sizes
        taken = sum(4 * width * (below + width) for below, width in pairwise([columns, *sizes]))
        taken += features * (sizes[-1] + columns * (self.model.output == "linear"))
        if (held := sum(tensor.numel() for tensor in weights.values())) < taken:
            raise ValueError(f"{held:,} numbers, where the network takes {taken:,} and more")


def save_model(
    path: Path, card: ModelCard, model: NextStepModel, calibration: Calibration | None = None
) -> None:
    """Write the file, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    for name, array in (calibration.arrays() if calibration else {}).items():
        tensors[CALIBRATION + name] = torch.from_numpy(np.ascontiguousarray(array))
    texts = card.model_copy(update={"calibration": calibration.facts() if calibration else {}}).texts()
    with atomic_write(path) as aside:  # safetensors' own save_file would leave it to its owner alone
        aside.write_bytes(save(tensors, texts | {DIGEST: digest(texts, tensors)}))


def write_mlflow_model(folder: Path, predictor: "Predictor") -> None:
    """Write an MLflow model whose code is one file of ours and whose weights are the model file: no pickle.

    The folder is made; what it held before is replaced at the end.
    """
    os.environ.setdefault(
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"
    )  # for the two files that are copied
    import mlflow.pyfunc  # takes seconds, and is not needed where a model is read
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    card, model = predictor.card, predictor.model
    signature = ModelSignature(
        inputs=Schema([ColSpec("double", name) for name in card.columns]),
        outputs=Schema([ColSpec("float", name) for name in card.feature_names]),
        params=ParamSchema([ParamSpec("horizon", "long", 1), ParamSpec("intervals", "double", [], (-1,))]),
    )
    means = [scaling.mean.cpu().numpy() for scaling in (model.scaling, model.covariate_scaling)]
    values = np.tile(np.concatenate(means).astype(np.float64), (EXAMPLE_ROWS, 1))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".model-") as aside:
        save_model(Path(aside) / FILE, card, model, predictor.calibration)
        mlflow.pyfunc.save_model(
            Path(aside) / MODEL,
            python_model=str(CODE),
            artifacts={"model": str(Path(aside) / FILE)},
            signature=signature,
            input_example=pd.DataFrame(values, columns=list(card.columns)),
            pip_requirements=[f"{name}=={metadata.version(name).partition('+')[0]}" for name in LIBRARIES],
        )
        shutil.rmtree(folder, ignore_errors=True)
        (Path(aside) / MODEL).replace(folder)


def read_model(path: Path) -> tuple[ModelCard, NextStepModel, Calibration | None]:
    """Read the file.

    Returns:
        The card, the model in evaluation mode on the CPU, and its calibration, where there is one.

    Raises:
        UserError: If it is something else, damaged, or of a later format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        written, sealed = texts.get("format", "none"), texts.pop(DIGEST, None)
        if written not in READABLE:
            version = texts.get("foretrace_version", "").strip('"')
            hint = f"Use foretrace {version} or later." if version else ""
            raise UserError(f"{path}: no model file that this version reads, format {written}", hint=hint)
        if written != "1" and sealed != digest(texts, tensors):
            hint = "Copy it from the run again, or export it anew."
            raise UserError(f"{path}: a damaged model file, which differs from its SHA-256", hint=hint)
        names = [name for name in tensors if name.startswith(CALIBRATION)]
        arrays = {name.removeprefix(CALIBRATION): tensors.pop(name).numpy() for name in names}
        card = ModelCard.from_texts(texts)
        calibration = Calibration.from_parts(card.calibration, arrays)
        model = card.build(upgrade_names(tensors))
        if calibration and calibration.exponent is not None and not model.stack.spread:
            raise ValueError("a calibration by a spread that the model does not give")
        return card, model, calibration
    except UserError:
        raise
    except (OSError, SafetensorError, *UNUSABLE) as error:
        raise UserError(f"{path}: no model file of foretrace ({reason(error)})") from error


def digest(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of everything such a file says: nothing is forecast with a bit lost on a disk."""
    found = hashlib.sha256(json.dumps(sorted(texts.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def reason(error: Exception) -> str:
    """Return why a file is no model, in one line."""
    if isinstance(error, ValidationError):
        detail = error.errors()[0]
        return f"{'.'.join(map(str, detail['loc'])) or 'card'}: {detail['msg']}"
    return sanitize(str(error)) or type(error).__name__

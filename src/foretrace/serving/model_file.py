"""A trained model as one file: weights, scaling, and what the numbers mean.

The format is safetensors, which holds arrays and text and can run nothing. Neither data nor settings are needed.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from foretrace.config import Fraction
from foretrace.errors import InputError
from foretrace.model.next_step import NextStepModel
from foretrace.training.checkpoint_io import check_weights
from foretrace.workspace import atomic_write

FORMAT = 2  # to be raised when older versions cannot read it any more
WITHOUT_DIGEST = 1  # of the formats that can be read
DIGEST = "sha256"  # of all else in the file
A_MODEL = "a model file of foretrace"


class Network(BaseModel):
    """Settings of the network, as a file has them; see `NextStepModel`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    hidden_sizes: Annotated[list[PositiveInt], Field(min_length=1)]
    dropout: Fraction = 0.0
    output: Literal["value", "change", "linear"] = "value"
    input_clip: PositiveFloat | None = None
    frozen: list[str] = []


class ModelCard(BaseModel):
    """What a model's numbers mean; beside the weights, all that it takes to use it.

    Args:
        feature_names: What is read and forecast, in the order of the columns.
        units: One per feature; empty where unknown.
        covariate_names: What is read but not forecast, in the columns after the features.
        dt_s: Time from one row to the next in seconds; None where unknown.
        data_digest: SHA-256 of the training data.
        model: Settings of the network.
        run_id: The run that trained it.
        foretrace_version: Of the code that wrote the card.
        format: Of the file.

    >>> card = ModelCard(feature_names=["height"], units=["m"], covariate_names=[], dt_s=0.01, data_digest="", model={})
    >>> ModelCard.of_texts(card.texts()) == card
    True
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    feature_names: Annotated[tuple[str, ...], Field(min_length=1)]
    units: tuple[str, ...]
    covariate_names: tuple[str, ...]
    dt_s: PositiveFloat | None
    data_digest: str
    model: dict[str, Any]
    run_id: str | None = None
    foretrace_version: str = metadata.version("foretrace")
    format: int = FORMAT

    @model_validator(mode="after")
    def _names_agree(self) -> "ModelCard":
        if len(self.units) not in (0, len(self.feature_names)):
            raise ValueError(f"{len(self.units)} units for {len(self.feature_names)} features")
        if len(set(self.feature_names + self.covariate_names)) < len(
            self.feature_names + self.covariate_names
        ):
            raise ValueError("two columns of one name")
        return self

    @classmethod
    def of_training(
        cls, features: dict[str, Any], model: dict[str, Any], *, run_id: str | None = None
    ) -> "ModelCard":
        """From what a checkpoint holds, see `foretrace.training.forecaster.Forecaster`."""
        return cls(
            feature_names=features["names"],
            units=features["units"],
            covariate_names=features["covariates"],
            dt_s=features["dt_s"],
            data_digest=features["digest"],
            model=model,
            run_id=run_id,
        )

    def texts(self) -> dict[str, str]:
        """Each field as JSON: what files of weights can hold."""
        return {key: json.dumps(value) for key, value in self.model_dump(mode="json").items()}

    @classmethod
    def of_texts(cls, texts: dict[str, str]) -> "ModelCard":
        """The inverse; other keys are passed over.

        Raises:
            ValueError: If something is missing or of the wrong kind.
        """
        return cls.model_validate({key: json.loads(texts[key]) for key in cls.model_fields if key in texts})

    def build(self) -> NextStepModel:
        """The network, with weights of no meaning yet; leaves torch's random numbers as they are.

        Raises:
            ValueError: If its settings are none.
        """
        network = Network.model_validate(self.model).model_dump(exclude={"frozen"})
        with torch.random.fork_rng(devices=[]):
            return NextStepModel(
                num_features=len(self.feature_names), num_covariates=len(self.covariate_names), **network
            )

    def build_with(self, weights: Mapping[str, Any]) -> NextStepModel:
        """The network with weights of unknown origin, in evaluation mode; takes no more memory than they do.

        Raises:
            ValueError: If they are not this network's, or not finite.
        """
        sizes = Network.model_validate(self.model).hidden_sizes
        check_weights(weights, hidden_sizes=sizes, num_features=len(self.feature_names))
        model = self.build()
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        if not (model.scaling.scale > 0).all() or not (model.covariate_scaling.scale > 0).all():
            raise ValueError("a scale that is not positive")
        return model.eval()


def save_model(path: Path, card: ModelCard, model: NextStepModel) -> None:
    """Writes the file, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    texts = card.texts()
    with atomic_write(path) as aside:  # save_file would leave it to its owner alone
        aside.write_bytes(save(tensors, texts | {DIGEST: _digest(texts, tensors)}))


def read_model(path: Path) -> tuple[ModelCard, NextStepModel]:
    """Reads the file; the model is in evaluation mode, on the CPU.

    Raises:
        InputError: If it is something else, damaged, or of a later format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(str(path), expected=A_MODEL, received=reason(error)) from error
    written, digest = texts.get("format", "none"), texts.pop(DIGEST, None)
    if written not in (str(FORMAT), str(WITHOUT_DIGEST)):
        by = texts.get("foretrace_version", "").strip('"')
        remedy = f"Use foretrace {by} or later." if by else ""
        expected = f"{A_MODEL}, format {FORMAT}"
        raise InputError(str(path), expected=expected, received=f"format {written}", remedy=remedy)
    if written != str(WITHOUT_DIGEST) and digest != _digest(texts, tensors):
        remedy = "Take it from the run again, or export it anew."
        received = "one that differs from its SHA-256"
        raise InputError(str(path), expected=A_MODEL, received=received, remedy=remedy)
    try:
        card = ModelCard.of_texts(texts)
        return card, card.build_with(tensors)
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), expected=A_MODEL, received=reason(error)) from error


def _digest(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of all that such a file says: a bit that was lost on a disk is not to forecast."""
    digest = hashlib.sha256(json.dumps(sorted(texts.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def reason(error: Exception) -> str:
    """Why a file is no model, in one line."""
    if isinstance(error, ValidationError):
        detail = error.errors()[0]
        return f"{'.'.join(map(str, detail['loc'])) or 'card'}: {detail['msg']}"
    return " ".join(str(error).split())[:300] or type(error).__name__

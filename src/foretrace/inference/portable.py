"""A trained model as one file: weights, scaling, and what the numbers mean.

The format is safetensors, which holds arrays and text and can run nothing. Neither data nor settings are needed.
"""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from foretrace.errors import InputError
from foretrace.model.next_step import NextStepModel
from foretrace.whole import whole_file

FORMAT = 1  # to be raised when older versions cannot read it any more
A_MODEL = "a model file of foretrace"


class Card(BaseModel):
    """What a model's numbers mean; beside the weights, all that it takes to use it.

    Args:
        feature_names: What is read and forecast, in the order of the columns.
        units: One per feature; empty where unknown.
        known_names: What is read but not forecast, in the columns after the features.
        dt_s: Time from one row to the next in seconds; None where unknown.
        data_digest: SHA-256 of the training data.
        model: Settings of the network.
        run_id: The run that trained it.
        foretrace_version: Of the code that wrote the card.
        format: Of the file.

    >>> card = Card(feature_names=["height"], units=["m"], known_names=[], dt_s=0.01, data_digest="", model={})
    >>> Card.of_texts(card.texts()) == card
    True
    """

    model_config = ConfigDict(frozen=True)

    feature_names: tuple[str, ...]
    units: tuple[str, ...]
    known_names: tuple[str, ...]
    dt_s: float | None
    data_digest: str
    model: dict[str, Any]
    run_id: str | None = None
    foretrace_version: str = metadata.version("foretrace")
    format: int = FORMAT

    @classmethod
    def of_training(
        cls, features: dict[str, Any], model: dict[str, Any], *, run_id: str | None = None
    ) -> "Card":
        """From what a checkpoint holds, see `foretrace.forecaster.Forecaster`."""
        return cls(
            feature_names=features["names"],
            units=features["units"],
            known_names=features["known"],
            dt_s=features["dt_s"],
            data_digest=features["digest"],
            model=model,
            run_id=run_id,
        )

    def texts(self) -> dict[str, str]:
        """Each field as JSON: what files of weights can hold."""
        return {key: json.dumps(value) for key, value in self.model_dump(mode="json").items()}

    @classmethod
    def of_texts(cls, texts: dict[str, str]) -> "Card":
        """The inverse; other keys are passed over.

        Raises:
            ValueError: If something is missing or of the wrong kind.
        """
        return cls.model_validate({key: json.loads(texts[key]) for key in cls.model_fields if key in texts})

    def build(self) -> NextStepModel:
        """The network, with weights of no meaning yet; leaves torch's random numbers as they are."""
        network = {key: value for key, value in self.model.items() if key != "frozen"}
        with torch.random.fork_rng(devices=[]):
            return NextStepModel(
                num_features=len(self.feature_names), num_known=len(self.known_names), **network
            )


def save_model(path: Path, card: Card, model: NextStepModel) -> None:
    """Writes the file, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with whole_file(path) as aside:
        aside.write_bytes(save(tensors, card.texts()))  # save_file would leave it to its owner alone


def read_model(path: Path) -> tuple[Card, NextStepModel]:
    """Reads the file; the model is in evaluation mode, on the CPU.

    Raises:
        InputError: If it is something else, damaged, or of a later format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(str(path), expected=A_MODEL, received=_reason(error)) from error
    written = texts.get("format", "none")
    if written != str(FORMAT):
        by = texts.get("foretrace_version", "").strip('"')
        remedy = f"Use foretrace {by} or later." if by else ""
        raise InputError(
            str(path), expected=f"{A_MODEL}, format {FORMAT}", received=f"format {written}", remedy=remedy
        )
    try:
        card = Card.of_texts(texts)
        model = card.build()
        model.load_state_dict(tensors)
    except (ValueError, ValidationError, TypeError, RuntimeError) as error:
        raise InputError(str(path), expected=A_MODEL, received=_reason(error)) from error
    return card, model.eval()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

"""Training that begins from a model: the weights of layers that fit, with features matched by name.

Shapes: F features, K covariates, C = F + K columns, H hidden units of a layer.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from foretrace.config import Model
from foretrace.data.sequences import Sequences
from foretrace.errors import UserError
from foretrace.model.next_step import NextStepModel
from foretrace.serving.loading import load, load_run
from foretrace.serving.model_file import ModelCard, Network
from foretrace.serving.predictor import Predictor
from foretrace.tracking.run import TrackedRun
from foretrace.workspace import Workspace

FAR = 10.0  # times the ancestor's standard deviation, or standard deviations from its mean


class Ancestor(NamedTuple):
    """A model to begin from, and which of its layers fit the new network."""

    name: str  # the id of its run, or where it was read
    predictor: Predictor
    card: ModelCard  # of the new network
    unfit: dict[str, str]  # for each layer of the new network, why it begins anew; empty where it does not
    keep_scaling: bool

    def initialize(self, model: NextStepModel) -> list[str]:
        """Give a network the ancestor's weights, and its scaling if that is kept.

        Columns of inputs that the ancestor does not read become zero, so that the network begins as the ancestor
        is; rows of new outputs stay as they are.

        Args:
            model: The new network, with the statistics of its training data.

        Returns:
            What was taken and what was not, in lines for people.
        """
        old, theirs = self.predictor.model, self.predictor.card
        inputs = _match(self.card.feature_names + self.card.covariate_names, self.predictor.columns)
        outputs = _match(self.card.feature_names, theirs.feature_names)
        notes = self._scaling(model, inputs, outputs)
        with torch.no_grad():
            for name, layer in model.layers().items():
                if self.unfit[name]:
                    continue
                source = dict(old.layers()[name].named_parameters())
                for key, tensor in layer.named_parameters():
                    by_column = name == "skip" or (name, key) == ("lstm.0", "weight_ih_l0")
                    _copy(
                        tensor,
                        source[key],
                        rows=outputs if name in ("head", "skip") else None,
                        columns=inputs if by_column else None,
                    )
        taken = [name for name, reason in self.unfit.items() if not reason]
        anew = [f"{name} ({reason})" for name, reason in self.unfit.items() if reason]
        lines = [f"from {self.name}: {', '.join(taken)}" + (f"; not {', '.join(anew)}" if anew else "")]
        for what, ours, matched in (
            ("inputs", self.card.feature_names + self.card.covariate_names, {new for new, _ in inputs}),
            ("outputs", self.card.feature_names, {new for new, _ in outputs}),
        ):
            if new := [name for index, name in enumerate(ours) if index not in matched]:
                lines.append(f"new {what}: {', '.join(new)}")
        return [*lines, *notes]

    def _scaling(
        self, model: NextStepModel, inputs: list[tuple[int, int]], outputs: list[tuple[int, int]]
    ) -> list[str]:
        """Take over the ancestor's statistics by name, if they are kept; return what there is to say."""
        if not self.keep_scaling:
            return ["scaling of the new data"]
        old, notes = self.predictor.model, ["scaling of the ancestor"]
        means = torch.cat([old.scaling.mean, old.covariate_scaling.mean])
        scales = torch.cat([old.scaling.scale, old.covariate_scaling.scale])
        columns = self.card.feature_names + self.card.covariate_names
        for new, before in inputs:
            in_features = new < len(self.card.feature_names)
            ours = model.scaling if in_features else model.covariate_scaling
            at = new if in_features else new - len(self.card.feature_names)
            ratio = float(ours.scale[at] / scales[before])
            shift = float((ours.mean[at] - means[before]).abs() / scales[before])
            if not 1 / FAR < ratio < FAR or shift > FAR:
                told = f"{columns[new]} varies {ratio:.3g} times as much here, {shift:.3g} deviations away"
                notes.append(f"{told}: in other units? Then set model.init_scaling=refit")
            ours.mean[at], ours.scale[at] = means[before], scales[before]
        for new, before in outputs:
            model.change[new] = old.change[before]
        return notes


def find_ancestor(
    settings: Model, train: Sequences, *, uri: str | None, workspace: Workspace
) -> Ancestor | None:
    """Return the model that a training run is to begin from, if any.

    Args:
        settings: Of the new network; ``init_from`` names a run, or whatever `foretrace.load` takes.
        train: The new training data.
        uri: A tracking server or database, or None for the workspace's own.
        workspace: Where runs are looked for.

    Raises:
        UserError: If there is no such model, none of its layers fits, or a feature has another unit.
    """
    if settings.init_from is None:
        return None
    name, keep = settings.init_from, settings.init_scaling == "keep"
    if re.fullmatch(r"[\w-]+", name) and not Path(name).exists():
        predictor = load_run(name, uri=uri, workspace=workspace, key="model.init_from")
    else:
        predictor = load(name)
    card = ModelCard(
        feature_names=train.feature_names,
        units=train.units,
        covariate_names=train.covariate_names,
        dt_s=train.dt_s,
        data_digest=train.digest,
        model=Network.model_validate(settings.network()),
    )
    units = dict(zip(predictor.feature_names, predictor.units, strict=False))
    for feature, unit in zip(card.feature_names, card.units, strict=False):
        if keep and unit and units.get(feature, unit) not in ("", unit):
            problem = f"{feature} is in {unit}, but in {units[feature]} in the data of {name}"
            raise UserError(f"model.init_from: {problem}", hint="Set model.init_scaling=refit.")
    unfit = unfit_layers(card, predictor.card)
    if all(unfit.values()):
        reasons = ", ".join(f"{layer} ({reason})" for layer, reason in unfit.items())
        hint = f"It has model.hidden_sizes={predictor.card.model.hidden_sizes}."
        raise UserError(f"model.init_from: no layer of {name} fits: {reasons}", hint=hint)
    return Ancestor(predictor.card.run_id or name, predictor, card, unfit, keep)


def begin_from(ancestor: Ancestor, model: NextStepModel, run: TrackedRun) -> None:
    """Give a network the ancestor's weights, and say and record which."""
    told = ancestor.initialize(model)
    print(*(f"begin    {line}" for line in told), sep="\n", flush=True)
    run.set_tags({"initialized_from": ancestor.name})
    run.log_text("initialization.txt", "\n".join(told))


def unfit_layers(new: ModelCard, old: ModelCard) -> dict[str, str]:
    """Return for each layer of a network why another one's weights do not fit; empty where they do.

    >>> card = ModelCard(feature_names=["x"], units=[], covariate_names=[], dt_s=None, data_digest="",
    ...     model={"hidden_sizes": [8, 8], "output": "change"})
    >>> unfit_layers(card.model_copy(update={"model": card.model.model_copy(update={"output": "value"})}), card)
    {'lstm.0': '', 'lstm.1': '', 'head': 'model.output was change'}
    """
    sizes, theirs = new.model.hidden_sizes, old.model.hidden_sizes
    form, was = new.model.output, old.model.output
    columns = _match(new.feature_names + new.covariate_names, old.feature_names + old.covariate_names)
    no_input = "" if columns else "no input of the same name"
    no_output = "" if _match(new.feature_names, old.feature_names) else "no output of the same name"
    other_form = "" if form == was else f"model.output was {was}"
    unfit = {}
    for depth in range(len(sizes)):
        here = slice(max(depth - 1, 0), depth + 1)
        unfit[f"lstm.{depth}"] = "" if sizes[here] == theirs[here] else "other widths"
    unfit["lstm.0"] = unfit["lstm.0"] or no_input
    same_top = (len(sizes), sizes[-1]) == (len(theirs), theirs[-1])
    unfit["head"] = other_form or no_output or ("" if same_top else "other widths")
    return unfit | ({"skip": other_form or no_output or no_input} if form == "linear" else {})


def _match(new: Sequence[str], old: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of indices of the same name."""
    return [(index, old.index(name)) for index, name in enumerate(new) if name in old]


def _copy(
    tensor: Tensor,
    source: Tensor,
    *,
    rows: list[tuple[int, int]] | None,
    columns: list[tuple[int, int]] | None,
) -> None:
    """Copy matched rows and columns of a matrix or vector; None matches all, and other columns of the rows become 0."""
    new, old = torch.tensor(rows or [(row, row) for row in range(len(tensor))]).T
    if columns is None:
        tensor[new] = source[old]
        return
    new_columns, old_columns = torch.tensor(columns).T
    tensor[new] = 0
    tensor[new[:, None], new_columns] = source[old[:, None], old_columns]

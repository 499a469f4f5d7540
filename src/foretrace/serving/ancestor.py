"""Training that begins from a model: the weights of layers that fit, with features matched by name.

Shapes: F features, K covariates, C = F + K columns, H hidden units of a layer.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from foretrace.config import Model
from foretrace.data.sequences import Sequences
from foretrace.errors import UserError
from foretrace.model.next_step import NextStepModel
from foretrace.model.scaling import Standardizer
from foretrace.serving.loading import load, load_run
from foretrace.serving.model_file import ModelCard
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
        """Give a network the ancestor's weights, and its scaling if that is kept; return what was taken, in lines.

        Columns of inputs that the ancestor does not read become zero, so that the network begins as the ancestor
        is; rows of new outputs stay as they are.
        """
        ours, theirs = self.card, self.predictor.card
        inputs = _match(ours.columns, theirs.columns)
        outputs = _match(ours.feature_names, theirs.feature_names)
        with torch.no_grad():
            for name, layer in model.layers().items():
                source = {} if self.unfit[name] else self.predictor.model.layers()[name].state_dict()
                for key, given in source.items():
                    tensor = layer.get_parameter(key)
                    if name == "skip" or (name, key) == ("lstm.0", "weight_ih_l0"):
                        nothing = given.new_zeros(len(given), tensor.shape[1])
                        given = nothing.index_copy(1, inputs[0], given[:, inputs[1]])
                    if name in ("head", "skip"):  # where a head gives the spread, as many rows again
                        parts = torch.split(tensor, len(ours.feature_names))
                        sources = torch.split(given, len(theirs.feature_names))
                        for part, given_part in zip(parts, sources, strict=False):
                            part[outputs[0]] = given_part[outputs[1]]
                    else:
                        tensor.copy_(given)
        taken = [name for name, reason in self.unfit.items() if not reason]
        anew = [f"{name} ({reason})" for name, reason in self.unfit.items() if reason]
        lines = [f"from {self.name}: {', '.join(taken)}" + (f"; not {', '.join(anew)}" if anew else "")]
        if new := [name for name in ours.columns if name not in theirs.columns]:
            lines.append(f"new inputs: {', '.join(new)}")
        if new := [name for name in ours.feature_names if name not in theirs.feature_names]:
            lines.append(f"new outputs: {', '.join(new)}")
        if model.stack.spread and not self.predictor.model.stack.spread:
            lines.append("new: the spread of forecasts")
        if not self.keep_scaling:
            return [*lines, "scaling of the new data"]
        model.change[outputs[0]] = self.predictor.model.change[outputs[1]]
        return [*lines, "scaling of the ancestor", *self._keep_scaling(model, *inputs)]

    def _keep_scaling(self, model: NextStepModel, new: Tensor, old: Tensor) -> list[str]:
        """Take over the ancestor's statistics of matched columns; return what looks like another unit."""
        ours, theirs = _statistics(model), _statistics(self.predictor.model)[:, old]
        ratio, shift = ours[1, new] / theirs[1], (ours[0, new] - theirs[0]).abs() / theirs[1]
        ours[:, new] = theirs
        features, covariates = ours.tensor_split([len(self.card.feature_names)], dim=1)
        model.scaling, model.covariate_scaling = Standardizer(*features), Standardizer(*covariates)
        return [
            f"{self.card.columns[new[at]]} varies {ratio[at]:.3g} times as much here, {shift[at]:.3g} deviations "
            "away: in other units? Then set model.init_scaling=refit"
            for at in ((ratio <= 1 / FAR) | (ratio >= FAR) | (shift > FAR)).nonzero()[:, 0]
        ]


def find_ancestor(settings: Model, train: Sequences, workspace: Workspace) -> Ancestor | None:
    """Return the model that training on these data is to begin from, if any.

    Raises:
        UserError: If there is no such model, none of its layers fits, or a feature has another unit.
    """
    if (name := settings.init_from) is None:
        return None
    predictor, keeps_scaling = load_ancestor(name, workspace), settings.init_scaling == "keep"
    card = ModelCard(
        feature_names=train.feature_names,
        units=train.units,
        covariate_names=train.covariate_names,
        dt_s=train.dt_s,
        data_digest=train.digest,
        model=settings.network(),
    )
    units = dict(zip(predictor.feature_names, predictor.units, strict=False))
    for feature, unit in zip(card.feature_names, card.units, strict=False):
        if keeps_scaling and unit and units.get(feature, unit) not in ("", unit):
            problem = f"{feature} is in {unit}, but in {units[feature]} in the data of {name}"
            raise UserError(f"model.init_from: {problem}", hint="Set model.init_scaling=refit.")
    unfit = unfit_layers(card, predictor.card)
    if all(unfit.values()):
        reasons = ", ".join(f"{layer} ({reason})" for layer, reason in unfit.items())
        hint = f"It has model.hidden_sizes={predictor.card.model.hidden_sizes}."
        raise UserError(f"model.init_from: no layer of {name} fits: {reasons}", hint=hint)
    return Ancestor(predictor.card.run_id or name, predictor, card, unfit, keeps_scaling)


def load_ancestor(name: str, workspace: Workspace) -> Predictor:
    """Load what ``model.init_from`` names: a run by its id, or whatever `foretrace.load` takes."""
    if re.fullmatch(r"[\w-]+", name) and not Path(name).exists():
        return load_run(name, workspace, key="model.init_from")
    return load(name)


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
    pairs = [(sizes[max(at - 1, 0) : at + 1], theirs[max(at - 1, 0) : at + 1]) for at in range(len(sizes))]
    unfit = {f"lstm.{at}": "" if ours == old else "other widths" for at, (ours, old) in enumerate(pairs)}
    no_input = "" if {*new.columns} & {*old.columns} else "no input of the same name"
    no_output = "" if {*new.feature_names} & {*old.feature_names} else "no output of the same name"
    other_form = "" if new.model.output == old.model.output else f"model.output was {old.model.output}"
    same_top = (len(sizes), sizes[-1]) == (len(theirs), theirs[-1])
    unfit["lstm.0"] = unfit["lstm.0"] or no_input
    unfit["head"] = other_form or no_output or ("" if same_top else "other widths")
    return unfit | ({"skip": other_form or no_output or no_input} if new.model.output == "linear" else {})


def _statistics(model: NextStepModel) -> Tensor:
    """Means and scales of all columns. Shape (2, C)."""
    both = (model.scaling, model.covariate_scaling)
    return torch.stack([torch.cat([one.mean for one in both]), torch.cat([one.scale for one in both])])


def _match(new: Sequence[str], old: Sequence[str]) -> Tensor:
    """Indices of names that both have, in the new and in the old. Shape (2, matches)."""
    _, *indices = np.intersect1d(new, old, return_indices=True)
    return torch.from_numpy(np.stack(indices))

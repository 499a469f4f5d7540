"""Training that begins from a model: what is taken, what is not, and whose scaling counts."""

import numpy as np
import pytest
import torch
from helpers import NAMES, made, network, rows

from foretrace.config import Model
from foretrace.data.sequences import Sequences
from foretrace.errors import UserError
from foretrace.serving.ancestor import find_ancestor
from foretrace.serving.model_file import save_model
from foretrace.serving.predictor import Predictor
from foretrace.workspace import Workspace

OLD = made()


@pytest.fixture
def begin(tmp_path):
    """Begins from the model above with other names, units or settings; new data vary by 3 around 7."""

    def begin_from(
        names=("height", "angle"),
        covariates=("push",),
        units=("m", "rad"),
        old=OLD,
        gaussian=False,
        **settings,
    ):
        save_model(tmp_path / "model.safetensors", old.card, old.model)
        data = Sequences.from_episodes(
            [np.zeros((9, len(names)))],
            feature_names=names,
            units=units,
            covariates=[np.zeros((9, len(covariates)))],
            covariate_names=covariates,
        )
        own = {"hidden_sizes": [6, 5], "dropout": 0.0, "output": "linear", "frozen": []} | settings
        config = Model(init_from=str(tmp_path / "model.safetensors"), **own)
        ancestor = find_ancestor(config, data, Workspace(tmp_path))
        card = ancestor.card
        model = network(card, gaussian=gaussian)
        model.set_statistics(
            mean=torch.full((len(names),), 7.0),
            std=torch.full((len(names),), 3.0),
            change=torch.full((len(names),), 0.3),
            covariate_mean=torch.full((len(covariates),), 7.0),
            covariate_std=torch.full((len(covariates),), 3.0),
        )
        return Predictor(card, model), ancestor.initialize(model)

    return begin_from


def test_same_network_begins_as_its_ancestor(begin):
    found, lines = begin()
    assert found.predict(rows(9), 3, [[1.0]] * 2).equals(OLD.predict(rows(9), 3, [[1.0]] * 2))
    assert lines[:2] == ["from r1: lstm.0, lstm.1, head, skip", "scaling of the ancestor"]


def test_spread_is_the_ancestors_or_new(begin):
    found, lines = begin(gaussian=True)
    assert found.predict(rows(9)).equals(OLD.predict(rows(9)))
    assert "new: the spread of forecasts" in lines
    found, lines = begin(old=(old := made(gaussian=True)), gaussian=True)
    ours, theirs = (one.forecast_steps(rows(9).to_numpy(np.float32), one.start())[1] for one in (found, old))
    np.testing.assert_array_equal(ours, theirs)
    assert "new: the spread of forecasts" not in lines


def test_inputs_in_another_order_are_matched_by_name(begin):
    found, _ = begin(names=("angle", "height"), units=("rad", "m"))
    given = rows(9)
    expected = OLD.predict(given)
    turned = found.predict(given[["angle", "height", "push"]])[NAMES[:2]]
    assert turned.to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-5)


def test_new_input_changes_nothing_at_first(begin):
    found, lines = begin(covariates=("wind", "push"))
    given = rows(9).assign(wind=5.0)
    expected = OLD.predict(rows(9)).to_numpy()
    assert found.predict(given[["height", "angle", "wind", "push"]]).to_numpy() == pytest.approx(
        expected, rel=1e-5
    )
    assert "new inputs: wind" in lines


def test_new_output_leaves_the_others_as_they_were(begin):
    found, lines = begin(names=("height", "speed", "angle"), units=("m", "m/s", "rad"))
    given = rows(9).assign(speed=7.0)[["height", "speed", "angle", "push"]]
    expected = OLD.predict(rows(9)).to_numpy()
    assert found.predict(given)[NAMES[:2]].to_numpy() == pytest.approx(expected, rel=1e-5)
    assert "new outputs: speed" in lines


def test_refit_gives_the_same_scaled_forecasts_in_other_units(begin):
    found, lines = begin(units=("cm", "rad"), init_scaling="refit")
    x = torch.randn(1, 9, 2)
    push = torch.randn(1, 9, 1)
    found.model.change.copy_(OLD.model.change)
    ours, _ = found.model.forward_scaled(x, found.model.covariate_scaling.inverse(push))
    theirs, _ = OLD.model.forward_scaled(x, OLD.model.covariate_scaling.inverse(push))
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert found.model.scaling.scale.tolist() == [3.0, 3.0]
    assert "scaling of the new data" in lines


def test_kept_scaling_refuses_named_units_and_doubts_unnamed_ones(begin):
    with pytest.raises(UserError, match=r"height is in cm, but in m in .*model.init_scaling=refit"):
        begin(units=("cm", "rad"))
    _, lines = begin(units=("", ""))
    assert any(line.startswith("angle varies 30 times as much here") for line in lines)


def test_layers_that_do_not_fit_are_named(begin):
    _, lines = begin(hidden_sizes=[6, 4])
    assert lines[0] == "from r1: lstm.0, skip; not lstm.1 (other widths), head (other widths)"
    with pytest.raises(UserError, match=r"no layer of .* fits: .*It has model.hidden_sizes=\[6, 5\]"):
        begin(hidden_sizes=[3], output="change")


def test_frozen_layers_stay_at_the_weights_of_the_ancestor(begin):
    found, _ = begin(frozen=["lstm.1"])
    assert torch.equal(found.model.stack.lstm[1].weight_hh_l0, OLD.model.stack.lstm[1].weight_hh_l0)

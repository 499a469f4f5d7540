import pytest
import torch

from foretrace.config import Evaluation
from foretrace.data.sequences import Sequences
from foretrace.data.windows import Windows
from foretrace.evaluation.references import fit_references
from foretrace.evaluation.result import EvaluationResult, evaluate
from foretrace.model.next_step import NextStepModel


def build(sequences: Sequences, *, hidden_sizes=(4,), **options) -> NextStepModel:
    torch.manual_seed(0)
    model = NextStepModel(
        hidden_sizes=hidden_sizes,
        num_features=sequences.values.shape[1],
        num_covariates=sequences.covariates.shape[1],
        **options,
    )
    statistics = vars(sequences.statistics)
    model.set_statistics(**{name: torch.from_numpy(array) for name, array in statistics.items()})
    return model.eval()


@pytest.fixture(scope="session")
def untrained():
    """Makes a model that is scaled to some episodes."""
    return build


@pytest.fixture
def persistence(waves):
    """A model whose forecast is the last value."""
    model = build(waves, output="change")
    torch.nn.init.zeros_(model.stack.head.weight)
    torch.nn.init.zeros_(model.stack.head.bias)
    return model


@pytest.fixture(scope="session")
def evaluated():
    """Evaluates a model on the episodes that its baselines are fitted to."""

    def evaluated(model, sequences, *, length=10, warmup=10, horizon=12, **settings) -> EvaluationResult:
        windows = Windows(sequences, length=length, stride=7)
        settings = Evaluation(warmup=warmup, horizon=horizon, **settings)
        references = fit_references(model, train=sequences, valid=sequences, settings=settings)
        return evaluate(model, windows, references, settings=settings)

    return evaluated

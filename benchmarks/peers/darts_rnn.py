"""Darts' RNNModel: layers of one size, a multivariate series an episode, trained on every window of them."""

import pandas as pd
from darts import TimeSeries
from darts.models import RNNModel
from lightning_watch import Watch
from trial import Plan

LAYERS = 3


def main() -> None:
    """Trains."""
    plan = Plan.given()
    episodes = plan.episodes("train")
    features = episodes.shape[-1]
    width = plan.width(
        lambda h: 4 * h * (features + h + 2) + (LAYERS - 1) * 4 * h * (2 * h + 2) + features * (h + 1),
        plan.parameters(features),
    )
    index = pd.RangeIndex(episodes.shape[1])
    series = [TimeSeries.from_times_and_values(index, episode) for episode in episodes]

    # All steps of a window at once, as it trains; its predict() has the last one alone.
    watch = Watch(plan, lambda module, x: module.V(module.rnn(x)[0]))
    model = RNNModel(
        input_chunk_length=plan.window - 1,  # has to be less than the training length
        training_length=plan.window,
        model="LSTM",
        hidden_dim=width,
        n_rnn_layers=LAYERS,
        batch_size=plan.batch,
        n_epochs=10**6,
        random_state=1,
        pl_trainer_kwargs={"accelerator": "cpu", "callbacks": [watch]},
    )
    watch.trial.begin()
    model.fit(series)
    watch.report("darts", "torch")


if __name__ == "__main__":
    main()

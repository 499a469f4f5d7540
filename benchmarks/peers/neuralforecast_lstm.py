"""NeuralForecast's LSTM, which forecasts one feature: a series for each feature of each episode, one model of all.

It reads 50 steps of its own series and, as exogenous history, of all features of the episode; a one-hot static
vector says which feature the series is. From them it forecasts the next value of that one.
"""

import tempfile

import numpy as np
import pandas as pd
import torch
from lightning_watch import Watch
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import MSE
from neuralforecast.models import LSTM
from torch import Tensor
from trial import Array, Plan

LAYERS = 3


def frames(episodes: Array) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the long form that it wants, and the static features of each series."""
    count, rows, features = episodes.shape
    ids = np.arange(count * features)
    x = np.repeat(episodes, features, axis=0).reshape(-1, features)  # once for each of an episode's series
    exogenous = {f"x{n}": x[:, n] for n in range(features)}
    y = episodes.transpose(0, 2, 1).reshape(-1)
    steps = np.tile(np.arange(rows), len(ids))
    long = pd.DataFrame({"unique_id": np.repeat(ids, rows), "ds": steps, "y": y, **exogenous})
    one_hot = np.tile(np.eye(features, dtype=np.float32), (count, 1))
    static = pd.DataFrame({"unique_id": ids, **{f"s{n}": one_hot[:, n] for n in range(features)}})
    return long, static


def forecast(network: LSTM, x: Tensor) -> Tensor:
    """Forecasts of all features from windows (W, T, F), one after the other: (W, 1, F)."""
    one_hot = torch.eye(x.shape[-1])
    told = [
        network(
            {
                "insample_y": x[..., n : n + 1],
                "hist_exog": x,
                "stat_exog": one_hot[n].expand(len(x), -1),
                "futr_exog": None,
            }
        )
        for n in range(x.shape[-1])
    ]
    return torch.cat(told, dim=-1)


def main() -> None:
    """Trains."""
    plan = Plan.given()
    episodes = plan.episodes("train")
    features = episodes.shape[-1]
    inputs = 1 + 2 * features
    width = plan.width(
        lambda h: 4 * h * (inputs + h + 2) + (LAYERS - 1) * 4 * h * (2 * h + 2) + h + 1,
        plan.parameters(features),
    )

    watch = Watch(plan, forecast)
    with tempfile.TemporaryDirectory() as folder:
        model = LSTM(
            h=1,
            input_size=plan.window,
            encoder_n_layers=LAYERS,
            encoder_hidden_size=width,
            decoder_layers=1,
            hist_exog_list=[f"x{n}" for n in range(features)],
            stat_exog_list=[f"s{n}" for n in range(features)],
            loss=MSE(),
            windows_batch_size=plan.batch,
            scaler_type="identity",  # all are given standardised data
            learning_rate=1e-3,
            max_steps=10**6,
            accelerator="cpu",
            callbacks=[watch],
            default_root_dir=folder,
        )
        core = NeuralForecast(models=[model], freq=1)
        long, static = frames(episodes)
        watch.trial.begin()
        core.fit(long, static_df=static)
    watch.report("neuralforecast", "torch")


if __name__ == "__main__":
    main()

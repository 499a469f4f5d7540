"""Keras 3, on the backend that KERAS_BACKEND names: layers of our sizes, `model.fit` on arrays of windows."""

from typing import Any

import keras
from trial import Array, Plan, Trial


class Watch(keras.callbacks.Callback):
    """Tells the trial of each step."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.trial = trial

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count a step; its loss is a number by now, so it is over on either backend."""
        if self.trial.step():
            self.model.stop_training = True


def main() -> None:
    """Trains."""
    plan = Plan.given()
    x, y = plan.windows("train", stride=1)
    features = x.shape[-1]
    layers = [keras.layers.LSTM(size, return_sequences=True) for size in plan.hidden_sizes]
    model = keras.Sequential([keras.Input((plan.window, features)), *layers, keras.layers.Dense(features)])
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse")

    def forecast(values: Array) -> Array:
        judge.set_weights(
            watch.model.get_weights()
        )  # through the callback: on JAX, the model itself has none now
        told: Array = judge.predict(values, batch_size=plan.batch, verbose=0)
        return told

    judge = keras.models.clone_model(model)
    trial = Trial(plan, forecast)
    watch = Watch(trial)
    trial.begin()
    model.fit(x, y, batch_size=plan.batch, epochs=10**6, shuffle=True, callbacks=[watch], verbose=0)
    trial.report(parameters=model.count_params(), packages=("keras", keras.backend.backend()))


if __name__ == "__main__":
    main()

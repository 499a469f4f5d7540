"""Forecasts of recordings: files in, a table and a picture out.

Shapes: T rows, F features, K covariates, H rows ahead.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from foretrace.config import PredictConfig, Reading
from foretrace.data.tables import Recordings, read_recordings
from foretrace.data.tables.episodes import derive, derived_names
from foretrace.data.tables.files import ARRAYS, file_format, find_files
from foretrace.data.tables.times import SAME_STEP, Times, times_after
from foretrace.errors import UserError
from foretrace.model.lstm import State
from foretrace.reports.figures.forecasts import fan_chart, feature_lines
from foretrace.serving.ensemble import Ensemble
from foretrace.serving.forecast_table import FORMATS, ForecastTable
from foretrace.serving.loading import load, load_ensemble
from foretrace.serving.predictor import BLOCK, Predictor
from foretrace.serving.rows import FloatArray
from foretrace.workspace import Workspace, atomic_write, check_target

PICTURED_ROWS = 200  # of the recording: as many as a picture shows apart


def run(config: PredictConfig, *, workspace: Workspace) -> Path:
    """Forecast what follows each recording, or one step ahead of each of its rows.

    Recordings are read as for training, and in blocks with the state carried from one to the next: memory does not
    grow with them.

    Returns:
        The path of the table; the picture is beside it.

    Raises:
        UserError: If something that the user gave cannot be used; then there is neither table nor picture.
    """
    table, picture = _targets(config)
    files = find_files(config.data.path, cache=workspace.cache)
    predictor = (
        load_ensemble(config.run, uri=config.tracking.uri, workspace=workspace)
        if config.run is not None
        else load(str(config.model))
    )
    reading = _reading(config, predictor, is_array=file_format(files[0]) in ARRAYS)
    has_future = config.mode == "forecast" and bool(predictor.covariate_names)
    recordings = read_recordings(config.data.path, reading, cache=workspace.cache, with_future=has_future)
    _check_step(recordings, predictor)
    forecaster = _Forecaster(recordings, predictor)
    sequences, shown = recordings.sequences, list[Figure]()
    last_of = {recording: e for e, recording in enumerate(sequences.recordings)}
    chosen = list(last_of.values()) if config.mode == "forecast" else range(len(sequences))
    with ExitStack() as stack:
        asides = [stack.enter_context(atomic_write(path)) for path in (table, picture)]
        writer = stack.enter_context(
            ForecastTable(
                asides[0], table.suffix, feature_names=predictor.feature_names, time=forecaster.time_type
            )
        )
        for e in chosen:
            one_step, past, ahead = forecaster.follow(e, writer if config.mode == "one_step" else None)
            if config.mode == "forecast":
                ahead = forecaster.continue_after(e, config.horizon, writer)
            if not shown:
                shown.append(
                    forecaster.picture(e, past, one_step, ahead, is_one_step=config.mode == "one_step")
                )
                shown[0].savefig(asides[1], format="png")
    for warning in recordings.warnings:
        print(f"warning  {warning}")
    if isinstance(predictor, Ensemble):
        ids = ", ".join(str(member.card.run_id)[:8] for member in predictor.members)
        print(f"model    mean of the {len(predictor.members)} seeds of the best settings: {ids}")
    rows = f"{writer.rows} row{'s' * (writer.rows > 1)}"
    print(f"forecast {rows} of {len(chosen)} episode{'s' * (len(chosen) > 1)}")
    print(f"table    {table}\npicture  {picture}", flush=True)
    return table


@dataclass
class _Forecaster:
    """A model that goes along recordings, one episode after the other."""

    recordings: Recordings
    predictor: Predictor

    def __post_init__(self) -> None:
        sequences, predictor = self.recordings.sequences, self.predictor
        self._state: State | None = None
        self._next = np.zeros(
            len(predictor.feature_names), np.float32
        )  # forecast of the row after the last one
        starts: dict[str, int] = {}
        for recording, first in zip(sequences.recordings, sequences.bounds[:, 0].tolist(), strict=True):
            starts.setdefault(recording, first)
        self._offset = [
            first - starts[recording]
            for recording, first in zip(sequences.recordings, sequences.bounds[:, 0].tolist(), strict=True)
        ]
        whole = sequences.times is None or not (sequences.times[:1000] % 10**9).any()
        if sequences.has_dates:
            self.time_type = pa.timestamp("s" if whole and (predictor.dt_s or 1) % 1 == 0 else "ns")
        else:
            self.time_type = pa.float64() if sequences.times is not None or predictor.dt_s else None

    def follow(self, episode: int, writer: ForecastTable | None) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Read an episode; write a forecast one step ahead of each row, if that is asked for.

        Returns:
            The last one-step forecasts and rows, and the forecast of what follows, each (T, F).
        """
        sequences, state = self.recordings.sequences, None
        first, end = sequences.bounds[episode].tolist()
        one_step = np.zeros((0, len(self.predictor.feature_names)), np.float32)
        for start in range(first, end, BLOCK):
            stop = min(start + BLOCK, end)
            rows = np.concatenate([sequences.values[start:stop], sequences.covariates[start:stop]], axis=1)
            forecasts, state = self.predictor.forecast_steps(rows, state)
            one_step = np.concatenate([one_step, forecasts])[-PICTURED_ROWS - 1 :]
            if writer is not None:
                self._add(writer, episode, start + 1 - first, forecasts)
        self._state, self._next = state, one_step[-1]
        past = sequences.values[max(first, end - PICTURED_ROWS) : end]
        return one_step, past, one_step[-1:]

    def continue_after(self, episode: int, horizon: int, writer: ForecastTable) -> FloatArray:
        """Forecast the rows that follow an episode, after `follow`. Shape (H, F)."""
        assert self._state is not None, "an episode has rows"
        covariates = self._future(episode, horizon)
        ahead = self.predictor.continue_rollout(self._next, self._state, horizon, covariates)
        first, end = self.recordings.sequences.bounds[episode].tolist()
        self._add(writer, episode, end - first, ahead)
        return ahead

    def picture(
        self, episode: int, past: FloatArray, one_step: FloatArray, ahead: FloatArray, *, is_one_step: bool
    ) -> Figure:
        """Draw the last rows, with the forecast after them or one step ahead of each."""
        predictor, sequences = self.predictor, self.recordings.sequences
        first, end = sequences.bounds[episode].tolist()
        name, dt_s = sequences.episode_names[episode], predictor.dt_s
        names, units = predictor.feature_names, predictor.units
        if is_one_step and end - first > 1:
            count = min(len(past), len(one_step) - 1)
            title = f"{name}, one step ahead, last {count} rows"
            pair = one_step[-1 - count : -1], past[-count:]
            return feature_lines(*pair, feature_names=names, units=units, dt_s=dt_s, title=title)
        dates = None
        if sequences.has_dates and sequences.times is not None:
            after = times_after(sequences.times[first:end], len(ahead), dt_s)
            dates = np.concatenate([sequences.times[end - len(past) : end], after]).astype("M8[ns]")
        return fan_chart(past, ahead, feature_names=names, units=units, first_step=end - first - len(past), dt_s=dt_s,
                         dates=dates, title=f"Forecast after {name}")  # fmt: skip

    def _add(self, writer: ForecastTable, episode: int, step: int, forecasts: FloatArray) -> None:
        """Write forecasts of the rows from ``step`` of an episode on."""
        sequences, name = self.recordings.sequences, self.recordings.sequences.episode_names[episode]
        broken = np.flatnonzero(~np.isfinite(forecasts).all(axis=1))
        if len(broken):
            print(f"warning  {name}: the forecast is not finite from its row {broken[0] + 1} on")
        times: Times | None = None
        if sequences.times is not None:
            first, end = sequences.bounds[episode].tolist()
            known = sequences.times[first + step : min(first + step + len(forecasts), end)]
            beyond = times_after(sequences.times[first:end], len(forecasts) - len(known), self.predictor.dt_s)
            times = np.concatenate([known, beyond])
        elif self.predictor.dt_s is not None:
            steps = self._offset[episode] + step + np.arange(len(forecasts))
            times = np.round(steps * self.predictor.dt_s * 1e9).astype(np.int64)
        writer.add(name, self._offset[episode] + step, forecasts, times)

    def _future(self, episode: int, horizon: int) -> FloatArray:
        """Covariates of the rows to come: those in the file, or made from the time alone. Shape (H − 1, K)."""
        sequences, predictor, reading = self.recordings.sequences, self.predictor, self.recordings.reading
        what = f"{sequences.episode_names[episode]}, rows without features"
        if not predictor.covariate_names:
            return predictor.future_covariates(None, horizon, what=what)
        if not reading.covariates and derived_names(reading) and sequences.times is not None:
            times = sequences.times[slice(*sequences.bounds[episode])]
            ahead = times_after(times, horizon - 1, predictor.dt_s)
            return derive(ahead, reading, before=int(times[-1]))
        rows = self.recordings.future.get(sequences.recordings[episode], (0, 0))
        return predictor.future_covariates(sequences.covariates[slice(*rows)], horizon, what=what)


def _reading(config: PredictConfig, predictor: Predictor, *, is_array: bool) -> Reading:
    """The way in which the model's training data were read, with what the user says of the new ones."""
    given = {
        name: value
        for name in Reading.model_fields
        if (value := getattr(config.data, name, None)) is not None
    }
    known = {
        name: predictor.card.reading.get(name)
        for name in Reading.model_fields
        if name in predictor.card.reading
    }
    names = {"features": list(predictor.feature_names), "covariates": list(predictor.covariate_names)}
    reading = Reading.model_validate({**names, **known, **given, "dt_s": None})
    if is_array and not str((reading.features or [""])[0]).startswith("feature_"):  # in the model's order
        columns = [f"feature_{c}" for c in range(len(predictor.columns))]
        count = len(predictor.feature_names)
        reading = Reading(features=columns[:count], covariates=columns[count:], missing=reading.missing,
                          missing_limit=reading.missing_limit)  # fmt: skip
    return reading


def _check_step(recordings: Recordings, predictor: Predictor) -> None:
    """Refuse recordings whose columns or time step are not those of training."""
    sequences, dt_s = recordings.sequences, predictor.dt_s
    if len(sequences.covariate_names) != len(predictor.covariate_names):
        raise UserError(
            f"{sequences.origin}: covariates are {', '.join(sequences.covariate_names) or 'none'}, and the model reads "
            f"{', '.join(predictor.covariate_names) or 'none'}"
        )
    if dt_s is not None and sequences.dt_s is not None and abs(sequences.dt_s - dt_s) > SAME_STEP * dt_s:
        message = (
            f"{sequences.origin}: the time step must be {dt_s:g} s as in training, got {sequences.dt_s:g} s"
        )
        raise UserError(message, hint="Resample the rows.")


def _targets(config: PredictConfig) -> tuple[Path, Path]:
    table = Path(config.output).expanduser()
    if table.suffix not in FORMATS:
        raise UserError(f"output: must end in {' or '.join(FORMATS)}, got {config.output!r}")
    picture = table.with_suffix(".png")
    for path in (table, picture):
        check_target(path, overwrite=config.overwrite)
    return table, picture

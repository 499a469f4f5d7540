"""Forecasts of recordings: files in, a table and a picture out.

Shapes: T rows, F features, K covariates, H rows ahead.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from foretrace.config import Evaluation, PredictConfig, Reading
from foretrace.config.parse import parse
from foretrace.config.run_config import read_data_config, read_run_config
from foretrace.data import sources
from foretrace.data.sequences import FloatArray, Sequences
from foretrace.data.tables.files import ARRAYS, file_format, find_files
from foretrace.data.tables.read import Recordings, read_recordings
from foretrace.data.tables.steps import Times, derive, derived_names, times_after
from foretrace.errors import UserError
from foretrace.evaluation.calibration import Calibration, calibrate
from foretrace.evaluation.forecast_errors import MODEL
from foretrace.reports.figures.forecasts import fan_chart, feature_lines
from foretrace.serving.forecast_table import FORMATS, ForecastTable
from foretrace.serving.loading import find_trained, load, load_ensemble
from foretrace.serving.predictor import BLOCK, Predictor
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
    workspace = replace(workspace, uri=config.tracking.uri)
    files = find_files(config.data.path, cache=workspace.cache)
    predictor = load_ensemble(config.run, workspace) if config.run is not None else load(str(config.model))
    reading = _reading(config, predictor, is_array=file_format(files[0]) in ARRAYS)
    goes_on = config.mode == "forecast"
    has_future = goes_on and bool(predictor.covariate_names)
    recordings = read_recordings(config.data.path, reading, cache=workspace.cache, with_future=has_future)
    sequences = recordings.sequences
    if len(sequences.covariate_names) != len(predictor.covariate_names):
        theirs, ours = (", ".join(one.covariate_names) or "none" for one in (sequences, predictor))
        raise UserError(f"{sequences.origin}: covariates are {theirs}, and the model reads {ours}")
    predictor.card.check_units(sequences)
    last_of = {recording: e for e, recording in enumerate(sequences.recordings)}
    chosen = list(last_of.values()) if goes_on else range(len(sequences))
    if len(predictor.run_ids) > 1:
        predictor.calibration = _calibrate(predictor, config, workspace)
    wanted = predictor.levels if config.intervals == "all" else (config.intervals or ())
    levels, time = predictor.check_levels(wanted), _time_type(sequences, predictor.dt_s)
    with atomic_write(table) as aside, atomic_write(picture) as drawn:
        with closing(
            ForecastTable(aside, table.suffix, columns=predictor.column_names(levels), time=time)
        ) as writer:
            horizon = config.horizon if goes_on else None
            forecaster = _Forecaster(recordings, predictor, writer, horizon, levels)
            for e in chosen:
                forecaster.forecast(e)
        assert forecaster.figure is not None, "there is an episode"
        forecaster.figure.savefig(drawn, format="png")
    for warning in recordings.warnings:
        print(f"warning  {warning}")
    if len(predictor.run_ids) > 1:
        ids = ", ".join(run_id[:8] for run_id in predictor.run_ids)
        print(f"model    mean of the {len(predictor.run_ids)} seeds of the best settings: {ids}")
    print(f"forecast {_describe(predictor.calibration, levels, config.horizon)}")
    rows = f"{writer.rows} row{'s' * (writer.rows > 1)}"
    print(f"forecast {rows} of {len(chosen)} episode{'s' * (len(chosen) > 1)}")
    print(f"table    {table}\npicture  {picture}", flush=True)
    return table


@dataclass
class _Forecaster:
    """A model that goes along recordings, one episode after the other, and draws the first."""

    recordings: Recordings
    predictor: Predictor
    writer: ForecastTable
    horizon: int | None  # H; None: one step ahead of each row
    levels: tuple[float, ...]  # of the intervals, in percent
    figure: Figure | None = None

    def __post_init__(self) -> None:
        sequences = self.recordings.sequences
        self._begin = dict(zip(sequences.recordings[::-1], sequences.bounds[::-1, 0].tolist(), strict=True))

    def forecast(self, episode: int) -> None:
        """Read an episode, and write what follows it or one step ahead of each of its rows."""
        sequences, predictor = self.recordings.sequences, self.predictor
        first, end = sequences.bounds[episode].tolist()
        state, one_step = predictor.start(), np.zeros((0, len(predictor.feature_names)), np.float32)
        for start in range(first, end, BLOCK):
            part = slice(start, min(start + BLOCK, end))
            rows = np.concatenate([sequences.values[part], sequences.covariates[part]], axis=1)
            forecasts, spread, state = predictor.forecast_steps(rows, state)
            spread = None if spread is None else spread[:, None]
            found = predictor.limits(forecasts[:, None], spread, self.levels)
            one_step = np.concatenate([one_step, found[0][:, 0]])[-PICTURED_ROWS - 1 :]
            if self.horizon is None:
                self._add(episode, start + 1 - first, *found)
        if self.horizon is not None:
            known = self._future(episode, self.horizon)
            ahead = predictor.continue_rollout(forecasts[-1], state, self.horizon, known)
            found = predictor.limits(*ahead, self.levels)
            self._add(episode, end - first, *found)
        self.figure = self.figure or self._draw(
            episode, one_step[:-1], *(part[..., 0, :, :] for part in found)
        )

    def _draw(
        self, episode: int, one_step: FloatArray, point: FloatArray, lower: FloatArray, upper: FloatArray
    ) -> Figure:
        """Draw the last rows, with the forecast after them or one step ahead of each."""
        predictor, sequences = self.predictor, self.recordings.sequences
        first, end = sequences.bounds[episode].tolist()
        past = sequences.values[max(first, end - PICTURED_ROWS) : end]
        name, dt_s = sequences.episode_names[episode], predictor.dt_s
        names, units = predictor.feature_names, predictor.units
        if self.horizon is None and len(one_step):
            title = f"{name}, one step ahead, last {len(one_step)} rows"
            pair = one_step, past[-len(one_step) :]
            return feature_lines(*pair, feature_names=names, units=units, dt_s=dt_s, title=title)
        dates = None
        if sequences.has_dates and sequences.times is not None:
            after = times_after(sequences.times[first:end], len(point), dt_s)
            dates = np.concatenate([sequences.times[end - len(past) : end], after]).astype("M8[ns]")
        bands = {level: (low, high) for level, low, high in zip(self.levels, lower, upper, strict=True)}
        return fan_chart(past, point, bands=bands, feature_names=names, units=units, dt_s=dt_s, dates=dates,
                         first_step=end - first - len(past), title=f"Forecast after {name}")  # fmt: skip

    def _add(self, episode: int, step: int, point: FloatArray, *ends: FloatArray) -> None:
        """Write forecasts of the rows from ``step`` of an episode on, as `Predictor.limits` gives them."""
        sequences, dt_s = self.recordings.sequences, self.predictor.dt_s
        name, (first, end) = sequences.episode_names[episode], sequences.bounds[episode].tolist()
        forecasts = point.reshape(-1, point.shape[-1])
        if (broken := np.flatnonzero(~np.isfinite(forecasts).all(axis=1))).size:
            print(f"warning  {name}: the forecast is not finite from its row {broken[0] + 1} on")
        row = first - self._begin[sequences.recordings[episode]] + step  # of the whole recording
        times: Times | None = None
        if sequences.times is not None:
            own = sequences.times[first:end]
            known = own[step : step + len(forecasts)]
            times = np.concatenate([known, times_after(own, len(forecasts) - len(known), dt_s)])
        elif dt_s is not None:
            times = np.round((row + np.arange(len(forecasts))) * dt_s * 1e9).astype(np.int64)
        self.writer.add(name, row, self.predictor.interleave(point, *ends), times)

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


def _time_type(sequences: Sequences, dt_s: float | None) -> pa.DataType | None:
    """The type of the time in the table: dates, seconds, or None where it is not known."""
    if sequences.times is not None and sequences.has_dates:
        is_whole = not (sequences.times[:1000] % 10**9).any() and (dt_s or 1) % 1 == 0
        return pa.timestamp("s" if is_whole else "ns")
    return pa.float64() if sequences.times is not None or dt_s else None


def _describe(calibration: Calibration | None, levels: Sequence[float], horizon: int) -> str:
    """Say how the forecast is calibrated."""
    if calibration is None:
        return "not calibrated, as the model was not: there are no intervals"
    which = ", ".join(f"{level:g} %" for level in levels)
    said = f"calibrated{f', with intervals of {which},' if which else ''} on {calibration.origin}"
    if horizon > calibration.horizon:
        said += f"; beyond {calibration.horizon} steps ahead as for that many"
    return said


def _calibrate(predictor: Predictor, config: PredictConfig, workspace: Workspace) -> Calibration | None:
    """Return the calibration of several models together, on the data that they were trained on, read again."""
    path = find_trained(str(config.run), workspace).download_artifact("config.yaml")
    try:
        settings = parse(read_run_config(path, key="run").get("evaluation", {}), Evaluation)
        parts = sources.load(read_data_config(path), cache=workspace.cache).windows
    except UserError as error:
        print(f"warning  no intervals: the training data cannot be read again: {error.message}")
        return None
    train, valid = (parts[part].sequences for part in ("train", "valid"))
    return calibrate(predictor.model, [], train=train, valid=valid, settings=settings)[0].get(MODEL)


def _reading(config: PredictConfig, predictor: Predictor, *, is_array: bool) -> Reading:
    """The way in which the model's training data were read, with what the user says of the new ones."""
    card, features = predictor.card, len(predictor.feature_names)
    known = {name: value for name, value in card.reading.items() if name in Reading.model_fields}
    given = config.data.model_dump(exclude={"path"}, exclude_none=True)
    names = {"features": list(card.feature_names), "covariates": list(card.covariate_names)}
    reading = Reading.model_validate({**names, **known, **given, "dt_s": None, "units": None})
    if is_array and not str((reading.features or [""])[0]).startswith("feature_"):  # in the model's order
        columns = [f"feature_{c}" for c in range(len(card.columns))]
        return Reading(features=columns[:features], covariates=columns[features:], missing=reading.missing,
                       missing_limit=reading.missing_limit)  # fmt: skip
    return reading


def _targets(config: PredictConfig) -> tuple[Path, Path]:
    table = Path(config.output).expanduser()
    if table.suffix not in FORMATS:
        raise UserError(f"output: must end in {' or '.join(FORMATS)}, got {config.output!r}")
    picture = table.with_suffix(".png")
    for path in (table, picture):
        check_target(path, overwrite=config.overwrite)
    return table, picture

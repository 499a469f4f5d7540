"""Forecasts of recordings: files in, a table and a picture out.

Shapes: T rows, F features, K covariates, H rows ahead.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from pyarrow import csv, parquet

from foretrace.config import Evaluation, PredictConfig, Reading
from foretrace.config.parse import parse
from foretrace.config.run_config import read_data_config, read_run_config
from foretrace.data import sources
from foretrace.data.sequences import FloatArray
from foretrace.data.tables.files import ARRAYS, file_format, find_files
from foretrace.data.tables.read import Recordings, read_recordings
from foretrace.data.tables.steps import derive, derived_names, times_after
from foretrace.errors import UserError
from foretrace.evaluation.calibration import Calibration, calibrate
from foretrace.evaluation.forecast_errors import MODEL
from foretrace.reports.figures.forecasts import fan_chart, feature_lines
from foretrace.serving.loading import find_trained, load, load_ensemble
from foretrace.serving.predictor import BLOCK, Predictor
from foretrace.workspace import Workspace, atomic_write, check_target

FORMATS = (".csv", ".parquet")
ROWS = 16_384  # that are written together: a Parquet file of many small pieces is large and slow
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
    table = check_target(config.output, overwrite=config.overwrite, endings=FORMATS)
    picture = check_target(str(table.with_suffix(".png")), overwrite=config.overwrite)
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
    members = len(predictor.run_ids)
    if members > 1:
        predictor.calibration = _calibrate(predictor, config, workspace)
    levels = predictor.check_levels(predictor.levels if config.intervals == "all" else config.intervals or ())
    forecaster = _Forecaster(recordings, predictor, config.horizon if goes_on else None, levels)
    with atomic_write(table) as aside, atomic_write(picture) as drawn:
        count = _write(aside, table.suffix, forecaster.schema, forecaster.forecast(chosen, drawn))
    for warning in sequences.warnings:
        print(f"warning  {warning}")
    if members > 1:
        ids = ", ".join(run_id[:8] for run_id in predictor.run_ids)
        print(f"model    mean of the {members} seeds of the best settings: {ids}")
    print(f"forecast {_describe(predictor.calibration, levels, config.horizon)}")
    print(f"forecast {count} row{'s' * (count > 1)} of {len(chosen)} episode{'s' * (len(chosen) > 1)}")
    print(f"table    {table}\npicture  {picture}", flush=True)
    return table


@dataclass(frozen=True)
class _Forecaster:
    """A model that goes along recordings, one episode after the other."""

    recordings: Recordings
    predictor: Predictor
    horizon: int | None  # H; None: one step ahead of each row
    levels: tuple[float, ...]  # of the intervals, in percent

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns: episode, step, time if it is known, features and the ends of their intervals.

        Steps count the rows of a recording from 0, the given ones and those that follow. Where a feature has the name
        of one of the first columns, that column is called ``forecast step`` and so on.
        """
        sequences, dt_s, own = self.recordings.sequences, self.predictor.dt_s, {"episode": pa.string()}
        own["step"] = pa.int64()
        if sequences.times is not None and sequences.has_dates:
            is_whole = not (sequences.times[:1000] % 10**9).any() and (dt_s or 1) % 1 == 0
            own["time"] = pa.timestamp("s" if is_whole else "ns")
        elif sequences.times is not None or dt_s is not None:
            own["time"] = pa.float64()  # seconds
        columns = self.predictor.column_names(self.levels)
        fields = [(name, pa.float32()) for name in columns]
        for name, kind in reversed(own.items()):
            while name in columns:
                name = f"forecast {name}"
            fields.insert(0, (name, kind))
        return pa.schema(fields)

    def forecast(self, episodes: Iterable[int], picture: Path) -> Iterator[pa.Table]:
        """Read each episode, give what follows it or one step ahead of each of its rows; draw the first."""
        sequences, predictor = self.recordings.sequences, self.predictor
        for number, episode in enumerate(episodes):
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
                    yield self._table(episode, start + 1 - first, *found)
            if self.horizon is not None:
                known = self._future(episode, self.horizon)
                ahead = predictor.continue_rollout(forecasts[-1], state, self.horizon, known)
                found = predictor.limits(*ahead, self.levels)
                yield self._table(episode, end - first, *found)
            if number == 0:
                figure = self._draw(episode, one_step[:-1], *(part[..., 0, :, :] for part in found))
                figure.savefig(picture, format="png")

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

    def _table(self, episode: int, step: int, point: FloatArray, *ends: FloatArray) -> pa.Table:
        """Return forecasts of the rows from ``step`` of an episode on, as `Predictor.limits` gives them."""
        sequences, dt_s = self.recordings.sequences, self.predictor.dt_s
        name, (first, end) = sequences.episode_names[episode], sequences.bounds[episode].tolist()
        forecasts = self.predictor.interleave(point, *ends)
        if (broken := np.flatnonzero(~np.isfinite(forecasts).all(axis=1))).size:
            print(f"warning  {name}: the forecast is not finite from its row {broken[0] + 1} on")
        begin = sequences.bounds[self._first_piece[sequences.recordings[episode]], 0]
        steps = np.arange(len(forecasts)) + (first - begin + step)
        columns = [pa.array([name] * len(steps)), pa.array(steps)]
        if sequences.times is not None:
            own = sequences.times[first:end]
            known = own[step : step + len(forecasts)]
            times = np.concatenate([known, times_after(own, len(forecasts) - len(known), dt_s)])
            stamps = pa.array(times, pa.timestamp("ns")) if sequences.has_dates else pa.array(times / 1e9)
            columns.append(stamps.cast(self.schema.types[2], safe=False))
        elif dt_s is not None:
            columns.append(pa.array(np.round(steps * dt_s, 9)))
        columns += [pa.array(column) for column in np.ascontiguousarray(forecasts.T)]
        return pa.Table.from_arrays(columns, schema=self.schema)

    @cached_property
    def _first_piece(self) -> dict[str, int]:
        """The first episode of each recording; one that was cut at gaps has several."""
        episodes = range(len(self.recordings.sequences))[::-1]
        return {self.recordings.sequences.recordings[episode]: episode for episode in episodes}

    def _future(self, episode: int, horizon: int) -> FloatArray:
        """Covariates of the rows to come: those in the file, or made from the time alone. Shape (H − 1, K)."""
        sequences, predictor = self.recordings.sequences, self.predictor
        reading = Reading.model_validate(sequences.reading)
        what = f"{sequences.episode_names[episode]}, rows without features"
        if not predictor.covariate_names:
            return predictor.future_covariates(None, horizon, what=what)
        if not reading.covariates and derived_names(reading) and sequences.times is not None:
            times = sequences.times[slice(*sequences.bounds[episode])]
            ahead = times_after(times, horizon - 1, predictor.dt_s)
            return derive(ahead, reading, before=int(times[-1]))
        rows = self.recordings.future.get(sequences.recordings[episode], (0, 0))
        return predictor.future_covariates(sequences.covariates[slice(*rows)], horizon, what=what)


def _write(path: Path, suffix: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Write tables as one CSV or Parquet file as they come; return the number of rows."""
    count, waiting = 0, list[pa.Table]()
    with (csv.CSVWriter if suffix == ".csv" else parquet.ParquetWriter)(str(path), schema) as writer:
        for table in tables:
            waiting.append(table)
            count += len(table)
            if sum(map(len, waiting)) >= ROWS:
                writer.write_table(pa.concat_tables(waiting).combine_chunks())
                waiting.clear()
        if waiting:
            writer.write_table(pa.concat_tables(waiting).combine_chunks())
    return count


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

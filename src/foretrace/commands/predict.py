"""Forecasts of recordings: files in, a table and a picture out.

Shapes: T rows, F features, C columns (features, then covariates).
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from foretrace.config import PredictConfig
from foretrace.data.blocks import Block, read_blocks
from foretrace.data.formats import find_files
from foretrace.errors import UserError
from foretrace.model.lstm import State
from foretrace.reports.figures.forecasts import fan_chart, feature_lines
from foretrace.serving.ensemble import Ensemble
from foretrace.serving.forecast_table import FORMATS, ForecastTable
from foretrace.serving.loading import load, load_ensemble
from foretrace.serving.predictor import BLOCK, Predictor
from foretrace.serving.rows import FloatArray, check_finite, check_rate
from foretrace.workspace import Workspace, atomic_write, check_target

PICTURED_ROWS = 200  # of the recording: as many as a picture shows apart


def run(config: PredictConfig, *, workspace: Workspace) -> Path:
    """Forecast what follows each recording, or one step ahead of each of its rows.

    Recordings are read in blocks with the state carried from one to the next, so memory does not grow with them.

    Returns:
        The path of the table; the picture is beside it.

    Raises:
        UserError: If something that the user gave cannot be used; then there is neither table nor picture.
    """
    table, picture = _targets(config)
    find_files(config.data.path)
    predictor = (
        load_ensemble(config.run, uri=config.tracking.uri, workspace=workspace)
        if config.run is not None
        else load(str(config.model))
    )
    shown: Episode | None = None
    episodes = 0
    with ExitStack() as stack:
        asides = [stack.enter_context(atomic_write(path)) for path in (table, picture)]
        names = predictor.feature_names
        writer = stack.enter_context(
            ForecastTable(asides[0], table.suffix, feature_names=names, dt_s=predictor.dt_s)
        )
        for episode in _forecast_all(predictor, config, writer):
            episodes, shown = episodes + 1, shown or episode
        assert shown is not None, "files without rows are refused"
        shown.picture().savefig(asides[1], format="png")
    if isinstance(predictor, Ensemble):
        ids = ", ".join(str(member.card.run_id)[:8] for member in predictor.members)
        print(f"model    mean of the {len(predictor.members)} seeds of the best settings: {ids}")
    rows = f"{writer.rows} row{'s' * (writer.rows > 1)}"
    print(f"forecast {rows} of {episodes} episode{'s' * (episodes > 1)}")
    print(f"table    {table}\npicture  {picture}", flush=True)
    return table


class Episode:
    """The course of one episode: what the model remembers of it, and what a picture shows."""

    def __init__(self, name: str, predictor: Predictor, *, one_step: bool) -> None:
        self.name, self._predictor, self._is_one_step = name, predictor, one_step
        self.rows = 0
        self._state: State | None = None
        self._future = np.zeros((0, len(predictor.covariate_names)), np.float32)
        self._last_time: npt.NDArray[np.generic] | None = None
        features = len(predictor.feature_names)
        self._past, self._one_step = np.zeros((0, features), np.float32), np.zeros((0, features), np.float32)
        self._ahead = np.zeros((0, features), np.float32)

    def take(self, block: Block) -> FloatArray:
        """Read more rows; return the one-step forecasts at each of those that have features."""
        features = len(self._predictor.feature_names)
        self._check_time(block)
        seen = self._num_seen(block.values)
        rows, future = block.values[:seen], block.values[seen:, features:]
        check_finite(rows, self._predictor.columns, where=block.where, before=block.row)
        check_finite(future, self._predictor.covariate_names, where=block.where, before=block.row + seen)
        if len(rows) and len(self._future):
            problem = f"row {block.row} has no features, but rows after it do"
            hint = "Rows with covariates alone are the future's, and come last."
            raise UserError(f"{block.where}: {problem}", hint=hint)
        self._future = np.concatenate([self._future, future])
        if not len(rows):
            return rows[:, :features]
        forecasts, self._state = self._predictor.forecast_steps(rows, self._state)
        self.rows += len(rows)
        self._past = np.concatenate([self._past, rows[:, :features]])[-PICTURED_ROWS:]
        self._one_step = np.concatenate([self._one_step, forecasts])[-PICTURED_ROWS - 1 :]
        return forecasts

    def end(self, horizon: int) -> FloatArray:
        """Forecast the rows that follow. Shape (horizon, F)."""
        if self._state is None:
            raise UserError(f"{self.name}: no row has features, only covariates")
        future = self._future if self._predictor.covariate_names else None
        what = f"{self.name}, rows without features"
        covariates = self._predictor.future_covariates(future, horizon, what=what)
        self._ahead = self._predictor.continue_rollout(self._one_step[-1], self._state, horizon, covariates)
        return self._ahead

    def picture(self) -> Figure:
        """Draw the last rows, with the forecast after them or one step ahead of each."""
        predictor, first = self._predictor, self.rows - len(self._past)
        names, units, dt_s = predictor.feature_names, predictor.units, predictor.dt_s
        if self._is_one_step and self.rows > 1:
            count = min(len(self._past), len(self._one_step) - 1)
            pair = self._one_step[-1 - count : -1], self._past[-count:]
            title = f"{self.name}, one step ahead, last {count} rows"
            return feature_lines(*pair, feature_names=names, units=units, dt_s=dt_s, title=title)
        ahead = self._one_step[-1:] if self._is_one_step else self._ahead
        title = f"Forecast after {self.name}"
        return fan_chart(
            self._past, ahead, feature_names=names, units=units, first_step=first, dt_s=dt_s, title=title
        )

    def _num_seen(self, rows: FloatArray) -> int:
        """Rows before those that have covariates alone, which are the future's."""
        features = len(self._predictor.feature_names)
        if not self._predictor.covariate_names or self._is_one_step:
            return len(rows)
        has_features = ~np.isnan(rows[:, :features]).all(axis=1)
        return int(np.flatnonzero(has_features).max(initial=-1)) + 1

    def _check_time(self, block: Block) -> None:
        if block.order is None:
            return
        last = self._last_time
        order = block.order if last is None else np.concatenate([last, block.order])
        before = block.row - (last is not None)
        check_rate(order, self._predictor.dt_s, where=block.where, before=before)
        self._last_time = block.order[-1:]


def _forecast_all(predictor: Predictor, config: PredictConfig, table: ForecastTable) -> Iterator[Episode]:
    """Write the forecasts; yield each episode as it ends."""
    one_step, episode = config.mode == "one_step", None
    for block in read_blocks(
        config.data.path,
        predictor.columns,
        episode_column=config.data.episode_column,
        order_column=config.data.order_column,
        rows=BLOCK,
    ):
        if episode is None or episode.name != block.episode:
            if episode is not None:
                yield _end(episode, config, table)
            episode = Episode(block.episode, predictor, one_step=one_step)
        first = episode.rows + 1
        forecasts = episode.take(block)
        if one_step:
            table.add(episode.name, first, forecasts)
            _warn(forecasts, episode.name)
    if episode is not None:
        yield _end(episode, config, table)


def _end(episode: Episode, config: PredictConfig, table: ForecastTable) -> Episode:
    if config.mode == "forecast":
        forecasts = episode.end(config.horizon)
        table.add(episode.name, episode.rows, forecasts)
        _warn(forecasts, episode.name)
    return episode


def _warn(forecasts: FloatArray, name: str) -> None:
    broken = np.flatnonzero(~np.isfinite(forecasts).all(axis=1))
    if len(broken):
        print(f"warning  {name}: the forecast is not finite from its row {broken[0] + 1} on")


def _targets(config: PredictConfig) -> tuple[Path, Path]:
    table = Path(config.output).expanduser()
    if table.suffix not in FORMATS:
        raise UserError(f"output: must end in {' or '.join(FORMATS)}, got {config.output!r}")
    picture = table.with_suffix(".png")
    for path in (table, picture):
        check_target(path, overwrite=config.overwrite)
    return table, picture

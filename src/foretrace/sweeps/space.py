"""What a search looks for: ranges and choices by setting, as Hydra's override grammar writes them.

Imports nothing heavy: a wrong range is answered at once.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from math import isfinite
from typing import Annotated, Any, Literal

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig
from pydantic import Field, PositiveInt, model_validator

from foretrace.config import Fraction, Settings, TrainConfig
from foretrace.config.parse import parse
from foretrace.errors import InputError
from foretrace.sweeps import jobs
from foretrace.sweeps.jobs import Job

DIGITS = 5  # of a number that a search proposes; more only make names long
BETWEEN = (
    0.62745  # of the way from one end to the other: where that is no whole number, the setting takes any
)
KEY = "hydra.sweeper"


class Dimension(Settings):
    """One setting and the values that it may take.

    >>> rate = Dimension(key="optimizer.lr", kind="float", low=1e-4, high=1e-2, log=True)
    >>> rate.samples()
    ['0.0001', '0.01', '0.0063118']
    """

    key: str  # with a leading + if it is to be added
    kind: Literal["choice", "float", "int"]
    choices: tuple[str, ...] = ()  # each as it is typed
    low: float = 0.0
    high: float = 0.0  # included
    step: float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _has_values(self) -> "Dimension":
        """As `plan` makes them; a record may say anything."""
        step = int(self.step) if self.step and self.kind == "int" else self.step
        is_step = step is None or (step > 0 and not self.log)
        is_range = self.low <= self.high and (self.low > 0 or not self.log) and is_step
        if not (self.choices if self.kind == "choice" else is_range):
            raise InputError(self.key, expected="choices or a range", received=repr(self))
        return self

    def samples(self) -> list[str]:
        """Values by which to check the setting: all choices, or both ends and what lies between."""
        if self.kind == "choice":
            return list(self.choices)
        between = [] if self.kind == "int" or self.step else [self.low + BETWEEN * (self.high - self.low)]
        return list(dict.fromkeys(self._text(number) for number in (self.low, self.high, *between)))

    def suggest(self, trial: Any) -> str:
        """The trial's value of this setting, as it is typed; the trial's own if it has one already.

        Args:
            trial: An `optuna.trial.Trial`.
        """
        if self.kind == "choice":
            return str(trial.suggest_categorical(self.key, self.choices))
        if self.kind == "int":
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return self._text(trial.suggest_int(self.key, low, high, step=step, log=self.log))
        return self._text(trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log))

    def _text(self, number: float) -> str:
        if self.kind == "int":
            return str(int(number))
        return repr(min(self.high, max(self.low, float(f"{number:.{DIGITS}g}"))))


class Pruning(Settings):
    """When a trial may be stopped early; see `foretrace.sweeps.pruning`."""

    startup_trials: PositiveInt  # that are trained to their end before any is stopped
    warmup: Fraction  # share of the epochs in which none is stopped


class Plan(Settings):
    """All that a search is begun with."""

    space: Annotated[list[Dimension], Field(min_length=1)]
    fixed: list[str]  # overrides of every trial
    n_trials: PositiveInt
    n_jobs: PositiveInt  # trials that are proposed, and handed to the launcher, at once
    seed: Annotated[int, Field(ge=0)] | None  # None: another search each time
    pruning: Pruning | None

    @property
    def names(self) -> list[str]:
        """The settings that are searched."""
        return [dimension.key.lstrip("+") for dimension in self.space]


def plan(overrides: Iterable[Override], settings: dict[str, Any]) -> Plan:
    """Tells what is searched from what is fixed.

    Args:
        overrides: As parsed; of two for the same setting the later one counts.
        settings: The sweeper's other settings.

    Raises:
        InputError: If a range cannot be searched, or there is none.
    """
    asked = {override.get_key_element().lstrip("+"): override for override in overrides}
    space = [_dimension(override) for override in asked.values() if override.is_sweep_override()]
    if not space:
        remedy = "Example: 'model.dropout=interval(0,0.5)'"
        raise InputError("the search", expected="a setting to search over", received="none", remedy=remedy)
    fixed = jobs.own(str(one.input_line) for one in asked.values() if not one.is_sweep_override())
    return read({"space": space, "fixed": list(fixed), **settings})


def read(settings: dict[str, Any]) -> Plan:
    """Checks a search's settings.

    Raises:
        InputError: If one of them cannot be used.
    """
    try:
        return parse(settings, Plan)
    except InputError as error:
        where = f"{KEY}.{error.where}"
        raise InputError(
            where, expected=error.expected, received=error.received, remedy=error.remedy
        ) from error


def check(plan: Plan, compose: Callable[[Sequence[str]], DictConfig]) -> list[TrainConfig]:
    """Composes and checks the settings with the ends of every range and each choice.

    Raises:
        InputError: If a value within a range is none that the setting may have.
    """
    usual = {dimension.key: dimension.samples()[0] for dimension in plan.space}
    checked = jobs.check([job(plan.fixed, usual)], compose)
    for dimension in plan.space:
        for sample in dimension.samples()[1:]:
            checked += jobs.check([job(plan.fixed, usual | {dimension.key: sample})], compose)
    return checked


def job(fixed: Sequence[str], values: dict[str, str]) -> Job:
    """A trial's overrides."""
    return (*fixed, *(f"{key}={value}" for key, value in values.items()))


def require_optuna() -> None:
    """Makes sure that there is what proposes the trials.

    Raises:
        InputError: If not.
    """
    if find_spec("optuna") is None:
        remedy = 'Run: pip install "foretrace[sweeps]"'
        raise InputError("a search", expected="Optuna to be installed", received="none", remedy=remedy)


def _dimension(override: Override) -> Dimension:
    key, typed = override.get_key_element(), str(override.input_line).partition("=")[2]
    value = override.value()
    tags = set(getattr(value, "tags", ()))
    if tags - {"log"} or (tags and not isinstance(value, IntervalSweep)):
        remedy = "Example: tag(log,interval(1e-4,1e-2))"
        raise InputError(key, expected="no tag but log, on an interval", received=typed, remedy=remedy)
    if isinstance(value, IntervalSweep):
        return _interval(key, typed, value)
    choices = list(override.sweep_string_iterator())
    if not choices:
        raise InputError(key, expected="a range with a value in it", received=typed)
    if isinstance(value, RangeSweep) and not value.shuffle and len(choices) > 1:
        return _range(key, [float(choice) for choice in choices], is_int="." not in choices[0])
    return Dimension(key=key, kind="choice", choices=tuple(dict.fromkeys(choices)))


def _interval(key: str, typed: str, value: IntervalSweep) -> Dimension:
    low, high, log = float(value.start or 0), float(value.end or 0), "log" in value.tags
    if not (isfinite(low) and isfinite(high) and low < high):
        raise InputError(key, expected="interval(low,high) with low < high", received=typed)
    if log and low <= 0:
        raise InputError(key, expected="low > 0 on a logarithmic scale", received=typed)
    is_int = isinstance(value.start, int) and isinstance(value.end, int)
    return Dimension(key=key, kind="int" if is_int else "float", low=low, high=high, log=log)


def _range(key: str, numbers: Sequence[float], *, is_int: bool) -> Dimension:
    """As Hydra has it: without the range's own end."""
    step = abs(numbers[1] - numbers[0])
    kind: Literal["int", "float"] = "int" if is_int else "float"
    return Dimension(key=key, kind=kind, low=min(numbers), high=max(numbers), step=step)

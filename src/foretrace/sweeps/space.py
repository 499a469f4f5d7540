"""What a search tries: ranges and choices in Hydra's override grammar, as Optuna's distributions."""

from collections.abc import Sequence
from math import isfinite
from typing import Annotated, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import Field, PositiveInt

from foretrace.config import Fraction, Settings, TrainConfig
from foretrace.config.parse import parse
from foretrace.config.run_config import check_overrides
from foretrace.errors import UserError
from foretrace.sweeps import jobs
from foretrace.sweeps.jobs import Compose

DIGITS = 5  # of a number that a search proposes; more only make names long
BETWEEN = 0.62745  # of the way between two ends: where a setting takes whole numbers only, that is none

Space = dict[str, BaseDistribution]  # by setting, with a leading + if it is to be added


class Pruning(Settings):
    """When a trial may be stopped early; see `foretrace.sweeps.search.TrialPruner`."""

    startup_trials: PositiveInt  # that are trained to their end before any is stopped
    warmup: Fraction  # share of the epochs in which none is stopped


class Plan(Settings):
    """All that a search is begun with."""

    overrides: list[str]  # as typed: what is searched, and what all trials share
    n_trials: PositiveInt
    seed: Annotated[int, Field(ge=0)] | None  # None: another search each time
    pruning: Pruning | None

    @classmethod
    def of(cls, settings: dict[str, Any]) -> "Plan":
        """Return a plan from the sweeper's settings, or from a record.

        Raises:
            UserError: If one of them cannot be used.
        """
        try:
            plan = parse(settings, cls)
        except UserError as error:
            raise UserError(f"hydra.sweeper.{error.message}", hint=error.hint) from error
        check_overrides(plan.overrides, key="the search")
        return plan

    def space(self) -> tuple[Space, list[str]]:
        """Return what is searched, and the overrides of all trials; of two for one setting the later one counts.

        Raises:
            UserError: If a range cannot be searched, or there is none.
        """
        parsed = OverridesParser.create().parse_overrides(self.overrides)
        asked = {override.get_key_element().lstrip("+"): override for override in parsed}
        searched = [override for override in asked.values() if override.is_sweep_override()]
        if not searched:
            hint = "Example: 'model.dropout=interval(0,0.5)'"
            raise UserError("a search needs a setting to search over", hint=hint)
        fixed = [str(override.input_line) for override in asked.values() if override not in searched]
        return {override.get_key_element(): _distribution(override) for override in searched}, fixed


def _distribution(override: Override) -> BaseDistribution:
    asked, value = str(override.input_line), override.value()
    jobs.check_number([override])  # a range may be of any length
    tags = set(getattr(value, "tags", ()))
    if tags - {"log"} or (tags and not isinstance(value, IntervalSweep)):
        hint = "Example: tag(log,interval(1e-4,1e-2))"
        raise UserError(f"{asked}: only an interval may have a tag, and only log", hint=hint)
    if isinstance(value, IntervalSweep):
        low, high = value.start or 0, value.end or 0
        more: dict[str, Any] = {"log": "log" in tags}
    else:
        choices = list(override.sweep_string_iterator())
        if not isinstance(value, RangeSweep) or value.shuffle or len(choices) == 1:
            return CategoricalDistribution(list(dict.fromkeys(choices)))
        ends = [float(one) if "." in choices[0] else int(one) for one in (choices[0], choices[-1])]
        low, high = sorted(ends)  # without the range's own end, as Hydra has it
        more = {"step": abs(value.step)}
    try:
        if not isfinite(high - low):
            raise ValueError("both ends must be finite")
        whole = isinstance(low, int) and isinstance(high, int)
        kind: Any = IntDistribution if whole else FloatDistribution
        return kind(low, high, **more)  # type: ignore[no-any-return]
    except ValueError as error:
        raise UserError(f"{asked}: {error}") from error


def typed(distribution: Any, value: Any) -> str:
    """Return a value as it is typed.

    >>> typed(FloatDistribution(1e-4, 1e-2, log=True), 0.00123456789)
    '0.0012346'
    """
    if not isinstance(distribution, FloatDistribution):
        return str(value)
    return repr(min(distribution.high, max(distribution.low, float(f"{value:.{DIGITS}g}"))))


def check_space(space: Space, fixed: Sequence[str], compose: Compose) -> list[TrainConfig]:
    """Return the settings with each choice, with both ends of every range, and with what lies between.

    Raises:
        UserError: If a value within a range is none that the setting may have.
    """
    samples = {key: [typed(kind, value) for value in _samples(kind)] for key, kind in space.items()}
    usual = {key: values[0] for key, values in samples.items()}
    tried = [usual] + [usual | {key: value} for key, values in samples.items() for value in values[1:]]
    settings = [[*fixed, *(f"{key}={value}" for key, value in values.items())] for values in tried]
    return [jobs.check([one], compose)[0] for one in settings]


def _samples(kind: Any) -> list[Any]:
    if isinstance(kind, CategoricalDistribution):
        return list(kind.choices)
    is_continuous = isinstance(kind, FloatDistribution) and not kind.step
    return [kind.low, kind.high, *([kind.low + BETWEEN * (kind.high - kind.low)] if is_continuous else [])]

"""What each column of a recording is for: to be predicted, known, time, episode, or passed over and why."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foretrace.config.data import Reading
from foretrace.data.tables.dialect import NUMBER, SIGNS, as_number
from foretrace.data.tables.engine import Engine, Table, listed
from foretrace.data.tables.time_formats import Texts
from foretrace.data.tables.times import (
    TIME_NAME,
    as_setting,
    find_label,
    find_time,
    is_monotonic,
    order_columns,
)
from foretrace.errors import UserError, suggest

SAMPLE_ROWS, SAMPLE_CELLS = 20_000, 400_000
MOST_CATEGORIES = 100
NUMERIC = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*")
CALENDAR = re.compile(r"(?i)(year|month|week|day|hour|minute|weekday|dayofyear|yr|mon?|dy|dow|doy)s?")
COUNTER = re.compile(
    r"(?i)(.*[._])?(no\.?|nr\.?|id|row|n|number|frame|sample|count(er)?|seq|record)|.*(index|idx)|unnamed.*|"
)
THOUSANDS = re.compile(r"[+-]?\d{1,3}(?P<mark>[,.' \u202f\xa0])\d{3}((?P=mark)\d{3})*([.,]\d+)?")
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
REASONS = {
    "boolean": "true or false",
    "time": "dates",
    "text": "text",
    "empty": "no value",
    "other": "not read",
}


@dataclass(frozen=True, kw_only=True)
class Uses:
    """What is done with each column."""

    reading: Reading  # the settings, with everything that was found out put in
    passed_over: dict[str, str]  # why a column is not used
    warnings: list[str]  # what a person should know before training
    found: str  # settings that were found out, as one would type them


def choose_uses(engine: Engine, tables: Sequence[Table], given: Reading) -> Uses:
    """Settle every column's use by the first table's rows, and by the settings.

    Raises:
        UserError: If a column that was named is absent or of no use, or what to do is the user's to say.
    """
    first, reading, notes = tables[0], given, list[str]()
    _check_named(tables, reading)
    if first.dialect and (above := first.dialect.above):
        notes.append(f"lines above the header passed over: {listed(above)}")
    texts = sample(engine, first, reading)
    bare = [t.strip(SIGNS) for column in texts.values() for t in column[:2000] if t]
    commas = [t for t in bare if DECIMAL_COMMA.fullmatch(t)]
    if first.dialect and reading.decimal is None and not all(map(THOUSANDS.fullmatch, commas)):
        reading = reading.model_copy(update={"decimal": ","})
    kinds = {name: _kind(kind, texts[name], reading) for name, (_, kind) in first.columns.items()}
    for name in (name for name, kind in kinds.items() if kind == "empty" and len(tables) > 1):
        counts = (
            f"SELECT count({t.text(name, reading)}) FROM {t.relation}" for t in tables if name in t.columns
        )
        kinds[name] = "number" if any(engine.rows(count)[0][0] for count in counts) else "empty"
    for table in tables:
        for name in (name for name in table.columns if kinds.get(name) == "boolean"):
            table.columns[name] = f"TRY_CAST({table.columns[name][0]} AS BOOLEAN)", "BOOLEAN"
    plain = {
        name: [t and as_number(t, reading) for t in column] if kinds[name] == "number" else column
        for name, column in texts.items()
    }
    reading = find_time(engine, first, kinds, plain, reading, notes)
    found = _found(given, reading)
    used = {*order_columns(reading), reading.episode_column, *reading.covariates}
    reasons = {
        name: _reason(name, kind, texts[name], reading) for name, kind in kinds.items() if name not in used
    }
    features = given.features or [name for name, reason in reasons.items() if not reason]
    passed_over = {name: reason for name, reason in reasons.items() if name not in features}
    for name in features:
        if kinds[name] in ("time", "other"):
            kind = first.columns[name][1].lower()
            raise UserError(f"{first.where}, column {name!r}: holds {kind}, not numbers")
    for name in (*features, *(name for name in reading.covariates if kinds[name] == "number")):
        rows = enumerate(texts[name], 1) if kinds[name] in ("number", "text") else ()
        bad = {text: row for row, text in reversed(list(rows)) if text and not _is_number(text, reading)}
        if bad:
            where = f"{first.where}, column {name!r}, row {min(bad.values())}"
            raise not_a_number(where, sorted(bad, key=lambda text: bad[text])[:5], found)
    if not features:
        examples = ((name, next(filter(None, texts[name]), "")) for name in list(first.columns)[:8])
        shown = ", ".join(f"{name!r} ({text[:30]!r})" for name, text in examples)
        raise UserError(f"{first.where}: no numeric column to predict among {shown}",
                        hint="Write numbers without units, and name their columns in data.features")  # fmt: skip
    if given.features is None and given.episode_column is None and {*first.folders} & {*passed_over}:
        name = next(name for name in first.folders if name in passed_over)
        hint = f"Set data.episode_column={name}{found and f' {found}'}, or data.covariates=[{name}]"
        raise UserError(
            f"{first.where}: folders give a column {name!r}, and what it means is not said", hint=hint
        )
    if unknown := [name for name in reading.units or {} if name not in (*features, *reading.covariates)]:
        hint = suggest(unknown[0], features)
        raise UserError(f"data.units: {unknown[0]!r} is no feature or covariate", hint=hint)
    units = {n: unit for n, unit in (first.dialect.units if first.dialect else {}).items() if n in features}
    if given.features is None:
        notes += _doubts(features, passed_over, texts, reading)
    signed = [name for name in features if any(text and text != text.strip(SIGNS) for text in texts[name])]
    notes += [f"signs of percent or currency dropped: {listed(signed)}"] if signed else []
    settled = {
        "features": list(features),
        "categories": _categories(engine, tables, kinds, reading, notes),
        "units": units | (reading.units or {}),
    }
    return Uses(
        reading=reading.model_copy(update=settled), passed_over=passed_over, warnings=notes, found=found
    )


def not_a_number(where: str, texts: Sequence[str], found: str) -> UserError:
    """Return the error about texts among numbers, with what to set: for thousands, or for missing values.

    Args:
        where: File, column and row of the first.
        texts: A few of them.
        found: Settings that were found out.
    """
    hint = f"Set data.missing_values=[{','.join(repr(t[:30]) for t in texts)}] data.missing=interpolate"
    matches = [THOUSANDS.fullmatch(text.strip(SIGNS)) for text in texts]
    if all(matches) and (match := matches[0]):
        mark, decimal = match["mark"], (match[3] or ".")[0]
        shown = '"\'"' if mark == "'" else f"'{mark}'"
        hint = f"Set data.thousands={shown}{'' if decimal == '.' else f' data.decimal={decimal!r}'}"
    hint += f"{found and f' {found}'}, or leave the column out by data.features"
    return UserError(f"{where}: {texts[0][:100]!r} is not a number", hint=hint)


def sample(engine: Engine, table: Table, reading: Reading) -> Texts:
    """Return the first rows of each column as texts, None where there is no value."""
    limit = max(20, min(SAMPLE_ROWS, SAMPLE_CELLS // max(len(table.columns), 1)))
    chosen = ", ".join(table.text(name, reading) for name in table.columns)
    rows = f"FROM {table.relation} WHERE NOT {table.repeats} LIMIT {limit}"
    found = engine.rows(f"SELECT {chosen} {rows}", table.where)
    if not found:
        raise UserError(f"{table.where}: not one row of values")
    return dict(zip(table.columns, zip(*found, strict=True), strict=True))


def _is_number(text: str, reading: Reading) -> bool:
    return NUMBER.fullmatch(as_number(text, reading)) is not None


def _kind(declared: str, texts: Sequence[str | None], reading: Reading) -> str:
    """Return what a column holds: number, text, boolean, time, empty or other."""
    if declared != "VARCHAR" and not declared.startswith("ENUM"):
        if NUMERIC.fullmatch(declared):
            return "number"
        if declared.startswith(("TIMESTAMP", "DATE")):
            return "time"
        return {"BOOLEAN": "boolean", '"NULL"': "empty", "TIME": "text"}.get(declared, "other")
    values = [text for text in texts if text is not None]
    if values and all(text.lower() in ("true", "false") for text in values):
        return "boolean"
    numbers = sum(_is_number(text, reading) for text in values)
    thousands = (
        0 if reading.thousands else sum(THOUSANDS.fullmatch(text.strip(SIGNS)) is not None for text in values)
    )
    return "empty" if not values else "number" if 2 * max(numbers, thousands) >= len(values) else "text"


def _numbers(texts: Sequence[str | None], reading: Reading) -> npt.NDArray[np.float64]:
    words = (as_number(text, reading) for text in texts if text)
    numbers = (float(word) for word in words if NUMBER.fullmatch(word))
    return np.array([number for number in numbers if np.isfinite(number)], np.float64)


def _reason(name: str, kind: str, texts: Sequence[str | None], reading: Reading) -> str:
    """Why a column that no setting names is passed over; empty if it is not."""
    if kind != "number":
        return REASONS[kind]
    numbers = _numbers(texts, reading) if COUNTER.fullmatch(name) else np.zeros(0)
    if len(numbers) > 2 and np.mean(np.diff(numbers) == 1) >= 0.95:
        return "only counts rows"
    if name.startswith("__index_level_"):
        return "index"
    return "" if name else "no name"


def _doubts(
    features: Sequence[str], passed_over: Mapping[str, str], texts: Texts, reading: Reading
) -> list[str]:
    """Return what is doubtful about columns that nobody named."""
    notes = []
    if passed_over:
        named = ", ".join(f"{name!r} ({reason})" for name, reason in list(passed_over.items())[:8])
        notes.append(f"columns passed over: {named}; data.features or data.covariates takes them in")
    calendar = [name for name in (*features, *passed_over) if CALENDAR.fullmatch(name)]
    if {*calendar} & {*features}:
        notes.append(f"calendar columns would be predicted: is it {as_setting(calendar)}?")
    numbers = {name: _numbers(texts[name], reading) for name in features}
    counting = list[str]()
    for name, values in numbers.items():
        if len(values) != len(texts[name]) or len(values) <= 20:
            continue
        again = np.flatnonzero(np.diff(values) != 1)  # where a counter begins again, a recording may
        is_counter = len(again) <= len(values) // 10
        if order_columns(reading):
            counting += [name] if is_counter or is_monotonic(values) else []
        elif is_monotonic(values) and len(again):
            notes.append(f"column {name!r} rises throughout: is it a counter, or {as_setting([name])}?")
        elif is_counter:
            others = [n for n, v in numbers.items() if len(v) == len(values) and n != name]
            same = [n for n in others if np.array_equal(np.flatnonzero(np.diff(numbers[n])), again)]
            also = f" data.episode_column={same[0]}" if same and len(again) else ""
            notes.append(f"column {name!r} only counts: is it {as_setting([name])}{also}?")
        elif TIME_NAME.search(name) and 10 * np.sum(np.diff(values) <= 0) <= len(values):
            label = find_label([name], texts)
            settings = f"{as_setting([name])} data.episode_column={label}"
            what = settings if label else "the time of several recordings"
            notes.append(f"column {name!r} rises and begins again: is it {what}?")
    if counting:
        told = "rises or falls throughout: if that is a count or another time, leave it out by data.features"
        notes.append(f"column(s) {listed(counting)}: {told}")
    return notes


def _check_named(tables: Sequence[Table], reading: Reading) -> None:
    chosen, order = [*(reading.features or ()), *reading.covariates], order_columns(reading)
    if reading.features == []:
        raise UserError("data.features: names no column", hint="Name at least one, or leave it null for all")
    if twice := [name for name in chosen if chosen.count(name) > 1]:
        setting = "data.covariates" if twice[0] in reading.covariates else "data.features"
        raise UserError(f"{setting}: column {twice[0]!r} is named twice")
    if reading.episode_column in (*chosen, *order):
        name = reading.episode_column
        raise UserError(f"data.episode_column: {name!r} is also a feature, a covariate or the order")
    episode = [reading.episode_column] if reading.episode_column is not None else []
    named = {"features": reading.features or (), "covariates": reading.covariates, "order_column": order,
             "episode_column": episode}  # fmt: skip
    for table in tables:
        for setting, name in ((setting, name) for setting, names in named.items() for name in names):
            if name not in table.columns:
                hint = suggest(name, table.columns)
                raise UserError(f"{table.where}: no column {name!r} (data.{setting})", hint=hint)


def _categories(
    engine: Engine, tables: Sequence[Table], kinds: Mapping[str, str], reading: Reading, notes: list[str]
) -> dict[str, list[str]]:
    """Return the texts of each covariate of texts, in their order."""
    categories = {}
    for name in reading.covariates:
        known = (reading.categories or {}).get(name)
        if kinds[name] in ("time", "other"):
            raise UserError(f"data.covariates: column {name!r} holds neither numbers nor categories")
        if kinds[name] != "text" and known is None:
            continue
        found = set[str]()
        for table in tables:
            texts = f"SELECT DISTINCT {table.text(name, reading)} AS t FROM {table.relation}"
            found |= {t for (t,) in engine.rows(f"{texts} LIMIT {MOST_CATEGORIES + 2}", table.where) if t}
        if known is None and len(found) > MOST_CATEGORIES:
            raise UserError(f"data.covariates: column {name!r} has over {MOST_CATEGORIES} categories")
        if known is not None and (strange := sorted(found - {*known})):
            notes.append(f"{name}: {listed(strange)} did not occur in training, and count as none")
        categories[name] = sorted(found) if known is None else known
    return categories


def _found(given: Reading, reading: Reading) -> str:
    """Return what was found out about the time, as one would set it."""
    order = order_columns(reading)
    settings = [as_setting(order)] if order and given.order_column is None else []
    if reading.time_format != given.time_format and reading.time_format not in ("iso", "s"):
        settings.append(f"data.time_format='{reading.time_format}'")
    return " ".join(settings)

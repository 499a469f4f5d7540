"""What each column of a recording is for: to be predicted, known, time, episode, or passed over and why."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from foretrace.config.data import Reading
from foretrace.data.tables.dialect import NUMBER, SIGNS, as_number
from foretrace.data.tables.engine import Engine, Table, listed
from foretrace.data.tables.times import (
    TIME_NAME,
    Texts,
    as_setting,
    find_label,
    find_time,
    is_monotonic,
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
class Column:
    """The first rows of a column, and what they hold."""

    kind: str  # number, text, boolean, time, empty or other
    texts: Sequence[str | None]  # None where there is no value; numbers as Python writes them

    @cached_property
    def numbers(self) -> npt.NDArray[np.float64]:
        """The finite numbers."""
        numbers = np.array(
            [float(text) for text in self.texts if text and NUMBER.fullmatch(text)], np.float64
        )
        return numbers[np.isfinite(numbers)]


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
    _check_named(tables, given)
    first, reading, notes = tables[0], given, list[str]()
    if first.dialect and first.dialect.above:
        notes.append(f"lines above the header passed over: {listed(first.dialect.above)}")
    texts = sample(engine, first, reading)
    if first.dialect and reading.decimal is None:
        bare = (text.strip(SIGNS) for column in texts.values() for text in column[:2000] if text)
        if not all(map(THOUSANDS.fullmatch, filter(DECIMAL_COMMA.fullmatch, bare))):
            reading = reading.model_copy(update={"decimal": ","})
    columns = {name: _column(kind, texts[name], reading) for name, (_, kind) in first.columns.items()}
    for name in [name for name, column in columns.items() if column.kind == "empty"]:
        others = [table for table in tables[1:] if name in table.columns]
        counts = (f"SELECT count({other.text(name, reading)}) FROM {other.relation}" for other in others)
        if any(engine.rows(count)[0][0] for count in counts):
            columns[name] = replace(columns[name], kind="number")
    for table in tables:
        for name in (name for name in table.columns if name in columns and columns[name].kind == "boolean"):
            table.columns[name] = f"TRY_CAST({table.columns[name][0]} AS BOOLEAN)", "BOOLEAN"
    kinds = {name: column.kind for name, column in columns.items()}
    reading = find_time(engine, first, kinds, {name: c.texts for name, c in columns.items()}, reading, notes)
    order = reading.order
    found = as_setting(order) if order and given.order_column is None else ""
    if reading.time_format != given.time_format and reading.time_format not in ("iso", "s"):
        found = f"{found} data.time_format='{reading.time_format}'".strip()
    used = {*order, reading.episode_column, *reading.covariates}
    reasons = {name: _reason(name, column) for name, column in columns.items() if name not in used}
    features = given.features or [name for name, reason in reasons.items() if not reason]
    passed_over = {name: reason for name, reason in reasons.items() if name not in features}
    for name in (*features, *reading.covariates):
        if kinds[name] in ("time", "other"):
            wanted = "numbers" if name in features else "numbers or categories"
            holds = first.columns[name][1].lower()
            raise UserError(f"{first.where}, column {name!r}: holds {holds}, not {wanted}")
        if kinds[name] == "number" or (kinds[name] == "text" and name in features):
            words = [(row, text) for row, text in enumerate(texts[name], 1) if text]
            bad = [(row, text) for row, text in words if not NUMBER.fullmatch(as_number(text, reading))]
            if bad:
                where = f"{first.where}, column {name!r}, row {bad[0][0]}"
                raise not_a_number(where, list(dict.fromkeys(text for _, text in bad))[:5], found)
    if not features:
        examples = ((name, next(filter(None, texts[name]), "")) for name in list(columns)[:8])
        shown = ", ".join(f"{name!r} ({text[:30]!r})" for name, text in examples)
        hint = "Write numbers without units, and name their columns in data.features"
        raise UserError(f"{first.where}: no numeric column to predict among {shown}", hint=hint)
    folder = next((name for name in first.folders if name in passed_over), None)
    if folder and given.features is None and given.episode_column is None:
        told = f"folders give a column {folder!r}, and what it means is not said"
        hint = f"Set data.episode_column={folder}{found and f' {found}'}, or data.covariates=[{folder}]"
        raise UserError(f"{first.where}: {told}", hint=hint)
    if unknown := [name for name in reading.units or {} if name not in (*features, *reading.covariates)]:
        hint = suggest(unknown[0], features)
        raise UserError(f"data.units: {unknown[0]!r} is no feature or covariate", hint=hint)
    if given.features is None:
        notes += _doubts(features, passed_over, columns, order)
    if signed := [
        name for name in features if any(text and text != text.strip(SIGNS) for text in texts[name])
    ]:
        notes.append(f"signs of percent or currency dropped: {listed(signed)}")
    units = first.dialect.units if first.dialect else {}
    settled = {
        "features": list(features),
        "categories": _categories(engine, tables, kinds, reading, notes),
        "units": {name: unit for name, unit in units.items() if name in features} | (reading.units or {}),
    }
    reading = reading.model_copy(update=settled)
    return Uses(reading=reading, passed_over=passed_over, warnings=notes, found=found)


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


def _column(declared: str, texts: Sequence[str | None], reading: Reading) -> Column:
    """Tell what a column holds by its type, or where that is text by the first rows."""
    if declared != "VARCHAR" and not declared.startswith("ENUM"):
        kinds = {"BOOLEAN": "boolean", '"NULL"': "empty", "TIME": "text"}
        date = "time" if declared.startswith(("TIMESTAMP", "DATE")) else "other"
        kind = "number" if NUMERIC.fullmatch(declared) else kinds.get(declared, date)
    else:
        values = [text for text in texts if text is not None]
        numbers = sum(NUMBER.fullmatch(as_number(text, reading)) is not None for text in values)
        if not reading.thousands:
            numbers = max(numbers, sum(THOUSANDS.fullmatch(text.strip(SIGNS)) is not None for text in values))
        kind = "empty" if not values else "number" if 2 * numbers >= len(values) else "text"
        if values and all(text.lower() in ("true", "false") for text in values):
            kind = "boolean"
    plain = [text and as_number(text, reading) for text in texts] if kind == "number" else texts
    return Column(kind=kind, texts=plain)


def _reason(name: str, column: Column) -> str:
    """Why a column that no setting names is passed over; empty if it is not."""
    if column.kind != "number":
        return REASONS[column.kind]
    if COUNTER.fullmatch(name) and len(column.numbers) > 2 and np.mean(np.diff(column.numbers) == 1) >= 0.95:
        return "only counts rows"
    return "index" if name.startswith("__index_level_") else "" if name else "no name"


def _doubts(
    features: Sequence[str],
    passed_over: Mapping[str, str],
    columns: Mapping[str, Column],
    order: Sequence[str],
) -> list[str]:
    """Return what is doubtful about columns that nobody named."""
    notes, counting = list[str](), list[str]()
    if passed_over:
        named = ", ".join(f"{name!r} ({reason})" for name, reason in list(passed_over.items())[:8])
        notes.append(f"columns passed over: {named}; data.features or data.covariates takes them in")
    calendar = [name for name in (*features, *passed_over) if CALENDAR.fullmatch(name)]
    if {*calendar} & {*features}:
        notes.append(f"calendar columns would be predicted: is it {as_setting(calendar)}?")
    whole = {name: columns[name].numbers for name in features}
    whole = {name: values for name, values in whole.items() if 20 < len(values) == len(columns[name].texts)}
    for name, values in whole.items():
        again = np.flatnonzero(np.diff(values) != 1)  # where a counter begins again, a recording may
        is_counter = len(again) <= len(values) // 10
        if order:
            counting += [name] if is_counter or is_monotonic(values) else []
        elif is_monotonic(values) and len(again):
            notes.append(f"column {name!r} rises throughout: is it a counter, or {as_setting([name])}?")
        elif is_counter:
            changing = (
                n for n in whole if n != name and np.array_equal(np.flatnonzero(np.diff(whole[n])), again)
            )
            label = next(changing, None) if len(again) else None
            episode = f" data.episode_column={label}" if label else ""
            notes.append(f"column {name!r} only counts: is it {as_setting([name])}{episode}?")
        elif TIME_NAME.search(name) and 10 * np.sum(np.diff(values) <= 0) <= len(values):
            label = find_label([name], {each: column.texts for each, column in columns.items()})
            settings = f"{as_setting([name])} data.episode_column={label}"
            what = settings if label else "the time of several recordings"
            notes.append(f"column {name!r} rises and begins again: is it {what}?")
    if counting:
        told = "rises or falls throughout: if that is a count or another time, leave it out by data.features"
        notes.append(f"column(s) {listed(counting)}: {told}")
    return notes


def _check_named(tables: Sequence[Table], reading: Reading) -> None:
    """Refuse names that are no columns, or are named for two uses."""
    if reading.features == []:
        raise UserError("data.features: names no column", hint="Name at least one, or leave it null for all")
    episode = [] if reading.episode_column is None else [reading.episode_column]
    named = {"features": reading.features or [], "covariates": reading.covariates, "episode_column": episode,
             "order_column": reading.order}  # fmt: skip
    taken = list[str]()
    for setting, name in ((setting, name) for setting, names in named.items() for name in names):
        if name in (episode if setting == "order_column" else taken):  # a feature may be the time as well
            raise UserError(f"data.{setting}: column {name!r} is named twice")
        taken.append(name)
        for table in (table for table in tables if name not in table.columns):
            hint = suggest(name, table.columns)
            raise UserError(f"{table.where}: no column {name!r} (data.{setting})", hint=hint)


def _categories(
    engine: Engine, tables: Sequence[Table], kinds: Mapping[str, str], reading: Reading, notes: list[str]
) -> dict[str, list[str]]:
    """Return the texts of each covariate of texts, in their order."""
    categories = {}
    for name in reading.covariates:
        known = (reading.categories or {}).get(name)
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

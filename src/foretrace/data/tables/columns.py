"""What each column of a recording is for: to be predicted, known, time, episode, or passed over and why."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretrace.config.data import Reading
from foretrace.data.tables.dialect import ABSENT, NUMBER, as_number
from foretrace.data.tables.engine import Engine, Source, listed, literal
from foretrace.data.tables.times import recognize, resolve_order, rises
from foretrace.errors import UserError, suggest

SAMPLE_ROWS, SAMPLE_CELLS = 20_000, 400_000
MOST_CATEGORIES = 100
NUMERIC = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|U?INTEGER|FLOAT|DOUBLE|DECIMAL.*)$")
CALENDAR = re.compile(r"(?i)(year|month|week|day|hour|minute|weekday|dayofyear|yr|mon|dow|doy)s?$")
COUNTER = re.compile(
    r"(?i).*(index|idx)|no\.?|nr\.?|id|row|n|number|frame|sample|count(er)?|seq|record|unnamed.*|"
)
THOUSANDS = re.compile(r"[+-]?\d{1,3}(?P<mark>[,.' ])\d{3}((?P=mark)\d{3})*([.,]\d+)?%?")


@dataclass(frozen=True, kw_only=True)
class Uses:
    """What is done with each column.

    Args:
        reading: The settings, with everything that was found out put in.
        passed_over: Why a column is not used.
        warnings: What a person should know before training.
        found: Settings that were found out, as one would type them.
    """

    reading: Reading
    passed_over: dict[str, str]
    warnings: tuple[str, ...]
    found: str


def choose_uses(engine: Engine, sources: Sequence[Source], reading: Reading) -> Uses:
    """Settles every column's use by the first table's rows, and by the settings.

    Raises:
        UserError: If a column that was named is absent or of no use, or what to do is the user's to say.
    """
    first = sources[0]
    for source in sources:
        _check_named(source, reading)
    sample = _Sample(engine, first)
    if first.dialect is not None and reading.decimal is None:
        reading = reading.model_copy(update={"decimal": sample.decimal_mark(reading)})
    kinds = {name: sample.kind(name, reading) for name in first.columns}
    for name in (name for name, kind in kinds.items() if kind == "empty"):
        held = [
            engine.rows(f"SELECT count({text_sql(s, name, reading)}) FROM {s.relation}", s.where)
            for s in sources
        ]
        kinds[name] = "number" if any(row[0][0] for row in held if row) else "empty"
    for source in sources:
        for name in (name for name, kind in kinds.items() if kind == "boolean" and name in source.columns):
            source.columns[name] = f"TRY_CAST({source.columns[name][0]} AS BOOLEAN)", "BOOLEAN"
    notes: list[str] = []
    given = reading
    if reading.order_column is None:
        reading = recognize(engine, first, kinds, sample.rows, reading, notes)
    else:
        reading = resolve_order(engine, first, kinds, sample.rows, reading)
    named = {*order_columns(reading), reading.episode_column, *reading.covariates, *(reading.features or ())}
    passed_over = {name: _reason(name, kind, sample) for name, kind in kinds.items() if name not in named}
    features = reading.features
    if features is None:
        features = [name for name in passed_over if not passed_over[name]]
    passed_over = {name: reason for name, reason in passed_over.items() if reason or name not in features}
    found = _found(given, reading)
    for name in features:
        if kinds[name] in ("time", "other"):
            raise UserError(
                f"{first.where}, column {name!r}: holds {first.columns[name][1].lower()}, not numbers"
            )
    for name in (*features, *reading.covariates):
        if (name in features and kinds[name] not in ("number", "boolean", "empty")) or kinds[
            name
        ] == "number":
            refuse_texts(engine, first, name, reading, found, strict=name in (given.features or ()))
    if not features:
        raise UserError(f"{first.where}: no numeric column to predict among {listed(list(first.columns))}",
                        hint="Name the columns in data.features")  # fmt: skip
    _ask_about_partitions(first, given, passed_over, found)
    if unknown := next(
        (name for name in reading.units or {} if name not in (*features, *reading.covariates)), None
    ):
        raise UserError(
            f"data.units: {unknown!r} is no feature or covariate", hint=suggest(unknown, features)
        )
    categories = _categories(engine, sources, kinds, reading, notes)
    units = {name: unit for name, unit in first.units.items() if name in features} | (reading.units or {})
    reading = reading.model_copy(
        update={"features": list(features), "categories": categories, "units": units}
    )
    notes += _doubts(features, passed_over, sample, reading) if given.features is None else []
    percent = [
        n for n in features if any(isinstance(v, str) and v.strip().endswith("%") for v in sample.rows[n])
    ]
    notes += [f"percent signs dropped: {listed(percent)}"] if percent else []
    return Uses(reading=reading, passed_over=passed_over, warnings=tuple(notes), found=found)


def number_sql(source: Source, name: str, reading: Reading) -> str:
    """SQL of a column as a DOUBLE: NULL where missing, infinite where a text is no number."""
    expression, kind = source.columns[name]
    absent = [value for value in reading.missing_values or () if not isinstance(value, str)]
    absent += [float(v) for v in reading.missing_values or () if isinstance(v, str) and NUMBER.fullmatch(v)]
    if kind == "VARCHAR":
        bare = f"rtrim({expression}, ' %\t')"
        for mark, instead in ((reading.thousands, ""), ("_", "?"), (reading.decimal, ".")):
            bare = f"replace({bare}, {literal(mark)}, '{instead}')" if mark and mark != instead else bare
        unfit = f"CASE WHEN {text_sql(source, name, reading)} IS NULL THEN NULL ELSE 'inf'::DOUBLE END"
        careful = f"coalesce(TRY_CAST({bare} AS DOUBLE), {unfit})"
        if not reading.thousands:  # most cells are plain numbers: three times as fast
            plain = (
                f"CASE WHEN contains({expression}, '_') THEN NULL ELSE TRY_CAST({expression} AS DOUBLE) END"
            )
            careful = f"coalesce({plain}, {careful})"
        number = f"nullif({careful}, 'nan'::DOUBLE)"
    else:
        number = f"nullif(CAST({expression} AS DOUBLE), 'nan'::DOUBLE)"
    if absent:
        values = ", ".join(str(float(np.float32(v) if kind == "FLOAT" else v)) for v in absent)
        number = f"(SELECT CASE WHEN n IN ({values}) THEN NULL ELSE n END FROM (SELECT {number} AS n))"
    return number


def text_sql(source: Source, name: str, reading: Reading) -> str:
    """SQL of a column as a text without spaces around it, NULL where it stands for no value."""
    expression, kind = source.columns[name]
    absent = sorted(ABSENT | {str(value) for value in reading.missing_values or ()})
    text = f"trim({expression}, ' \t')" if kind == "VARCHAR" else f"CAST({expression} AS VARCHAR)"
    return f"CASE WHEN {text} IN ({', '.join(map(literal, absent))}) THEN NULL ELSE {text} END"


def order_columns(reading: Reading) -> list[str]:
    """The columns that give the time, of which there may be none."""
    order = reading.order_column
    return [order] if isinstance(order, str) else list(order or ())


def refuse_texts(
    engine: Engine, source: Source, name: str, reading: Reading, found: str, *, strict: bool = True
) -> None:
    """Raises if a column has texts that are no numbers.

    Args:
        engine: That reads it.
        source: The table.
        name: The column.
        reading: Settings as they are known by then.
        found: Settings that were found out, for the hint.
        strict: Whether a column of texts alone is refused, too.

    Raises:
        UserError: With the first such text, its row, and what to set.
    """
    text, number = text_sql(source, name, reading), number_sql(source, name, reading)
    inner = f"SELECT row_number() OVER () AS r, {text} AS t, {number} AS n FROM {source.relation}"
    where = "isinf(n) AND lower(ltrim(t, '+-')) NOT IN ('inf', 'infinity')"
    if not strict:
        inner += f" LIMIT {SAMPLE_ROWS}"
    bad = engine.rows(
        f"SELECT t, min(r) FROM ({inner}) WHERE {where} GROUP BY t ORDER BY 2 LIMIT 5", source.where
    )
    if bad:
        texts, row = [str(text) for text, _ in bad], bad[0][1]
        raise UserError(
            f"{source.where}, column {name!r}, row {row}: {texts[0][:100]!r} is not a number",
            hint=f"{_remedy(texts, reading)}{found and f' {found}'}, or leave the column out by data.features",
        )


def _remedy(texts: list[str], reading: Reading) -> str:
    """What to set for texts that are no numbers."""
    if all(match := [THOUSANDS.fullmatch(text) for text in texts]) and match[0]:
        mark = match[0]["mark"]
        shown = '"\'"' if mark == "'" else f"'{mark}'"
        decimal = match[0][3] or ""
        further = f" data.decimal='{decimal[0]}'" if decimal and decimal[0] != "." else ""
        return f"Set data.thousands={shown}{further}"
    return f"Set data.missing_values=[{','.join(repr(t[:30]) for t in texts)}] data.missing=interpolate"


class _Sample:
    """Rows of a table by which its columns are judged."""

    def __init__(self, engine: Engine, source: Source) -> None:
        self.source = source
        limit = max(20, min(SAMPLE_ROWS, SAMPLE_CELLS // max(len(source.columns), 1)))
        chosen = ", ".join(expression for expression, _ in source.columns.values())
        found = engine.rows(f"SELECT {chosen} FROM {source.relation} LIMIT {limit}", source.where)
        if not found:
            raise UserError(f"{source.where}: not one row of values")
        self.rows = {
            name: list(column) for name, column in zip(source.columns, zip(*found, strict=True), strict=True)
        }

    def kind(self, name: str, reading: Reading) -> str:
        """number, text, boolean, time, empty or other."""
        declared = self.source.columns[name][1]
        if declared == "VARCHAR" or declared.startswith("ENUM"):
            texts = self.texts(name, reading)
            numbers = sum(NUMBER.fullmatch(as_number(text, reading)) is not None for text in texts)
            thousands = sum(THOUSANDS.fullmatch(text) is not None for text in texts)
            if texts and all(text.lower() in ("true", "false") for text in texts):
                return "boolean"
            share = (max(numbers, thousands) if not reading.thousands else numbers) / max(len(texts), 1)
            return "empty" if not texts else "number" if share >= 0.5 else "text"
        if NUMERIC.match(declared):
            return "number"
        if declared.startswith(("TIMESTAMP", "DATE")):
            return "time"
        return {"BOOLEAN": "boolean", '"NULL"': "empty", "TIME": "text"}.get(declared, "other")

    def texts(self, name: str, reading: Reading) -> list[str]:
        """Values that are there, as text."""
        absent = ABSENT | {str(value) for value in reading.missing_values or ()}
        texts = (str(value).strip() for value in self.rows[name] if value is not None)
        return [text for text in texts if text not in absent]

    def numbers(self, name: str, reading: Reading) -> np.ndarray[Any, Any]:
        """Values that are numbers."""
        texts = (as_number(text, reading).rstrip("%") for text in self.texts(name, reading))
        return np.array([float(text) for text in texts if NUMBER.fullmatch(text)])

    def decimal_mark(self, reading: Reading) -> str | None:
        """A comma, if numbers are written with one and none could be meant for thousands."""
        commas = [
            text
            for name in self.rows
            for text in self.texts(name, reading)[:2000]
            if re.fullmatch(r"[+-]?\d*,\d+([eE][+-]?\d+)?%?", text)
        ]
        return "," if any(not THOUSANDS.fullmatch(text) for text in commas) else None


def _reason(name: str, kind: str, sample: _Sample) -> str:
    """Why a column that no setting names is passed over; empty if it is not."""
    if kind != "number":
        return {"boolean": "true or false", "time": "dates", "text": "text", "empty": "no value"}.get(
            kind, "not read"
        )
    numbers = sample.numbers(name, Reading())
    if COUNTER.fullmatch(name) and len(numbers) > 2 and np.mean(np.diff(numbers) == 1) >= 0.95:
        return "only counts rows"
    return "index" if name == "" or name.startswith("__index_level_") else ""


def _doubts(
    features: Sequence[str], passed_over: Mapping[str, str], sample: _Sample, reading: Reading
) -> list[str]:
    """What is doubtful about columns that nobody named."""
    notes = []
    if passed_over:
        named = ", ".join(f"{name!r} ({reason})" for name, reason in list(passed_over.items())[:8])
        notes.append(f"columns passed over: {named}; data.features or data.covariates takes them in")
    calendar = [name for name in (*features, *passed_over) if CALENDAR.fullmatch(name)]
    if {*calendar} & {*features}:
        notes.append(f"calendar columns would be predicted: is it data.order_column=[{','.join(calendar)}]?")
    for name in features if not order_columns(reading) else ():
        numbers = sample.numbers(name, reading)
        if len(numbers) == len(sample.rows[name]) > 20 and rises(numbers):
            notes.append(f"column {name!r} rises throughout: is it a counter, or data.order_column={name}?")
    return notes


def _check_named(source: Source, reading: Reading) -> None:
    chosen = [*(reading.features or ()), *reading.covariates]
    if reading.features == []:
        raise UserError("data.features: names no column", hint="Name at least one, or leave it null for all")
    if twice := next((name for name in chosen if chosen.count(name) > 1), None):
        setting = "data.covariates" if twice in reading.covariates else "data.features"
        raise UserError(f"{setting}: column {twice!r} is named twice")
    if reading.episode_column is not None and reading.episode_column in (*chosen, *order_columns(reading)):
        raise UserError(
            f"data.episode_column: {reading.episode_column!r} is also a feature, a covariate or the order"
        )
    order, episode = order_columns(reading), [reading.episode_column]
    wanted = {
        "features": reading.features,
        "covariates": reading.covariates,
        "order_column": order,
        "episode_column": episode,
    }
    for setting, names in wanted.items():
        for name in names or ():
            if name is not None and name not in source.columns:
                raise UserError(
                    f"{source.where}: no column {name!r} (data.{setting})", hint=suggest(name, source.columns)
                )


def _ask_about_partitions(source: Source, given: Reading, passed_over: Mapping[str, str], found: str) -> None:
    folders = [name for name, (sql, _) in source.columns.items() if sql.startswith("'")]
    unused = [name for name in folders if name in passed_over]
    if unused and given.features is None and given.episode_column is None:
        raise UserError(
            f"{source.where}: folders give a column {unused[-1]!r}, and what it means is not said",
            hint=f"Set data.episode_column={unused[-1]}{found and f' {found}'}, or data.covariates=[{unused[-1]}]",
        )


def _categories(
    engine: Engine, sources: Sequence[Source], kinds: Mapping[str, str], reading: Reading, notes: list[str]
) -> dict[str, list[str]]:
    """The texts of each covariate of texts, in their order."""
    known = dict(reading.categories or {})
    for name in reading.covariates:
        if kinds[name] in ("time", "other"):
            raise UserError(f"data.covariates: column {name!r} holds neither numbers nor categories")
        if kinds[name] != "text" and name not in known:
            continue
        found = set[str]()
        for source in sources:
            texts = f"SELECT DISTINCT {text_sql(source, name, reading)} AS t FROM {source.relation}"
            found |= {
                str(text)
                for (text,) in engine.rows(f"{texts} LIMIT {MOST_CATEGORIES + 2}", source.where)
                if text
            }
        if name in known:
            strange = sorted(found - set(known[name]))
            notes += (
                [f"{name}: {listed(strange)} did not occur in training, and count as none"] if strange else []
            )
            continue
        if len(found) > MOST_CATEGORIES:
            raise UserError(f"data.covariates: column {name!r} has over {MOST_CATEGORIES} categories")
        known[name] = sorted(found)
    return {name: texts for name, texts in known.items() if name in reading.covariates}


def _found(given: Reading, reading: Reading) -> str:
    """What was found out about the time, as one would set it."""
    settings = []
    order = order_columns(reading)
    if order and given.order_column is None:
        words = [f"'{name}'" if re.search(r"[^\w.]", name) else name for name in order]
        settings.append(f"data.order_column={words[0] if len(words) == 1 else '[' + ','.join(words) + ']'}")
    if reading.time_format != given.time_format and "%" in str(reading.time_format):
        settings.append(f"data.time_format='{reading.time_format}'")
    return " ".join(settings)

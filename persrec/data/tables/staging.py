"""The rows of a table as they come: each is dropped for a reason, or checked; then users and items get numbers."""

import datetime
import os
from dataclasses import dataclass
from pathlib import Path

from persrec.data.columns import LATEST
from persrec.data.errors import SourceError
from persrec.data.tables.describing import describe_items, texts_of
from persrec.data.tables.engine import Engine
from persrec.data.tables.ledger import Ledger
from persrec.data.tables.sql import identifier, literal
from persrec.data.tables.table import EVENTS, UNITS, EventTable

MICROSECONDS = 10**6  # of a second: the finest that rows are sorted by
EXACT = 2**53  # a float holds every whole number up to here
_INTEGER_TYPES = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
_HUGE_TYPES = ("UBIGINT", "HUGEINT", "UHUGEINT")
_TEXT_TYPES = ("VARCHAR", "UUID")
_DATE_TYPES = ("DATE", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_MS", "TIMESTAMP_S", "TIMESTAMP WITH TIME ZONE")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Column:
    """A column as SQL: its raw value, NULL where it is missing, the converted one, and possible problems, as (predicate, message)."""

    name: str
    value: str
    raw_value: str
    problems: tuple[tuple[str, str], ...] = ()


class Staging:
    """One table on its way into the engine.

    Args:
        engine: with no tables yet.
        table: what to read.
    """

    def __init__(self, engine: Engine, table: EventTable) -> None:
        self.engine, self.table = engine, table
        self.scan = table.scans[EVENTS]
        self._texts = texts_of(table)

    def run(self) -> Ledger:
        """Makes the tables ``raw`` (user, item, moment, unknown, reason), ``users`` and ``items`` (raw, id), and counts what is dropped.

        Raises:
            SourceError: a file cannot be read, or a row holds what is no interaction; one line.
        """
        self._views()
        columns, reasons = self._columns()
        self._stage(columns, reasons)
        for scan in self.table.scans.values():
            scan.check_rejects(self.engine)
        self._refuse_first(columns)
        rows = self.engine.run("SELECT reason, count(*) FROM raw GROUP BY reason")
        dropped = {reason: count for reason, count in rows if reason is not None}
        ledger = Ledger(rows_in=sum(count for _, count in rows))
        if not ledger.rows_in:
            raise SourceError(f"{self.scan.place}: holds no row")
        total = self.table.expected_rows
        if total not in (None, ledger.rows_in):
            raise SourceError(
                f"{self.scan.place}: {ledger.rows_in:,} rows; {self.table.name!r} has {total:,}, and a part of them is another data set"
            )
        for reason, _ in reasons:
            ledger.drop(reason, dropped.get(reason, 0))
        for column in ("user", "item"):
            self._number(column)
        describe_items(self.engine, self.table)
        return ledger

    def _views(self) -> None:
        for name, scan in self.table.scans.items():
            self.engine.read(f"CREATE VIEW {identifier(name)} AS {scan.sql()}", scan)
        self.engine.run(f"CREATE VIEW rows AS {self.table.rows}")

    def _columns(self) -> tuple[list[_Column], list[tuple[str, str]]]:
        """The columns that are read, and the reasons to drop a row, in their order, each with its predicate."""
        table, filters = self.table, self.table.filters
        types = self.engine.types("rows")
        columns = [self._ids("user", table.user, types), self._ids("item", table.item, types), self._times(table.time, types)]
        reasons = [(f"no {column.name}", f"{column.raw_value} IS NULL") for column in columns]
        reasons += table.rules
        if table.event is not None and filters.events:
            kinds = ", ".join(literal(kind) for kind in filters.events)
            event = f"CAST({identifier(table.event)} AS VARCHAR)"
            reasons.append((f"{table.event}: another than {', '.join(filters.events)}", f"{event} IS NULL OR {event} NOT IN ({kinds})"))
        if table.rating is not None and filters.minimum_rating is not None:
            raw_value = self._raw_value(table.rating)
            value = f"TRY_CAST({raw_value} AS DOUBLE)"
            reasons.append(("no rating", f"{raw_value} IS NULL"))
            reasons.append((f"{table.rating}: below {filters.minimum_rating:g}", f"{value} < {filters.minimum_rating!r}"))
            problems = ((f"{raw_value} IS NOT NULL AND ({value} IS NULL OR isnan({value}))", "is no number"),)
            columns.append(_Column(name="rating", value=value, raw_value=raw_value, problems=problems))
        return columns, reasons

    def _stage(self, columns: list[_Column], reasons: list[tuple[str, str]]) -> None:
        table = self.table
        reason_cases = " ".join(f"WHEN {predicate} THEN {literal(reason)}" for reason, predicate in reasons)
        problem_cases = " ".join(
            f"WHEN {predicate} THEN {literal(f'{column.name}|{place}')}"
            for column in columns
            for place, (predicate, _) in enumerate(column.problems)
        )
        value_cases = " ".join(
            f"WHEN problem LIKE {literal(column.name + '|%')} THEN CAST({column.raw_value} AS VARCHAR)" for column in columns
        )
        values = ", ".join(f"{column.value} AS {name}" for column, name in zip(columns, ("user", "item", "moment"), strict=False))
        of_items = "".join(f", {expression} AS {name}" for name, expression in self._texts.items())
        file_number = (
            f"list_position([{', '.join(literal(file) for file in self.scan.files)}], filename)" if len(self.scan.files) > 1 else "1"
        )
        statement = (
            f"CREATE TABLE raw AS SELECT CASE WHEN reason IS NULL AND problem IS NULL THEN user END AS user, "
            "CASE WHEN reason IS NULL AND problem IS NULL THEN item END AS item, "
            "CAST(CASE WHEN reason IS NULL AND problem IS NULL THEN moment END AS BIGINT) AS moment, "
            "unknown, reason, CASE WHEN reason IS NULL THEN problem END AS problem, "
            f"CASE WHEN reason IS NULL THEN shown END AS shown, file{''.join(f', {name}' for name in self._texts)} "
            f"FROM (SELECT {values}, {table.unknown_time or 'false'} AS unknown, CASE {reason_cases} END AS reason, "
            f"CASE {problem_cases} END AS problem, CASE {value_cases} END AS shown, {file_number} AS file{of_items} FROM rows)"
        )
        self.engine.read(statement, *self.table.scans.values())

    def _refuse_first(self, columns: list[_Column]) -> None:
        """Raises a SourceError for the first row that is no interaction."""
        rows = self.engine.run("SELECT rowid, file, problem, shown FROM raw WHERE problem IS NOT NULL ORDER BY rowid LIMIT 1")
        if not rows:
            return
        row, file, problem, value = rows[0]
        name, place = problem.split("|")
        column = next(column for column in columns if column.name == name)
        raise SourceError(f"{self._row_place(row, file)}, column {self._column_name(name)!r}: {value!r} {column.problems[int(place)][1]}")

    def _row_place(self, row: int, file: int) -> str:
        """A row as errors name it: its file, and its number there, from 1, a header apart; of rows that are made of several, the folder."""
        if self.table.is_made:
            return f"{Path(os.path.commonpath(list(self.table.files.values())))}: row {row + 1:,} of those made of its files"
        rows_before = 0
        if len(self.scan.files) > 1:
            rows_before = self.engine.run("SELECT min(rowid) FROM raw WHERE file = ?", file)[0][0]
        return f"{self.scan.files[file - 1]}: row {row - rows_before + 1:,}"

    def _column_name(self, name: str) -> str:
        return str(getattr(self.table, name))

    def _raw_value(self, name: str) -> str:
        """SQL of a column's value, NULL where there is none, or where its text is one of those that stand for a missing value."""
        column = identifier(name)
        missing = ", ".join(literal(text) for text in self.table.filters.missing)
        return f"CASE WHEN CAST({column} AS VARCHAR) NOT IN ({missing}) THEN {column} END" if missing else column

    def _ids(self, name: str, column: str, types: dict[str, str]) -> _Column:
        kind, raw_value = self._type(name, column, types), self._raw_value(column)
        if kind in _TEXT_TYPES:
            return _Column(name=name, raw_value=raw_value, value=f"CAST({raw_value} AS VARCHAR)")
        if kind in _INTEGER_TYPES:
            return _Column(
                name=name, raw_value=raw_value, value=f"CAST({raw_value} AS BIGINT)", problems=((f"{raw_value} < 0", _NEGATIVE),)
            )
        if kind in _HUGE_TYPES:
            value = f"TRY_CAST({raw_value} AS BIGINT)"
            return _Column(
                name=name,
                raw_value=raw_value,
                value=value,
                problems=((f"{raw_value} < 0", _NEGATIVE), (f"{value} IS NULL", "does not fit 64 bits")),
            )
        if kind in ("FLOAT", "DOUBLE"):
            problems = (
                (f"{raw_value} < 0", _NEGATIVE),
                (f"{raw_value} <> floor({raw_value})", "has a fraction; expected whole numbers or texts"),
                (
                    f"NOT {raw_value} <= {EXACT}",
                    "is too large for a float to hold whole numbers exactly; expected them as integers or texts",
                ),
            )
            return _Column(name=name, raw_value=raw_value, value=f"TRY_CAST({raw_value} AS BIGINT)", problems=problems)
        raise SourceError(f"{self.scan.place}: column {column!r}, the {name}s, is of type {kind}; expected whole numbers or texts")

    def _times(self, column: str, types: dict[str, str]) -> _Column:
        times, raw_value = self.table.times, self._raw_value(column)
        kind = self._type("time", column, types)
        if kind in _DATE_TYPES:
            if times.unit is not None or times.format is not None:
                raise SourceError(
                    f"{self.scan.place}: column {column!r} holds dates ({kind}); expected neither a unit nor a format of time"
                )
            value, message = f"epoch_us(CAST({raw_value} AS TIMESTAMP))", "is no time"
        elif times.format is not None:
            if kind != "VARCHAR":
                raise SourceError(
                    f"{self.scan.place}: column {column!r} is of type {kind}; expected texts, since a format of time is given"
                )
            moment = (
                f"TRY_CAST({raw_value} AS TIMESTAMPTZ)" if times.format == "iso" else f"try_strptime({raw_value}, {literal(times.format)})"
            )
            value, message = (
                f"epoch_us({moment})",
                "is no time in ISO 8601" if times.format == "iso" else f"is no time of the format {times.format!r}",
            )
        elif times.unit is not None:
            value, message = (
                _microseconds(raw_value, times.unit, is_integer=kind in _INTEGER_TYPES),
                f"is no number of {_UNIT_NAMES[times.unit]}",
            )
        else:
            raise SourceError(
                f"{self.scan.place}: column {column!r} is of type {kind}; say the unit of its numbers or the format of its texts"
            )
        if times.relative:
            return _Column(
                name="time",
                raw_value=raw_value,
                value=f"{value} + {86400 * MICROSECONDS}",
                problems=(
                    (f"{value} IS NULL", message),
                    (f"{value} < 0", "is negative"),
                    (f"{value} > {(LATEST - 86400) * MICROSECONDS}", f"is too large; {_other_unit(times.unit)}"),
                ),
            )
        bounds = (
            (f"{value} < {_day(times.earliest)}", f"is before {times.earliest}, the earliest time allowed; {_other_unit(times.unit)}"),
            (f"{value} >= {_day(times.latest)}", f"is not before {times.latest}, the latest time allowed; {_other_unit(times.unit)}"),
        )
        return _Column(name="time", raw_value=raw_value, value=value, problems=((f"{value} IS NULL", message), *bounds))

    def _type(self, name: str, column: str, types: dict[str, str]) -> str:
        if column not in types:
            names = ", ".join(kind for kind in types if kind != "filename")
            raise SourceError(f"{self.scan.place}: no column {column!r}, which is to hold the {name}; it has {names}")
        return types[column]

    def _number(self, column: str) -> None:
        """Numbers users or items in the order of their ids: by value if all are whole numbers, else as texts by code points."""
        if self.engine.types("raw")[column] == "VARCHAR":
            other_ids = self.engine.run(
                f"SELECT 1 FROM raw WHERE CAST(TRY_CAST({column} AS BIGINT) AS VARCHAR) IS DISTINCT FROM {column} "
                f"AND {column} IS NOT NULL LIMIT 1"
            )
            if not other_ids:
                self.engine.run(f"ALTER TABLE raw ALTER {column} TYPE BIGINT")
                self._refuse_negative(column)
        self.engine.run(
            f"CREATE TABLE {column}s AS SELECT raw, row_number() OVER (ORDER BY raw) AS id "
            f"FROM (SELECT DISTINCT {column} AS raw FROM raw WHERE {column} IS NOT NULL)"
        )

    def _refuse_negative(self, column: str) -> None:
        rows = self.engine.run(f"SELECT rowid, file, {column} FROM raw WHERE {column} < 0 ORDER BY rowid LIMIT 1")
        if rows:
            row, file, value = rows[0]
            raise SourceError(f"{self._row_place(row, file)}, column {self._column_name(column)!r}: {str(value)!r} {_NEGATIVE}")


_NEGATIVE = "is negative; expected ids from 0 on (name it in filters.missing if it stands for none)"
_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


def _microseconds(raw_value: str, unit: str, *, is_integer: bool) -> str:
    """SQL of a number of ``unit`` since 1970 as whole microseconds, NULL where it is no number.

    A column of integers of 64 bits or less (``is_integer``) goes without exact decimals, which take thirty times as long.
    """
    parts = UNITS[unit]
    if is_integer:
        integer = f"CAST({raw_value} AS HUGEINT)"
        return f"{integer} // {parts // MICROSECONDS}" if parts > MICROSECONDS else f"{integer} * {MICROSECONDS // parts}"
    if parts > MICROSECONDS:
        return f"CAST(TRY_CAST({raw_value} AS DECIMAL(30, 0)) AS HUGEINT) // {parts // MICROSECONDS}"
    scale = {1: 6, 10**3: 3, 10**6: 0}[parts]
    return f"CAST(TRY_CAST({raw_value} AS DECIMAL(24, {scale})) * {MICROSECONDS // parts} AS HUGEINT)"


def _day(day: datetime.date) -> int:
    return (day - datetime.date(1970, 1, 1)).days * 86400 * MICROSECONDS


def _other_unit(unit: str | None) -> str:
    return (
        "is the time of some rows in another unit? Else widen time.earliest and time.latest"
        if unit
        else "else widen time.earliest and time.latest"
    )

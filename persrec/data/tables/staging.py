"""The rows of a table as they come: each gets a reason to be dropped, or is checked; then users and items get numbers."""

import datetime
import os
from dataclasses import dataclass
from pathlib import Path

from persrec.data.errors import SourceError
from persrec.data.tables.describing import describe_items, texts_of
from persrec.data.tables.engine import Engine
from persrec.data.tables.ledger import Ledger
from persrec.data.tables.sql import identifier, literal
from persrec.data.tables.table import EVENTS, UNITS, EventTable

MICROSECONDS = 10**6  # of a second: the finest that rows are sorted by
EXACT = 2**53  # a float holds every whole number up to here
_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
_HUGE = ("UBIGINT", "HUGEINT", "UHUGEINT")
_TEXTS = ("VARCHAR", "UUID")
_DATES = ("DATE", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_MS", "TIMESTAMP_S", "TIMESTAMP WITH TIME ZONE")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Column:
    """A column as SQL: its value, NULL where it is missing, and what may be wrong with it, as (predicate, what to say)."""

    name: str
    value: str
    given: str
    wrong: tuple[tuple[str, str], ...] = ()


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
        whole = self.table.expected_rows
        if whole not in (None, ledger.rows_in):
            raise SourceError(
                f"{self.scan.place}: {ledger.rows_in:,} rows; {self.table.name!r} has {whole:,}, and a part of them is another data set"
            )
        for reason, _ in reasons:
            ledger.drop(reason, dropped.get(reason, 0))
        for of in ("user", "item"):
            self._number(of)
        describe_items(self.engine, self.table)
        return ledger

    def _views(self) -> None:
        for name, scan in self.table.scans.items():
            self.engine.read(f"CREATE VIEW {identifier(name)} AS {scan.sql()}", scan)
        self.engine.run(f"CREATE VIEW rows AS {self.table.rows}")

    def _columns(self) -> tuple[list[_Column], list[tuple[str, str]]]:
        """What is read of each row, and the reasons to drop one, in their order, each with its predicate."""
        table, filters = self.table, self.table.filters
        types = self.engine.types("rows")
        columns = [self._ids("user", table.user, types), self._ids("item", table.item, types), self._times(table.time, types)]
        reasons = [(f"no {column.name}", f"{column.given} IS NULL") for column in columns]
        reasons += table.rules
        if table.event is not None and filters.events:
            kept = ", ".join(literal(kind) for kind in filters.events)
            event = f"CAST({identifier(table.event)} AS VARCHAR)"
            reasons.append((f"{table.event}: another than {', '.join(filters.events)}", f"{event} IS NULL OR {event} NOT IN ({kept})"))
        if table.rating is not None and filters.minimum_rating is not None:
            given = self._given(table.rating)
            value = f"TRY_CAST({given} AS DOUBLE)"
            reasons.append(("no rating", f"{given} IS NULL"))
            reasons.append((f"{table.rating}: below {filters.minimum_rating:g}", f"{value} < {filters.minimum_rating!r}"))
            wrong = ((f"{given} IS NOT NULL AND ({value} IS NULL OR isnan({value}))", "is no number"),)
            columns.append(_Column(name="rating", value=value, given=given, wrong=wrong))
        return columns, reasons

    def _stage(self, columns: list[_Column], reasons: list[tuple[str, str]]) -> None:
        table = self.table
        why = " ".join(f"WHEN {predicate} THEN {literal(reason)}" for reason, predicate in reasons)
        problems = " ".join(
            f"WHEN {predicate} THEN {literal(f'{column.name}|{place}')}"
            for column in columns
            for place, (predicate, _) in enumerate(column.wrong)
        )
        shown = " ".join(f"WHEN problem LIKE {literal(column.name + '|%')} THEN CAST({column.given} AS VARCHAR)" for column in columns)
        values = ", ".join(f"{column.value} AS {name}" for column, name in zip(columns, ("user", "item", "moment"), strict=False))
        of_items = "".join(f", {expression} AS {name}" for name, expression in self._texts.items())
        several = f"list_position([{', '.join(literal(file) for file in self.scan.files)}], filename)" if len(self.scan.files) > 1 else "1"
        staged = (
            f"CREATE TABLE raw AS SELECT CASE WHEN reason IS NULL AND problem IS NULL THEN user END AS user, "
            "CASE WHEN reason IS NULL AND problem IS NULL THEN item END AS item, "
            "CAST(CASE WHEN reason IS NULL AND problem IS NULL THEN moment END AS BIGINT) AS moment, "
            "unknown, reason, CASE WHEN reason IS NULL THEN problem END AS problem, "
            f"CASE WHEN reason IS NULL THEN shown END AS shown, file{''.join(f', {name}' for name in self._texts)} "
            f"FROM (SELECT {values}, {table.unknown_time or 'false'} AS unknown, CASE {why} END AS reason, "
            f"CASE {problems} END AS problem, CASE {shown} END AS shown, {several} AS file{of_items} FROM rows)"
        )
        self.engine.read(staged, *self.table.scans.values())

    def _refuse_first(self, columns: list[_Column]) -> None:
        """Raises a SourceError for the first row that holds what is no interaction."""
        found = self.engine.run("SELECT rowid, file, problem, shown FROM raw WHERE problem IS NOT NULL ORDER BY rowid LIMIT 1")
        if not found:
            return
        row, file, problem, shown = found[0]
        name, place = problem.split("|")
        column = next(column for column in columns if column.name == name)
        raise SourceError(f"{self._row(row, file)}, column {self._named(name)!r}: {shown!r} {column.wrong[int(place)][1]}")

    def _row(self, row: int, file: int) -> str:
        """A row as errors name it: its file, and its number there, from 1, a header apart; of rows that are made of several, the folder."""
        if self.table.is_made:
            return f"{Path(os.path.commonpath(list(self.table.files.values())))}: row {row + 1:,} of those made of its files"
        before = 0
        if len(self.scan.files) > 1:
            before = self.engine.run("SELECT min(rowid) FROM raw WHERE file = ?", file)[0][0]
        return f"{self.scan.files[file - 1]}: row {row - before + 1:,}"

    def _named(self, name: str) -> str:
        return str(getattr(self.table, name))

    def _given(self, name: str) -> str:
        """A column's value, NULL where it is missing: nothing, NaN, or a text that stands for it."""
        column = identifier(name)
        missing = ", ".join(literal(text) for text in self.table.filters.missing)
        return f"CASE WHEN CAST({column} AS VARCHAR) NOT IN ({missing}) THEN {column} END" if missing else column

    def _ids(self, name: str, column: str, types: dict[str, str]) -> _Column:
        kind, given = self._type(name, column, types), self._given(column)
        if kind in _TEXTS:
            return _Column(name=name, given=given, value=f"CAST({given} AS VARCHAR)")
        if kind in _WHOLE:
            return _Column(name=name, given=given, value=f"CAST({given} AS BIGINT)", wrong=((f"{given} < 0", _NEGATIVE),))
        if kind in _HUGE:
            value = f"TRY_CAST({given} AS BIGINT)"
            return _Column(
                name=name, given=given, value=value, wrong=((f"{given} < 0", _NEGATIVE), (f"{value} IS NULL", "does not fit 64 bits"))
            )
        if kind in ("FLOAT", "DOUBLE"):
            wrong = (
                (f"{given} < 0", _NEGATIVE),
                (f"{given} <> floor({given})", "has a fraction; expected whole numbers or texts"),
                (f"NOT {given} <= {EXACT}", "is too large for a float to hold whole numbers exactly; expected them as integers or texts"),
            )
            return _Column(name=name, given=given, value=f"TRY_CAST({given} AS BIGINT)", wrong=wrong)
        raise SourceError(f"{self.scan.place}: column {column!r}, the {name}s, is of type {kind}; expected whole numbers or texts")

    def _times(self, column: str, types: dict[str, str]) -> _Column:
        times, given = self.table.times, self._given(column)
        kind = self._type("time", column, types)
        if kind in _DATES:
            if times.unit is not None or times.format is not None:
                raise SourceError(
                    f"{self.scan.place}: column {column!r} holds dates ({kind}); expected neither a unit nor a format of time"
                )
            value, says = f"epoch_us(CAST({given} AS TIMESTAMP))", "is no time"
        elif times.format is not None:
            if kind != "VARCHAR":
                raise SourceError(
                    f"{self.scan.place}: column {column!r} is of type {kind}; expected texts, since a format of time is given"
                )
            parsed = f"TRY_CAST({given} AS TIMESTAMPTZ)" if times.format == "iso" else f"try_strptime({given}, {literal(times.format)})"
            value, says = (
                f"epoch_us({parsed})",
                "is no time in ISO 8601" if times.format == "iso" else f"is no time of the format {times.format!r}",
            )
        elif times.unit is not None:
            value, says = _microseconds(given, times.unit, whole=kind in _WHOLE), f"is no number of {_UNIT_NAMES[times.unit]}"
        else:
            raise SourceError(
                f"{self.scan.place}: column {column!r} is of type {kind}; say the unit of its numbers or the format of its texts"
            )
        if times.relative:
            return _Column(
                name="time",
                given=given,
                value=f"{value} + {86400 * MICROSECONDS}",
                wrong=((f"{value} IS NULL", says), (f"{value} < 0", "is negative")),
            )
        bounds = (
            (f"{value} < {_day(times.earliest)}", f"is before {times.earliest}, the earliest time allowed; {_other_unit(times.unit)}"),
            (f"{value} >= {_day(times.latest)}", f"is not before {times.latest}, the latest time allowed; {_other_unit(times.unit)}"),
        )
        return _Column(name="time", given=given, value=value, wrong=((f"{value} IS NULL", says), *bounds))

    def _type(self, name: str, column: str, types: dict[str, str]) -> str:
        if column not in types:
            known = ", ".join(kind for kind in types if kind != "filename")
            raise SourceError(f"{self.scan.place}: no column {column!r}, which is to hold the {name}; it has {known}")
        return types[column]

    def _number(self, of: str) -> None:
        """Numbers users or items in the order of their ids: of numbers where all are whole numbers, else of texts by code points."""
        if self.engine.types("raw")[of] == "VARCHAR":
            text = self.engine.run(
                f"SELECT 1 FROM raw WHERE CAST(TRY_CAST({of} AS BIGINT) AS VARCHAR) IS DISTINCT FROM {of} AND {of} IS NOT NULL LIMIT 1"
            )
            if not text:
                self.engine.run(f"ALTER TABLE raw ALTER {of} TYPE BIGINT")
                self._refuse_negative(of)
        self.engine.run(
            f"CREATE TABLE {of}s AS SELECT raw, row_number() OVER (ORDER BY raw) AS id "
            f"FROM (SELECT DISTINCT {of} AS raw FROM raw WHERE {of} IS NOT NULL)"
        )

    def _refuse_negative(self, of: str) -> None:
        found = self.engine.run(f"SELECT rowid, file, {of} FROM raw WHERE {of} < 0 ORDER BY rowid LIMIT 1")
        if found:
            row, file, value = found[0]
            raise SourceError(f"{self._row(row, file)}, column {self._named(of)!r}: {str(value)!r} {_NEGATIVE}")


_NEGATIVE = "is negative; expected ids from 0 on (name it in filters.missing if it stands for none)"
_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


def _microseconds(given: str, unit: str, *, whole: bool) -> str:
    """SQL of a number of ``unit`` since 1970 as whole microseconds, NULL where it is no number.

    A column of ``whole`` numbers of 64 bits or less goes without exact decimals, which take thirty times as long.
    """
    parts = UNITS[unit]
    if whole:
        exact = f"CAST({given} AS HUGEINT)"
        return f"{exact} // {parts // MICROSECONDS}" if parts > MICROSECONDS else f"{exact} * {MICROSECONDS // parts}"
    if parts > MICROSECONDS:
        return f"CAST(TRY_CAST({given} AS DECIMAL(30, 0)) AS HUGEINT) // {parts // MICROSECONDS}"
    scale = {1: 6, 10**3: 3, 10**6: 0}[parts]
    return f"CAST(TRY_CAST({given} AS DECIMAL(24, {scale})) * {MICROSECONDS // parts} AS HUGEINT)"


def _day(day: datetime.date) -> int:
    return (day - datetime.date(1970, 1, 1)).days * 86400 * MICROSECONDS


def _other_unit(unit: str | None) -> str:
    return (
        "is the time of some rows in another unit? Else widen time.earliest and time.latest"
        if unit
        else "else widen time.earliest and time.latest"
    )

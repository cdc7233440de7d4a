"""Reads and writes records: one reader, one writer, and all records of a run as types or as a table."""

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

from benchmarks.cell import Cell
from benchmarks.records.types import (
    LATER_DATA_FACTS,
    LATER_EPOCH_FACTS,
    LATER_FACTS,
    LATER_METRIC_FACTS,
    LATER_ORIGIN_FACTS,
    LATER_PARTS,
    LATER_PROCESS_FACTS,
    SCHEMA_VERSION,
    Cost,
    Record,
)
from benchmarks.settings import LATER_FIELDS

if TYPE_CHECKING:
    import pandas as pd


_HUGE = re.compile(rb"[0-9]{19}")


class RecordError(ValueError):
    """A record cannot be read; the message is one line that names the file.

    ``is_newer`` where a later program wrote it: that one is not ours to replace.
    """

    def __init__(self, message: str, *, is_newer: bool = False) -> None:
        super().__init__(message)
        self.is_newer = is_newer


class RunRecords(Sequence[Record]):
    """The records of one run, in the order of their cells' settings."""

    def __init__(self, records: Iterable[Record]) -> None:
        """Sorts them."""
        self._records = tuple(sorted(records, key=_order))

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def frame(self) -> "pd.DataFrame":
        """A row per record: its keys, status and settings, and per metric its value, with its interval where any record has one."""
        import pandas as pd  # noqa: PLC0415 - takes a moment, and who reads single records needs none

        settings = [setting.name for setting in dataclasses.fields(Cell)]
        metrics = sorted({name for record in self for name in record.metrics})
        bounded = {name for record in self for name, metric in record.metrics.items() if metric.low is not None}
        columns = ["cell_key", "quality_key", "cost_key", "status", *settings]
        for name in metrics:
            columns += [name, f"{name}_low", f"{name}_high"] if name in bounded else [name]
        return pd.DataFrame([_row(record, settings, bounded) for record in self], columns=columns, dtype=object)


def load_records(folder: Path | str) -> RunRecords:
    """All records of a run, ``folder/cells/*.json``.

    Raises:
        RecordError: the folder is not there, or a record does not hold up; the message names the file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordError(f"{folder}: no such folder of results")
    return RunRecords(read_record(path) for path in record_files(folder))


def record_files(folder: Path) -> list[Path]:
    """The files of a run's records, by name."""
    return sorted(path for path in (folder / "cells").glob("*.json") if not path.name.startswith("."))


def read_record(path: Path) -> Record:
    """One cell's record.

    Raises:
        RecordError: the file is no JSON, is no record, or was written in another schema version.
    """
    values = read_json(path, again="run")
    record = _typed(values, Record, where=str(path), what="a record of a cell")
    check_settings(values["cell"], where=str(path))
    if record.cell_key != path.stem:
        raise RecordError(f"{path}: cell_key is {record.cell_key[:80]!r}; expected {path.stem}, as the file's name")
    return record


def read_cost(path: Path) -> Cost:
    """One shape's cost; fails as `read_record`."""
    cost = _typed(read_json(path, again="run"), Cost, where=str(path), what="a record of a cost")
    if cost.cost_key != path.stem:
        raise RecordError(f"{path}: cost_key is {cost.cost_key[:80]!r}; expected {path.stem}, as the file's name")
    return cost


def record_of(values: Mapping[str, Any], *, where: str = "record") -> Record:
    """A record from plain JSON values; fails as `read_record`, with ``where`` in the file's place."""
    return _typed(values, Record, where=where, what="a record of a cell")


def to_json(record: Record | Cost) -> bytes:
    """The bytes of a record's file: the same record gives the same bytes.

    Raises:
        ValueError: a number is not finite; JSON has no word for it.
    """
    return json.dumps(to_dict(record), indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def to_dict(record: Record | Cost) -> dict[str, Any]:
    """Plain JSON values."""
    values: dict[str, Any] = msgspec.to_builtins(record)
    for part in (values, *(part for name in ("groups", "protocols", "processes") for part in values.get(name, ()))):
        for metric in part["metrics"].values():
            _leave_out(metric, LATER_METRIC_FACTS)
    for process in values.get("processes", ()):
        _leave_out(process, LATER_PROCESS_FACTS)
    if isinstance(record, Record):
        values["cell"] = record.cell.to_dict()
        values["parts"] = {part.kind: part.to_dict() for part in record.parts.all()}
        _leave_out(values, LATER_PARTS)
        for half in (values["quality"], values["cost"]):
            _leave_out(half or {}, LATER_ORIGIN_FACTS)
        if record.dataset is not None:
            _leave_out(values["dataset"], LATER_DATA_FACTS)
        if record.model is not None:
            _leave_out(values["model"], LATER_FACTS)
            for epoch in values["model"]["curve"]:
                _leave_out(epoch, LATER_EPOCH_FACTS)
    return values


def _leave_out(values: dict[str, Any], later: Mapping[str, Any]) -> None:
    """Leaves out facts that came after the first records where they are as they were then, so that a record keeps its bytes."""
    for name in later.keys() & values.keys():
        if values[name] == later[name]:
            del values[name]


def schema() -> dict[str, Any]:
    """The JSON Schema of both files."""
    (cell, cost), definitions = msgspec.json.schema_components((Record, Cost), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Records, schema version {SCHEMA_VERSION}",
        "description": "cells/KEY.json is a Record, costs/KEY.json is a Cost.",
        "anyOf": [cell, cost],
        "$defs": definitions,
    }


def read_json(path: Path, *, again: str) -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        again: what to do once a broken file is removed, for the message.

    Raises:
        RecordError: it cannot be read, or is no JSON.
    """
    try:
        content = path.read_bytes()
        values = msgspec.json.decode(content)
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise RecordError(f"{path}: not a whole JSON file ({error}); remove it and {again} again") from error
    if _HUGE.search(content) and (huge := next(_huge_numbers(values), None)) is not None:
        raise RecordError(f"{path}: holds the number {str(huge)[:20]}..., beyond 64 bits; remove it and {again} again")
    return values


def _huge_numbers(values: object) -> Iterator[int]:
    """Whole numbers beyond 64 bits, which no measure gives and no float holds."""
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _huge_numbers(value)
    elif isinstance(values, int) and not -(2**63) <= values < 2**63:
        yield values


Typed = TypeVar("Typed")


def typed(values: object, kind: type[Typed], *, where: str, what: str) -> Typed:
    """``values`` as ``kind``.

    Raises:
        RecordError: a field is missing or of another type; the message names it.
    """
    try:
        return msgspec.convert(values, kind)
    except (ValueError, RecursionError, OverflowError) as error:
        raise RecordError(f"{where}: is no {what.removeprefix('a ')}: {error}") from error


def check_version(values: object, *, known: int, where: str, what: str) -> None:
    """Refuses what another version wrote.

    Raises:
        RecordError: the values are no table, hold no version, or another one than ``known``.
    """
    version = values.get("schema_version") if isinstance(values, dict) else None
    if type(version) is not int:
        raise RecordError(f"{where}: is no {what.removeprefix('a ')}: expected a table with a schema_version")
    if version > known:
        raise RecordError(f"{where}: written in schema version {version}; this program knows version {known}, update it", is_newer=True)
    if version < known:
        raise RecordError(f"{where}: written in schema version {version}, this program knows version {known}; remove it and run again")


def read_typed(path: Path, kind: type[Typed], *, version: int, what: str, again: str) -> Typed:
    """The content of a JSON file of its own schema as ``kind``.

    Args:
        path: the file.
        kind: the class of its content.
        version: the schema version that this program knows.
        what: what the file should be, for the message.
        again: what to do once a broken file is removed, for the message.

    Raises:
        RecordError: the file cannot be read, is of another version, or is no such record; the message is one line that names it.
    """
    values = read_json(path, again=again)
    check_version(values, known=version, where=str(path), what=what)
    return typed(values, kind, where=str(path), what=what)


def check_settings(cell: Iterable[str], *, where: str) -> None:
    """Refuses the settings of a cell that this program does not know.

    Raises:
        RecordError: there is one; the message names the first.
    """
    unknown = sorted(set(cell) - {setting.name for setting in dataclasses.fields(Cell)})
    if unknown:
        raise RecordError(f"{where}: cell: no such setting {unknown[0][:80]!r}; this program does not know it")


def _typed(values: object, kind: type[Typed], *, where: str, what: str) -> Typed:
    check_version(values, known=SCHEMA_VERSION, where=where, what=what)
    if isinstance(values, dict) and isinstance(values.get("cell"), dict):
        values = {**values, "cell": {**LATER_FIELDS, **values["cell"]}}
    return typed(values, kind, where=where, what=what)


def _row(record: Record, settings: Sequence[str], bounded: set[str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "cell_key": record.cell_key,
        "quality_key": record.quality.key if record.quality else None,
        "cost_key": record.cost.key if record.cost else None,
        "status": record.status.value,
    }
    for name in settings:
        value = getattr(record.cell, name)
        row[name] = "+".join(map(str, value)) if isinstance(value, tuple) else value
    for name, metric in record.metrics.items():
        row[name] = metric.value
        if name in bounded:
            row[f"{name}_low"], row[f"{name}_high"] = metric.low, metric.high
    return row


def _order(record: Record) -> tuple[str, ...]:
    return (*(_sortable(getattr(record.cell, setting.name)) for setting in dataclasses.fields(Cell)), record.cell_key)


def _sortable(value: object) -> str:
    """Text that sorts as the value does, numbers by size."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return f"{value:030.10f}"
    return str(list(value)) if isinstance(value, tuple) else str(value)

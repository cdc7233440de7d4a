"""What we send a tracker of a run: each cell's settings, its numbers and where they come from. Imports no tracker."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.cell import DEFAULTS
from benchmarks.grids.selection import show
from benchmarks.labels import Labels
from benchmarks.records import Record

_REFUSED_CHARACTERS = re.compile(r"[^\w\-. /:]", re.ASCII)  # what a tracker's names may not hold
_ALWAYS = ("backbone", "compression", "dataset", "history", "recent", "tokens", "seed", "device")


@dataclass(frozen=True, kw_only=True, slots=True)
class CellEntry:
    """One cell as a tracker keeps it."""

    name: str
    settings: dict[str, str]
    numbers: dict[str, float]
    tags: dict[str, str]


def entries(records: Sequence[Record]) -> Iterator[CellEntry]:
    """An entry for each record, in their order."""
    labels = Labels.of([record.cell for record in records], [part for record in records for part in record.parts.all()])
    return (_entry(record, labels(record.cell)) for record in records)


def number_name(metric: str) -> str:
    """A metric's name as a tracker takes it: ``ndcg_at_10``."""
    return _REFUSED_CHARACTERS.sub("_", metric.replace("@", "_at_"))


def _entry(record: Record, name: str) -> CellEntry:
    values = record.cell.to_dict()
    settings = {key: show(getattr(record.cell, key)) for key, value in values.items() if key in _ALWAYS or value != DEFAULTS.get(key)}
    numbers: dict[str, float] = {}
    for metric, entry in record.metrics.items():
        for suffix, value in (("", entry.value), ("_low", entry.low), ("_high", entry.high)):
            if value is not None and math.isfinite(value):
                numbers[number_name(metric) + suffix] = float(value)
    tags = {"cell_key": record.cell_key, "status": record.status.value, "commit": record.provenance.commit or "unknown"}
    if record.model is not None and record.model.converged is not None:
        tags["converged"] = str(record.model.converged).lower()
    if record.provenance.rerun:
        tags["rerun"] = record.provenance.rerun
    return CellEntry(name=name, settings=settings, numbers=numbers, tags=tags)

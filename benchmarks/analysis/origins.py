"""Where numbers come from: the measurement of each quality and of each cost, and the code that took it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.records import Origin, Record

Half = Literal["quality", "cost"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One measurement, and the cells whose numbers it gave; several share a cost."""

    half: Half
    origin: Origin
    cells: tuple[Record, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class OlderCode:
    """Measurements of one half by other code of one kind than the newest measurement of that kind."""

    half: Half
    kind: str
    newest: str
    older: tuple[str, ...]
    cells: tuple[Record, ...]
    stale: int
    total: int


def sources(records: Iterable[Record]) -> list[Source]:
    """Every measurement once, qualities first. A cell that ended before either was begun stands as a quality of its own."""
    found: dict[tuple[Half, str], tuple[Origin, list[Record]]] = {}
    for record in records:
        for half, origin in _halves(record):
            found.setdefault((half, origin.key), (origin, []))[1].append(record)
    every = [Source(half=half, origin=origin, cells=tuple(cells)) for (half, _), (origin, cells) in found.items()]
    return sorted(every, key=lambda source: source.half == "cost")


def timings(every: Sequence[Source]) -> list[Source]:
    """The measurements whose machine tells: of costs."""
    return [source for source in every if source.half == "cost"]


def older_code(every: Sequence[Source]) -> list[OlderCode]:
    """By half and kind of number: what was measured by other code than the newest was."""
    halves: tuple[Half, ...] = ("quality", "cost")
    found = []
    for half in halves:
        own = [source for source in every if source.half == half]
        for kind in sorted({kind for source in own for kind in source.origin.code}):
            taken = [source for source in own if kind in source.origin.code]
            newest = max(taken, key=lambda source: (source.origin.provenance.utc, source.origin.key)).origin.code[kind]
            stale = [source for source in taken if source.origin.code[kind] != newest]
            if stale:
                found.append(
                    OlderCode(
                        half=half,
                        kind=kind,
                        newest=newest,
                        older=tuple(sorted({source.origin.code[kind] for source in stale})),
                        cells=tuple(cell for source in stale for cell in source.cells),
                        stale=len(stale),
                        total=len(taken),
                    )
                )
    return found


def _halves(record: Record) -> Iterator[tuple[Half, Origin]]:
    if record.quality is not None:
        yield "quality", record.quality
    if record.cost is not None:
        yield "cost", record.cost
    if record.quality is None and record.cost is None:
        yield (
            "quality",
            Origin(key=record.cell_key, status=record.status, environment=record.environment, provenance=record.provenance),
        )

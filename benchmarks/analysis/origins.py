"""Where numbers come from: the measurement of each quality and of each cost, and the code that took it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
    """Measurements of one half by other code than the newest measurement's; ``kinds`` are the kinds of number that differ alike."""

    half: Half
    kinds: tuple[str, ...]
    newest: str
    older: tuple[str, ...]
    cells: tuple[Record, ...]
    stale: int
    total: int


def sources(records: Iterable[Record]) -> list[Source]:
    """Every measurement once, qualities first. A cell that ended before either was begun stands as a quality of its own."""
    by_measurement: dict[tuple[object, ...], Source] = {}
    for record in records:
        for half, origin in _halves(record):
            taken = (half, origin.key, origin.provenance.utc, *sorted(origin.code.items()))
            source = by_measurement.get(taken, Source(half=half, origin=origin, cells=()))
            by_measurement[taken] = replace(source, cells=(*source.cells, record))
    return sorted(by_measurement.values(), key=lambda source: source.half == "cost")


def timings(every: Sequence[Source]) -> list[Source]:
    """The measurements whose machine tells: of costs."""
    return [source for source in every if source.half == "cost"]


def older_code(every: Sequence[Source]) -> list[OlderCode]:
    """What was measured by other code than the newest measurement of its half and kind was."""
    halves: tuple[Half, ...] = ("quality", "cost")
    older_codes: list[OlderCode] = []
    for half in halves:
        own = [source for source in every if source.half == half]
        for kind in sorted({kind for source in own for kind in source.origin.code}):
            older = _older(half, kind, [source for source in own if kind in source.origin.code])
            if older is None:
                continue
            alike = next((one for one in older_codes if replace(one, kinds=(kind,)) == older), None)
            if alike is None:
                older_codes.append(older)
            else:
                older_codes[older_codes.index(alike)] = replace(alike, kinds=(*alike.kinds, kind))
    return older_codes


def _older(half: Half, kind: str, taken: Sequence[Source]) -> OlderCode | None:
    newest = max(taken, key=lambda source: (source.origin.provenance.utc, source.origin.key)).origin.code[kind]
    stale = [source for source in taken if source.origin.code[kind] != newest]
    if not stale:
        return None
    return OlderCode(
        half=half,
        kinds=(kind,),
        newest=newest,
        older=tuple(sorted({source.origin.code[kind] for source in stale})),
        cells=tuple(cell for source in stale for cell in source.cells),
        stale=len(stale),
        total=len(taken),
    )


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

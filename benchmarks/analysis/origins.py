"""Where numbers come from: the measurement of each quality and of each cost, and the code that took it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.measures import MEASURES
from benchmarks.records import Half, Metric, Origin, Record


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One measurement, and the cells whose numbers it gave; several share a cost."""

    half: Half
    origin: Origin
    cells: tuple[Record, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class OlderCode:
    """Measurements of one half by other code than the newest measurement's; ``kinds`` are the kinds of number for which that holds alike.

    ``newest`` and ``older`` are commits; ``total`` are the measurements of the half.
    """

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
            key = (half, origin.key, origin.provenance.utc, *sorted(origin.code.items()))
            source = by_measurement.get(key, Source(half=half, origin=origin, cells=()))
            by_measurement[key] = replace(source, cells=(*source.cells, record))
    return sorted(by_measurement.values(), key=lambda source: source.half == "cost")


def timings(every: Sequence[Source]) -> list[Source]:
    """The measurements that depend on the machine: of costs that hold a time. Counts are the same on every machine."""
    return [source for source in every if source.half == "cost" and any(map(holds_a_time, source.cells))]


def holds_a_time(record: Record) -> bool:
    """Whether its cost has a number that depends on the machine that took it."""
    return are_timed(record.metrics)


def are_timed(metrics: Mapping[str, Metric]) -> bool:
    """Whether some of the numbers are of a cost that depends on the machine that took it."""
    names = (name for name, metric in metrics.items() if metric.value is not None)
    return any(MEASURES[name].group == "cost" and not MEASURES[name].is_gated for name in names if name in MEASURES)


def older_code(every: Sequence[Source]) -> list[OlderCode]:
    """Measurements by other code than that of the newest measurement of their half and kind."""
    halves: tuple[Half, ...] = ("quality", "cost")
    older_codes: list[OlderCode] = []
    for half in halves:
        own = [source for source in every if source.half == half]
        for kind in sorted({kind for source in own for kind in source.origin.code}):
            older = _older(half, kind, [source for source in own if kind in source.origin.code], total=len(own))
            if older is None:
                continue
            alike = next((one for one in older_codes if replace(one, kinds=(kind,)) == older), None)
            if alike is None:
                older_codes.append(older)
            else:
                older_codes[older_codes.index(alike)] = replace(alike, kinds=(*alike.kinds, kind))
    return older_codes


def _older(half: Half, kind: str, measurements: Sequence[Source], *, total: int) -> OlderCode | None:
    """Compares measurements of the same parts alone: a digest holds the code of a cell's own parts, so those of other parts differ."""
    by_parts: dict[tuple[object, ...], list[Source]] = {}
    for source in measurements:
        by_parts.setdefault(_parts(source), []).append(source)
    newest: list[Source] = []
    stale: list[Source] = []
    for alike in by_parts.values():
        last = max(alike, key=lambda source: (source.origin.provenance.utc, source.origin.key))
        older = [source for source in alike if source.origin.code[kind] != last.origin.code[kind]]
        newest += [last] if older else []
        stale += older
    if not stale:
        return None
    return OlderCode(
        half=half,
        kinds=(kind,),
        newest=_commit(newest[0]),
        older=tuple(sorted(set(map(_commit, stale)))),
        cells=tuple(cell for source in stale for cell in source.cells),
        stale=len(stale),
        total=total,
    )


def _commit(source: Source) -> str:
    return (source.origin.provenance.commit or "unknown")[:12]


def _parts(source: Source) -> tuple[object, ...]:
    cell = source.cells[0].cell
    return cell.backbone, cell.compression, cell.dataset, cell.control, cell.distillation > 0  # a teacher brings its own code


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

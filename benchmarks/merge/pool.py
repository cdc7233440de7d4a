"""Pools the records of several folders: qualities of all machines, timings of one.

A quality belongs to a cell: seeds and cells of several machines stand side by side, and what two folders measured must agree. A timing
belongs to a machine, known by its environment's fingerprint. A *view* holds the timings of one machine per device; of a shape that only
other machines measured, it holds the counts and peaks alone. Processes of one machine and of the same code are pooled.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.analysis.origins import are_timed
from benchmarks.measures import MEASURES, Measure
from benchmarks.records import Cost, Metric, Process, Record, RecordError, Status, load_records, read_cost
from benchmarks.run.assemble import CostHalf, half_of, known_cost, known_quality, with_cost
from benchmarks.run.processes import heaviest_load, over_processes, with_load

UNKNOWN = "unknown"  # the fingerprint of a machine that a record does not tell


class ConflictError(ValueError):
    """Two folders give one deterministic number two values; the message is one line that names both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """What one folder holds."""

    path: Path
    records: Mapping[str, Record]
    costs: Mapping[str, Cost]

    @classmethod
    def read(cls, path: Path) -> "Folder":
        """All records and costs of a run.

        Raises:
            RecordError: the folder is not there, holds no record, or one that does not hold up.
        """
        records = {record.cell_key: record for record in load_records(path)}
        if not records:
            raise RecordError(f"{path / 'cells'}: no record, so there is nothing to merge")
        costs = (read_cost(file) for file in sorted((path / "costs").glob("[!.]*.json")))
        return cls(path=path, records=records, costs={cost.cost_key: cost for cost in costs})

    def cost_of(self, record: Record) -> "Measured | None":
        """The cost of a record, with its processes where the folder holds them."""
        half = known_cost(record)
        if half is None:
            return None
        shared = self.costs.get(half.origin.key)
        is_whole = shared is not None and shared.origin() == half.origin
        return Measured(folder=self.path, device=record.cell.device, half=half, cost=shared if is_whole else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A shape's cost as one folder has it; ``cost`` is None where its processes were not kept."""

    folder: Path
    device: str
    half: CostHalf
    cost: Cost | None

    @property
    def machine(self) -> str:
        """The fingerprint of the machine that took it."""
        return self.half.origin.environment.fingerprint or UNKNOWN


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A run's records with the timings of one machine per device; ``elsewhere`` are the shapes that others alone have timed."""

    records: tuple[Record, ...]
    costs: tuple[Cost, ...]
    elsewhere: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """Records of several folders that do not contradict each other.

    Attributes:
        folders: in the order of the call: the first that has a thing gives it.
        qualities: by cell, the record whose quality is used, and its folder.
        costs: by shape, what each folder has.
        machines: by device, the fingerprints that measured something on it; first the main one of the first folder that timed something.
    """

    folders: tuple[Folder, ...]
    qualities: Mapping[str, tuple[Record, Path]]
    costs: Mapping[str, tuple[Measured, ...]]
    machines: Mapping[str, tuple[str, ...]]

    def view(self, machines: Mapping[str, str]) -> View:
        """With the timings of one machine per device."""
        halves, costs, elsewhere = {}, [], set()
        for key, of_shape in self.costs.items():
            own = [one for one in of_shape if one.machine == machines[one.device]]
            halves[key], cost = _pooled(own) if own else (_counted_alone(_first_ok(of_shape)), None)
            costs += [cost] if cost is not None else []
            elsewhere |= set() if own else {key}
        records = (self._record(key, machines, halves) for key in self.qualities)
        return View(records=tuple(records), costs=tuple(costs), elsewhere=frozenset(elsewhere))

    def _record(self, key: str, machines: Mapping[str, str], halves: Mapping[str, CostHalf]) -> Record:
        """A cell with its shape's cost; a cost that was measured for this cell alone, as in the first records, stays its own."""
        record, _ = self.qualities[key]
        cells = ((folder, folder.records.get(key)) for folder in self.folders)
        of_cell = [cost for folder, one in cells if one is not None and (cost := folder.cost_of(one)) is not None]
        if not of_cell:
            return record
        own = next((one for one in of_cell if one.machine == machines[one.device]), None)
        is_alone = own is not None and own.cost is None
        return with_cost(record, own.half if own is not None and is_alone else halves[of_cell[0].half.origin.key])


def pool(folders: Sequence[Folder]) -> Pool:
    """Pools folders.

    Raises:
        ConflictError: they contradict each other.
    """
    qualities: dict[str, tuple[Record, Path]] = {}
    costs: dict[str, list[Measured]] = {}
    for folder in folders:
        for key, record in folder.records.items():
            if key in qualities:
                _check_quality(qualities[key], (record, folder.path))
            if key not in qualities or _rank(record) > _rank(qualities[key][0]):
                qualities[key] = record, folder.path
            cost = folder.cost_of(record)
            of_shape = costs.setdefault(cost.half.origin.key, []) if cost is not None else []
            if cost is not None and cost not in of_shape:
                _check_counts(of_shape, cost)
                of_shape.append(cost)
    return Pool(
        folders=tuple(folders),
        qualities=qualities,
        costs={key: tuple(of_shape) for key, of_shape in costs.items()},
        machines=_machines([one for of_shape in costs.values() for one in of_shape], [folder.path for folder in folders]),
    )


def _rank(record: Record) -> tuple[bool, bool]:
    """A quality that ended well before one that did not, before none."""
    return record.quality is not None and record.quality.status is Status.OK, record.quality is not None


def _machines(measurements: Iterable[Measured], order: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    """The machines of each device: first that of the earliest folder that timed something on it, of several the one that timed the most.

    Machines of costs that hold no time come last.
    """
    by_device: dict[str, dict[str, list[tuple[bool, int]]]] = {}
    for one in measurements:
        of_machine = by_device.setdefault(one.device, {}).setdefault(one.machine, [])
        of_machine.append((are_timed(one.half.metrics), order.index(one.folder)))

    def rank(costs: Sequence[tuple[bool, int]]) -> tuple[bool, int, int]:
        timed = [place for is_timed, place in costs if is_timed]
        places = timed or [place for _, place in costs]
        return not timed, min(places), -len(places)

    return {
        device: tuple(sorted(machines, key=lambda machine: (*rank(machines[machine]), machine))) for device, machines in by_device.items()
    }


def _pooled(own: Sequence[Measured]) -> tuple[CostHalf, Cost | None]:
    """One machine's cost of a shape: the newest code's, with the processes of every folder of that code. Brief and full ones do not mix."""
    newest = max(own, key=lambda one: (one.half.origin.status is Status.OK, not _is_brief(one.cost), one.half.origin.provenance.utc))
    of_code = [one.cost for one in own if one.cost is not None and one.cost.code == newest.half.origin.code and one.cost.processes]
    alike = [cost for cost in of_code if _is_brief(cost) == _is_brief(newest.cost)]
    if newest.cost is None or len(alike) < 2:
        return newest.half, newest.cost
    processes: list[Process] = []
    for cost in alike:
        processes += [process for process in cost.processes if process not in processes]
    environment = with_load(newest.cost.environment, heaviest_load(processes))
    metrics = over_processes([process.metrics for process in processes])
    pooled = replace(newest.cost, processes=tuple(processes), metrics=metrics, environment=environment)
    return half_of(pooled), pooled


def _is_brief(cost: Cost | None) -> bool:
    return cost is not None and any(process.brief for process in cost.processes)


def _first_ok(costs: Sequence[Measured]) -> Measured:
    return next((one for one in costs if one.half.origin.status is Status.OK), costs[0])


def _counted_alone(one: Measured) -> CostHalf:
    """Another machine's cost without its timings: counts and peaks of memory stay; a timing has no value, and says where it was taken."""
    machine = f"timed on another machine alone, environment {one.machine[:12]}"
    metrics = {
        name: metric
        if name in MEASURES and MEASURES[name].is_gated
        else replace(metric, value=None, low=None, high=None, n=0, samples=(), method=machine)
        for name, metric in one.half.metrics.items()
    }
    return replace(one.half, metrics=metrics)


def _check_quality(ours: tuple[Record, Path], theirs: tuple[Record, Path]) -> None:
    """Refuses two qualities of one cell that differ by more than they may."""
    (one, folder), (other, other_folder) = ours, theirs
    first, second = known_quality(one), known_quality(other)
    if first is None or second is None:
        return
    is_same = one.cell.device == "cpu" and _made_by(one) == _made_by(other)
    where = "by the same code on one machine, where it has to be the same" if is_same else "and may differ by {margin:.3g}"
    for name, difference in _differences(first.metrics, second.metrics, exactly=is_same):
        rule = where.format(margin=difference[2])
        raise ConflictError(_conflict(one, name, (folder, other_folder), difference[:2], rule))


def _check_counts(costs: Sequence[Measured], new: Measured) -> None:
    """Refuses counts of one shape that differ: they are the same on every machine."""
    for one in costs:
        counts, others = ({name: metric for name, metric in m.half.metrics.items() if _is_counted(name)} for m in (one, new))
        for name, (value, other, margin) in _differences(counts, others, exactly=False):
            raise ConflictError(
                f"cost {new.half.origin.key[:12]}: {name} is {value!r} in {one.folder} and {other!r} in {new.folder}, and may differ by "
                f"{margin:.3g}: it is counted, the same on every machine; nothing is merged, measure one of them again"
            )


def _conflict(record: Record, name: str, folders: tuple[Path, Path], values: Sequence[float], rule: str) -> str:
    cell = f"{record.cell.backbone}, {record.cell.compression}, {record.cell.tokens} tokens, seed {record.cell.seed}"
    first, second = (f"{value!r} in {folder}" for value, folder in zip(values, folders, strict=True))
    return f"cell {record.cell_key[:12]} ({cell}): {name} is {first} and {second}, {rule}; nothing is merged, measure one of them again"


def _differences(
    ours: Mapping[str, Metric], theirs: Mapping[str, Metric], *, exactly: bool
) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Deterministic numbers that both have and that differ by more than they may: both values, and by how much they may differ."""
    for name in sorted(ours.keys() & theirs.keys()):
        measure: Measure | None = MEASURES.get(name)
        value, other = ours[name].value, theirs[name].value
        if measure is None or not measure.deterministic or value is None or other is None:
            continue
        margin = 0.0 if exactly else measure.margin(value)
        if abs(value - other) > margin:
            yield name, (value, other, margin)


def _made_by(record: Record) -> tuple[object, ...]:
    """The machines that evaluated and trained, and the code of a record's quality; unlike any other where they are not known."""
    if record.quality is None:
        return (object(),)
    return record.quality.environment.fingerprint or object(), record.trained_on, sorted(record.quality.code.items())


def _is_counted(name: str) -> bool:
    return name in MEASURES and MEASURES[name].deterministic

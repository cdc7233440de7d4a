"""What a run has to measure, and why: of every cell its quality, and of every shape its cost."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from benchmarks.cell import Cell
from benchmarks.digests import cost_digests, cost_kinds, quality_digests
from benchmarks.keys import Catalogue, cell_key, cell_of_shape, cost_key, cost_shape, model_key, quality_key
from benchmarks.measures import COST_KINDS, MEASURES, REPEATED_KINDS, Kind, versions
from benchmarks.records import Cost, Half, Record, RecordError, Status, read_cost, read_json, read_record, record_files
from benchmarks.store import cost_path, model_dir, record_path

Reason = Literal["missing", "stale", "superseded", "failed", "unreadable", "asked", "done"]
Resume = Literal["missing", "failed", "always"]
Data = tuple[str, str | None, str]  # as `benchmarks.cell.Cell.data`
Read = TypeVar("Read", Record, Cost)
PROCESSES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedCost:
    """The cost of a shape; ``cell`` is the one to measure it by.

    ``anew`` are the kinds of number that are measured anew. ``jobs`` are the kinds that each process still to run measures: the first
    process all of ``anew``, the others what is timed. ``processes`` is how many processes measure a timed number, ``first`` how many of
    them have run before. ``briefly`` timings are of a few calls.
    """

    key: str
    cell: Cell
    shape: Mapping[str, object]
    dataset_digest: str
    code: Mapping[str, str]
    anew: tuple[Kind, ...]
    jobs: tuple[tuple[Kind, ...], ...]
    processes: int
    first: int
    reason: Reason
    known: Cost | None
    briefly: bool = False

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """All kinds that are to be measured."""
        return tuple(kind for kind in COST_KINDS if any(kind in kinds for kinds in self.jobs))


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A cell with its keys. Its record takes the place of those under the keys ``supersedes``.

    ``quality_reason`` says why its quality is measured (``done``: it is not; ``None``: it has none). ``known`` is the record under
    its key. ``with_quality`` and ``with_cost`` are the records that hold its halves: its own, or one that it supersedes.
    """

    cell: Cell
    key: str
    model_key: str | None
    quality_key: str | None
    cost_key: str | None
    dataset_digest: str
    code: Mapping[str, str]
    quality_reason: Reason | None
    known: Record | None
    with_quality: Record | None = None
    with_cost: Record | None = None
    rerun: str = ""
    supersedes: tuple[str, ...] = ()

    @property
    def measures_quality(self) -> bool:
        """Whether its quality is to be measured."""
        return self.quality_reason not in (None, "done")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All cells in the order of measurement, and the costs of their shapes by key."""

    cells: tuple[Planned, ...]
    costs: Mapping[str, PlannedCost]

    def reason(self, planned: Planned) -> Reason:
        """Why something of a cell is measured; ``done`` where nothing is."""
        if planned.measures_quality and planned.quality_reason is not None:
            return planned.quality_reason
        cost = self.costs.get(planned.cost_key or "")
        if cost is not None and cost.jobs:
            return "superseded" if planned.supersedes and cost.reason == "missing" else cost.reason
        return "superseded" if planned.supersedes and planned.known is None else "done"

    def to_do(self) -> tuple[Planned, ...]:
        """The cells that have something to measure, or whose record lacks something that is known."""
        return tuple(planned for planned in self.cells if self.reason(planned) != "done" or self._is_behind(planned))

    def _is_behind(self, planned: Planned) -> bool:
        """Whether the record lacks a half that is known, or holds an older cost than the shape's."""
        own, cost = planned.known, self.costs.get(planned.cost_key or "")
        known_cost = cost.known if cost is not None else None
        if own is None:
            return planned.with_quality is not None or planned.with_cost is not None or known_cost is not None
        lacks_quality = own.quality is None and planned.with_quality is not None
        return lacks_quality or (known_cost is not None and own.cost != known_cost.origin())

    def qualities(self) -> list[Planned]:
        """Those to measure."""
        return [planned for planned in self.cells if planned.measures_quality]

    def costs_to_measure(self) -> list[PlannedCost]:
        """Those to measure, in the order of the first cell that has them."""
        keys = dict.fromkeys(planned.cost_key for planned in self.cells if planned.cost_key is not None)
        return [self.costs[key] for key in keys if key in self.costs and self.costs[key].jobs]


@dataclass(frozen=True, kw_only=True, slots=True)
class Planner:
    """Plans what to measure, by what a folder holds already.

    Attributes:
        out: the run's folder.
        resume: what to measure again: nothing that is there, what failed, or all.
        only: measure this half alone, and leave the other as it is.
        digests: of the data, by dataset, size and protocol.
        catalogues: what costs depend on in the data.
        fingerprint: of the machine that will measure; None where a cluster chooses it.
        processes: how many fresh processes measure each timed number.
        briefly: whether a few calls of each kind are enough.
    """

    out: Path
    resume: Resume
    only: Half | None
    digests: Mapping[Data, str]
    catalogues: Mapping[Data, Catalogue]
    fingerprint: str | None
    processes: int = PROCESSES
    briefly: bool = False

    def plan(self, cells: Iterable[Cell]) -> Plan:
        """The plan for cells in this order.

        Raises:
            RecordError: a record was written in a later schema version: it is not ours to replace.
        """
        costs: dict[str, PlannedCost] = {}
        keys = {cell: self._key(cell) for cell in cells}
        others = other_records(self.out, set(keys.values()))
        planned = (self._planned(cell, key, [record for record in others if record.cell == cell], costs) for cell, key in keys.items())
        return Plan(cells=tuple(planned), costs=costs)

    def _key(self, cell: Cell) -> str:
        digest = self.digests[cell.data]
        return cell_key(cell, dataset_digest=digest, versions=versions(control=cell.control))

    def _planned(self, cell: Cell, key: str, old: Sequence[Record], costs: dict[str, PlannedCost]) -> Planned:
        """A cell's plan; ``old`` are the records of its settings under other keys, of other data or another version of a measure."""
        digest = self.digests[cell.data]
        record, unreadable = _read_existing(record_path(self.out, key), read_record)
        quality = quality_key(cell, dataset_digest=digest) if cell.has_quality else None
        code = quality_digests(cell) if cell.has_quality else {}
        cost = None if cell.is_floor else self._cost(cell, costs)
        readable = [*([record] if record else []), *old]
        with_quality = next((one for one in readable if one.quality and one.quality.key == quality), None)
        with_cost = next((one for one in readable if one.cost and cost and one.cost.key == cost.key), None)
        reason = None if quality is None else self._quality_reason(code, with_quality, unreadable=unreadable)
        will_have_quality = with_quality is not None or reason not in (None, "done")
        will_have_cost = with_cost is not None or (cost is not None and (bool(cost.jobs) or cost.known is not None))
        loses = any((one.quality and not will_have_quality) or (one.cost and not will_have_cost) for one in old)
        return Planned(
            cell=cell,
            key=key,
            model_key=model_key(cell, dataset_digest=digest) if cell.training != "none" else None,
            quality_key=quality,
            cost_key=None if cost is None else cost.key,
            dataset_digest=digest,
            code=code,
            quality_reason="superseded" if reason == "missing" and old else reason,
            known=record,
            with_quality=with_quality,
            with_cost=with_cost,
            supersedes=() if loses else tuple(record.cell_key for record in old),
        )

    def _quality_reason(self, code: Mapping[str, str], record: Record | None, *, unreadable: bool) -> Reason:
        if self.only == "cost":
            return "done"
        if unreadable:
            return "unreadable"
        if record is None or record.quality is None:
            return "missing"
        return self._reason(record.quality.status, is_of_this_code=record.quality.code == dict(code))

    def _cost(self, cell: Cell, costs: dict[str, PlannedCost]) -> PlannedCost:
        shape = cost_shape(cell, self.catalogues[cell.data])
        key = cost_key(shape)
        if key not in costs:
            cost, unreadable = _read_existing(cost_path(self.out, key), read_cost)
            reason: Reason = "unreadable" if unreadable else "missing"
            if cost is not None and not self.briefly and any(one.brief for one in cost.processes):
                cost, reason = None, "asked" if self.resume == "always" else "missing"  # brief timings do not stand for full ones
            code, processes = cost_digests(cell), 1 if cell.counted_only else self.processes
            kinds = tuple(kind for kind in cost_kinds(cell) if cost is None or cost.code.get(kind) != code[kind])
            jobs, first = _jobs(kinds, processes), 0
            if cost is not None:
                reason = self._reason(cost.status, is_of_this_code=not kinds)
                if reason == "done" and self._goes_on_from(cost):
                    first = _processes_of(cost)
                    jobs = _jobs(cost_kinds(cell), processes)[first:]
                    reason = "missing" if jobs else reason
                elif reason in ("asked", "failed") or ((kinds or self._stopped_midway(cost, processes)) and not self._goes_on_from(cost)):
                    kinds = cost_kinds(cell)
                    jobs = _jobs(kinds, processes)
                    reason = "missing" if reason == "done" else reason
            if self.only == "quality":
                kinds, jobs, reason = (), (), "done"
            costs[key] = PlannedCost(
                key=key,
                cell=cell_of_shape(cell),
                shape=shape,
                dataset_digest=self.digests[cell.data],
                code=code,
                anew=kinds,
                jobs=jobs,
                processes=processes,
                first=first,
                reason=reason,
                known=cost,
                briefly=self.briefly,
            )
        return costs[key]

    def _goes_on_from(self, cost: Cost) -> bool:
        """Whether some kinds may be measured anew beside the others of this cost: it ended well, on this very machine."""
        return cost.status is Status.OK and cost.environment.fingerprint == self.fingerprint

    def _stopped_midway(self, cost: Cost, processes: int) -> bool:
        """Whether fewer processes than asked for measured a cost that ended well."""
        return cost.status is Status.OK and _processes_of(cost) < processes

    def _reason(self, status: Status, *, is_of_this_code: bool) -> Reason:
        if self.resume == "always":
            return "asked"
        if not is_of_this_code:
            return "stale"
        return "failed" if self.resume == "failed" and status is not Status.OK else "done"


def _jobs(kinds: Sequence[Kind], processes: int) -> tuple[tuple[Kind, ...], ...]:
    """The kinds that each process measures: the first all of them, the others what is timed. A process without a kind is left out."""
    timed = tuple(kind for kind in kinds if kind in REPEATED_KINDS)
    return tuple(job for job in (tuple(kinds), *(timed,) * (processes - 1)) if job)


def _processes_of(cost: Cost) -> int:
    """How many processes measured each timed kind of a cost; of several kinds, the smallest number."""
    kinds = {MEASURES[name].kind for name in cost.metrics if name in MEASURES} & set(REPEATED_KINDS)
    of_kinds = ([any(MEASURES[name].kind == kind for name in one.metrics if name in MEASURES) for one in cost.processes] for kind in kinds)
    return min((sum(flags) for flags in of_kinds), default=1)


def model_fault(out: Path, key: str, *, code: str) -> str | None:
    """Why a model has to be trained, in words, ``missing`` where there is none; ``None`` where it is there and of this code.

    Damaged weights are noticed only when they are loaded.
    """
    path = model_dir(out, key) / "model.json"
    if not path.is_file():
        return "missing"
    try:
        facts = read_json(path, again="run")
    except RecordError:
        return "damaged"
    return None if isinstance(facts, dict) and facts.get("code_digest") == code else "trained by other code"


def other_records(out: Path, keys: set[str]) -> list[Record]:
    """Records of cells outside a call: they stay as they are, and must be readable, since the table and the report need them."""
    return [read_record(path) for path in record_files(out) if path.stem not in keys]


def _read_existing(path: Path, read: Callable[[Path], Read]) -> tuple[Read | None, bool]:
    """The record or the cost of a file that is there, and whether there is one that cannot be read."""
    if not path.is_file():
        return None, False
    try:
        return read(path), False
    except RecordError as error:
        if error.is_newer:
            raise
        return None, True

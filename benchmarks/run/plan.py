"""What a run has to measure, and why: of every cell its quality, and of every shape its cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.cell import Cell
from benchmarks.digests import cost_digests, cost_kinds, quality_digests
from benchmarks.keys import Catalogue, cell_key, cell_of_shape, cost_key, cost_shape, model_key, quality_key
from benchmarks.measures import Kind, versions
from benchmarks.records import Cost, Record, RecordError, Status, read_cost, read_json, read_record, record_files
from benchmarks.store import cost_path, model_dir, record_path

Reason = Literal["missing", "stale", "superseded", "failed", "unreadable", "asked", "done"]
Resume = Literal["missing", "failed", "always"]
Half = Literal["quality", "cost"]
Data = tuple[str, str | None]  # a dataset and its size


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedCost:
    """The cost of a shape, and which kinds of it are to be measured; ``cell`` is the one to measure it by."""

    key: str
    cell: Cell
    shape: Mapping[str, object]
    dataset_digest: str
    code: Mapping[str, str]
    kinds: tuple[Kind, ...]
    reason: Reason
    known: Cost | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A cell with its keys. Its record takes the place of those under the keys ``supersedes``.

    ``quality_reason`` says why its quality is measured (``done``: it is not; ``None``: it has none).
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
    rerun: str = ""
    supersedes: tuple[str, ...] = ()

    @property
    def measures_quality(self) -> bool:
        """Whether its quality is to be measured."""
        return self.quality_reason not in (None, "done")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All cells in the order to measure in, and the costs of their shapes by key."""

    cells: tuple[Planned, ...]
    costs: Mapping[str, PlannedCost]

    def reason(self, planned: Planned) -> Reason:
        """Why something of a cell is measured; ``done`` where nothing is."""
        if planned.measures_quality and planned.quality_reason is not None:
            return planned.quality_reason
        cost = self.costs.get(planned.cost_key or "")
        return cost.reason if cost is not None and cost.kinds else "done"

    def to_do(self) -> tuple[Planned, ...]:
        """The cells of which something is to be measured, or whose record does not say what is known."""
        return tuple(planned for planned in self.cells if self.reason(planned) != "done" or self._is_behind(planned))

    def _is_behind(self, planned: Planned) -> bool:
        """Whether the record is missing or has another key, or holds an older cost than the shape's."""
        cost = self.costs.get(planned.cost_key or "")
        known = cost.known if cost is not None else None
        if planned.known is not None and planned.known.cell_key != planned.key:
            return True
        return known is not None and (planned.known is None or planned.known.cost != known.origin())

    def qualities(self) -> list[Planned]:
        """Those to measure."""
        return [planned for planned in self.cells if planned.measures_quality]

    def costs_to_measure(self) -> list[PlannedCost]:
        """Those to measure, in the order of the first cell that has them."""
        keys = dict.fromkeys(planned.cost_key for planned in self.cells if planned.cost_key is not None)
        return [self.costs[key] for key in keys if key in self.costs and self.costs[key].kinds]


@dataclass(frozen=True, kw_only=True, slots=True)
class Planner:
    """Looks at what a folder holds already.

    Attributes:
        out: the run's folder.
        resume: what to measure again: nothing that is there, what failed, or all.
        only: measure this half alone, and leave the other as it is.
        digests: of the data, by dataset and size.
        catalogues: what costs depend on of the data.
    """

    out: Path
    resume: Resume
    only: Half | None
    digests: Mapping[Data, str]
    catalogues: Mapping[Data, Catalogue]

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
        digest = self.digests[cell.dataset, cell.dataset_size]
        return cell_key(cell, dataset_digest=digest, versions=versions(control=cell.control))

    def _planned(self, cell: Cell, key: str, old: Sequence[Record], costs: dict[str, PlannedCost]) -> Planned:
        """A cell's plan; ``old`` are the records of its settings under other keys: the data or a measure's version were others."""
        digest = self.digests[cell.dataset, cell.dataset_size]
        known, unreadable = _known(record_path(self.out, key))
        quality = quality_key(cell, dataset_digest=digest) if cell.has_quality else None
        code = quality_digests(cell) if cell.has_quality else {}
        if known is None:  # only measures of cost have another version: the quality stays
            known = next((record for record in old if quality is not None and record.quality and record.quality.key == quality), None)
        reason = None if quality is None else self._quality_reason(quality, code, known, unreadable=unreadable)
        loses_quality = self.only == "cost" and known is None and any(record.quality for record in old)
        return Planned(
            cell=cell,
            key=key,
            model_key=model_key(cell, dataset_digest=digest) if cell.training != "none" else None,
            quality_key=quality,
            cost_key=None if cell.is_floor else self._cost(cell, costs).key,
            dataset_digest=digest,
            code=code,
            quality_reason="superseded" if reason == "missing" and old else reason,
            known=known,
            supersedes=() if loses_quality else tuple(record.cell_key for record in old),
        )

    def _quality_reason(self, key: str, code: Mapping[str, str], known: Record | None, *, unreadable: bool) -> Reason:
        if self.only == "cost":
            return "done"
        if unreadable:
            return "unreadable"
        if known is None or known.quality is None or known.quality.key != key:
            return "missing"
        return self._reason(known.quality.status, is_of_this_code=known.quality.code == dict(code))

    def _cost(self, cell: Cell, costs: dict[str, PlannedCost]) -> PlannedCost:
        shape = cost_shape(cell, self.catalogues[cell.dataset, cell.dataset_size])
        key = cost_key(shape)
        if key not in costs:
            known: Cost | None = None
            reason: Reason = "missing"
            path = cost_path(self.out, key)
            if path.is_file():
                known, reason = _known_cost(path)
            code = cost_digests(cell)
            kinds = tuple(kind for kind in cost_kinds(cell) if known is None or known.code.get(kind) != code[kind])
            if known is not None:
                reason = self._reason(known.status, is_of_this_code=not kinds)
                kinds = cost_kinds(cell) if reason in ("asked", "failed") or (kinds and known.status is not Status.OK) else kinds
            if self.only == "quality":
                kinds, reason = (), "done"
            costs[key] = PlannedCost(
                key=key,
                cell=cell_of_shape(cell),
                shape=shape,
                dataset_digest=self.digests[cell.dataset, cell.dataset_size],
                code=code,
                kinds=kinds,
                reason=reason,
                known=known,
            )
        return costs[key]

    def _reason(self, status: Status, *, is_of_this_code: bool) -> Reason:
        if self.resume == "always":
            return "asked"
        if not is_of_this_code:
            return "stale"
        return "failed" if self.resume == "failed" and status is not Status.OK else "done"


def model_fault(out: Path, key: str, *, code: str) -> str | None:
    """Why a model has to be trained, in words, ``missing`` where there is none; ``None`` where it is there and of this code.

    Whether its weights are whole is seen where they are loaded.
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
    """Records of cells outside a call: they stay as they are, and have to be whole, as the table and the report need them."""
    return [read_record(path) for path in record_files(out) if path.stem not in keys]


def _known(path: Path) -> tuple[Record | None, bool]:
    """A record that is there, and whether there is one that cannot be read."""
    if not path.is_file():
        return None, False
    try:
        return read_record(path), False
    except RecordError as error:
        if error.is_newer:
            raise
        return None, True


def _known_cost(path: Path) -> tuple[Cost | None, Reason]:
    try:
        return read_cost(path), "done"
    except RecordError as error:
        if error.is_newer:
            raise
        return None, "unreadable"

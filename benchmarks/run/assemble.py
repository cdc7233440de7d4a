"""Puts the two halves of a cell together: a quality and a cost make a record."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.cell import Cell
from benchmarks.isolation import Outcome
from benchmarks.measures import COST_KINDS, MEASURES, QUALITY_KINDS, Kind, of_kinds, versions, versions_of
from benchmarks.peers.part import PEERS
from benchmarks.records import (
    WORST_FIRST,
    Cost,
    DatasetFacts,
    Environment,
    Failure,
    GroupQuality,
    LedgerRow,
    Metric,
    Origin,
    Parts,
    Process,
    ProtocolQuality,
    Provenance,
    Record,
    Replicates,
    Status,
    TrainedModel,
    typed,
)
from benchmarks.run.jobs import CostOf
from benchmarks.run.plan import Planned, PlannedCost
from benchmarks.run.processes import heaviest_load, over_processes, with_load
from persrec import names

QUALITY_FIELDS = ("metrics", "replicates", "groups", "protocols", "model", "dataset", "seconds")
COST_FIELDS = ("metrics", "ledger", "load", "seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """The quality half of a record: what a trained model, or a floor, gives."""

    origin: Origin
    metrics: Mapping[str, Metric]
    replicates: Replicates | None
    groups: tuple[GroupQuality, ...]
    protocols: tuple[ProtocolQuality, ...]
    model: TrainedModel | None
    dataset: DatasetFacts


def quality_of(planned: Planned, outcome: Outcome, *, environment: Environment, provenance: Provenance) -> Quality:
    """The quality that a process measured."""
    answer = outcome.value if outcome.status is Status.OK else {}
    facts = {"name": planned.cell.dataset, "size": planned.cell.dataset_size, "digest": planned.dataset_digest}
    return Quality(
        origin=Origin(
            key=planned.quality_key or "",
            status=outcome.status,
            code=dict(planned.code),
            seconds=_seconds(outcome),
            environment=environment,
            provenance=provenance,
            error=_failure(outcome),
        ),
        metrics=_metrics(answer.get("metrics", {})),
        replicates=_optional(answer.get("replicates"), Replicates),
        groups=tuple(_with_metrics(group, GroupQuality, "a group's quality") for group in answer.get("groups", ())),
        protocols=tuple(_with_metrics(one, ProtocolQuality, "a quality under a protocol") for one in answer.get("protocols", ())),
        model=_optional(answer.get("model"), TrainedModel),
        dataset=typed({**facts, **answer.get("dataset", {}), "size": facts["size"]}, DatasetFacts, where="answer", what="the data's facts"),
    )


def known_quality(record: Record | None) -> Quality | None:
    """The quality of a record, if there is one."""
    if record is None or record.quality is None or record.dataset is None:
        return None
    return Quality(
        origin=record.quality,
        metrics=_of_kinds(record.metrics, QUALITY_KINDS),
        replicates=record.replicates,
        groups=record.groups,
        protocols=record.protocols,
        model=record.model,
        dataset=record.dataset,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CostHalf:
    """The cost half of a record: what its shape gives."""

    origin: Origin
    metrics: Mapping[str, Metric]
    ledger: tuple[LedgerRow, ...]


def half_of(cost: Cost) -> CostHalf:
    """A shape's cost as a record holds it."""
    return CostHalf(origin=cost.origin(), metrics=cost.metrics, ledger=cost.ledger)


def known_cost(record: Record | None) -> CostHalf | None:
    """The cost of a record, if there is one."""
    if record is None or record.cost is None:
        return None
    return CostHalf(origin=record.cost, metrics=_of_kinds(record.metrics, COST_KINDS), ledger=record.ledger)


def cost_of(task: CostOf, outcome: Outcome, *, before: Cost | None, environment: Environment, provenance: Provenance) -> Cost:
    """The cost by this process and those before it.

    Args:
        task: what it measured.
        outcome: how it ended.
        before: the cost by the earlier processes, without what is measured again (`kept_of`); None for the first process.
        environment: where it ran.
        provenance: which code and command measured it.
    """
    planned, ended_well = task.planned, outcome.status is Status.OK
    answer = outcome.value if ended_well else {}
    seconds, earlier = _seconds(outcome), before.processes if before else ()
    process = Process(
        metrics=_metrics(answer.get("metrics", {})),
        seconds=seconds,
        environment=with_load(environment, answer.get("load", {})),
        provenance=provenance,
        brief=planned.briefly and not planned.cell.counted_only,
    )
    processes = (*earlier, process) if ended_well else earlier
    rows = (typed(row, LedgerRow, where="answer", what="a ledger's row") for row in answer.get("ledger", ()))
    return Cost(
        cost_key=planned.key,
        status=outcome.status,
        shape=json.loads(json.dumps(planned.shape)),
        measure_versions=versions_of(COST_KINDS, control=planned.cell.control),
        metrics=over_processes([one.metrics for one in processes]),
        ledger=(*(before.ledger if before else ()), *rows),
        processes=processes,
        code=(dict(before.code) if before else {}) | {kind: planned.code[kind] for kind in task.kinds},
        seconds=_added(before.seconds if before else {}, seconds),
        error=_failure(outcome),
        environment=with_load(environment, heaviest_load(processes)),
        provenance=provenance,
    )


def kept_of(planned: PlannedCost) -> Cost | None:
    """The known cost without the kinds that are measured anew; None where nothing is left."""
    cost = planned.known
    if cost is None or set(planned.anew) == set(planned.code):
        return None
    kinds = [kind for kind in COST_KINDS if kind not in planned.anew]
    processes = [replace(one, metrics=_of_kinds(one.metrics, kinds)) for one in cost.processes]
    rows = tuple(row for row in cost.ledger if ("training_cost" if row.phase == "train" else "flops") in kinds)
    return replace(cost, processes=tuple(one for one in processes if one.metrics), ledger=rows)


def _added(seconds: Mapping[str, float], more: Mapping[str, float]) -> dict[str, float]:
    return {phase: seconds.get(phase, 0.0) + more.get(phase, 0.0) for phase in {**seconds, **more}}


def record_of_halves(planned: Planned, quality: Quality | None, cost: CostHalf | None) -> Record:
    """The cell's record. A half is ``None`` where the cell has no such half, or it is not measured yet."""
    halves = _origins(quality, cost)
    worst = _worst(halves)
    data = DatasetFacts(name=planned.cell.dataset, size=planned.cell.dataset_size, digest=planned.dataset_digest)
    return Record(
        cell_key=planned.key,
        status=worst.status,
        cell=planned.cell,
        parts=parts_of(planned.cell),
        measure_versions=versions(control=planned.cell.control),
        metrics=_metrics_of_halves(quality, cost),
        replicates=quality.replicates if quality else None,
        groups=quality.groups if quality else (),
        protocols=quality.protocols if quality else (),
        ledger=cost.ledger if cost else (),
        model=quality.model if quality else None,
        dataset=quality.dataset if quality else data,
        quality=quality.origin if quality else None,
        cost=cost.origin if cost else None,
        error=worst.error,
        environment=worst.environment,
        provenance=replace(halves[0].provenance, rerun=planned.rerun),
    )


def with_cost(record: Record, cost: CostHalf) -> Record:
    """A record with its shape's newer cost."""
    quality = known_quality(record)
    worst = _worst(_origins(quality, cost))
    return replace(
        record,
        status=worst.status,
        metrics=_metrics_of_halves(quality, cost),
        ledger=cost.ledger,
        cost=cost.origin,
        error=worst.error,
        environment=worst.environment,
    )


def parts_of(cell: Cell) -> Parts:
    """The declarations of a cell's parts."""
    return Parts(
        backbone=names.backbones().get(cell.backbone),
        floor=names.floors().get(cell.backbone),
        peer=PEERS.get(cell.backbone),
        compression=names.compressions().get(cell.compression),
        dataset=names.dataset_part(cell.dataset),
    )


def checked(outcome: Outcome, fields: Sequence[str]) -> Outcome:
    """The outcome as it is if its answer can become a record, else a failure that says what is wrong.

    A number that is not finite makes a measurement invalid; an answer of another form is a crash of the measuring code.
    """
    if outcome.status is not Status.OK:
        return outcome
    fault = _fault_of_form(outcome.value, fields)
    if fault is not None:
        return replace(outcome, status=Status.CRASH, value=None, phase="answer", type="TypeError", message=fault)
    for name, metric in outcome.value["metrics"].items():
        for bound in ("value", "low", "high"):
            number = metric.get(bound)
            if number is not None and not math.isfinite(number):
                message = f"{name}: {bound} is {number}; expected a finite number, or null with a reason in method"
                return replace(outcome, status=Status.INVALID, value=None, phase="answer", type="InvalidMeasurementError", message=message)
    try:
        json.dumps({name: part for name, part in outcome.value.items() if name != "raw"}, allow_nan=False)
    except ValueError as error:
        return replace(outcome, status=Status.INVALID, value=None, phase="answer", type="InvalidMeasurementError", message=str(error))
    except TypeError as error:
        return replace(outcome, status=Status.CRASH, value=None, phase="answer", type="TypeError", message=str(error))
    return outcome


def failed_in_training(failure: Outcome) -> Outcome:
    """What a cell's record says when its model could not be trained."""
    message = f"in {failure.phase}: {failure.message}" if failure.phase not in (None, "training") else failure.message
    return replace(failure, phase="training", message=message)


def _origins(quality: Quality | None, cost: CostHalf | None) -> list[Origin]:
    return [half.origin for half in (quality, cost) if half is not None]


def _worst(origins: Sequence[Origin]) -> Origin:
    """The origin whose status the record has."""
    return min(origins, key=lambda origin: WORST_FIRST.index(origin.status))


def _metrics_of_halves(quality: Quality | None, cost: CostHalf | None) -> dict[str, Metric]:
    return {**(quality.metrics if quality else {}), **(cost.metrics if cost else {})}


def _of_kinds(metrics: Mapping[str, Metric], kinds: Iterable[Kind]) -> dict[str, Metric]:
    """The metrics of these kinds of number."""
    measures = of_kinds(kinds)
    return {name: metric for name, metric in metrics.items() if name in measures}


def _with_metrics(values: Mapping[str, Any], kind: Any, what: str) -> Any:
    """A part of an answer that has metrics of its own."""
    filled = {name: _filled(name, value) for name, value in values["metrics"].items()}
    return typed({**values, "metrics": filled}, kind, where="answer", what=what)


def _metrics(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Metric]:
    return {name: typed(_filled(name, value), Metric, where=f"answer: {name}", what="a metric") for name, value in values.items()}


def _filled(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A metric of an answer with its unit and direction, as its measure says."""
    return {"unit": MEASURES[name].unit, "direction": MEASURES[name].direction, **value}


def _optional(value: Any, kind: Any) -> Any:
    return None if value is None else typed(value, kind, where="answer", what=kind.__name__)


def _seconds(outcome: Outcome) -> dict[str, float]:
    if outcome.status is not Status.OK:
        return {}
    seconds = dict(outcome.value["seconds"])
    seconds["overhead"] = max(0.0, outcome.seconds - sum(seconds.values()))
    return seconds


def _failure(outcome: Outcome) -> Failure | None:
    if outcome.status is Status.OK:
        return None
    return Failure(phase=outcome.phase, type=outcome.type, message=outcome.message, log_tail=outcome.log_tail)


def _fault_of_form(answer: object, fields: Sequence[str]) -> str | None:
    if not isinstance(answer, Mapping):
        return f"the answer is {type(answer).__name__}; expected a table with: {', '.join(fields)}"
    missing = [name for name in fields if name not in answer]
    if missing:
        return f"the answer has no {missing[0]!r}; expected: {', '.join(fields)}"
    for name, metric in answer["metrics"].items():
        if name not in MEASURES:
            return f"metric {name!r} is not in MEASURES; known: {', '.join(MEASURES)}"
        fields_of_metric = {field.name for field in dataclasses.fields(Metric)}
        if not isinstance(metric, Mapping) or "value" not in metric or not set(metric) <= fields_of_metric:
            return f"metric {name!r} is {metric!r}; expected a table with a value, of: {', '.join(sorted(fields_of_metric))}"
    for name, array in (answer.get("raw") or {}).items():
        if np.asarray(array).dtype.hasobject:
            return f"raw samples {name!r} hold Python objects; expected numbers or text"
    return None

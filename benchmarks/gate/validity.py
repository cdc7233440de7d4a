"""Whether a record can be true at all: the gate trusts nothing that a record says of itself. Pure: no file, no torch.

Numbers that depend on each other are compared: a key with the settings it is made of, a fingerprint with the machine's facts, a pass's
FLOPs with their ledger, a cutoff's recall with the next one's. What is needed for that must be there.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from benchmarks.cell import Cell
from benchmarks.environment import HASHED_FACTS, fingerprint
from benchmarks.gate.baseline import as_finite
from benchmarks.gate.faults import SLACK, Fault, out_of_range
from benchmarks.gate.qualities import faults_of_quality
from benchmarks.keys import Catalogue, cell_key, cost_key, cost_shape, model_key, quality_key
from benchmarks.measures import CACHE_TOLERANCE, COST_KINDS, QUALITY_KINDS, counts_agree, versions_of
from benchmarks.records import WORST_FIRST, Environment, LedgerRow, Record
from persrec.names import CUTOFFS

PASSES = ("full", "compress", "serve", "score", "request", "train", "item")
LEDGER_PASSES = tuple(name for name in PASSES if name != "request")  # a request is serving and scoring, which have rows of their own
WITHOUT_FVCORE = "train"  # it counts no backward pass


def faults(record: Record) -> list[Fault]:
    """Everything in a record that cannot be true."""
    values = {name: value for name, metric in record.metrics.items() if (value := as_finite(metric.value)) is not None}
    return [
        *_of_keys(record),
        *_of_statuses(record),
        *_of_machines(record),
        *out_of_range(record.metrics),
        *_of_order(values),
        *_of_ledger(record, values),
        *_of_gap(record),
        *faults_of_quality(record),
    ]


def _of_keys(record: Record) -> Iterator[Fault]:
    """Each key is computed again from what it stands for."""
    cell, data = record.cell, record.dataset
    if data is None or not data.digest:
        if record.ok:
            yield Fault(reason="it has numbers, and no digest of the data that they are of")
        return  # it failed before it had read its data
    digest = data.digest
    if (data.name, data.size) != (cell.dataset, cell.dataset_size):
        yield Fault(reason=f"its data are {data.name} (size {data.size}), its cell's {cell.dataset} (size {cell.dataset_size})")
    if cell_key(cell, dataset_digest=digest, versions=record.measure_versions) != record.cell_key:
        yield Fault(reason="its key is not that of its settings, its data and its measures' versions: one of them was changed under it")
    if record.model is not None and model_key(cell, dataset_digest=digest) != record.model.key:
        yield Fault(reason="its model is of another key than its settings and its data make")
    # a quality or a cost that was measured in another way has another key
    quality, cost, shape = record.quality, record.cost, _shape_of(cell, items=data.items)
    of_now = _measured_as_now(record, versions_of(QUALITY_KINDS))
    if quality is not None and of_now and quality_key(cell, dataset_digest=digest) != quality.key:
        yield Fault(reason="its quality is of another key than its settings and its data make")
    of_now = _measured_as_now(record, versions_of(COST_KINDS, control=cell.control))
    if cost is not None and of_now and shape is not None and cost_key(shape) != cost.key:
        yield Fault(reason="its cost is of another key than its settings and its data's number of items make")


def _measured_as_now(record: Record, versions: Mapping[str, int]) -> bool:
    return all(record.measure_versions.get(name) == version for name, version in versions.items())


def _shape_of(cell: Cell, *, items: int | None) -> dict[str, Any] | None:
    """What a cell's cost depends on; None where that are texts or categories too, of which a record has no digest."""
    if items is None:
        return None
    catalogue = Catalogue(items=items + 1, texts="some", categories="some")  # padding is one more
    shape = cost_shape(cell, catalogue)
    return None if "some" in shape["catalogue"].values() else shape


def _of_statuses(record: Record) -> Iterator[Fault]:
    statuses = [half.status for half in (record.quality, record.cost) if half is not None]
    if statuses and min(statuses, key=WORST_FIRST.index) is not record.status:
        yield Fault(reason=f"its status is {record.status.value}, and those of its halves are {', '.join(one.value for one in statuses)}")


def _of_machines(record: Record) -> Iterator[Fault]:
    """Each fingerprint is computed again from the facts beside it: it decides how far a quality may be from the baseline."""
    halves = {name: half.environment for name, half in (("quality", record.quality), ("cost", record.cost)) if half is not None}
    for name, environment in {"record": record.environment, **halves}.items():
        if environment.fingerprint is None:
            if name in halves:
                yield Fault(reason=f"its {name} does not say which machine it is of")
        elif environment.fingerprint != _fingerprint_of(environment):
            yield Fault(reason=f"the fingerprint of its {name}, {environment.fingerprint[:12]}, is not that of the facts beside it")
    trained_on = record.model.machine if record.model is not None else None
    if trained_on is not None and re.fullmatch(r"[0-9a-f]{64}", trained_on) is None:
        yield Fault(reason=f"its model was trained on {trained_on[:12]!r}, which is no fingerprint")


def _fingerprint_of(environment: Environment) -> str:
    return fingerprint({name: getattr(environment, name) for name in HASHED_FACTS})


def _of_order(values: Mapping[str, float]) -> Iterator[Fault]:
    """Numbers of which one can never be above the other."""
    for low, high in _ordered():
        if low in values and high in values and values[low] > values[high] * (1 + SLACK) + SLACK:
            yield Fault(metric=low, reason=f"{values[low]:g} is above {high}, {values[high]:g}, which it can never be")
    for cutoff in CUTOFFS:
        recall, gain = values.get(f"recall@{cutoff}"), values.get(f"ndcg@{cutoff}")
        if recall is not None and gain is not None and gain < (recall / math.log2(cutoff + 1)) * (1 - SLACK) - SLACK:
            yield Fault(metric=f"ndcg@{cutoff}", reason=f"{gain:g} is less than recall@{cutoff}, {recall:g}, gives at the last rank")
    for of in PASSES:
        for kind in ("", "visible_"):
            flops, macs = values.get(f"{of}_{kind}flops"), values.get(f"{of}_{kind}macs")
            if flops is not None and macs is not None and flops != 2 * macs:
                yield Fault(metric=f"{of}_{kind}flops", reason=f"{flops:g} is not twice {of}_{kind}macs, {macs:g}")
    serve, score, request = (values.get(f"{of}_flops") for of in ("serve", "score", "request"))
    if serve is not None and score is not None and request is not None and serve + score != request:
        yield Fault(metric="request_flops", reason=f"{request:g} is not serve_flops and score_flops, {serve:g} and {score:g}")


def _ordered() -> Iterator[tuple[str, str]]:
    for fewer, more in pairwise(CUTOFFS):
        yield f"recall@{fewer}", f"recall@{more}"
        yield f"ndcg@{fewer}", f"ndcg@{more}"
    for cutoff in CUTOFFS:
        yield f"ndcg@{cutoff}", f"recall@{cutoff}"
    for of_users in ("repeat", "novel"):
        yield f"ndcg@10_{of_users}", f"recall@10_{of_users}"
    for of in PASSES:
        yield f"{of}_visible_flops", f"{of}_flops"
    for kind in ("serve", "request"):
        for less, more in pairwise((50, 95, 99)):
            yield f"{kind}_latency_p{less}_ms", f"{kind}_latency_p{more}_ms"


def _of_ledger(record: Record, values: Mapping[str, float]) -> Iterator[Fault]:
    apart = [row for row in record.ledger if not _agrees(row)]
    if apart:
        first = apart[0]
        yield Fault(
            reason=f"its ledger's counts disagree or are not there in {len(apart)} of {len(record.ledger)} rows, the first of them "
            f"{first.phase}, {first.part}: formula {first.formula_flops}, torch {first.torch_flops}, fvcore {first.fvcore_flops}, "
            f"executed {first.executed_flops}, visible {first.visible_flops}"
        )
    unknown = sorted({row.phase for row in record.ledger} - set(LEDGER_PASSES))
    if unknown:
        yield Fault(reason=f"its ledger has rows of {unknown[0]!r}; expected one of {', '.join(LEDGER_PASSES)}")
    twice = [place for place, rows in Counter((row.phase, row.part) for row in record.ledger).items() if rows > 1]
    if twice:
        yield Fault(reason=f"its ledger has several rows of {', '.join(twice[0])}")
    for name in LEDGER_PASSES:
        yield from _of_pass(record, values, name)


def _agrees(row: LedgerRow) -> bool:
    """Whether every count that the row's pass has is there, and all are the same."""
    needed = (row.formula_flops, row.torch_flops, row.executed_flops, row.visible_flops)
    if None in needed or (row.fvcore_flops is None and row.phase != WITHOUT_FVCORE):
        return False
    return bool(row.agrees) and counts_agree(row.formula_flops, (row.torch_flops, row.executed_flops, row.fvcore_flops))


def _of_pass(record: Record, values: Mapping[str, float], of: str) -> Iterator[Fault]:
    """One pass's total beside its parts, and beside the metrics."""
    parts = {row.part: row for row in record.ledger if row.phase == of}
    total = parts.pop("total", None)
    if total is None:
        if parts or (f"{of}_flops" in values and (record.ledger or record.cost is not None)):
            yield Fault(metric=f"{of}_flops", reason=f"its ledger has no total of {of}")
        return
    for kind in ("executed", "visible"):
        whole, metric = getattr(total, f"{kind}_flops"), f"{of}_{'visible_' if kind == 'visible' else ''}flops"
        if whole is None:
            continue  # `_of_ledger` reports that it is not there
        together = sum(getattr(row, f"{kind}_flops") or 0 for row in parts.values())
        if not _is_same(together, whole):
            yield Fault(metric=metric, reason=f"the parts in its ledger come to {together:g}, and their total is {whole:g}")
        number = values.get(metric)
        # for item vectors of a large catalogue, the ledger's rows are those of some items alone
        if number is not None and not (_is_same(number, whole) or (of == "item" and whole < number)):
            yield Fault(metric=metric, reason=f"{number:g}, and the ledger's total is {whole:g}")


def _is_same(one: float, other: float) -> bool:
    return abs(one - other) <= SLACK * max(abs(one), abs(other))


def _of_gap(record: Record) -> Iterator[Fault]:
    gap = record.model.cached_joint_gap if record.model is not None else None
    most = CACHE_TOLERANCE[record.cell.dtype]
    if gap is not None and not 0 <= gap <= most:
        yield Fault(reason=f"scores from the cache differ from the joint pass by {gap:g}; expected {most:g} at most")

"""Turns a cell into data, a model and probes. Runs inside the process of a training, a quality or a cost.

Each kind of number is a probe of its own under `benchmarks.probes`. A number is old once the code that its probe imports has changed
(`benchmarks.digests`). No code of this module makes a number.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.cell import Cell, InvalidMeasurementError
from benchmarks.environment import environment
from benchmarks.measures import CLOCKED_KINDS, COST_KINDS, MEASURES, NOTICEABLE_LOAD, Kind, of_kinds
from benchmarks.peers.cost import measure_peer_cost
from benchmarks.peers.quality import measure_peer
from benchmarks.peers.training import train_peer
from benchmarks.probes.brief import time_briefly
from benchmarks.probes.control import measure_control
from benchmarks.probes.flops import count_flops
from benchmarks.probes.latency import measure_latency
from benchmarks.probes.load import LoadWatch
from benchmarks.probes.memory import measure_memory
from benchmarks.probes.models import build_control, served_model, set_up
from benchmarks.probes.nvml import GpuWatch
from benchmarks.probes.quality import check_cache, measure_floor, measure_quality, trained_subject, validation_as_used
from benchmarks.probes.request import measure_request
from benchmarks.probes.several import train_on_several
from benchmarks.probes.subject import NOT_RUN, Subject, nothing
from benchmarks.probes.throughput import measure_throughput
from benchmarks.probes.training import padding_share, train
from benchmarks.probes.training_cost import TrainingSubject, measure_training_cost
from persrec import names
from persrec.checkpoints import load_facts, save_checkpoint
from persrec.checkpoints.folder import read_weights
from persrec.data import load_dataset
from persrec.data.ceiling import ceiling
from persrec.data.interactions import InteractionLog
from persrec.data.splits import Split, split_of
from persrec.training import STATE, TrainingResult

ReportPhase = Callable[[str], None]
Answer = dict[str, Any]
_OF_SERVING: Mapping[Kind, Callable[[Subject], tuple[Answer, Answer]]] = MappingProxyType(
    {"memory": measure_memory, "throughput": measure_throughput, "latency": measure_latency, "request": measure_request}
)


@dataclass(slots=True)
class Phases:
    """Tells the parent which phase runs, and keeps how long each took."""

    report: ReportPhase
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times a phase."""
        self.report(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def train_model(payload: Mapping[str, Any], report_phase: ReportPhase) -> Answer:
    """Trains the model of ``payload["cell"]`` and writes it to ``payload["model_dir"]``, whole or not at all."""
    cell = _prepared(payload)
    report_phase("load")
    log = _load(payload, cell)
    facts = _facts_of_training(cell, payload)
    if cell.world_size > 1:
        return {"epochs": train_on_several({**payload, "facts": facts}, report_phase)}
    folder = Path(payload["model_dir"])
    if cell.is_peer:
        return _train_peer(cell, split_of(log, cell.split), payload, facts, report_phase)
    model, result = train(cell, log, folder / STATE, code_digest=payload["code_digest"], report=report_phase)
    save_checkpoint(folder, model, {**result.to_dict(), **facts})
    return {"epochs": len(result.curve)}


def measure_cell_quality(payload: Mapping[str, Any], report_phase: ReportPhase) -> Answer:
    """The quality of a cell's model, or floor."""
    cell = _prepared(payload)
    phases = Phases(report=report_phase)
    with phases.phase("load"):
        log = _load(payload, cell)
        data = split_of(log, cell.split)
        data.check_evaluated()
        answer: Answer = {
            "metrics": {},
            "replicates": None,
            "protocols": [],
            "model": None,
            "dataset": _dataset_facts(log, data, cell),
            "raw": {},
        }
    if cell.is_floor:
        with phases.phase("quality"):
            quality, answer["raw"]["ranks"] = measure_floor(cell, data)
            answer |= quality
        return {**answer, "seconds": phases.seconds}
    if cell.is_peer:
        return _peer_quality(cell, Path(payload["model_dir"]), data, answer, phases)
    with phases.phase("load"):
        folder = Path(payload["model_dir"])
        subject = trained_subject(cell, log, folder)
    with phases.phase("quality"):
        gap = check_cache(subject, data)
        facts = _model_facts(folder)
        validation = validation_as_used(subject, data, best=facts["best_validation"])
        answer["model"] = facts | {"cached_joint_gap": gap, "validation": validation}
        quality, answer["raw"]["ranks"] = measure_quality(subject, data)
        answer |= quality
        answer["metrics"]["padding_share"] = padding_share(answer["model"]["curve"])
    return {**answer, "seconds": phases.seconds}


def measure_cost(payload: Mapping[str, Any], report_phase: ReportPhase) -> Answer:
    """What the shape of ``payload["cell"]`` costs, of the kinds of number in ``payload["kinds"]``, with an untrained model.

    Where several processes measure a shape, all but the first are told the ``train_flops`` that it counted. Timings are taken
    ``briefly`` where the grid needs none.
    """
    cell = _prepared(payload)
    if payload.get("briefly"):
        time_briefly()
    phases = Phases(report=report_phase)
    if cell.is_peer:
        return _peer_cost(cell, payload, phases)
    with phases.phase("load"):
        subject = _subject(payload, cell)
        control = _control(subject) if cell.control else None
    answer: Answer = {"metrics": {}, "ledger": [], "load": {}, "raw": {}}
    for kind in COST_KINDS:
        if kind not in payload["kinds"] or (kind == "control" and control is None):
            continue
        if cell.counted_only and kind not in ("flops", "control", "training_cost"):
            answer["metrics"].update(_not_run(kind))
            continue
        with phases.phase(kind), LoadWatch() as watch, GpuWatch(cell.device if kind in CLOCKED_KINDS else "cpu") as gpu:
            metrics, ledger, raw = _measure_kind(kind, subject, control, train_flops=payload.get("train_flops"))
        if cell.counted_only:
            metrics = _counted_alone(metrics)
        counts = {name: metric for name, metric in metrics.items() if MEASURES[name].deterministic or kind not in CLOCKED_KINDS}
        answer["metrics"].update(watch.said(metrics, above=NOTICEABLE_LOAD) | counts)
        answer["ledger"] += ledger
        answer["raw"].update({f"{kind}/{name}": samples for name, samples in raw.items()})
        if kind != "flops":
            answer["load"][kind] = watch.readings() | gpu.readings()
    return {**answer, "seconds": phases.seconds}


def _facts_of_training(cell: Cell, payload: Mapping[str, Any]) -> Answer:
    """What a trained model's file says of where it is from: its quality may be measured elsewhere, and later."""
    machine = environment(device=cell.device, threads=cell.threads, affinity=())["fingerprint"]
    return {"cell": cell.to_dict(), "code_digest": payload["code_digest"], "machine": machine}


def _train_peer(cell: Cell, data: Split, payload: Mapping[str, Any], facts: Answer, report_phase: ReportPhase) -> Answer:
    folder = Path(payload["model_dir"])
    vectors, result = train_peer(cell, data, folder, cache_dir=payload["cache_dir"], report=report_phase)
    save_checkpoint(folder, vectors, {**result, **facts})
    return {"epochs": len(result["curve"])}


def _peer_quality(cell: Cell, folder: Path, data: Split, answer: Answer, phases: Phases) -> Answer:
    """The answer with the quality of a trained peer: its vectors are there, so that its own Python is not needed."""
    with phases.phase("quality"):
        quality, answer["raw"]["ranks"] = measure_peer(cell, read_weights(folder), data)
        facts = _model_facts(folder)
        answer["model"] = facts | {"cached_joint_gap": None, "validation": facts["best_validation"]}
        answer |= quality
        answer["metrics"]["padding_share"] = padding_share(facts["curve"])
    return {**answer, "seconds": phases.seconds}


def _peer_cost(cell: Cell, payload: Mapping[str, Any], phases: Phases) -> Answer:
    """The kinds of cost that a peer has, all from one process of its own Python."""
    with phases.phase("load"):
        items = _load(payload, cell).num_items
    with phases.phase("request"), LoadWatch() as watch:
        by_kind, raw = measure_peer_cost(cell, items, cache_dir=payload["cache_dir"])
    metrics: Answer = {}
    for kind in (kind for kind in payload["kinds"] if kind in by_kind):
        metrics |= watch.said(by_kind[kind], above=NOTICEABLE_LOAD) if kind in CLOCKED_KINDS else by_kind[kind]
    load = {kind: watch.readings() for kind in payload["kinds"] if kind in CLOCKED_KINDS}
    return {"metrics": metrics, "ledger": [], "load": load, "raw": raw, "seconds": phases.seconds}


def untrained_subject(payload: Mapping[str, Any]) -> TrainingSubject:
    """The subject of a cell with an untrained model: what a comparison of timings asks of a checkout, so it keeps its name."""
    return _subject(payload, Cell.from_dict(payload["cell"]))


def _measure_kind(
    kind: Kind, subject: TrainingSubject, control: TrainingSubject | None, *, train_flops: float | None
) -> tuple[Answer, list[Answer], Answer]:
    """Metrics, ledger rows and raw samples of one kind of number."""
    if kind == "flops":
        metrics, ledger = count_flops(subject)
        return metrics, ledger, {}
    if kind == "training_cost":
        return measure_training_cost(subject, control, flops=train_flops)
    if kind == "control" and control is not None:
        metrics, raw = measure_control(subject, control)
    else:
        metrics, raw = _OF_SERVING[kind](subject)
    return metrics, [], raw


def _subject(payload: Mapping[str, Any], cell: Cell) -> TrainingSubject:
    return TrainingSubject(cell=cell, model=served_model(cell, _load(payload, cell)))


def _control(subject: TrainingSubject) -> TrainingSubject:
    cell, model = build_control(subject.cell, subject.model.items)
    return TrainingSubject(cell=cell, model=model)


def _counted_alone(metrics: Answer) -> Answer:
    """The metrics, with a note on each count that nothing was run."""
    return {
        name: metric if metric["value"] is None else {**metric, "method": f"{metric['method']}; on the meta device, nothing was run"}
        for name, metric in metrics.items()
    }


def _not_run(kind: Kind) -> Answer:
    """The metrics of a kind that would have had to run, and did not."""
    return {name: nothing(NOT_RUN) for name in sorted(of_kinds([kind]))}


def _prepared(payload: Mapping[str, Any]) -> Cell:
    cell = Cell.from_dict(payload["cell"])
    set_up(cell)
    return cell


def _load(payload: Mapping[str, Any], cell: Cell) -> InteractionLog:
    """The cell's data, which must be the planned ones.

    Raises:
        InvalidMeasurementError: the data changed since.
    """
    planned = payload.get("dataset_digest")
    log = load_dataset(
        payload.get("dataset_file") or cell.dataset,
        size=cell.dataset_size,
        protocol=cell.protocol,
        data_dir=payload["data_dir"],
        cache_dir=payload["cache_dir"],
        digest=planned,
    )
    if planned is not None and log.digest != planned:
        raise InvalidMeasurementError(
            f"dataset {cell.dataset}: planned with digest {planned[:12]}, loaded {log.digest[:12]}: it changed meanwhile"
        )
    return log


def _dataset_facts(log: InteractionLog, data: Split, cell: Cell) -> Answer:
    return {
        "name": log.name,
        "users": log.num_users,
        "items": log.num_items - 1,
        "interactions": len(log),
        "exclude_seen": log.exclude_seen,
        "notes": dict(log.notes),
        "ceiling": ceiling(log, data, recent=cell.recent) if names.dataset_part(cell.dataset).synthetic else None,
        "split": data.name,
        "days": data.days,
        "targets": len(data.test),
    }


def _model_facts(folder: Path) -> Answer:
    facts = load_facts(folder)
    fact_names = (*(field.name for field in dataclasses.fields(TrainingResult)), "machine")
    return {"key": folder.name, "epochs": len(facts["curve"]), **{name: facts.get(name) for name in fact_names}}

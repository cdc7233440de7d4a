"""Turns a cell into data, a model and probes. Runs inside the cell's own process."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cell import FLOOR_NAMES, PLANS, Cell, UnsupportedError, blocks_of
from benchmarks.measures import MEASURES
from benchmarks.probes.control import measure_control
from benchmarks.probes.flops import count_flops
from benchmarks.probes.latency import measure_latency
from benchmarks.probes.load import LoadWatch
from benchmarks.probes.memory import measure_memory
from benchmarks.probes.nvml import GpuWatch
from benchmarks.probes.quality import quality_of_ranks, states_before_target, validation_figure
from benchmarks.probes.subject import NOT_RUN, Subject
from benchmarks.probes.throughput import measure_throughput
from persrec.backbones import Backbone, BackboneSettings, build_backbone
from persrec.checkpoints import load_facts, load_weights, save_checkpoint
from persrec.compression import CompressionSettings, build_compression
from persrec.compression.base import Compression
from persrec.compression.experts import Experts
from persrec.data import load_dataset
from persrec.data.ceiling import ceiling
from persrec.data.interactions import InteractionLog
from persrec.data.splits import LeaveOneOut, leave_one_out
from persrec.evaluation.floors import floor_ranks
from persrec.evaluation.ranks import target_ranks
from persrec.items import ItemSettings, build_items
from persrec.recommender import SequentialRecommender
from persrec.training import STATE, EpochReport, Recipe, StateError, StateKeeper, Trainer

ReportPhase = Callable[[str], None]
Probe = Callable[[], tuple[dict[str, Any], dict[str, Any]]]
CACHE_TOLERANCE = 1e-4  # cosines; a served score further than this from the joint pass makes the cell invalid


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


def train_model(payload: Mapping[str, Any], report_phase: ReportPhase) -> dict[str, Any]:
    """Trains the model of ``payload["cell"]`` and writes it to ``payload["model_dir"]``, whole or not at all.

    Until then the folder holds the state of the training, from which a run that was stopped goes on.
    """
    cell = _prepared(payload)
    report_phase("load")
    log = _load(payload, cell)
    data = leave_one_out(log)
    model = build_model(cell, data.num_items, log.item_texts, log.item_categories)
    report_phase("training")
    folder = Path(payload["model_dir"])

    def told(report: EpochReport) -> None:
        report_phase(f"epoch {report.epoch} of at most {cell.epochs}, validation ndcg@10 {report.validation:.4f}")

    tokens = _validation_tokens(cell)
    if tokens is not None:
        _use_tokens(model, tokens)
    validate = validation_figure(model, data, time_bias=cell.time_bias, tokens=tokens)
    keeper = StateKeeper(folder / STATE)
    trainer = Trainer(model=model, data=data, recipe=recipe(cell), validate=validate, on_epoch=told, keeper=keeper)
    try:
        result = trainer.run()
    except StateError as error:
        report_phase(f"training anew, {error}")
        keeper.path.unlink()
        result = trainer.run()
    save_checkpoint(folder, model, {**result.to_dict(), "cell": cell.to_dict()})
    return {"epochs": len(result.curve)}


def measure_cell(payload: Mapping[str, Any], report_phase: ReportPhase) -> dict[str, Any]:
    """Measures one cell: quality, FLOPs, memory, throughput and latency, each in a pass of its own."""
    cell = _prepared(payload)
    phases = Phases(report=report_phase)
    with phases.phase("load"):
        log = _load(payload, cell)
        data = leave_one_out(log)
        facts = _dataset_facts(log, cell)
    answer: dict[str, Any] = {"metrics": {}, "replicates": {}, "ledger": [], "model": None, "dataset": facts, "load": {}, "raw": {}}
    if cell.backbone in FLOOR_NAMES:
        with phases.phase("quality"):
            past = data.past("test")
            ranks = floor_ranks(
                cell.backbone,
                train_counts=data.train_counts(),
                past=(past.offsets, past.items),
                targets=data.targets("test"),
                seen=data.seen("test"),
            )
            _add_quality(answer, ranks, data)
        return {**answer, "seconds": phases.seconds}
    with phases.phase("load"):
        model = build_model(cell, data.num_items, log.item_texts, log.item_categories)
        if payload["model_dir"] is not None:
            folder = Path(payload["model_dir"])
            load_weights(folder, model)
            answer["model"] = _model_facts(folder)
        if cell.training == "elastic":
            _use_tokens(model, cell.tokens)
        model.eval()
    subject = Subject(cell=cell, model=model, recipe=recipe(cell), data=data)
    if payload["model_dir"] is not None:
        with phases.phase("quality"):
            answer["model"]["cached_joint_gap"] = subject.check_cache(tolerance=CACHE_TOLERANCE)
            states = states_before_target(cell, model, data)
            with torch.no_grad():  # so that a text model's vectors are those kept
                features = model.item_features()
            ranks = target_ranks(states, features, data.targets("test"), data.seen("test"))
            _add_quality(answer, ranks, data)
            curve = answer["model"]["curve"]
            answer["metrics"]["padding_share"] = {"value": curve[-1]["padding_share"], "method": "training, last epoch", "n": len(curve)}
    with phases.phase("flops"):
        metrics, answer["ledger"] = count_flops(subject)
        answer["metrics"].update(_without_running(metrics) if cell.counted_only else metrics)
    for name, probe in _probes(subject, metrics):
        timed = name != "memory"
        with phases.phase(name), LoadWatch() as watch, GpuWatch(cell.device if timed else "cpu") as gpu:
            metrics, raw = probe()
            answer["raw"].update(raw)
        counts = {key: metric for key, metric in metrics.items() if MEASURES[key].deterministic or not timed}
        answer["metrics"].update(watch.said(metrics) | counts)
        answer["load"][name] = watch.readings() | gpu.readings()
    return {**answer, "seconds": phases.seconds}


def _probes(subject: Subject, counted: Mapping[str, Any]) -> list[tuple[str, Probe]]:
    """What is measured of a model that runs, by phase; the control last, which trains on."""
    of_running = (("memory", measure_memory), ("throughput", measure_throughput), ("latency", measure_latency))
    probes: list[tuple[str, Probe]] = []
    if not subject.cell.counted_only:
        probes += [(name, functools.partial(probe, subject)) for name, probe in of_running]
    if subject.cell.control:
        probes.append(("control", lambda: measure_control(subject, build_control(subject), counted)))
    return probes


def _without_running(counted: Mapping[str, Any]) -> dict[str, Any]:
    """What was counted says so, and what would have had to run says that it did not."""
    said = {name: {**metric, "method": f"{metric['method']}; on the meta device, nothing was run"} for name, metric in counted.items()}
    missing = {"value": None, "low": None, "high": None, "n": 0, "method": NOT_RUN}
    would_run = (name for name, measure in MEASURES.items() if measure.group == "cost" and not measure.deterministic)
    return said | {name: dict(missing) for name in would_run if not MEASURES[name].beside_control}


def untrained_subject(payload: Mapping[str, Any]) -> Subject:
    """The subject of a cell with an untrained model: what a comparison of timings asks of a checkout, so it keeps its name."""
    cell = Cell.from_dict(payload["cell"])
    log = _load(payload, cell)
    data = leave_one_out(log)
    model = build_model(cell, data.num_items, log.item_texts, log.item_categories)
    model.eval()
    return Subject(cell=cell, model=model, recipe=recipe(cell), data=data)


def build_model(
    cell: Cell, num_items: int, texts: Sequence[str] | None = None, categories: NDArray[np.int64] | None = None
) -> SequentialRecommender:
    """The untrained model of a cell; an elastic one holds its largest count.

    Raises:
        UnsupportedError: the backbone reads item texts, or the compression pools by category, and there are none.
    """
    if cell.backbone == "hllm" and texts is None:
        raise UnsupportedError(f"backbone: hllm reads item texts, and the dataset {cell.dataset} has none")
    if cell.compression == "category" and categories is None:
        raise UnsupportedError(f"compression: category needs item categories, and the dataset {cell.dataset} has none")
    torch.manual_seed(cell.seed)
    with _weights(cell):
        compression = _compression_of(cell, categories)
        of_items = ItemSettings(
            count=num_items,
            width=cell.width,
            layers=cell.item_layers,
            heads=cell.heads,
            texts=texts,
            key_value_heads=cell.key_value_heads,
            feed_forward=cell.feed_forward,
            copying_start=cell.copying_start,
        )
        backbone, items = _backbone_of(cell, compression), build_items(cell.backbone, of_items)
        model = SequentialRecommender(items=items, backbone=backbone, compression=compression)
    return _placed(model, cell)


def build_control(subject: Subject) -> Subject:
    """Full attention over the same window, served by recomputing it: the same sizes and item vectors, a backbone of its own."""
    cell = dataclasses.replace(
        subject.cell, compression="full", tokens=0, segments=1, plan="equal", serving="recompute", cache_dtype="float32",
        ablation="none", staleness=0, training="none", elastic_tokens=(),
    )  # fmt: skip
    with _weights(cell):
        compression = _compression_of(cell, None)
        model = SequentialRecommender(items=subject.model.items, backbone=_backbone_of(cell, compression), compression=compression)
    return dataclasses.replace(subject, cell=cell, model=_placed(model, cell).eval(), recipe=recipe(cell))


def _weights(cell: Cell) -> AbstractContextManager[object]:
    """Inside, weights are made; without storage where they are counted alone."""
    return torch.device("meta") if cell.counted_only else nullcontext()


def _placed(model: SequentialRecommender, cell: Cell) -> SequentialRecommender:
    dtype = getattr(torch, cell.dtype)
    return model.to(dtype=dtype) if cell.counted_only else model.to(device=cell.device, dtype=dtype)


def _compression_of(cell: Cell, categories: NDArray[np.int64] | None) -> Compression:
    settings = CompressionSettings(
        history=cell.history,
        recent=cell.recent,
        segments=cell.segments,
        tokens=max(cell.elastic_tokens) if cell.training == "elastic" else cell.tokens,
        width=cell.width,
        plan=cell.plan if cell.plan in PLANS else blocks_of(cell.plan),
        categories=categories,
    )
    return build_compression(cell.compression, settings)


def _backbone_of(cell: Cell, compression: Compression) -> Backbone:
    settings = BackboneSettings(
        width=cell.width,
        layers=cell.layers,
        heads=cell.heads,
        length=compression.layout.length,
        dropout=cell.dropout,
        key_value_heads=cell.key_value_heads,
        feed_forward=cell.feed_forward,
        copying_start=cell.copying_start,
    )
    return build_backbone(cell.backbone, settings)


def recipe(cell: Cell) -> Recipe:
    """How the cell's model is trained."""
    return Recipe(
        learning_rate=cell.learning_rate,
        item_learning_rate=cell.item_learning_rate,
        warmup_steps=cell.warmup_steps,
        decays=cell.decays,
        weight_decay=cell.weight_decay,
        temperature=cell.temperature,
        negatives=cell.negatives,
        epochs=cell.epochs,
        patience=cell.patience,
        targets_per_step=cell.batch_size * (cell.history + cell.recent),
        time_bias=cell.time_bias,
        recent_weight=cell.recent_weight,
        moving_windows=cell.moving_windows,
        token_counts=cell.elastic_tokens if cell.training == "elastic" else (),
        seed=cell.seed,
    )


def _prepared(payload: Mapping[str, Any]) -> Cell:
    cell = Cell.from_dict(payload["cell"])
    torch.set_num_threads(cell.threads)
    torch.use_deterministic_algorithms(mode=cell.device == "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # a debugging aid that would be timed
    return cell


def _load(payload: Mapping[str, Any], cell: Cell) -> InteractionLog:
    return load_dataset(cell.dataset, size=cell.dataset_size, data_dir=payload["data_dir"], cache_dir=payload["cache_dir"])


def _use_tokens(model: SequentialRecommender, tokens: int) -> None:
    if not isinstance(model.compression, Experts):
        raise UnsupportedError("training: elastic goes with the experts compression alone")
    model.compression.use(tokens)


def _validation_tokens(cell: Cell) -> int | None:
    """An elastic model is validated at the middle one of its counts."""
    return sorted(cell.elastic_tokens)[len(cell.elastic_tokens) // 2] if cell.training == "elastic" else None


def _add_quality(answer: dict[str, Any], ranks: np.ndarray, data: LeaveOneOut) -> None:
    metrics, replicates = quality_of_ranks(ranks, data)
    answer["metrics"].update(metrics)
    answer["replicates"] = replicates
    answer["raw"]["ranks"] = ranks


def _dataset_facts(log: InteractionLog, cell: Cell) -> dict[str, Any]:
    limits = ceiling(log, recent=cell.recent) if cell.dataset == "synthetic" else None
    return {
        "name": log.name,
        "users": log.num_users,
        "items": log.num_items - 1,
        "interactions": len(log),
        "exclude_seen": log.exclude_seen,
        "notes": dict(log.notes),
        "ceiling": limits,
    }


def _model_facts(folder: Path) -> dict[str, Any]:
    facts = load_facts(folder)
    return {
        "key": folder.name,
        "epochs": len(facts["curve"]),
        "best_epoch": facts["best_epoch"],
        "best_validation_ndcg@10": facts["best_validation"],
        "train_seconds": facts["train_seconds"],
        "resumes": facts["resumes"],
        "curve": [{**epoch, "validation_ndcg@10": epoch["validation"]} for epoch in facts["curve"]],
    }

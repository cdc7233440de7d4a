"""One tiny cell of every kind, its data, and what its model's training, its quality and its cost come to."""

from pathlib import Path

from benchmarks import execute
from benchmarks.cell import Cell
from benchmarks.keys import cell_of_shape
from benchmarks.measures import COST_KINDS, CUTOFFS
from benchmarks.probes.models import build_model
from benchmarks.probes.training_cost import TrainingSubject
from benchmarks.records import Cost, read_cost
from persrec.data.synthetic import SyntheticSettings, generate

LOG = generate(SyntheticSettings(users=24, shortest=6, longest=40, categories=4, items_per_category=5))
ITEMS = LOG.num_items - 1
SIZES = {"history": 12, "recent": 4, "width": 8, "heads": 2, "layers": 1, "negatives": 16, "batch_size": 4, "dataset_size": "tiny"}
CELLS = {
    "full": Cell(backbone="hstu", compression="full", **SIZES),
    "full recomputed": Cell(backbone="sasrec", compression="full", serving="recompute", **SIZES),
    "recent": Cell(backbone="sasrec", compression="recent", **SIZES),
    "no token": Cell(backbone="hstu", compression="experts", **SIZES),
    "experts": Cell(backbone="sasrec", compression="experts", tokens=2, time_bias=False, **SIZES),
    "experts in 2 segments": Cell(backbone="hstu", compression="experts", segments=2, tokens=4, epochs=2, patience=2, **SIZES),
    "elastic": Cell(backbone="hstu", compression="experts", segments=2, tokens=2, training="elastic", elastic_tokens=(0, 2, 4), **SIZES),
    "elastic in history": Cell(
        backbone="sasrec", compression="experts", tokens=2, training="elastic", elastic_tokens=(0, 2), elastic_history=(3, 12),
        **(SIZES | {"layers": 2}),
    ),
    "pooling": Cell(backbone="hstu", compression="pooling", tokens=3, **SIZES),
    "mapped ids": Cell(backbone="llama", compression="experts", tokens=2, **SIZES),
    "texts": Cell(backbone="hllm", compression="experts", tokens=2, **SIZES),
    # two layers: the first layer's keys and values of a token are the same for all users
    "growing": Cell(backbone="sasrec", compression="experts", segments=2, tokens=4, plan="growing", **(SIZES | {"layers": 2})),
    "own plan": Cell(backbone="hstu", compression="experts", segments=2, tokens=3, plan="5:1+12:2", **SIZES),
    "int8": Cell(backbone="hstu", compression="experts", tokens=2, cache_dtype="int8", **SIZES),
    "stale": Cell(backbone="hstu", compression="full", staleness=3, **SIZES),
    "category": Cell(backbone="sasrec", compression="category", tokens=3, **SIZES),
    "retrieval": Cell(backbone="hstu", compression="retrieval", serving="recompute", tokens=3, **SIZES),
    "memory in 2 segments": Cell(backbone="hstu", compression="memory", segments=2, tokens=3, **SIZES),
    "strided": Cell(backbone="hstu", compression="strided", tokens=3, **SIZES),
    "random": Cell(backbone="sasrec", compression="random", tokens=3, **SIZES),
}  # fmt: skip
COMPUTED_ITEMS = ("mapped ids", "texts")
QUALITY = [f"{name}@{cutoff}" for name in ("recall", "ndcg") for cutoff in CUTOFFS] + ["mrr"]
BY_NOVELTY = [f"{name}@10_{kind}" for name in ("recall", "ndcg") for kind in ("repeat", "novel")]
COUNTED = [
    f"{phase}_{twin}{unit}"
    for phase in ("full", "compress", "serve", "score", "train", "item")
    for twin in ("", "visible_")
    for unit in ("flops", "macs")
] + ["parameters", "cache_bytes", "padding_share"]
TIMED = [
    "train_peak_bytes",
    "serve_peak_bytes",
    "compress_peak_bytes",
    "train_sequences_per_second",
    "train_share_of_peak",
    "compress_users_per_second",
    "item_peak_bytes",
    "item_vectors_per_second",
    "serve_users_per_second",
    "serve_latency_p50_ms",
    "serve_latency_p95_ms",
    "serve_latency_p99_ms",
    "serve_energy_j",
]


def payload(cell, folder=None):
    model_dir = None if folder is None else str(folder)
    kinds = list(COST_KINDS)
    return {"cell": cell.to_dict(), "model_dir": model_dir, "data_dir": None, "cache_dir": None, "code_digest": "code", "kinds": kinds}


def trained(cell, folder):
    """Trains the cell's model, unless it is there."""
    if not folder.exists():
        execute.train_model(payload(cell, folder), lambda phase: None)
    return folder


COUNTED_KINDS = ("flops", "training_cost")  # what `COUNTED` comes from, of a cost


def measured(cell, folder=None, *, kinds=COST_KINDS):
    """Both halves of a cell as one answer, of its cost these kinds, with the phases of each."""
    answer, phases = {"metrics": {}, "raw": {}}, {}
    if cell.has_quality:
        phases["quality"] = []
        if not cell.is_floor:
            trained(cell, folder)
        answer |= execute.measure_cell_quality(payload(cell, folder), phases["quality"].append)
        phases["quality seconds"] = set(answer["seconds"])
    if not cell.is_floor:
        phases["cost"] = []
        cost = execute.measure_cost(payload(cell_of_shape(cell)) | {"kinds": list(kinds)}, phases["cost"].append)
        phases["cost seconds"] = set(cost["seconds"])
        answer |= cost | {name: answer[name] | cost[name] for name in ("metrics", "raw")}
    return answer, phases


def subject_of(cell, **changes):
    """The untrained subject of a cell."""
    model = build_model(cell, LOG.num_items, LOG.item_texts, LOG.item_categories).eval()
    return TrainingSubject(cell=cell, model=model, **changes)


def costs_of(out: Path) -> dict[str, Cost]:
    """All costs of a run, by key."""
    return {path.stem: read_cost(path) for path in sorted((out / "costs").glob("*.json"))}

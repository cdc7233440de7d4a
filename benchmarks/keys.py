"""Three things, three keys: a model, a quality and a cost; and the key of the cell that is a quality beside a cost.

A *model* is trained once per data, backbone, layout, recipe and seed. A *quality* is a model and what it is served from. A *cost*
is a shape on a device: it knows nothing of interactions, seed or trained weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.cell import EVALUATION_FIELDS, Cell
from benchmarks.measures import COST_KINDS, QUALITY_KINDS, versions_of
from benchmarks.settings import LATER_FIELDS
from benchmarks.text import digest
from persrec import names

MODEL_FIELDS = (
    "backbone", "compression", "dataset", "dataset_size", "history", "recent", "segments", "tokens", "plan", "training",
    "elastic_tokens", "layers", "heads", "item_layers", "width", "key_value_heads", "feed_forward", "dropout",
    "time_bias", "learning_rate", "warmup_steps", "decays",
    "weight_decay", "temperature", "negatives", "epochs", "patience", "batch_size", "seed", "device", "dtype",
    "threads", "copying_start", "recent_weight", "moving_windows", "item_learning_rate", "elastic_history",
    "targets_per_step", "recent_weight_steps", "split", "counts", "request_time", "expert_start", "expert_learning_rate",
    "world_size", "accumulation", "autocast", "protocol", "expert_weight", "distillation",
    "random_cuts", "divisor",
)  # fmt: skip
SERVED_FIELDS = ("tokens", "serving", *EVALUATION_FIELDS)
SHAPE_FIELDS = (
    "backbone", "compression", "history", "recent", "segments", "tokens", "plan", "serving", "cache_dtype", "layers", "heads",
    "item_layers", "width", "key_value_heads", "feed_forward", "dropout", "time_bias", "negatives", "batch_size", "device",
    "dtype", "threads", "control", "counted_only", "catalogue", "counts", "request_time", "expert_start", "expert_weight",
    "distillation", "divisor", "accumulation", "autocast", "recent_weight",
)  # fmt: skip
_LATER_SHAPE = (  # the first costs did not name them
    "counts", "request_time", "expert_start", "expert_weight", "distillation", "divisor", "accumulation", "autocast", "recent_weight",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """What a cost depends on in the data: the number of items, their texts where they are read, their categories where they pool."""

    items: int
    texts: str | None = None
    categories: str | None = None

    def shape(self, cell: Cell) -> dict[str, Any]:
        """The part of it that a cell's cost depends on."""
        backbone, compression = names.backbones().get(cell.backbone), names.compressions().get(cell.compression)
        reads, pools = backbone is not None and backbone.items == "texts", compression is not None and compression.needs_categories
        return {
            "items": self.items if cell.catalogue is None else cell.catalogue + 1,
            "texts": self.texts if reads else None,
            "categories": self.categories if pools else None,
        }


def cell_key(cell: Cell, *, dataset_digest: str, versions: Mapping[str, int]) -> str:
    """The identity the store and the gate match by: every setting, the data, and each measure's version."""
    return digest({"cell": cell.to_dict(), "dataset_digest": dataset_digest, "versions": dict(versions)})


def model_key(cell: Cell, *, dataset_digest: str) -> str:
    """The identity of the trained model behind the cell's quality; cells of one elastic model share it."""
    settings = {name: value for name, value in cell.to_dict().items() if name in MODEL_FIELDS}
    if cell.token_counts:
        del settings["tokens"]
    if cell.history_lengths:
        del settings["history"]
    return digest({"model": settings, "dataset_digest": dataset_digest})


def quality_key(cell: Cell, *, dataset_digest: str) -> str:
    """The identity of a quality: a model, or a floor, and what it is served from."""
    versions = versions_of(QUALITY_KINDS)
    if cell.is_floor:
        # the first records had neither
        later = {name: value for name in ("split", "protocol") if (value := getattr(cell, name)) != LATER_FIELDS[name]}
        return digest({"floor": cell.backbone, "dataset_digest": dataset_digest, "versions": versions, **later})
    served = {name: getattr(cell, name) for name in SERVED_FIELDS}
    if cell.history_lengths:
        served["history"] = cell.history
    return digest({"model": model_key(cell, dataset_digest=dataset_digest), "served": served, "versions": versions})


def cost_shape(cell: Cell, catalogue: Catalogue) -> dict[str, Any]:
    """What a cell's cost depends on. Of its training that is only whether the layout holds the largest of several token counts.

    A model that is elastic in history runs as many items as the cell's history has, so its cost is that of a model of this history.
    """
    settings = {name: getattr(cell, name) for name in SHAPE_FIELDS if name not in ("catalogue", *_LATER_SHAPE)}
    settings |= {name: value for name in _LATER_SHAPE if (value := getattr(cell, name)) != LATER_FIELDS[name]}
    return settings | {"elastic_tokens": list(cell.token_counts), "catalogue": catalogue.shape(cell)}


def cost_key(shape: Mapping[str, Any]) -> str:
    """The identity of a cost."""
    control = bool(shape["control"])
    return digest({"shape": dict(shape), "versions": versions_of(COST_KINDS, control=control)})


def cell_of_shape(cell: Cell) -> Cell:
    """The cell to measure a cost by: all cells of one shape give the same one."""
    settings = {name: getattr(cell, name) for name in SHAPE_FIELDS}
    training = {"training": "elastic", "elastic_tokens": cell.token_counts} if cell.token_counts else {"training": "none"}
    return Cell(dataset=cell.dataset, dataset_size=cell.dataset_size, protocol=cell.protocol, **settings, **training)

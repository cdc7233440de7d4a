"""Facts on the settings of a cell: what each may be, and what those that came later were before."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from persrec import names

# whole numbers, and the least that each may be where it is not None
LEAST: Mapping[str, int] = MappingProxyType({
    **dict.fromkeys(("history", "tokens", "seed", "warmup_steps", "staleness"), 0),
    **dict.fromkeys((
        "recent", "segments", "layers", "heads", "item_layers", "width", "negatives", "epochs", "patience", "batch_size", "threads",
        "recent_weight_steps", "targets_per_step", "catalogue", "world_size", "accumulation", *names.OPTIONAL_SIZES,
    ), 1),
})  # fmt: skip
# words, and which ones are known
CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "training": names.TRAININGS, "serving": names.SERVINGS, "cache_dtype": names.CACHE_PRECISIONS, "ablation": tuple(names.ABLATIONS),
    "device": names.DEVICES, "dtype": names.PRECISIONS, "split": names.SPLITS, "counts": names.COUNTS, "expert_start": names.EXPERT_STARTS,
})  # fmt: skip
# settings that came after the first records, and what they were then: a record that does not name them had these
LATER_FIELDS: Mapping[str, Any] = MappingProxyType({
    "key_value_heads": None, "feed_forward": None, "control": False, "counted_only": False, "copying_start": False,
    "recent_weight": 0.0, "moving_windows": False, "item_learning_rate": None, "elastic_history": (), "targets_per_step": None,
    "recent_weight_steps": 1000, "split": names.LEAVE_ONE_OUT, "catalogue": None, "counts": "none", "request_time": True,
    "expert_start": "learnt", "expert_learning_rate": None, "world_size": 1, "accumulation": 1, "autocast": False,
})  # fmt: skip

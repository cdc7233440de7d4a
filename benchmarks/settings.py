"""Facts on the settings of a cell: what each may be, what those that came later were before, and how a plan is written."""

import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from persrec import names

# whole numbers, and the least that each may be where it is not None
LEAST: Mapping[str, int] = MappingProxyType({
    **dict.fromkeys(("history", "tokens", "seed", "warmup_steps", "staleness", "negatives", "divisor"), 0),
    **dict.fromkeys((
        "recent", "segments", "layers", "heads", "item_layers", "width", "epochs", "patience", "batch_size", "threads",
        "recent_weight_steps", "targets_per_step", "catalogue", "world_size", "accumulation", "key_value_heads", "feed_forward",
    ), 1),
})  # fmt: skip
# words, and which ones are known
CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "training": names.TRAININGS, "serving": names.SERVINGS, "cache_dtype": names.CACHE_PRECISIONS, "ablation": tuple(names.ABLATIONS),
    "device": names.DEVICES, "dtype": names.PRECISIONS, "split": names.SPLITS, "counts": names.COUNTS, "expert_start": names.EXPERT_STARTS,
    "protocol": tuple(names.PROTOCOLS),
})  # fmt: skip
# settings that came after the first records, and what they were then: a record that does not name them had these
LATER_FIELDS: Mapping[str, Any] = MappingProxyType({
    "key_value_heads": None, "feed_forward": None, "control": False, "counted_only": False, "copying_start": False,
    "recent_weight": 0.0, "moving_windows": False, "item_learning_rate": None, "elastic_history": (), "targets_per_step": None,
    "recent_weight_steps": 1000, "split": names.LEAVE_ONE_OUT, "catalogue": None, "counts": "none", "request_time": True,
    "expert_start": "learnt", "expert_learning_rate": None, "world_size": 1, "accumulation": 1, "autocast": False,
    "protocol": names.OWN_PROTOCOL, "expert_weight": 0.0, "distillation": 0.0, "random_cuts": False, "divisor": None,
})  # fmt: skip

# a compression without experts has none of these
OF_EXPERTS = ("expert_start", "expert_learning_rate", "expert_weight", "distillation", "random_cuts")


def blocks_of(plan: str) -> tuple[tuple[int, int], ...]:
    """Offsets and counts of ``100:2+180:4``.

    Raises:
        ValueError: the text is no such list, or its offsets do not rise from above 0.
    """
    parts = [tuple(part.split(":")) for part in plan.split("+")]
    if not all(len(part) == 2 and all(number.isdecimal() for number in part) for part in parts):
        raise ValueError(f"plan: {plan!r}; expected {', '.join(names.PLANS)}, or offsets with counts such as 100:2+180:4")
    blocks = tuple((int(offset), int(count)) for offset, count in parts)
    offsets = [0, *(offset for offset, _ in blocks)]
    if any(later <= earlier for earlier, later in itertools.pairwise(offsets)):
        raise ValueError(f"plan: {plan!r}; expected offsets that rise from above 0")
    return blocks

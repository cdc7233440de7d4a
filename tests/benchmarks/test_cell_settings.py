"""Settings of a cell that mean nothing together are refused by name; what is only served otherwise shares its model."""

import dataclasses
import re

import pytest

from benchmarks.cell import EVALUATION_FIELDS, Cell, changed_at_evaluation
from benchmarks.keys import MODEL_FIELDS, cell_key, model_key
from benchmarks.settings import blocks_of
from persrec import names

EXPERTS = {"backbone": "hstu", "compression": "experts", "history": 180, "recent": 20, "tokens": 4}
CHANGES = [
    *({"cache_dtype": dtype} for dtype in names.CACHE_PRECISIONS[1:]),
    *({"ablation": name} for name in list(names.ABLATIONS)[1:]),
    {"staleness": 16},
    {"cache_dtype": "int8", "ablation": "other_user", "staleness": 3},
]


def key_of_model(cell):
    return model_key(cell, dataset_digest="d")


@pytest.mark.parametrize("changes", CHANGES)
def test_cells_that_are_served_otherwise_share_the_model_and_no_key(changes):
    cell, changed = Cell(**EXPERTS), Cell(**EXPERTS, **changes)
    assert key_of_model(changed) == key_of_model(cell)
    assert cell_key(changed, dataset_digest="d", versions={}) != cell_key(cell, dataset_digest="d", versions={})
    assert changed_at_evaluation(changed) == changes
    assert Cell.from_dict(changed.to_dict()) == changed


def test_another_plan_is_another_model():
    cells = [Cell(**EXPERTS, segments=2, plan=plan) for plan in ("equal", "growing", "100:2+180:2", "90:2+180:2", "100:1+180:3")]
    assert len({key_of_model(cell) for cell in cells}) == len(cells)
    assert not set(EVALUATION_FIELDS) & set(MODEL_FIELDS)


def test_a_plan_is_read_as_it_is_written():
    assert blocks_of("100:2+180:3") == ((100, 2), (180, 3))
    assert blocks_of("7:0") == ((7, 0),)
    assert Cell(**(EXPERTS | {"tokens": 5}), segments=2, plan="100:2+180:3").tokens == 5  # need not spread evenly


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cache_dtype": "int4"}, "cache_dtype: unknown 'int4' (did you mean 'int8'?); known: float32, bfloat16, int8"),
        (
            {"ablation": "noise"},
            "ablation: unknown 'noise' (did you mean 'none'?); known: none, random_tokens, shuffled_history, other_user",
        ),
        ({"staleness": -1}, "staleness: -1 is less than 0"),
        ({"tokens": 0, "ablation": "other_user"}, "ablation: 'other_user' with compression 'experts' and tokens 0, which keeps nothing"),
        (
            {"compression": "recent", "tokens": 0, "staleness": 8},
            "staleness: 8 with compression 'recent' and tokens 0, which keeps nothing",
        ),
        (
            {"compression": "full", "tokens": 0, "serving": "recompute", "cache_dtype": "int8"},
            "cache_dtype: 'int8' with compression 'full' and serving 'recompute'; expected something kept in a cache",
        ),
        (
            {"backbone": "popularity", "compression": "none", "training": "none", "tokens": 0, "staleness": 8},
            "staleness: 8 with compression 'none'",
        ),
        ({"training": "none", "ablation": "other_user"}, "ablation: 'other_user' with training 'none', which has no quality to change"),
        ({"training": "none", "cache_dtype": "int8", "staleness": 2}, "staleness: 2 with training 'none'"),
        ({"dtype": "bfloat16", "cache_dtype": "bfloat16"}, "cache_dtype: 'bfloat16' with dtype 'bfloat16', which computes it so"),
        ({"segments": 3}, "tokens: 4 cannot be spread evenly over 3 segments"),
        ({"segments": 3, "plan": "growing"}, "tokens: 4 cannot be spread evenly over 3 segments"),
        ({"segments": 8, "tokens": 8, "plan": "growing"}, "history: 180 items do not fill 8 segments of doubling size"),
        ({"compression": "pooling", "plan": "growing"}, "plan: 'growing' with compression 'pooling'; expected 'equal', or experts"),
        ({"training": "elastic", "elastic_tokens": (4,), "plan": "growing"}, "plan: 'growing' with training 'elastic'"),
        (
            {"training": "elastic"},
            "training: 'elastic' with no elastic_tokens and no elastic_history; expected token counts, lengths, or both",
        ),
        ({"training": "elastic", "elastic_tokens": (0, 8)}, "tokens: 4 is not among the counts of the elastic model, [0, 8]"),
        (
            {"training": "elastic", "elastic_tokens": (4,), "compression": "pooling"},
            "elastic_tokens: [4] with compression 'pooling'; expected one of experts",
        ),
        ({"training": "elastic", "elastic_history": (60, 90)}, "history: 180 is not among the lengths of the elastic model, [60, 90]"),
        (
            {"training": "elastic", "elastic_history": (180, 0)},
            "elastic_history: [0, 180]; expected lengths that differ, each 1 item or more",
        ),
        ({"training": "elastic", "elastic_history": (180, 180)}, "elastic_history: [180, 180]; expected lengths that differ, each 1"),
        (
            {"training": "elastic", "elastic_history": (90, 180), "segments": 2},
            "segments: 2 with elastic_history [90, 180]; expected 1",
        ),
        (
            {"training": "elastic", "elastic_history": (90, 180), "plan": "180:4"},
            "plan: '180:4' with training 'elastic'; expected 'equal'",
        ),
        *(
            (
                {"training": "elastic", "elastic_history": (90, 180), "compression": name, "tokens": tokens, "serving": "recompute"},
                f"elastic_history: [90, 180] with compression '{name}'; expected one of experts, full",
            )
            for name, tokens in [
                *((name, 4) for name in ("pooling", "category", "retrieval", "memory", "strided", "random")),
                ("recent", 0),
            ]
        ),
        (
            {"segments": 2, "plan": "100:2,180:2"},
            "plan: '100:2,180:2'; expected equal, growing, or offsets with counts such as 100:2+180:4",
        ),
        ({"plan": "rising"}, "plan: 'rising'; expected equal, growing, or offsets"),
        ({"plan": "100:-1+180:5"}, "plan: '100:-1+180:5'; expected equal"),
        ({"segments": 2, "plan": "180:2+100:2"}, "plan: '180:2+100:2'; expected offsets that rise from above 0"),
        ({"segments": 2, "plan": "0:2+180:2"}, "plan: '0:2+180:2'; expected offsets that rise"),
        ({"segments": 2, "plan": "90:2+170:2"}, "plan: '90:2+170:2' ends at item 170; expected 180, the history's end"),
        ({"segments": 2, "plan": "180:4"}, "segments, tokens: 2, 4 with plan '180:4'; expected 1, 4"),
        ({"key_value_heads": 1}, "key_value_heads: 1 with backbone 'hstu'; expected one of llama, hllm"),
        ({"backbone": "llama", "heads": 4, "key_value_heads": 3}, "key_value_heads: 3 do not divide the heads, 4"),
        ({"backbone": "llama", "key_value_heads": 0}, "key_value_heads: 0 is less than 1"),
        ({"feed_forward": 64}, "feed_forward: 64 with backbone 'hstu'; expected one of sasrec, llama, hllm"),
        (
            {"backbone": "popularity", "compression": "none", "training": "none", "tokens": 0, "control": True},
            "control: true with backbone 'popularity'; expected a backbone and a history",
        ),
        ({"compression": "recent", "tokens": 0, "history": 0, "control": True}, "control: true with history 0; expected a backbone and"),
        ({"counted_only": True, "training": "none"}, "counted_only: true with backbone 'hstu', which runs; expected one of llama, hllm"),
        (
            {"counted_only": True, "backbone": "llama", "compression": "pooling", "training": "none"},
            "counted_only: true with compression 'pooling', which looks at vectors; expected one of experts, full, recent",
        ),
        ({"counted_only": True, "backbone": "llama"}, "counted_only: true with training 'separate', which has to run; expected 'none'"),
        (
            {"counted_only": True, "backbone": "llama", "training": "none", "cache_dtype": "int8"},
            "counted_only: true with cache_dtype 'int8'; expected 'float32', kept as computed",
        ),
        ({"random_cuts": True}, "random_cuts: true with segments 1, which end where the recent items begin; expected 2 or more"),
        (
            {"compression": "memory", "segments": 2, "random_cuts": True},
            "random_cuts: True with compression 'memory', which has no experts; expected False",
        ),
        ({"segments": 2, "plan": "90:2+180:3"}, "segments, tokens: 2, 4 with plan '90:2+180:3'; expected 2, 5"),
    ],
)
def test_what_means_nothing_together_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Cell(**(EXPERTS | changes))


def test_the_precision_of_a_cache_is_a_cost_too_and_needs_no_trained_model():
    assert Cell(**EXPERTS, training="none", cache_dtype="int8").cache_dtype == "int8"
    assert dataclasses.replace(Cell(**EXPERTS), compression="full", tokens=0, staleness=4).staleness == 4

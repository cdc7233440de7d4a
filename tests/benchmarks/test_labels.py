import dataclasses
import itertools
import subprocess
import sys

import pytest
from fabricated_records import grid_cells
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cell import Cell
from benchmarks.labels import Labels
from persrec import names

ONE = Cell(backbone="hstu", compression="experts", tokens=4)


def labels_of(*cells, **options):
    labels = Labels.of(cells, **options)
    return [labels(cell) for cell in cells]


def test_what_all_share_is_left_out():
    assert labels_of(ONE) == ["HSTU · PerSRec, 4 tokens"]
    assert Labels.of([ONE]).brief(ONE) == "4 tok"


def test_what_differs_is_said():
    longer = dataclasses.replace(ONE, history=128)
    assert labels_of(ONE, longer) == ["HSTU · PerSRec, 4 tokens · 224 + 32", "HSTU · PerSRec, 4 tokens · 128 + 32"]
    assert [Labels.of([ONE, longer]).brief(cell) for cell in (ONE, longer)] == ["4 tok @224", "4 tok @128"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layers": 8, "width": 256}, ("2 x 48", "8 x 256")),
        ({"moving_windows": True}, ("fixed windows", "moving windows")),
        ({"learning_rate": 0.01}, ("learning rate 0.001", "learning rate 0.01")),
        ({"request_time": False}, ("with the request's time", "without the request's time")),
        ({"counts": "all"}, ("nothing counted", "all items counted")),
        ({"serving": "recompute"}, ("from cache", "recomputed")),
        ({"dropout": 0.1, "heads": 2}, ("1 head, dropout 0.2", "2 heads, dropout 0.1")),
        ({"item_learning_rate": 0.1}, ("item learning rate by default", "item learning rate 0.1")),
        ({"device": "cuda"}, ("CPU", "CUDA")),
        ({"seed": 2}, ("seed 1", "seed 2")),
    ],
)
def test_what_parts_two_namesakes_is_added(changes, said):
    other = dataclasses.replace(ONE, **changes)
    assert labels_of(ONE, other) == [f"HSTU · PerSRec, 4 tokens · {words}" for words in said]


def test_no_token_with_counts_of_the_history_is_counts_only():
    nothing = dataclasses.replace(ONE, tokens=0)
    cells = [dataclasses.replace(nothing, counts=counts) for counts in ("recent", "all")]
    assert labels_of(*cells) == ["HSTU · no token", "HSTU · counts only"]
    assert [Labels.of(cells).brief(cell) for cell in cells] == ["no token", "counts only"]


def test_a_configuration_has_no_seed():
    seeds = [dataclasses.replace(ONE, seed=seed) for seed in (1, 2, 3)]
    assert labels_of(*seeds, seeds=False) == ["HSTU · PerSRec, 4 tokens"] * 3


def test_kinds_and_what_a_model_is_served_from():
    net = {"backbone": "sasrec"}
    full = Cell(**net, compression="full", serving="recompute")
    elastic = {"training": "elastic", "elastic_tokens": (0, 4)}
    cells = {
        full: "full history",
        dataclasses.replace(full, serving="cache"): "full history, KV cache",
        Cell(**net, compression="experts", **elastic): "no token, elastic",
        Cell(**net, compression="experts", tokens=4, **elastic): "PerSRec, elastic, 4 tokens",
        dataclasses.replace(full, training="elastic", elastic_history=(64, 224)): "full history, elastic",
        Cell(**net, compression="experts", tokens=8, segments=4, plan="growing"): "PerSRec, 8 tokens in 4 growing segments",
        Cell(**net, compression="experts", tokens=1, plan="224:1"): "PerSRec, 1 token, at 224:1",
        Cell(**net, compression="experts", tokens=2, ablation="other_user"): "PerSRec, 2 tokens, another user's cache",
        Cell(**net, compression="experts", tokens=2, staleness=9, cache_dtype="int8"): "PerSRec, 2 tokens, 9 items old, int8 cache",
        Cell(**net, compression="pooling", tokens=4): "pooling, 4 tokens",
    }  # fmt: skip
    assert labels_of(*cells) == [f"SASRec · {said}" for said in cells.values()]


def test_the_cells_of_a_model_that_is_elastic_in_history_are_told_apart_by_their_history():
    elastic = {"training": "elastic", "elastic_history": (64, 224)}
    experts = [dataclasses.replace(ONE, **elastic, history=history) for history in (64, 224)]
    assert labels_of(*experts) == [f"HSTU · PerSRec, elastic, 4 tokens · {history} + 32" for history in (64, 224)]
    own = Cell(backbone="hstu", compression="full", history=64)
    full = [dataclasses.replace(own, **elastic, history=history) for history in (64, 224)]
    said = ["full history, KV cache · 64 + 32", "full history, KV cache, elastic · 64 + 32", "full history, KV cache, elastic · 224 + 32"]
    assert labels_of(own, *full) == [f"HSTU · {words}" for words in said]
    labels = Labels.of([own, *full])
    assert [labels.brief(cell) for cell in (own, *full)] == ["full KV @64", "full KV el. @64", "full KV el. @224"]
    other = dataclasses.replace(full[0], elastic_history=(64, 128))
    assert labels_of(full[0], other) == [
        f"HSTU · full history, KV cache, elastic · trained with {lengths} items of history" for lengths in ("64+224", "64+128")
    ]


def test_a_part_that_is_not_installed_has_its_title_from_its_own_declaration():
    cell = dataclasses.replace(ONE)
    object.__setattr__(cell, "backbone", "theirs")  # a cell that a record holds may name what is not here
    assert labels_of(cell) == ["theirs · PerSRec, 4 tokens"]
    part = names.BackbonePart(name="theirs", title="Their net", target="theirs:build")
    assert labels_of(cell, parts=[part]) == ["Their net · PerSRec, 4 tokens"]


def test_datasets_have_their_titles():
    cells = (ONE, dataclasses.replace(ONE, dataset="ml-1m"), dataclasses.replace(ONE, dataset_size="small"))
    assert [label.rpartition(" · ")[2] for label in labels_of(*cells)] == ["synthetic", "MovieLens-1M", "synthetic (small)"]


def _no_two_alike(labels, cells):
    for of in (labels, labels.brief):
        said = [of(cell) for cell in cells]
        assert len(set(said)) == len(cells), sorted(said)


def test_no_two_cells_of_a_grid_are_called_alike():
    cells = grid_cells(seeds=(1, 2))
    _no_two_alike(Labels.of(cells), cells)


changes = st.fixed_dictionaries(
    {},
    optional={
        "tokens": st.sampled_from([1, 2, 4]), "history": st.sampled_from([64, 224]), "seed": st.integers(0, 2), "layers": st.integers(1, 3),
        "width": st.sampled_from([48, 64]), "dropout": st.sampled_from([0.0, 0.1, 0.2]), "dataset_size": st.sampled_from([None, "small"]),
        "dataset": st.sampled_from(["synthetic", "synthetic (small)", "hstu · 2 x 48", ""]), "moving_windows": st.booleans(),
        "item_learning_rate": st.sampled_from([None, 0.1]), "control": st.booleans(), "backbone": st.sampled_from(["hstu", "sasrec"]),
    },
)  # fmt: skip


@given(st.lists(changes, min_size=1, max_size=8))
def test_two_cells_that_differ_never_print_alike(settings):
    cells = list(dict.fromkeys(dataclasses.replace(ONE, **changed) for changed in settings))
    _no_two_alike(Labels.of(cells), cells)
    assert all(Labels.of(cells)(one) != Labels.of(cells)(other) for one, other in itertools.combinations(cells, 2))


def test_labels_need_no_torch():
    code = "import sys, benchmarks.labels, benchmarks.text; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

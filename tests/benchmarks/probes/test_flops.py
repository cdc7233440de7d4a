"""FLOPs of one layer are those counted by hand; what is counted without running is what is counted of a run."""

import dataclasses

import pytest
from tiny_cells import CELLS, LOG, SIZES, measured, subject_of

from benchmarks.cell import Cell
from benchmarks.measures import MEASURES
from benchmarks.probes.flops import count_flops
from benchmarks.probes.training_cost import count_step
from persrec.nn import attention
from persrec.nn.attention import bias
from persrec.training import Trainer

pytestmark = pytest.mark.usefixtures("measuring")


# One layer by hand, D = 8 in 2 heads: history 12 with 2 tokens behind, 4 recent items, full attention over 16.
# Multiply-adds a position, from the layers as they are written down, of the maps from and to the residual stream and of the feed-forward:
HAND = {
    "hstu": (8 * 32 + 8 * 8, 0),  # x @ W_uvqk, 8 to u, v, q and k of 8 each, and W_o; no feed-forward
    "sasrec": (4 * 8 * 8, 2 * 8 * 8),  # q, k, v and the output map; a feed-forward of two layers, as wide as the model
    "llama": (2 * 8 * 8 + 2 * 8 * 4, 3 * 8 * 24),  # q and o; k and v of one head of 4, for both; SwiGLU's three maps, 24 wide
}
HAND["hllm"] = HAND["llama"]
PAIR = 2 * 8  # multiply-adds a pair: 8 for the score, 8 for the sum of values
VISIBLE = {"full": 16 * 17 // 2, "compress": 14 * 15 // 2, "serve": 4 * 5 // 2 + 4 * 2}
EXECUTED = {"full": 16 * 16, "compress": 14 * 14, "serve": 4 * (2 + 4)}  # fewer than 64 rows are one block, so dense in either kernel
POSITIONS = {"full": 16, "compress": 14, "serve": 4}


def subject_by_hand(backbone):
    return subject_of(dataclasses.replace(CELLS["experts"], backbone=backbone, training="none"))


def counted(subject):
    """Metrics and ledger of every pass, training's among them."""
    (metrics, ledger), (of_training, rows) = count_flops(subject), count_step(subject)
    return metrics | of_training, ledger + rows


def flops_by_part(ledger, count="formula_flops"):
    return {(row["phase"], row["part"]): row[count] for row in ledger if row["part"] != "total"}


def nonzero(parts):
    return {part: flops for part, flops in parts.items() if flops}


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("backbone", HAND)
def test_the_flops_of_one_layer_are_those_counted_by_hand(backbone, gpu, monkeypatch):
    monkeypatch.setattr(attention, "on_gpu", lambda tensor: gpu)  # a GPU's kernels are none that a counter sees into
    subject = subject_by_hand(backbone)
    metrics, ledger = counted(subject)
    assert subject.model.backbone.kernel == "segmented"
    projections, feed_forward = HAND[backbone]
    expected = {}
    for phase, positions in POSITIONS.items():  # a multiply-add is 2 FLOPs
        expected[phase, "projections"] = 2 * positions * projections
        expected[phase, "attention"] = 2 * EXECUTED[phase] * PAIR
        expected[phase, "feed_forward"] = 2 * positions * feed_forward
        maps = positions * (projections + feed_forward)
        assert metrics[f"{phase}_flops"]["value"] == 2 * (maps + EXECUTED[phase] * PAIR)
        assert metrics[f"{phase}_visible_flops"]["value"] == 2 * (maps + VISIBLE[phase] * PAIR)
    # backward: each map twice its forward; attention has 5 products, of 2 forward: four gradients, and the scores again
    expected["train", "projections"] = 3 * 2 * (14 + 4) * projections
    expected["train", "feed_forward"] = 3 * 2 * (14 + 4) * feed_forward
    expected["train", "attention"] = 7 * 2 * (14 * 14 + 4 * 6) * 8
    expected["train", "scoring"] = 3 * 2 * 16 * 16 * 8  # 16 positions predict, against 16 negatives
    expected["score", "scoring"] = metrics["score_flops"]["value"] = 2 * LOG.num_items * 8
    for count in ("formula_flops", "torch_flops", "fvcore_flops"):
        by_part = {key: flops for key, flops in flops_by_part(ledger, count).items() if key[1] != "item_encoder"}
        assert by_part == {key: None if (key[0], count) == ("train", "fvcore_flops") else flops for key, flops in nonzero(expected).items()}
    assert metrics["cache_bytes"]["value"] == 2 * (4 if HAND[backbone] is HAND["llama"] else 8) * 2 * 4  # K and V, 2 tokens, float32


@pytest.mark.parametrize("backbone", ["hstu", "sasrec", "llama", "hllm"])
def test_a_teacher_costs_a_pass_of_full_attention_and_the_scores_of_recent_positions_once_more(backbone):
    cell = Cell(backbone=backbone, compression="experts", tokens=2, **(SIZES | {"training": "none"}))
    taught, alone, full = (
        flops_by_part(count_step(subject_of(one))[1])
        for one in (
            dataclasses.replace(cell, distillation=2.0), cell, dataclasses.replace(cell, compression="full", tokens=0),
        )
    )  # fmt: skip
    for part in ("projections", "attention", "feed_forward"):
        assert taught.get(("train", part), 0) == alone.get(("train", part), 0) + full.get(("train", part), 0)
    again = 3 * 2 * cell.recent * cell.negatives * cell.width
    assert taught["train", "scoring"] == alone["train", "scoring"] + full["train", "scoring"] + again
    rows = count_step(subject_of(dataclasses.replace(cell, distillation=2.0)))[1]
    assert flops_by_part(rows) == flops_by_part(rows, "torch_flops")


@pytest.mark.parametrize(
    ("changes", "scored"),
    [  # 16 positions; and 2 tokens, or the 4 recent positions once more, of 16 negatives
        ({"negatives": 0}, 16 * (LOG.num_items - 1)),
        ({"expert_weight": 2.0}, (16 + 2) * 16),
        ({"recent_weight": 0.5}, (16 + 4) * 16),
        ({"compression": "recent", "tokens": 0, "recent_weight": 0.5}, (4 + 4) * 16),
    ],
)
def test_a_training_step_scores_every_item_or_for_tokens_and_recent_items_too_where_the_recipe_says_so(changes, scored):
    subject = subject_of(dataclasses.replace(CELLS["experts"], training="none", **changes))
    _, rows = count_step(subject)
    for count in ("formula_flops", "torch_flops"):
        assert flops_by_part(rows, count)["train", "scoring"] == 3 * 2 * scored * 8


@pytest.mark.parametrize("backbone", ["llama", "hllm"])
def test_each_part_of_a_step_computes_the_item_vectors_that_it_looks_up(backbone):
    cell = dataclasses.replace(CELLS["experts"], backbone=backbone, training="none")
    whole, parts = (count_step(subject_of(dataclasses.replace(cell, accumulation=parts)))[1] for parts in (1, 4))
    assert flops_by_part(parts) == flops_by_part(parts, "torch_flops")
    again = flops_by_part(parts)["train", "item_encoder"] / flops_by_part(whole)["train", "item_encoder"]
    assert 1.1 < again <= 4
    assert {**flops_by_part(parts), ("train", "item_encoder"): 0} == {**flops_by_part(whole), ("train", "item_encoder"): 0}


def test_the_parts_of_a_step_share_its_negatives(monkeypatch):
    drawn, own = [], Trainer.draw
    monkeypatch.setattr(Trainer, "draw", lambda self: drawn.append(own(self)) or drawn[-1])
    negatives, loss = [], Trainer.loss
    monkeypatch.setattr(Trainer, "loss", lambda self, batch, given: negatives.append(given[0]) or loss(self, batch, given))
    count_step(subject_of(dataclasses.replace(CELLS["experts"], backbone="hllm", accumulation=4, training="none")))
    assert len(negatives) == 4
    assert len(drawn) == 1
    assert all(given is drawn[0][0] for given in negatives)


@pytest.mark.parametrize(("backbone", "timed", "pairs"), [("hstu", True, 5 + 6), ("hstu", False, 6), ("sasrec", False, 6)])
def test_an_appended_item_sees_what_is_kept_and_itself_alone(backbone, timed, pairs):
    """2 tokens and 4 recent items; with times the item before is computed too, since it is told how long the next one took."""
    cell = dataclasses.replace(CELLS["experts"], backbone=backbone, serving="append", time_bias=timed, training="none")
    metrics, _ = count_flops(subject_of(cell))
    maps = (1 + timed) * sum(HAND[backbone])
    assert metrics["serve_visible_flops"]["value"] == 2 * (maps + pairs * PAIR)


@pytest.mark.parametrize("recent", [1, 2])
@pytest.mark.parametrize("name", ["experts in 2 segments", "memory in 2 segments"])
@pytest.mark.parametrize("timed", [False, True])
def test_an_appended_item_is_counted_as_it_runs_also_where_it_is_the_first(recent, name, timed):
    """Nothing was appended before an only item, so that a memory's states are run with it."""
    cell = dataclasses.replace(CELLS[name], backbone="hstu", serving="append", time_bias=timed, recent=recent, training="none")
    _, ledger = count_flops(subject_of(cell))
    for count in ("torch_flops", "fvcore_flops"):
        assert nonzero(flops_by_part(ledger)) == nonzero(flops_by_part(ledger, count))


def test_dividing_by_the_keys_seen_is_no_product():
    cell = dataclasses.replace(CELLS["experts"], backbone="hstu", training="none")
    subjects = [subject_of(one) for one in (cell, dataclasses.replace(cell, divisor=0))]
    assert [subject.model.backbone.config.divisor for subject in subjects] == [None, 0]
    plain, divided = map(counted, subjects)
    assert divided[0] == plain[0]
    assert flops_by_part(divided[1]) == flops_by_part(plain[1])
    assert all(row["agrees"] for row in divided[1])


def test_mapped_item_vectors_are_those_counted_by_hand():
    metrics, ledger = counted(subject_by_hand("llama"))
    assert metrics["item_flops"]["value"] == metrics["item_visible_flops"]["value"] == 2 * LOG.num_items * 8 * 8
    looked_up = 4 * 16 + 4 * 16 + 16  # a step of 4 windows: their items, their targets, and the negatives
    assert flops_by_part(ledger)["train", "item_encoder"] == 3 * 2 * looked_up * 8 * 8 / 4


def test_encoded_texts_are_those_counted_by_hand():
    subject = subject_by_hand("hllm")
    metrics, ledger = counted(subject)
    tokens = subject.model.items.lengths.tolist()
    maps = sum(HAND["llama"])

    def read(items):
        """Rows as long as the longest text."""
        longest = max(tokens[item] for item in items)
        return 2 * len(items) * (longest * maps + longest**2 * PAIR)

    assert metrics["item_flops"]["value"] == read(range(LOG.num_items))
    assert metrics["item_visible_flops"]["value"] == sum(2 * (t * maps + t * (t + 1) // 2 * PAIR) for t in tokens)
    # a step of 4 windows reads each of its items once: nearly all of these 20
    shares = [3 * read(range(1, 1 + count)) / 4 for count in range(15, LOG.num_items)]
    assert flops_by_part(ledger)["train", "item_encoder"] in shares


@pytest.mark.parametrize("backbone", ["hstu", "sasrec"])
def test_vectors_that_are_parameters_cost_nothing_and_the_reason_is_told(backbone):
    metrics, _ = counted(subject_by_hand(backbone))
    for name in ("item_flops", "item_visible_flops", "item_macs", "item_visible_macs"):
        assert metrics[name] == {"value": None, "method": "item vectors are parameters, nothing is computed", "n": 0}


@pytest.mark.parametrize("name", ["texts", "experts in 2 segments", "no token", "full", "recent"])
def test_what_is_counted_without_running_is_what_is_counted_of_a_run(name):
    cell = dataclasses.replace(CELLS[name], training="none", control=True)
    cell = cell if name == "texts" else dataclasses.replace(cell, backbone="llama")
    ran, _ = measured(cell)
    alone, phases = measured(dataclasses.replace(cell, counted_only=True))
    assert phases["cost"] == ["load", "flops", "control", "training_cost"]
    assert alone["ledger"] == ran["ledger"]
    for key, metric in alone["metrics"].items():
        if MEASURES[key].deterministic:
            assert metric["value"] == ran["metrics"][key]["value"], key
            assert metric["value"] is None or "meta" in metric["method"] or key.endswith("_over_full"), key
        else:
            assert metric["value"] is None, key
            assert metric["method"] == "counted on the meta device alone: the model was not run", key
    assert set(alone["metrics"]) == set(ran["metrics"])
    assert alone["raw"] == {}


@pytest.mark.parametrize("name", ["full", "full recomputed", "experts in 2 segments", "appending", "memory in 2 segments", "pooling"])
def test_the_counts_do_not_depend_on_how_time_buckets_are_found(name, monkeypatch):
    """Of few pairs HSTU keeps the buckets, of more the ends of their runs: other operations, and none has a product."""
    cells = CELLS | {"appending": dataclasses.replace(CELLS["experts in 2 segments"], serving="append", training="none")}
    cell = dataclasses.replace(cells[name], backbone="hstu", training="none")
    pair_by_pair = counted(subject_of(cell))
    monkeypatch.setattr(bias, "MOST_KEPT_BUCKETS", 0)
    monkeypatch.setattr(bias, "MOST_KEPT_DISTANCES", 0)
    by_runs = counted(subject_of(cell))
    assert by_runs[0] == pair_by_pair[0]
    for count in ("formula_flops", "torch_flops", "fvcore_flops"):
        assert flops_by_part(by_runs[1], count) == flops_by_part(pair_by_pair[1], count)
    assert all(row["agrees"] for row in by_runs[1])

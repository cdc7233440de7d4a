"""The closed cost formula, fvcore and torch's counter agree for every backbone with every compression, in every phase."""

from dataclasses import replace

import pytest
import torch
from small_models import BACKBONE_NAMES, CASES, ITEMS, PART_OF, WIDTH, build, random_windows

from benchmarks.cell import Cell
from benchmarks.grids import DataSize, load_grid
from benchmarks.probes import flops
from benchmarks.probes.flops import count_flops
from benchmarks.probes.parts import PARTS
from benchmarks.probes.training_cost import TrainingSubject, count_step
from persrec import names
from persrec.backbones import BackboneSettings, build_backbone

pytestmark = pytest.mark.usefixtures("one_thread")

PHASES = ("full", "compress", "serve", "score", "item", "train")
COMPUTE_ITEMS = tuple(name for name, part in names.backbones().items() if part.items != "ids")  # by a map, and from texts
IN_BACKBONE = ("projections", "attention", "feed_forward")
# of each compression the last of its small layouts, and two more of experts
COUNTED = [*sorted({part.name: case for case, part in PART_OF.items()}.values()), "3 alike segments", "a segment without experts"]
DEAR = ("llama", "hllm")  # a compression lays out positions and knows no backbone: these are counted with every other one
EVERY_LEDGER = [
    (backbone, case) for backbone in BACKBONE_NAMES for number, case in enumerate(COUNTED) if backbone not in DEAR or number % 2 == 0
]
measured = pytest.mark.parametrize("backbone", BACKBONE_NAMES)


def subject_of(backbone, case, *, serving="cache", counts="none"):
    model = build(backbone, CASES[case](), counts=counts)
    layout = model.layout
    part = PART_OF[case]
    sizes = {"history": layout.history, "recent": layout.recent, "layers": 2, "heads": 2, "width": WIDTH, "batch_size": 2}
    tokens = 3 if part.tokens == "some" else 0
    serving = "recompute" if part.chooses_at_request else serving
    cell = Cell(backbone=backbone, compression=part.name, tokens=tokens, serving=serving, counts=counts, **sizes)
    return TrainingSubject(cell=replace(cell, negatives=16), model=model)


def counted(subject):
    """Metrics and ledger of every pass, training's among them."""
    (metrics, ledger), (of_training, rows) = count_flops(subject), count_step(subject)
    return metrics | of_training, ledger + rows


def expected_parts(subject, phase):
    """The parts that a phase computes something of."""
    backbone = [part for part in IN_BACKBONE if part != "feed_forward" or subject.model.backbone.feed_forward]
    of_items = ["item_encoder"] if subject.cell.backbone in COMPUTE_ITEMS else []
    if phase == "compress" and not subject.compresses:
        return []
    if phase == "serve" and subject.layout.query_items:
        return [*backbone, "scoring"]  # the search: a vector against item vectors
    return {"score": ["scoring"], "item": of_items, "train": [*of_items, *backbone, "scoring"]}.get(phase, backbone)


def assert_what_is_visible_is_what_the_layout_says(subject, metrics):
    model, layout, found = subject.model, subject.layout, {name: metric["value"] for name, metric in metrics.items()}

    def cost(positions, pairs):
        return sum(model.backbone.macs(positions=positions, pairs=pairs).values())

    segments = [cost(layout.size(segment), layout.visible_pairs(segment)) for segment in range(len(layout.segments) + 1)]
    if layout.query_items:  # nothing can be computed before a request; the search is a product of D with every old item
        assert found["compress_visible_macs"] == found["cache_bytes"] == 0
        assert found["serve_visible_macs"] == sum(segments) + layout.history * WIDTH
        assert_the_rest(subject, found, cost)
        return
    assert found["compress_visible_macs"] == sum(segments[index] for index, part in enumerate(layout.segments) if part.kept)
    assert found["serve_visible_macs"] == segments[-1]
    assert_the_rest(subject, found, cost)
    if layout.segments:
        items, _, _ = random_windows(layout)
        with torch.no_grad():
            assert found["cache_bytes"] == model.compress(items[:, : layout.history]).nbytes_per_user
    assert (found["cache_bytes"] > 0) == any(part.kept for part in layout.segments)


def assert_the_rest(subject, found, cost):
    window = subject.layout.window
    assert found["full_visible_macs"] == cost(window, window * (window + 1) // 2)
    assert found["score_macs"] == ITEMS * WIDTH
    assert found["parameters"] == sum(weight.numel() for weight in subject.model.parameters())


@pytest.mark.parametrize(("backbone", "case"), EVERY_LEDGER)
def test_the_ledger_agrees_in_every_phase_and_part(backbone, case):
    subject = subject_of(backbone, case)
    weights = {name: weight.clone() for name, weight in subject.model.state_dict().items()}
    metrics, ledger = counted(subject)
    phases = [phase for phase in PHASES if phase != "item" or backbone in COMPUTE_ITEMS]
    assert [(row["phase"], row["part"]) for row in ledger] == [
        (phase, part) for phase in phases for part in (*expected_parts(subject, phase), "total")
    ]
    for row in ledger:
        assert row["agrees"]
        assert row["torch_flops"] == row["formula_flops"] == row["executed_flops"]
        assert row["fvcore_flops"] == (None if row["phase"] == "train" else row["formula_flops"])
        assert row["visible_flops"] <= row["executed_flops"]
        if row["part"] == "total":
            assert metrics[f"{row['phase']}_flops"]["value"] == row["formula_flops"] == 2 * metrics[f"{row['phase']}_macs"]["value"]
            assert metrics[f"{row['phase']}_visible_flops"]["value"] == row["visible_flops"]
    assert_what_is_visible_is_what_the_layout_says(subject, metrics)
    by_part = [
        sum(row[count] for row in ledger if row["phase"] == "train" and row["part"] in PARTS) for count in ("formula_flops", "torch_flops")
    ]
    assert by_part == pytest.approx([metrics["train_flops"]["value"]] * 2)
    assert (metrics["item_flops"]["value"] is None) == (backbone not in COMPUTE_ITEMS)
    # counting is no training
    assert not subject.model.training
    assert all(weight.grad is None for weight in subject.model.parameters())
    assert all(torch.equal(weight, weights[name]) for name, weight in subject.model.state_dict().items())


@pytest.mark.parametrize("counts", ["recent", "all"])
@pytest.mark.parametrize(("backbone", "case", "serving"), [
    ("hstu", "3 alike segments", "cache"), ("sasrec", "full", "append"), ("sasrec", "memory", "cache"), ("llama", "pooling", "cache"),
    ("sasrec", "recent", "recompute"),
])  # fmt: skip
def test_counting_is_in_the_ledger_and_in_the_bytes(backbone, case, serving, counts):
    plain, counting = (subject_of(backbone, case, serving=serving, counts=wanted) for wanted in ("none", counts))
    (without, _), (metrics, ledger) = counted(plain), counted(counting)
    assert all(row["agrees"] and row["torch_flops"] == row["formula_flops"] for row in ledger)
    assert metrics["score_macs"]["value"] == without["score_macs"]["value"] + 4 * WIDTH  # a weight for each of four counts
    assert metrics["train_macs"]["value"] > without["train_macs"]["value"]
    kept = (counting.layout.history if counts == "all" else 0) + (counting.layout.recent - 1 if serving == "append" else 0)
    more = 0 if serving == "recompute" else 4 * kept
    assert metrics["cache_bytes"]["value"] == without["cache_bytes"]["value"] + more


@pytest.mark.parametrize("backbone", COMPUTE_ITEMS)
def test_of_a_large_catalogue_some_items_are_counted_and_all_are_told(backbone, monkeypatch):
    subject = subject_of(backbone, "no expert")
    whole, _ = count_flops(subject)
    monkeypatch.setattr(flops, "COUNTED_ITEMS", 5)
    metrics, ledger = count_flops(subject)
    assert metrics["item_flops"]["value"] == whole["item_flops"]["value"]
    assert f"5 of {ITEMS} items" in metrics["item_flops"]["method"]
    (row,) = [row for row in ledger if (row["phase"], row["part"]) == ("item", "total")]
    assert row["agrees"]
    assert row["torch_flops"] == row["fvcore_flops"] < whole["item_flops"]["value"]


@pytest.mark.parametrize("backbone", COMPUTE_ITEMS)
def test_a_step_shares_what_it_reads(backbone):
    small, large = (count_step(replace(subject_of(backbone, "no expert"), cell=cell))[1] for cell in cells_of_two_batches(backbone))
    parts = {part: [row["torch_flops"] for row in (*small, *large) if (row["phase"], row["part"]) == ("train", part)] for part in PARTS}
    assert parts["item_encoder"][1] < parts["item_encoder"][0]
    for part in (*IN_BACKBONE, "scoring"):
        assert parts[part][0] == parts[part][1]


def cells_of_two_batches(backbone):
    cell = subject_of(backbone, "no expert").cell
    return replace(cell, batch_size=1), replace(cell, batch_size=8)


@pytest.mark.parametrize("kernel", ["segmented", "naive"])
@measured
def test_the_ledger_agrees_where_segments_run_side_by_side_or_one_after_the_other(backbone, kernel):
    subject = subject_of(backbone, "3 alike segments", serving="recompute")
    subject.model.use_kernel(kernel)
    _, ledger = counted(subject)
    priced = [
        row for row in ledger if kernel == "segmented" or row["phase"] != "train"
    ]  # the naive kernel keeps its scores, and has 4 products
    assert all(row["agrees"] and row["torch_flops"] == row["formula_flops"] for row in priced)
    (serving,) = (row for row in ledger if (row["phase"], row["part"]) == ("serve", "attention"))
    assert serving["fvcore_flops"] == serving["formula_flops"]


def test_served_by_recomputing_nothing_is_kept_and_serving_costs_the_joint_pass():
    cached, recomputed = (counted(subject_of("hstu", "3 segments", serving=serving))[0] for serving in ("cache", "recompute"))
    assert recomputed["cache_bytes"]["value"] == recomputed["compress_flops"]["value"] == 0
    assert recomputed["serve_visible_flops"]["value"] == cached["compress_visible_flops"]["value"] + cached["serve_visible_flops"]["value"]
    for name in ("full_flops", "score_flops", "train_flops", "parameters"):
        assert recomputed[name]["value"] == cached[name]["value"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
def test_a_joint_pass_costs_the_sum_of_its_segments(backbone, case):
    model = build(backbone, CASES[case]())
    layout, formula = model.layout, model.backbone.macs
    segments = [formula(positions=layout.size(j), pairs=layout.visible_pairs(j)) for j in range(len(layout.segments) + 1)]
    joint = formula(positions=len(layout.joint_positions), pairs=int(layout.visibility().sum()))
    assert joint == {part: sum(segment[part] for segment in segments) for part in joint}


@pytest.mark.parametrize("backbone", ["hstu", "sasrec"])
@pytest.mark.parametrize(("rows", "window", "recent"), [(1, 72, 8), (500_001, 200, 16)])
def test_the_complete_grid_holds_recent_alone_at_the_tokens_and_at_the_flops_of_experts(backbone, rows, window, recent):
    grid = load_grid("complete", device="cpu", sizes=lambda name, size: DataSize(interactions=rows, repeats=False))
    cells = [cell for cell in grid.cells if cell.backbone == backbone and cell.history + cell.recent == window]
    held = {cell.recent for cell in cells if cell.compression == "recent"}
    model = build_backbone(backbone, BackboneSettings(width=64, layers=2, heads=1, length=80))

    def cost(recent, tokens):
        return sum(model.macs(positions=recent, pairs=model.executed_pairs(queries=recent, prefix=tokens)).values())

    for tokens in (4, 16):
        nearest = min(range(recent, 49), key=lambda wider: abs(cost(wider, 0) - cost(recent, tokens)))
        assert {recent, recent + tokens, nearest} <= held
        assert cost(nearest, 0) == pytest.approx(cost(recent, tokens), rel=0.05)

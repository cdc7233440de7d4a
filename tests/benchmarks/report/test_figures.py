import re

import matplotlib as mpl
import pytest
from fabricated_records import configured, fabricate, grid_cells

from benchmarks.analysis.configurations import QUALITY_METRICS
from benchmarks.analysis.frontier import frontier
from benchmarks.cell import Cell
from benchmarks.report import names as families
from benchmarks.report.figures import axes, canvas, curves
from benchmarks.report.figures.amortised import amortised_figure
from benchmarks.report.figures.forest import forest_figure
from benchmarks.report.figures.frontier import frontier_figure
from persrec import names as parts

SERVED = {"retrieval": "recompute"}
EVERY_KIND = [
    *(
        Cell(backbone="hstu", compression=part.name, tokens=0 if part.tokens == "none" else 4, serving=SERVED.get(part.name, "cache"))
        for part in parts.compressions().values()
    ),
    Cell(backbone="hstu", compression="full", serving="recompute"),
    Cell(backbone="hstu", compression="experts"),
    Cell(backbone="hstu", compression="experts", tokens=4, training="elastic", elastic_tokens=(4,)),
    Cell(backbone="popularity", compression="none", training="none"),
]
FAMILIES = families.families(configured([fabricate(cell) for cell in EVERY_KIND]))


@pytest.fixture(scope="module")
def among():
    return families.in_order(configured([fabricate(cell) for cell in grid_cells(histories=(64,), backbones=("hstu",))]))


def drawn(among, cost="serve_flops"):
    frontiers = {metric: frontier(among, cost=cost, metric=metric) for metric in QUALITY_METRICS}
    return frontier_figure(frontiers, families.name_all(among), key="f", where="here")


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_colours_can_be_read_on_their_paper(theme):
    palette = canvas.themes(FAMILIES)[theme]
    for name, colour in palette.items():
        if name not in ("paper", "grid"):
            assert contrast(colour, palette["paper"]) >= 4.5, name


def test_colours_and_shapes_tell_families_apart():
    light, dark = canvas.themes(FAMILIES)
    assert set(light) == set(dark)
    assert len(set(light.values())) == len(light)  # a colour is the name of its variable
    assert len({kind.marker for kind in FAMILIES}) == len({kind.glyph for kind in FAMILIES}) == len(FAMILIES) == 13


def test_every_colour_of_a_figure_is_a_variable(among):
    svg = str(drawn(among).image.svg)
    bare = set(re.findall(r"(?<!, )#[0-9a-f]{6}", svg))
    assert bare == set()
    used = set(re.findall(r"var\(--([a-z0-9-]+)", svg))
    assert {"ink", "muted", "grid", "c-0068a6", "c-c2410c", "sans"} <= used
    assert used - {"sans"} <= set(canvas.themes(FAMILIES)[0])


def test_a_figure_is_self_contained(among):
    svg = str(drawn(among).image.svg)
    assert "url(" not in svg
    assert "http" not in svg
    assert "xmlns" not in svg
    assert "<metadata" not in svg
    ids = re.findall(r' id="([^"]+)"', svg)
    assert all(name.startswith("f-") for name in ids)
    assert set(re.findall(r'href="#([^"]+)"', svg)) <= set(ids)


def test_the_frontier_is_told_in_words_and_numbers(among):
    found = drawn(among)
    assert found.description.startswith("NDCG@10: 13 configurations with this cost and quality; on the frontier, cheapest first: ")
    frontiers = [frontier(among, cost="serve_flops", metric=metric) for metric in QUALITY_METRICS]
    near = {s.configuration.key for f in frontiers for s in f.standings if s.on_frontier or s.probability >= 0.05}
    assert 3 < len(found.table.rows) == len(near) < len(among)
    assert f"; {13 - len(near)} more, below 5% on either frontier, stand in the ranked table; 1 seed each" in found.table.caption
    assert all(0 <= row.entries[3].order <= 1 for row in found.table.rows)


def test_points_of_the_frontier_are_named_and_those_that_were_chosen_always():
    among = families.in_order(configured([fabricate(cell) for cell in grid_cells(histories=(64,))]))
    frontiers = {metric: frontier(among, cost="serve_flops", metric=metric) for metric in QUALITY_METRICS}
    chosen = next(standing.configuration for standing in frontiers["ndcg@10"].standings if not standing.on_frontier)
    names = families.name_all(among)
    found = frontier_figure(frontiers, names, key="f", where="here", roles={chosen.key: "smallest"})
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", str(found.image.svg))
    assert "smallest: " + names.brief(chosen).removeprefix(f"{families.backbone_name(chosen)} ") in texts
    dearest = frontiers["ndcg@10"].winners[-1].configuration
    assert names.brief(dearest).removeprefix(f"{families.backbone_name(dearest)} ") in texts
    assert {"HSTU: NDCG@10", "SASRec: NDCG@10"} <= set(texts)  # a panel for each backbone


def test_floors_without_a_cost_are_lines_or_notes(among):
    svg = str(drawn(among).image.svg)
    assert "repeat last" in svg
    assert "popularity" in svg


def test_text_is_never_read_as_mathematics():
    cells = [Cell(backbone="hstu", compression="experts", tokens=4, dataset=name) for name in ("$\\frac{<b>", "plain")]
    records = [fabricate(cell) for cell in cells]
    among = configured(records)
    roles = {one.key: "best" for one in among}  # chosen, so that they are labelled
    frontiers = {metric: frontier(among, cost="serve_flops", metric=metric) for metric in QUALITY_METRICS}
    found = frontier_figure(frontiers, families.name_all(among), key="f", where="here", roles=roles)
    assert "[$\\frac{&lt;b&gt;]" in str(found.image.svg)


def test_settings_of_the_user_change_nothing(among):
    before = drawn(among)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "other", "svg.fonttype": "path"}):
        after = drawn(among)
        assert mpl.rcParams["font.size"] == 30
    assert before.image == after.image


def test_zero_has_a_place_on_a_logarithmic_axis():
    scale = axes.CostScale.of("cache_bytes", [0.0, 1024.0, 4096.0])
    assert scale.place(1024.0) == 1024.0
    assert 0 < scale.place(0.0) < scale.low < 1024.0
    assert axes.CostScale.of("cache_bytes", [1024.0]).zero is None


@pytest.mark.parametrize(
    ("metric", "low", "high"),
    [
        ("serve_flops", 2.1e6, 5.5e7),
        ("serve_flops", 2.1e6, 2.4e6),
        ("serve_flops", 1e3, 1e15),
        ("cache_bytes", 700.0, 2e5),
        ("cache_bytes", 1.5e6, 1.6e6),
        ("request_latency_p50_ms", 0.7, 0.9),
    ],
)
def test_ticks_are_inside_few_and_told_apart(metric, low, high):
    ticks = axes.cost_ticks(metric, low, high)
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    labels = [axes.tick_label(metric, tick) for tick in ticks]
    assert len(set(labels)) == len(labels)


def test_tick_labels_drop_zeros_that_say_nothing():
    assert axes.tick_label("serve_flops", 1e7) == "10 MFLOP"
    assert axes.tick_label("serve_flops", 1e8) == "100 MFLOP"
    assert axes.tick_label("serve_flops", 1.5e6) == "1.5 MFLOP"
    assert axes.tick_label("cache_bytes", 2.0**18) == "256 KiB"


def test_positions_are_logarithmic_with_zero_a_step_before():
    assert axes.positions([8, 0, 2, 4]) == {2: 1.0, 4: 2.0, 8: 3.0, 0: 0.0}


def test_tokens_figure_has_ceilings_and_references(among):
    ceiling = {"whole_past": {"ndcg@10": 0.2, "recall@10": 0.3}, "last_recent": {"ndcg@10": 9.0, "recall@10": 0.25}}
    found = curves.tokens_figure(among, families.name_all(among), ceiling=ceiling, key="t", where="here")
    svg = str(found.image.svg)
    for text in (
        "full history",
        "recent only",
        "ceiling, whole past",
        "\N{UPWARDS ARROW} exact predictor, recent only 9.0000",
        "NDCG@10, HSTU",
    ):
        assert text in svg
    assert "full history 0." in found.description


def test_models_of_another_recipe_are_no_points_of_one_line():
    cells = [
        Cell(backbone="hstu", compression="experts", tokens=tokens, distillation=weight, serving="cache")
        for tokens in (1, 4)
        for weight in (0.0, 1.0)
    ]
    among = families.in_order(configured([fabricate(cell) for cell in cells]))
    found = curves.tokens_figure(among, families.name_all(among), ceiling={}, key="t", where="here")
    for weight in (0.0, 1.0):
        first, second = (one.quality("ndcg@10").value for one in among if one.cell.distillation == weight)
        name = "PerSRec, distillation 1.0" if weight else "PerSRec"
        assert f"HSTU {name} 1: {first:.4f}, 4: {second:.4f}" in found.description
        assert f">{name}<" in str(found.image.svg)


def test_figures_without_a_subject_are_not_drawn(among):
    names = families.name_all(among)
    full = [one for one in among if one.cell.compression == "full"]
    assert curves.tokens_figure(full, names, ceiling={}, key="t", where="here") is None
    assert curves.history_figure(among, names, ceiling={}, key="h", where="here") is None
    assert curves.cost_history_figure(among, names, key="c", where="here") is None
    assert forest_figure(full, names, key="d", where="here") is None
    assert amortised_figure([], names, key="a", where="here") is None


def test_costs_by_length_have_a_panel_a_backbone_and_name_their_lines():
    among = families.in_order(configured([fabricate(cell) for cell in grid_cells(histories=(64, 128), backbones=("hstu", "sasrec"))]))
    found = curves.cost_history_figure(among, families.name_all(among), key="c", where="here")
    svg = str(found.image.svg)
    for backbone in ("HSTU", "SASRec"):
        for cost in ("FLOPs per request (serve)", "Time of a whole request, median", "Cache per user"):
            assert f"{cost}, {backbone}<" in svg
    for line in ("full history, KV cache", "4 tokens", "no token"):
        assert svg.count(f">{line}<") >= 4  # of FLOPs and of time, of two backbones

import dataclasses
import itertools
from collections.abc import Callable

import pytest

from benchmarks.cell import changed_at_evaluation
from benchmarks.grids import DataSize, load_grid, preset_names
from benchmarks.keys import model_key
from persrec import names


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("dataset", ["synthetic", "ml-1m"])
def test_presets_hold_up_everywhere(name: str, device: str, dataset: str) -> None:
    grid = load_grid(name, device=device, dataset=dataset, seeds=(1, 2))
    assert grid.description
    assert {cell.dataset for cell in grid.cells} == {dataset}
    assert {cell.device for cell in grid.cells} == {device}
    assert len({cell.seed for cell in grid.cells}) == 2


def test_smoke_covers_every_part() -> None:
    cells = load_grid("smoke", device="cpu").cells
    assert {cell.backbone for cell in cells} == {*names.backbones(), *names.floors()}
    assert {(cell.backbone, cell.tokens) for cell in cells if cell.compression == "experts"} == {
        (backbone, tokens) for backbone in names.backbones() for tokens in (0, 4)
    }
    assert {cell.compression for cell in cells} == {names.NO_COMPRESSION, *names.compressions()}
    assert {cell.serving for cell in cells if cell.compression == "full"} == {"recompute", "cache", "append"}
    assert {cell.backbone for cell in cells if cell.serving == "append" and cell.tokens} == {"hstu", "sasrec", "llama"}
    assert {0} < {cell.tokens for cell in cells if cell.compression == "experts"}
    assert len({cell.segments for cell in cells}) > 1


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_profile_and_paper_are_cost_alone_beside_full_attention(device: str) -> None:
    for name in ("profile", "paper"):
        cells = load_grid(name, device=device).cells
        assert {cell.training for cell in cells} == {"none"}
        recomputed = {cell for cell in cells if cell.compression == "full" and cell.serving == "recompute"}
        without = {cell for cell in cells if not cell.control}
        assert recomputed <= without  # they are the control itself
        # full attention is served alike beside the others
        others = {cell for cell in without - recomputed if cell.serving != "append" and cell.catalogue is None}
        assert all(device == "cpu" and cell.history == 16_128 for cell in others)  # where it takes minutes
        assert {(cell.backbone, cell.history) for cell in cells} == {(cell.backbone, cell.history) for cell in recomputed}
    assert max(cell.history + cell.recent for cell in load_grid("profile", device=device).cells) == 16_384


def test_paper_has_the_papers_sizes() -> None:
    cells = load_grid("paper", device="cuda").cells
    sizes = {(cell.backbone, cell.layers, cell.heads, cell.width) for cell in cells}
    assert sizes == {("hstu", 16, 8, 64), ("sasrec", 4, 4, 64), ("hllm", 16, 32, 2048)}
    assert {(cell.history, cell.recent) for cell in cells} == {(400, 100), (1024, 256)}
    experts = [cell for cell in cells if cell.compression == "experts"]
    assert {(cell.tokens, cell.segments) for cell in experts} == {(4, 1), (4, 4)}  # the recent items are the last of 5
    llamas = {(cell.item_layers, cell.key_value_heads, cell.feed_forward, cell.dtype) for cell in cells if cell.backbone == "hllm"}
    assert llamas == {(16, 8, 8192, "bfloat16")}
    counted = {cell.backbone for cell in load_grid("paper", device="cpu").cells if cell.counted_only}
    assert (counted, any(cell.counted_only for cell in cells)) == ({"hllm"}, False)


def rows(count: int, *, repeats: bool = False) -> Callable[[str, str | None], DataSize]:
    return lambda name, size: DataSize(interactions=count, repeats=repeats)


@pytest.mark.parametrize(
    ("count", "lengths", "seeds", "models"),
    [
        (500_000, (16, 32, 64), dict.fromkeys(names.backbones(), 3) | {"hllm": 1}, 2 * 3 * 4 + 2 * 3 * 2 + 2 + 4),
        (500_001, (46, 92, 184), {"hstu": 1, "sasrec": 1}, 4 + 2),
    ],
)
def test_full_holds_elastic_models_of_every_point_first(count: int, lengths: tuple[int, ...], seeds: dict[str, int], models: int) -> None:
    cells = [cell for cell in load_grid("full", device="cpu", sizes=rows(count)).cells if not cell.is_floor]
    plain = [cell for cell in cells if cell.training == "elastic" and cell.segments == 1 and not changed_at_evaluation(cell)]
    for backbone, runs in seeds.items():
        of_experts = {(c.tokens, c.history, c.seed) for c in plain if (c.backbone, c.compression) == (backbone, "experts")}
        assert of_experts == set(itertools.product((0, 1, 2, 4, 8, 16), lengths, range(1, runs + 1)))
        of_full = {(c.serving, c.history, c.seed) for c in plain if (c.backbone, c.compression) == (backbone, "full")}
        assert of_full == set(itertools.product(("recompute", "cache"), lengths, range(1, runs + 1)))
    assert {cell.backbone for cell in cells} == set(seeds)
    assert len({model_key(cell, dataset_digest="d") for cell in cells}) == models


def test_full_trains_4_tokens_and_the_means_that_they_are_compared_with_alike() -> None:
    cells = load_grid("full", device="cpu", sizes=rows(1000)).cells
    alone = {cell for cell in cells if (cell.compression, cell.tokens, cell.training) == ("experts", 4, "separate")}
    means = {cell for cell in cells if cell.compression == "pooling"}
    assert {(cell.backbone, cell.seed) for cell in alone} == set(itertools.product(("hstu", "sasrec"), (1, 2, 3)))
    assert {dataclasses.replace(cell, compression="pooling") for cell in alone} == means


@pytest.mark.parametrize("count", [500_000, 500_001])
@pytest.mark.parametrize("name", ["quick", "full", "complete"])
def test_where_users_take_items_again_every_side_counts_them_and_no_token_the_recent_ones(name: str, count: int) -> None:
    """But on the grid's own data, whose ceiling is known and which models reach without."""
    cells = [c for c in load_grid(name, device="cpu", dataset="online-retail", sizes=rows(count, repeats=True)).cells if not c.is_floor]
    no_token = [cell for cell in cells if cell.counts != "all"]
    assert {(cell.compression, cell.tokens, cell.counts, cell.training) for cell in no_token} == {("experts", 0, "recent", "separate")}
    longest = max(cell.history for cell in cells)
    assert {(cell.backbone, cell.history) for cell in no_token} == {(c.backbone, longest) for c in cells if c.compression == "full"}
    # an elastic model's own point of 0 tokens may lie far below what counts alone reach
    of_its_own = [c for c in cells if (c.compression, c.tokens, c.counts, c.training) == ("experts", 0, "all", "separate")]
    assert {(cell.backbone, cell.history) for cell in of_its_own} >= {(cell.backbone, cell.history) for cell in no_token}
    for sizes, dataset in ((rows(count, repeats=True), None), (rows(count), "ml-1m")):
        assert {cell.counts for cell in load_grid(name, device="cpu", dataset=dataset, sizes=sizes).cells} == {"none"}


@pytest.mark.parametrize("name", ["quick", "full", "complete", "recents"])
def test_grids_teach_hstus_tokens_on_their_own_data_and_nothing_else(name: str) -> None:
    own, other = (load_grid(name, device="cpu", dataset=data, sizes=rows(1000)).cells for data in (None, "online-retail"))
    taught = [cell for cell in own if (cell.backbone, cell.compression, cell.training) == ("hstu", "experts", "elastic")]
    assert {cell.distillation for cell in taught if cell.segments == 1} == {1.0}
    assert {cell.distillation for cell in own if cell not in taught} == {0.0}
    assert {cell.distillation for cell in other} == {0.0}


@pytest.mark.parametrize("count", [500_000, 500_001])
def test_complete_holds_every_backbone_with_every_compression_three_times(count: int) -> None:
    cells = load_grid("complete", device="cpu", sizes=rows(count)).cells
    found = {(cell.backbone, cell.compression, cell.seed) for cell in cells if not cell.is_floor}
    assert found == set(itertools.product(names.backbones(), names.compressions(), (1, 2, 3)))


@pytest.mark.parametrize("name", ["quick", "full", "complete", "elastic"])
@pytest.mark.parametrize("count", [500_000, 500_001])
def test_compared_models_have_equal_targets_a_step_and_one_bound(name: str, count: int) -> None:
    """And one patience, but that of HLLM, which learns slowly: a report marks it beside other backbones."""
    cells = [cell for cell in load_grid(name, device="cpu", sizes=rows(count)).cells if not cell.is_floor]
    assert len({(cell.step_targets, cell.epochs, cell.decays) for cell in cells}) == 1
    patience = {backbone: {cell.patience for cell in cells if cell.backbone == backbone} for backbone in {cell.backbone for cell in cells}}
    of_hllm = patience.pop("hllm", {0})
    assert len(of_hllm) == len(set().union(*patience.values())) == 1


def test_the_grid_elastic_pairs_each_point_of_an_elastic_model_with_a_model_of_its_own() -> None:
    cells = load_grid("elastic", device="cpu").cells
    elastic = [cell for cell in cells if cell.training == "elastic"]
    alone = {"training": "separate", "elastic_tokens": (), "elastic_history": ()}
    assert {dataclasses.replace(cell, **alone) for cell in elastic} == set(cells) - set(elastic)
    assert {(cell.backbone, cell.seed) for cell in cells} == {("sasrec", seed) for seed in (1, 2, 3)}
    points = {(cell.compression, cell.tokens, cell.history) for cell in elastic}
    assert points == {("full", 0, 16), ("full", 0, 64), ("experts", 4, 16)} | {("experts", tokens, 64) for tokens in (0, 4, 16)}
    models = {model_key(cell, dataset_digest="d") for cell in elastic}
    assert models < {model_key(cell, dataset_digest="d") for cell in load_grid("full", device="cpu").cells if not cell.is_floor}
    assert len(models) == 2 * 3  # of a compression and a seed one
    assert len({model_key(cell, dataset_digest="d") for cell in cells} - models) == len(elastic)


def test_the_grid_twice_has_models_of_full_with_more_patience() -> None:
    cells = load_grid("twice", device="cpu").cells
    patience = {cell.backbone: cell.patience for cell in load_grid("full", device="cpu").cells}
    assert all(cell.patience > 2 * patience[cell.backbone] for cell in cells)
    plain = [cell for cell in cells if cell.compression == "experts" and not cell.distillation]
    assert {dataclasses.replace(cell, distillation=1.0, patience=1) for cell in plain} == {
        dataclasses.replace(cell, patience=1) for cell in cells if cell.distillation
    }
    as_full = {
        model_key(dataclasses.replace(cell, patience=patience[cell.backbone]), dataset_digest="d") for cell in cells if cell not in plain
    }
    assert as_full < {model_key(cell, dataset_digest="d") for cell in load_grid("full", device="cpu").cells if not cell.is_floor}
    assert {cell.backbone for cell in cells} == set(names.backbones())

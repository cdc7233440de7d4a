import dataclasses
from pathlib import Path

import pytest

from benchmarks.cell import Cell, changed_at_evaluation
from benchmarks.grids import Limits, load_grid, preset_names, select, selecting, show, shuffled
from persrec import names


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "own.toml"
    path.write_text(text)
    return str(path)


def cells_of(tmp_path: Path, text: str, **options: object) -> tuple[Cell, ...]:
    return load_grid(write(tmp_path, text), **({"device": "cpu"} | options)).cells


SMALL = """
[[sweep]]
backbone = ["hstu", "sasrec"]
compression = "experts"
tokens = [0, 4, 8]
"""


def test_lists_are_crossed_and_scalars_are_shared(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, SMALL)
    expected = [(backbone, tokens) for backbone in ("hstu", "sasrec") for tokens in (0, 4, 8)]
    assert [(cell.backbone, cell.tokens) for cell in cells] == expected
    assert {cell.compression for cell in cells} == {"experts"}
    assert {(cell.dataset, cell.device) for cell in cells} == {("synthetic", "cpu")}


LAYERS = {
    "defaults": "[defaults]\nepochs = 2",
    "device": "[device.cpu]\nepochs = 3",
    "dataset": "[dataset.synthetic]\nepochs = 4",
    "backbone": "[backbone.hstu]\nepochs = 5",
    "compression": "[compression.experts]\nepochs = 6",
}


@pytest.mark.parametrize("depth", range(1, 6))
def test_each_layer_overrides_the_layers_before_it(tmp_path: Path, depth: int) -> None:
    tables = "\n".join(list(LAYERS.values())[:depth])
    others = "\n[device.cuda]\nepochs = 90\n[dataset.ml-1m]\nepochs = 91\n[backbone.sasrec]\nepochs = 92\n[compression.full]\nepochs = 93\n"
    cells = cells_of(tmp_path, tables + others + '[[sweep]]\nbackbone = "hstu"\ncompression = "experts"\n')
    assert [cell.epochs for cell in cells] == [1 + depth]
    cells = cells_of(tmp_path, tables + others + '[[sweep]]\nbackbone = "hstu"\ncompression = "experts"\nepochs = 7\n')
    assert [cell.epochs for cell in cells] == [7]


def test_the_command_line_chooses_dataset_device_and_seeds(tmp_path: Path) -> None:
    text = "[dataset.ml-1m]\nepochs = 9\n[device.cuda]\nbatch_size = 512\n" + SMALL
    cells = cells_of(tmp_path, text, dataset="ml-1m", device="cuda", seeds=(3, 5))
    assert {(cell.dataset, cell.epochs, cell.device, cell.batch_size) for cell in cells} == {("ml-1m", 9, "cuda", 512)}
    assert [cell.seed for cell in cells] == [3, 5] * 6


def test_a_tuple_setting_keeps_its_list_and_a_list_of_lists_is_crossed(tmp_path: Path) -> None:
    shape = '[[sweep]]\nbackbone = "hstu"\ncompression = "experts"\ntraining = "elastic"\n'
    cells = cells_of(tmp_path, shape + "elastic_tokens = [0, 2]\ntokens = [0, 2]\n")
    assert [(cell.tokens, cell.elastic_tokens) for cell in cells] == [(0, (0, 2)), (2, (0, 2))]
    cells = cells_of(tmp_path, shape + "elastic_tokens = [[0, 2], [0, 4]]\n")
    assert [cell.elastic_tokens for cell in cells] == [(0, 2), (0, 4)]


def test_a_sweep_may_be_for_one_device_alone(tmp_path: Path) -> None:
    text = SMALL + '[[sweep]]\nonly = "cuda"\nbackbone = "llama"\ncompression = "full"\n'
    assert {cell.backbone for cell in cells_of(tmp_path, text)} == {"hstu", "sasrec"}
    assert {cell.backbone for cell in cells_of(tmp_path, text, device="cuda")} == {"hstu", "sasrec", "llama"}
    with pytest.raises(ValueError, match=r"sweep 2: unknown setting 'token'"):  # held up on every device
        cells_of(tmp_path, text + "token = 4\n")
    with pytest.raises(ValueError, match=r"for another device than cpu, so the grid holds no cell"):
        cells_of(tmp_path, '[[sweep]]\nonly = "cuda"\nbackbone = "llama"\ncompression = "full"\n')


def test_duplicates_collapse(tmp_path: Path) -> None:
    assert len(cells_of(tmp_path, SMALL + SMALL)) == 6


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (SMALL + '[[sweep]]\nbackbone = "hstu"\ncompression = "full"\ntokens = 4\n', ["own.toml: sweep 2", "tokens: 4"]),
        (
            SMALL + '[[sweep]]\nbackbone = "gru"\ncompression = "full"\n',
            ["sweep 2", "backbone", "'gru'", "known: hstu, sasrec, llama, hllm"],
        ),
        (
            '[[sweep]]\nbackbone = "llama"\ncompression = "full"\nwidth = 12\nheads = 4\n',
            ["sweep 1", "width: 12 over 4 heads", "even width"],
        ),
        (
            '[[sweep]]\nbackbone = "hstu"\ncompression = "experts"\ntoken = 4\n',
            ["sweep 1", "'token'", "did you mean 'tokens'", "known: backbone"],
        ),
        ('[[sweep]]\nbackbone = "hstu"\ncompression = "experts"\ntokens = "4"\n', ["sweep 1", "tokens", "'4' is str; expected int"]),
        ('[[sweep]]\nbackbone = "hstu"\ncompression = "experts"\ntime_bias = 1\n', ["time_bias", "1 is int; expected bool"]),
        ('[[sweep]]\nbackbone = "hstu"\ncompression = "experts"\ntokens = []\n', ["sweep 1", "tokens", "empty list"]),
        ('[[sweep]]\ncompression = "experts"\n', ["sweep 1", "backbone: missing"]),
        ('[[sweep]]\nonly = "tpu"\nbackbone = "hstu"\ncompression = "full"\n', ["sweep 1", "only: 'tpu'; expected one of: cpu, cuda"]),
        ('[[sweep]]\nbackbone = "hstu"\ncompression = "experts"\ndevice = "cuda"\n', ["sweep 1", "--device"]),
        *(
            (f'[[sweep]]\nbackbone = "hstu"\ncompression = "{name}"\n', ["tokens: 0", f"'{name}'", "at least 1"])
            for name in ("pooling", "category", "retrieval", "memory", "strided", "random")
        ),
        (
            '[[sweep]]\nbackbone = "hstu"\ncompression = "strided"\ntokens = 4\nsegments = 2\n',
            ["segments: 2", "'strided'", "expected 1"],
        ),
        ('[[sweep]]\nbackbone = "hstu"\ncompression = "retrieval"\ntokens = 4\n', ["serving: 'cache'", "expected 'recompute'"]),
        ('[[sweep]]\nbackbone = "hstu"\ncompression = "experts"\ntokens = 3\nsegments = 2\n', ["tokens: 3", "spread evenly"]),
        ("description = 'nothing'\n", ["own.toml", "no [[sweep]]"]),
        ("[default]\nepochs = 1\n" + SMALL, ["'default'", "did you mean 'defaults'"]),
        ("[backbone.hsut]\nepochs = 1\n" + SMALL, ["[backbone.hsut]", "did you mean 'hstu'"]),
        ("[compression.full]\nepoch = 1\n" + SMALL, ["[compression.full]", "'epoch'", "did you mean 'epochs'"]),
        ("[limits]\ncell_seconds = 0\n" + SMALL, ["[limits]", "cell_seconds", "above 0"]),
        ("defaults = 3\n" + SMALL, ["[defaults] is 3"]),
        ("[[sweep\n", ["own.toml"]),
    ],
)
def test_what_does_not_hold_up_is_named(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"own\.toml") as caught:
        cells_of(tmp_path, text)
    assert [part for part in parts if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


def test_an_unknown_grid_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"unknown grid 'smok'.*did you mean 'smoke'.*known: smoke, quick, full"):
        load_grid("smok", device="cpu")
    with pytest.raises(ValueError, match=r"no file missing\.toml"):
        load_grid("missing.toml", device="cpu")


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
    assert {cell.serving for cell in cells if cell.compression == "full"} == {"recompute", "cache"}
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
        assert all(device == "cpu" and cell.history == 16_128 for cell in without - recomputed)  # where it takes minutes
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


def test_full_sweeps_every_backbone_over_the_same_tokens() -> None:
    cells = load_grid("full", device="cpu").cells
    elastic = {(cell.backbone, cell.tokens) for cell in cells if cell.training == "elastic" and cell.segments == 1}
    assert elastic == {(backbone, tokens) for backbone in names.backbones() for tokens in (0, 1, 2, 4, 8, 16)}
    alike = [
        {dataclasses.replace(cell, backbone="hstu") for cell in cells if cell.backbone == name} for name in ("hstu", "sasrec", "llama")
    ]
    assert alike[0] == alike[1]
    assert alike[2] < alike[0]
    # of two backbones alone: tokens in other places, models served from something else, and what PerSRec is held against
    # at equal tokens and at equal FLOPs
    placed = {cell for cell in alike[0] if cell.plan != "equal" or cell.segments == 8}
    changed = {cell for cell in alike[0] if changed_at_evaluation(cell)}
    others = {cell for cell in alike[0] if cell.compression in ("category", "retrieval", "memory", "strided", "random")}
    longer = {cell for cell in alike[0] if cell.compression == "recent" and cell.recent != 32}
    assert {cell.tokens for cell in others} == {4}
    assert alike[0] - alike[2] == placed | changed | others | longer


def test_limits_and_estimate_come_from_the_file(tmp_path: Path) -> None:
    grid = load_grid(write(tmp_path, SMALL + "[limits]\ncell_seconds = 5\n[estimate]\nseconds_per_cell = 2\n"), device="cpu")
    assert grid.limits == Limits(cell_seconds=5)
    assert grid.estimate.seconds_per_cell == 2


def test_select_takes_terms_and_alternatives(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, SMALL)
    chosen = select(cells, "backbone=hstu, tokens=0|8", grid="own")
    assert [(cell.backbone, cell.tokens) for cell in chosen] == [("hstu", 0), ("hstu", 8)]
    assert select(cells, "", grid="own") == cells
    assert select(cells, "key_value_heads=none", grid="own") == cells
    assert select(cells, "learning_rate=1e-3,time_bias=true,dataset_size=none,elastic_tokens=none", grid="own") == cells


@pytest.mark.parametrize(
    ("expression", "pattern"),
    [
        ("token=4", "unknown setting 'token'.*did you mean 'tokens'.*known: backbone"),
        ("tokens", "'tokens' is not setting=value"),
        ("tokens=four", "tokens: 'four' is no int"),
        ("key_value_heads=four", "key_value_heads: 'four' is no int or none"),
        ("tokens=5", "no cell of grid own matches 'tokens=5'; tokens is one of: 0, 4, 8"),
        ("backbone=llama", "backbone is one of: hstu, sasrec"),
    ],
)
def test_select_names_what_is_known(tmp_path: Path, expression: str, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        select(cells_of(tmp_path, SMALL), expression, grid="own")


@pytest.mark.parametrize("name", preset_names())
def test_every_cell_has_an_expression_that_finds_it_alone(name: str) -> None:
    cells = load_grid(name, device="cpu", seeds=(1, 2)).cells
    for cell in cells:
        assert select(cells, selecting(cell, cells), grid=name) == (cell,)


def test_a_lone_cell_needs_no_expression(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, '[[sweep]]\nbackbone = "hstu"\ncompression = "full"\n')
    assert selecting(cell, [cell]) == ""


def test_values_are_shown_as_select_takes_them() -> None:
    assert [show(value) for value in (None, True, (0, 4), (), 0.001, "hstu")] == ["none", "true", "0+4", "none", "0.001", "hstu"]


def test_the_order_is_a_permutation_within_each_dataset() -> None:
    first = load_grid("quick", device="cpu").cells
    second = tuple(dataclasses.replace(cell, dataset="ml-1m", dataset_size=None) for cell in first)
    order = shuffled(first + second)
    assert set(order[: len(first)]) == set(first)
    assert order[: len(first)] != first
    assert set(order[len(first) :]) == set(second)
    assert shuffled(first + second) == order
    assert shuffled(first + second, seed=1) != order

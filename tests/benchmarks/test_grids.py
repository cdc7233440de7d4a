import dataclasses
import math
from pathlib import Path

import pytest

from benchmarks.cell import Cell
from benchmarks.grids import PRESETS, DataSize, Limits, load_grid, shuffled
from benchmarks.grids.selection import select


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
    "data": "[data.small]\nepochs = 6",
    "compression": "[compression.experts]\nepochs = 7",
}


@pytest.mark.parametrize("depth", range(1, 7))
def test_each_layer_overrides_the_layers_before_it(tmp_path: Path, depth: int) -> None:
    tables = "\n".join(list(LAYERS.values())[:depth])
    others = "\n[device.cuda]\nepochs = 90\n[dataset.ml-1m]\nepochs = 91\n[backbone.sasrec]\nepochs = 92\n[compression.full]\nepochs = 93\n"
    others += "[data.large]\nepochs = 94\n"
    cells = cells_of(tmp_path, tables + others + '[[sweep]]\nbackbone = "hstu"\ncompression = "experts"\n')
    assert [cell.epochs for cell in cells] == [1 + depth]
    cells = cells_of(tmp_path, tables + others + '[[sweep]]\nbackbone = "hstu"\ncompression = "experts"\nepochs = 8\n')
    assert [cell.epochs for cell in cells] == [8]


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


def test_the_lengths_of_an_elastic_model_are_one_setting(tmp_path: Path) -> None:
    text = '[[sweep]]\nbackbone = "hstu"\ncompression = "full"\ntraining = "elastic"\nhistory = [64, 128]\nelastic_history = [128, 64]\n'
    cells = cells_of(tmp_path, text)
    assert [(cell.history, cell.elastic_history) for cell in cells] == [(64, (64, 128)), (128, (64, 128))]
    assert select(cells, "elastic_history=64+128,history=64", grid="own") == cells[:1]
    with pytest.raises(ValueError, match=r"sweep 1: history: 64 is not among the lengths of the elastic model, \[128\]"):
        cells_of(tmp_path, text.replace("[128, 64]", "[128]"))


def test_a_sweep_may_be_for_one_device_alone(tmp_path: Path) -> None:
    text = SMALL + '[[sweep]]\nonly = "cuda"\nbackbone = "llama"\ncompression = "full"\n'
    assert {cell.backbone for cell in cells_of(tmp_path, text)} == {"hstu", "sasrec"}
    assert {cell.backbone for cell in cells_of(tmp_path, text, device="cuda")} == {"hstu", "sasrec", "llama"}
    with pytest.raises(ValueError, match=r"sweep 2: unknown setting 'token'"):  # held up on every device
        cells_of(tmp_path, text + "token = 4\n")
    with pytest.raises(ValueError, match=r"for another device than cpu or for other data, so the grid holds no cell"):
        cells_of(tmp_path, '[[sweep]]\nonly = "cuda"\nbackbone = "llama"\ncompression = "full"\n')


def test_a_sweep_and_a_layer_may_be_for_data_whose_users_take_items_again(tmp_path: Path) -> None:
    """But never for the grid's own, which it is tuned for."""
    layers = "[data.repeats]\nepochs = 9\n[data.small]\nepochs = 5\n"
    text = SMALL + layers + '[[sweep]]\nonly = ["repeats", "small"]\nbackbone = "llama"\ncompression = "full"\n'

    def found(*, repeats: bool, **options: str) -> set[tuple[str, int]]:
        cells = cells_of(tmp_path, text, sizes=lambda name, size: DataSize(interactions=9, repeats=repeats), **options)
        return {(cell.backbone, cell.epochs) for cell in cells}

    assert found(repeats=True, dataset="online-retail") == {("hstu", 9), ("sasrec", 9), ("llama", 9)}
    both = SMALL + layers + '[[sweep]]\ndataset = ["synthetic", "online-retail"]\nbackbone = "llama"\ncompression = "full"\n'
    cells = cells_of(tmp_path, both, sizes=lambda name, size: DataSize(interactions=9, repeats=True))
    assert {(cell.dataset, cell.epochs) for cell in cells if cell.backbone == "llama"} == {("synthetic", 5), ("online-retail", 9)}
    for others in ({"repeats": False, "dataset": "ml-1m"}, {"repeats": True}, {"repeats": True, "dataset": "synthetic"}):
        assert found(**others) == {("hstu", 5), ("sasrec", 5)}


def test_a_sweep_for_the_grids_own_data_asks_for_the_size_of_no_other(tmp_path: Path) -> None:
    text = (
        "[data.large]\nepochs = 9\n" + SMALL + '[[sweep]]\nonly = "own"\ndataset_size = "laps"\nbackbone = "llama"\ncompression = "full"\n'
    )
    asked: list[tuple[str, str | None]] = []

    def sizes(name: str, size: str | None) -> DataSize:
        asked.append((name, size))
        return DataSize(interactions=9, repeats=False)

    cells_of(tmp_path, text, sizes=sizes, dataset="ml-1m")
    assert asked == [("ml-1m", None)]
    cells_of(tmp_path, text, sizes=sizes)
    assert ("synthetic", "laps") in asked


def test_a_sweep_and_a_layer_may_be_for_small_or_large_data_alone(tmp_path: Path) -> None:
    text = SMALL + '[data.large]\nepochs = 9\n[[sweep]]\nonly = "large"\nbackbone = "llama"\ncompression = "full"\n'
    counts = {("synthetic", None): 500_000, ("synthetic", "long"): 500_001, ("ml-1m", None): 1_000_209}
    asked: list[tuple[str, str | None]] = []

    def sizes(name: str, size: str | None) -> DataSize:
        asked.append((name, size))
        return DataSize(interactions=counts[name, size], repeats=name == "synthetic")

    def found(more: str = "", **options: str) -> set[tuple[str, int]]:
        return {(cell.backbone, cell.epochs) for cell in cells_of(tmp_path, more + text, sizes=sizes, **options)}

    assert found() == {("hstu", 1), ("sasrec", 1)}
    assert found(dataset="ml-1m") == {("hstu", 9), ("sasrec", 9), ("llama", 9)}
    assert found('[backbone.sasrec]\ndataset_size = "long"\n') == {("hstu", 1), ("sasrec", 9)}
    assert len(asked) == len(set(asked)) + 1  # once a call: the two calls on synthetic data ask for its default size
    text += "[estimate]\nseconds_per_cell = 2\n[estimate.large]\nseconds_per_model = 9\n"
    guesses = [load_grid(write(tmp_path, text), device="cpu", dataset=name, sizes=sizes).estimate for name in (None, "ml-1m")]
    assert [(guess.seconds_per_model, guess.seconds_per_cell) for guess in guesses] == [(30.0, 2.0), (9.0, 2.0)]
    cells_of(tmp_path, SMALL, sizes=lambda *_: pytest.fail("nothing tells data apart"))
    with pytest.raises(ValueError, match=r"for another device than cpu or for other data, so the grid holds no cell"):
        cells_of(tmp_path, '[[sweep]]\nonly = "large"\nbackbone = "llama"\ncompression = "full"\n')


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
        *(
            (f'[[sweep]]\nbackbone = "hstu"\ncompression = "experts"\ntraining = "elastic"\nelastic_tokens = [{counts}]\n{more}', said)
            for counts, more, said in (
                ("-1, 0, 4", "", ["elastic_tokens: [-1, 0, 4]", "each 0 or more"]),
                ("0, 4, 4", "", ["elastic_tokens: [0, 4, 4]", "counts that differ"]),
                ("0, 3, 4", "segments = 2\n", ["tokens: 3", "spread evenly over 2 segments"]),
            )
        ),
        ("description = 'nothing'\n", ["own.toml", "no [[sweep]]"]),
        ("[default]\nepochs = 1\n" + SMALL, ["'default'", "did you mean 'defaults'"]),
        ("[backbone.hsut]\nepochs = 1\n" + SMALL, ["[backbone.hsut]", "did you mean 'hstu'"]),
        ("[compression.full]\nepoch = 1\n" + SMALL, ["[compression.full]", "'epoch'", "did you mean 'epochs'"]),
        ("[limits]\ncell_seconds = 0\n" + SMALL, ["[limits]", "cell_seconds: 0.0", "above 0"]),
        ("[limits]\ncell_seconds = nan\n" + SMALL, ["[limits]", "cell_seconds: nan", "above 0"]),
        ("[limits]\ncell_second = 1\n" + SMALL, ["[limits]", "'cell_second'", "did you mean 'cell_seconds'"]),
        ("[limits]\naddress_space_bytes = inf\n" + SMALL, ["[limits]: address_space_bytes", "inf is float; expected int or none"]),
        (f"[limits]\naddress_space_bytes = {2**63}\n" + SMALL, ["address_space_bytes", "below 2^63"]),
        ("[estimate]\nseconds_per_cell = inf\n" + SMALL, ["[estimate]", "seconds_per_cell: inf", "finite"]),
        ("[defaults]\ntemperature = inf\n" + SMALL, ["[defaults]: temperature: inf", "finite"]),
        ("[backbone.hstu]\nitem_learning_rate = nan\n" + SMALL, ["[backbone.hstu]: item_learning_rate: nan", "finite"]),
        (SMALL + "weight_decay = [0.0, -inf]\n", ["sweep 1: weight_decay: -inf", "finite"]),
        (SMALL + f"learning_rate = {'9' * 400}\n", ["sweep 1: learning_rate: 999", "... is int; expected float"]),
        (SMALL + f"learning_rate = {'9' * 5000}\n", ["own.toml"]),
        (SMALL + f"learning_rate = 0x{'f' * 5000}\n", ["sweep 1: learning_rate: a very large int is int; expected float"]),
        (SMALL + f"seed = {2**64}\n", ["sweep 1: seed: 18446744073709551616", "less than 2^63"]),
        (SMALL + f"width = {10**9}\n", ["sweep 1: width: 1000000000", "at most 16777216"]),
        (SMALL + f"elastic_tokens = [0, {10**9}]\n", ["sweep 1: elastic_tokens: 1000000000", "at most 16777216"]),
        (SMALL + f"epochs = {list(range(1, 401))}\nseed = {list(range(400))}\n", ["sweep 1: 960000 cells; expected at most 100000"]),
        (SMALL + f"tokens = {'[' * 300}4{']' * 300}\n".replace("tokens", "segments"), ["sweep 1: segments: [[[", "is list; expected int"]),
        (SMALL + f"segments = {'[' * 5000}4{']' * 5000}\n", ["nested too deep"]),
        ("description = 3\n" + SMALL, ["description", "3 is int; expected str"]),
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


def test_a_file_that_is_named_as_a_built_in_grid_is_refused(tmp_path: Path) -> None:
    """Its runs would lie in that grid's folders."""
    own = tmp_path / "smoke.toml"
    own.write_bytes((PRESETS / "smoke.toml").read_bytes())
    with pytest.raises(ValueError, match=r"--grid: .*smoke\.toml: a built-in grid has the name 'smoke', .*; rename the file"):
        load_grid(str(own), device="cpu")
    assert load_grid(str(PRESETS / "smoke.toml"), device="cpu") == load_grid("smoke", device="cpu")


def test_a_path_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    (tmp_path / "latin.toml").write_bytes(b"description = '\xff'")
    for name in ("folder.toml", "loop.toml", "latin.toml", f"{'n' * 300}.toml"):
        with pytest.raises(ValueError, match=f"{name[:20]}[^\n]*: [^\n]+") as caught:
            load_grid(str(tmp_path / name), device="cpu")
        assert "\n" not in str(caught.value)


def test_a_whole_number_stands_for_a_float_wherever_it_is_written(tmp_path: Path) -> None:
    shape = '[[sweep]]\nbackbone = "hstu"\ncompression = "full"\n'
    for name in ("learning_rate", "item_learning_rate", "temperature", "weight_decay", "recent_weight"):
        (written,) = cells_of(tmp_path, shape + f"{name} = 1.0\n")
        for text in (
            f"{shape}{name} = 1\n",
            f"{shape}{name} = [1]\n",
            f"[defaults]\n{name} = 1\n{shape}",
            f"[backbone.hstu]\n{name} = 1\n{shape}",
        ):
            (cell,) = cells_of(tmp_path, text)
            assert (cell, cell.to_dict()) == (written, written.to_dict())
            assert isinstance(getattr(cell, name), float)


def test_seconds_without_a_limit_may_be_written(tmp_path: Path) -> None:
    grid = load_grid(write(tmp_path, SMALL + "[limits]\ncell_seconds = inf\ntraining_seconds = inf\n"), device="cpu")
    assert grid.limits == Limits(cell_seconds=math.inf, training_seconds=math.inf)


def test_limits_and_estimate_come_from_the_file(tmp_path: Path) -> None:
    grid = load_grid(write(tmp_path, SMALL + "[limits]\ncell_seconds = 5\n[estimate]\nseconds_per_cell = 2\n"), device="cpu")
    assert grid.limits == Limits(cell_seconds=5)
    assert grid.estimate.seconds_per_cell == 2


def test_the_order_is_a_permutation_within_each_dataset() -> None:
    first = load_grid("quick", device="cpu").cells
    second = tuple(dataclasses.replace(cell, dataset="ml-1m", dataset_size=None) for cell in first)
    order = shuffled(first + second)
    assert set(order[: len(first)]) == set(first)
    assert order[: len(first)] != first
    assert set(order[len(first) :]) == set(second)
    assert shuffled(first + second) == order
    assert shuffled(first + second, seed=1) != order


def test_a_cell_is_told_the_time_of_the_request_as_the_rows_of_its_protocol_are(tmp_path: Path) -> None:
    def told(text: str = SMALL, **options: str) -> dict[str, tuple[str, bool, bool]]:
        return {cell.backbone: (cell.protocol, cell.time_bias, cell.request_time) for cell in cells_of(tmp_path, text, **options)}

    assert told() == {"hstu": ("own", True, True), "sasrec": ("own", True, True)}
    assert told(protocol="rectools") == {"hstu": ("rectools", True, True), "sasrec": ("rectools", True, True)}
    # its rows read no times at all; SASRec reads none anyhow
    assert told(protocol="5-core") == {"hstu": ("5-core", False, True), "sasrec": ("5-core", True, True)}
    assert told('[defaults]\nprotocol = "5-core"' + SMALL)["hstu"] == ("5-core", False, True)
    assert told('[defaults]\nrequest_time = true\nprotocol = "5-core"' + SMALL)["hstu"] == ("5-core", True, True)
    assert told("[defaults]\ntime_bias = true" + SMALL, protocol="5-core")["hstu"] == ("5-core", True, False)
    assert told("[defaults]\ntime_bias = false" + SMALL, protocol="5-core")["hstu"] == ("5-core", False, True)
    peer = 'backbone = "rectools-hstu"\ncompression = "peer"\nserving = "recompute"\nwarmup_steps = 0\nweight_decay = 0.0\ndecays = false\n'
    assert told(f"[[sweep]]\n{peer}", protocol="5-core") == {"rectools-hstu": ("5-core", False, True)}
    asked = f"[defaults]\ntime_bias = true\n[[sweep]]\n{peer}"
    assert told(asked, protocol="5-core") == {"rectools-hstu": ("5-core", True, True)}  # it has all times or none
    with pytest.raises(ValueError, match="protocol: '5-core' with split 'temporal'; expected 'leave-one-out'"):
        cells_of(tmp_path, SMALL, protocol="5-core", split="temporal")

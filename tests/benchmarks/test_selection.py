from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cell import Cell
from benchmarks.grids import SETTINGS, load_grid, preset_names
from benchmarks.grids.selection import Selecting, select, show


def three_each(tmp_path: Path) -> tuple[Cell, ...]:
    """HSTU and SASRec with 0, 4 and 8 tokens."""
    path = tmp_path / "own.toml"
    path.write_text('[[sweep]]\nbackbone = ["hstu", "sasrec"]\ncompression = "experts"\ntokens = [0, 4, 8]\n')
    return load_grid(str(path), device="cpu").cells


def test_select_takes_terms_and_alternatives(tmp_path: Path) -> None:
    cells = three_each(tmp_path)
    chosen = select(cells, "backbone=hstu, tokens=0|8", grid="own")
    assert [(cell.backbone, cell.tokens) for cell in chosen] == [("hstu", 0), ("hstu", 8)]
    assert select(cells, "", grid="own") == cells
    assert select(cells, "key_value_heads=none", grid="own") == cells
    assert select(cells, "item_learning_rate=none", grid="own") == cells
    for text in ("0.001", "1e-3", "1.0e-03"):
        assert select(cells, f"learning_rate={text}", grid="own") == cells
    assert select(cells, "learning_rate=1e-3,time_bias=true,dataset_size=none,elastic_tokens=none", grid="own") == cells


@pytest.mark.parametrize(
    ("expression", "pattern"),
    [
        ("token=4", "unknown setting 'token'.*did you mean 'tokens'.*known: backbone"),
        ("tokens", "'tokens' is not setting=value"),
        ("tokens=four", "tokens: 'four' is no int"),
        ("item_learning_rate=fast", "item_learning_rate: 'fast' is no float or none"),
        ("time_bias=1", "time_bias: '1' is no bool"),
        ("key_value_heads=four", "key_value_heads: 'four' is no int or none"),
        ("tokens=5", "no cell of grid own matches 'tokens=5'; tokens is one of: 0, 4, 8"),
        ("backbone=llama", "backbone is one of: hstu, sasrec"),
    ],
)
def test_select_names_what_is_known(tmp_path: Path, expression: str, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        select(three_each(tmp_path), expression, grid="own")


@pytest.mark.parametrize("name", preset_names())
def test_every_cell_has_an_expression_that_finds_it_alone(name: str) -> None:
    cells = load_grid(name, device="cpu", seeds=(1, 2)).cells
    selecting = Selecting(cells)
    for cell in cells:
        assert select(cells, selecting.alone(cell), grid=name) == (cell,)


def every_setting(cell: Cell) -> str:
    return ",".join(f"{name}={show(getattr(cell, name))}" for name in SETTINGS)


@pytest.mark.parametrize("name", preset_names())
def test_every_setting_of_every_cell_can_be_selected(name: str) -> None:
    cells = load_grid(name, device="cuda").cells
    for cell in cells:
        assert select(cells, every_setting(cell), grid=name) == (cell,)


RATES = st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)
CELLS = st.builds(
    Cell,
    backbone=st.just("llama"),
    compression=st.just("experts"),
    dataset=st.text(max_size=12),
    dataset_size=st.none() | st.text(max_size=12).filter(lambda text: text.strip() != "none"),
    tokens=st.integers(0, 9),
    elastic_tokens=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    width=st.just(48),
    key_value_heads=st.none() | st.just(1),
    feed_forward=st.none() | st.integers(1, 99),
    time_bias=st.booleans(),
    learning_rate=RATES,
    item_learning_rate=st.none() | RATES,
    dropout=st.floats(min_value=0, max_value=1, exclude_max=True),
    seed=st.integers(0, 2**63 - 1),
)


@given(st.lists(CELLS, min_size=1, max_size=4, unique=True))
def test_any_cell_is_found_by_its_expression(cells: list[Cell]) -> None:
    for cell in cells:
        assert select(cells, Selecting(cells).alone(cell), grid="own") == (cell,)
        assert cell in select(cells, every_setting(cell), grid="own")


def test_an_expression_says_what_it_finds_even_where_less_would_do(tmp_path: Path) -> None:
    cells = three_each(tmp_path)
    what = f"backbone=hstu,compression=experts,history={cells[0].history},tokens=0"
    assert Selecting(cells[:1]).alone(cells[0]) == Selecting(cells).alone(cells[0]) == what


def test_values_are_shown_as_select_takes_them() -> None:
    assert [show(value) for value in (None, True, (0, 4), (), 0.001, "hstu", "my, own|.toml")] == [
        "none",
        "true",
        "0+4",
        "none",
        "0.001",
        "hstu",
        "my%2C%20own%7C.toml",
    ]

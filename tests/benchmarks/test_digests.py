"""What makes a number old, and what does not: in a copy of both packages, a line is changed and the digests are compared."""

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import digests
from benchmarks.cell import Cell
from benchmarks.digests import PROBES, code_digests
from benchmarks.measures import Kind
from persrec import names

PROJECT = Path(__file__).resolve().parents[2]
CELLS = {
    "experts": Cell(backbone="hstu", compression="experts", tokens=4),
    "pooling": Cell(backbone="hstu", compression="pooling", tokens=4),
    "full": Cell(backbone="sasrec", compression="full"),
    "taught": Cell(backbone="hstu", compression="experts", tokens=4, distillation=1.0),
    "with control": Cell(backbone="hstu", compression="recent", control=True),
}
Digests = dict[str, dict[str, str]]
KINDS: tuple[Kind, ...] = tuple(PROBES)


def clear() -> None:
    for cached in (digests._digest, digests._module, digests._source):
        cached.cache_clear()


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of both packages, which digests are taken of."""
    for package in digests.PACKAGES:
        shutil.copytree(PROJECT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digests, "PROJECT", tmp_path)
    clear()
    yield tmp_path
    clear()


def taken() -> Digests:
    clear()
    return {name: code_digests(cell, KINDS) for name, cell in CELLS.items()}


@functools.cache
def untouched() -> Digests:
    """Of a copy that nothing was changed in yet: all begin alike."""
    return taken()


def aged(before: Digests) -> dict[str, set[str]]:
    """The kinds of number of each cell whose digest is not what it was."""
    now = taken()
    changed = {name: {kind for kind in KINDS if now[name][kind] != before[name][kind]} for name in CELLS}
    return {name: kinds for name, kinds in changed.items() if kinds}


def add_a_line(path: Path) -> None:
    path.write_text(path.read_text() + "\nANOTHER = 1\n")


def test_comments_docstrings_and_formatting_age_nothing_anywhere(copy: Path) -> None:
    before = untouched()
    for path in (*(copy / "persrec").rglob("*.py"), *(copy / "benchmarks").rglob("*.py")):
        text = path.read_text()
        end = text.index('"""', 3) if text.startswith('"""') else None
        text = text if end is None else f'"""Another text.{text[end:]}'
        path.write_text(text.replace("\n\n\n", "\n\n\n\n# a comment\n\n") + "\n\n# the end\n")
    assert aged(before) == {}


def test_code_that_makes_no_number_of_a_cell_ages_none(copy: Path) -> None:
    before = untouched()
    for name in (
        "persrec/checkpoints/convert.py",
        "persrec/checkpoints/reference.py",
        "persrec/compression/category.py",
        "persrec/backbones/llama.py",
        "persrec/data/sources/movielens.py",
        "persrec/data/tables/own.py",
        "persrec/data/tables/preparation.py",
        "benchmarks/report/page.py",
        "benchmarks/gate/baseline.py",
        "benchmarks/run/sweep.py",
        "benchmarks/grids/__init__.py",
        "persrec/names.py",
    ):
        add_a_line(copy / name)
    assert aged(before) == {}


def test_code_that_is_no_python_is_named(copy: Path) -> None:
    path = copy / "persrec" / "compression" / "pooling.py"
    path.write_text(path.read_text() + "\ndef (")
    with pytest.raises(ValueError, match=r"^persrec\.compression\.pooling: its file is no Python: .*line \d+"):
        taken()


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("benchmarks/probes/latency.py", {"latency", "request"}),
        ("benchmarks/probes/quality.py", {"evaluation"}),
        ("benchmarks/probes/training_cost.py", {"training_cost"}),
        ("benchmarks/probes/clock.py", {"throughput", "latency", "request", "control", "training_cost"}),
        ("persrec/training/loop.py", {"training", "training_cost"}),
        ("persrec/layout.py", set(KINDS)),
        ("persrec/items/ids.py", set(KINDS)),  # no module imports it: a backbone's declaration names it
        ("persrec/checkpoints/folder.py", {"evaluation"}),  # it loads what is ranked with
    ],
)
def test_a_line_of_code_ages_the_kinds_of_number_that_it_makes(copy: Path, name: str, kinds: set[str]) -> None:
    before = untouched()
    add_a_line(copy / name)
    assert aged(before) == dict.fromkeys(CELLS, kinds)


def test_a_ceiling_and_the_process_behind_it_age_made_data_alone(copy: Path) -> None:
    cells = {name: replace(CELLS["experts"], dataset=name) for name in ("synthetic", "ml-1m")}
    before = {name: code_digests(cell, KINDS) for name, cell in cells.items()}
    for module in ("persrec/data/ceiling.py", "persrec/data/synthetic.py"):
        add_a_line(copy / module)
        clear()
        now = {name: code_digests(cell, KINDS) for name, cell in cells.items()}
        assert now["ml-1m"] == before["ml-1m"], module
        assert now["synthetic"]["evaluation"] != before["synthetic"]["evaluation"], module
        before = now


def test_what_trains_on_several_processes_ages_models_of_several_alone(copy: Path) -> None:
    cells = [replace(CELLS["experts"], world_size=size) for size in (1, 2)]
    before = [code_digests(cell, KINDS) for cell in cells]
    add_a_line(copy / "benchmarks/probes/several.py")
    clear()
    alone, several = (code_digests(cell, KINDS) for cell in cells)
    assert alone == before[0]
    assert {kind for kind in KINDS if several[kind] != before[1][kind]} == {"training"}


def test_code_of_a_part_ages_the_cells_of_that_part_alone(copy: Path) -> None:
    before = untouched()
    add_a_line(copy / "persrec/compression/pooling.py")
    assert aged(before) == {"pooling": set(KINDS)}
    before = taken()
    add_a_line(copy / "persrec/compression/full.py")
    expected = {"full": set(KINDS), "with control": {"control", "training_cost"}, "taught": {"training", "training_cost"}}
    assert aged(before) == expected


@pytest.mark.parametrize(
    ("lines", "kinds"),
    [
        ("if TYPE_CHECKING:\n    from benchmarks.report.page import render_report\n", set()),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    pass\nfrom benchmarks.report.page import render_report\n", {"latency", "request"}),
        ("def render():\n    from benchmarks.report.page import render_report\n", {"latency", "request"}),
    ],
)
def test_what_is_imported_for_its_type_alone_ages_nothing(copy: Path, lines: str, kinds: set[str]) -> None:
    path = copy / "benchmarks/probes/latency.py"
    path.write_text(f"{path.read_text()}\nfrom typing import TYPE_CHECKING\n{lines}")
    before = taken()
    add_a_line(copy / "benchmarks/report/page.py")
    assert aged(before) == (dict.fromkeys(CELLS, kinds) if kinds else {})


def test_a_changed_line_is_seen_wherever_it_stands(copy: Path) -> None:
    path = copy / "benchmarks/probes/latency.py"
    before = taken()
    path.write_text(path.read_text().replace("SECONDS, LEAST = 0.5, 67", "SECONDS, LEAST = 0.5, 68"))
    assert aged(before) == {cell: {"latency", "request"} for cell in CELLS}


def declared(monkeypatch: pytest.MonkeyPatch, change: Callable[[names.CompressionPart], names.CompressionPart]) -> None:
    parts = {name: change(part) for name, part in names.compressions().items()}
    monkeypatch.setattr(names, "compressions", lambda: parts)


def test_a_trait_of_a_part_ages_its_own_cells_and_its_looks_none(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = untouched()
    declared(monkeypatch, lambda part: dataclasses.replace(part, colour="#000000", title="Another", version="99"))
    assert aged(before) == {}
    declared(monkeypatch, lambda part: dataclasses.replace(part, countable=not part.countable) if part.name == "pooling" else part)
    assert aged(before) == {"pooling": set(KINDS)}


def test_another_declaration_ages_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = untouched()
    new = dataclasses.replace(names.compressions()["pooling"], name="other")
    parts = {**names.compressions(), "other": new}
    monkeypatch.setattr(names, "compressions", lambda: parts)
    assert aged(before) == {}


def test_cells_of_one_model_agree_on_the_code_that_trains_it() -> None:
    """A control beside one of them is no reason to train again."""
    cell = CELLS["experts"]
    for changes in ({"control": True}, {"serving": "recompute"}, {"staleness": 2}):
        assert code_digests(dataclasses.replace(cell, **changes), ("training",)) == code_digests(cell, ("training",))

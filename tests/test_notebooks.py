"""The notebooks run from the first cell to the last, on committed records, and are committed without outputs."""

import json
from pathlib import Path

import matplotlib as mpl
import pytest

PROJECT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((PROJECT / "docs" / "notebooks").glob("*.ipynb"))


def code_of(notebook: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.fixture
def no_window(monkeypatch):
    import matplotlib.pyplot as plt

    backend = mpl.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(backend)


def test_the_first_look_ends_in_a_figure(no_window, monkeypatch, capsys):
    monkeypatch.chdir(PROJECT / "docs" / "notebooks")  # where a notebook's kernel starts
    names: dict[str, object] = {}
    for number, source in enumerate(code_of(PROJECT / "docs" / "notebooks" / "first_look.ipynb")):
        exec(compile(source, f"cell {number}", "exec"), names)  # noqa: S102 - our own notebook
    (axes,) = names["figure"].axes
    lines = [line for line in axes.lines if len(line.get_xdata()) == len(names["chosen"])]
    assert [quality.value for quality in names["qualities"]] in [list(line.get_ydata()) for line in lines]
    assert [one.cell.tokens for one in names["chosen"]] == [1, 2, 4, 8, 16]
    assert set(names["served"]["tokens"]) >= {0, 1, 2, 4, 8, 16}
    assert "decided by seeds and users: True" in capsys.readouterr().out


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_committed_without_outputs(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_every_committed_report_can_be_reached_from_the_pages():
    page = (PROJECT / "docs" / "reports.md").read_text()
    assert [path.name for path in sorted((PROJECT / "reports").glob("*.html")) if f"(../reports/{path.name})" not in page] == []

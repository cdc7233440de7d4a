"""The examples of the pages run as they stand."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("one_thread")

PROJECT = Path(__file__).resolve().parent.parent


def python_of(page: str) -> str:
    """All Python of a page, in order."""
    blocks = re.findall(r"^```python\n(.*?)^```", (PROJECT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    assert blocks, page
    return "\n".join(blocks)


def run(page: str, source: str | None = None) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(source or python_of(page), page, "exec"), names)  # noqa: S102 - our own page
    return names


def test_the_example_in_python_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path))
    names = run("docs/in_python.md")
    assert names["scores"].shape == (2, 24 * 12 + 1)  # the categories and items of the size "tiny", and padding
    assert names["store"].users == (0, 1)


def test_the_example_on_records_reads_a_committed_run(monkeypatch, capsys):
    monkeypatch.chdir(PROJECT)
    names = run("docs/records.md")
    records, table, record = names["run"], names["table"], names["record"]
    assert len(table) == len(records) == len(list((PROJECT / "results/interests-synthetic-cpu/cells").glob("*.json")))
    assert list(names["best"]["ndcg@10"]) == sorted(names["best"]["ndcg@10"], reverse=True)
    assert set(names["best"].columns) == {"compression", "tokens", "ndcg@10", "ndcg@10_low", "ndcg@10_high"}
    assert capsys.readouterr().out.startswith(str(record.metrics["ndcg@10"].value))
    assert names["stale"] <= set(record.cost.code)


def test_the_paths_that_the_page_on_records_names_are_written_by_a_run():
    from benchmarks import store

    page = (PROJECT / "docs/records.md").read_text()
    out = Path("OUT")
    for path in (store.record_path(out, "KEY"), store.cost_path(out, "KEY"), store.raw_path(out, "KEY")):
        assert f"`{path.relative_to(out)}`" in page

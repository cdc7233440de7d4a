"""The examples of the pages run as they stand."""

import datetime
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks.measures import COST_KINDS
from persrec.data import load_dataset

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
    assert len(table) == len(records) == len(list((PROJECT / "results/full-synthetic-cpu/cells").glob("*.json")))
    assert list(names["best"]["ndcg@10"]) == sorted(names["best"]["ndcg@10"], reverse=True)
    assert set(names["best"].columns) == {"compression", "tokens", "ndcg@10", "ndcg@10_low", "ndcg@10_high"}
    assert capsys.readouterr().out.startswith(str(record.metrics["ndcg@10"].value))
    assert names["stale"] <= set(COST_KINDS)
    assert set(names["cost_digests"](record.cell)) - set(record.cost.code) <= names["stale"]  # what a record lacks is stale


def test_the_paths_that_the_page_on_records_names_are_written_by_a_run():
    from benchmarks import store

    page = (PROJECT / "docs/records.md").read_text()
    out = Path("OUT")
    for path in (store.record_path(out, "KEY"), store.cost_path(out, "KEY"), store.raw_path(out, "KEY")):
        assert f"`{path.relative_to(out)}`" in page


def commands_of(page: str) -> list[str]:
    """All command lines of a page that a reader is to type, in order."""
    blocks = re.findall(r"^```console\n(.*?)^```", (PROJECT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def events(users: int, each: int) -> str:
    """A table as the page shows it: users who go round a few items, a day apart."""
    start = datetime.datetime(2024, 3, 1, 9, 0, tzinfo=datetime.UTC)
    lines = ["customer,sku,ts,kind,title"]
    for event in range(each):
        for user in range(users):
            item = (user + event * (1 + user % 3)) % 23
            at = start + datetime.timedelta(days=event, seconds=user)
            lines.append(f"{1000 + user},SKU-{item},{at:%Y-%m-%d %H:%M:%S},view,Thing {item}")
    return "\n".join(lines) + "\n"


def test_five_commands_lead_from_a_csv_to_a_report(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    (tmp_path / "events.csv").write_text(events(60, 40))
    commands = commands_of("docs/your_own_data.md")
    assert len(commands) == 5
    commands[-1] += " --select 'compression=full|none,history=16|224,serving=cache'"  # the floors, and one cell of one of its two models
    for command in commands:
        words = [sys.executable, *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    toml = tomllib.loads((tmp_path / "events.toml").read_text())
    assert toml["columns"] == {"user": "customer", "item": "sku", "time": "ts", "event": "kind", "text": ["title"]}
    [page] = (tmp_path / "reports").glob("*.html")
    assert "events" in page.read_text()


def test_the_toml_of_the_page_describes_its_table(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path / "cache"))
    page = (PROJECT / "docs/your_own_data.md").read_text()
    [toml] = re.findall(r"^```toml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "shop.toml").write_text(toml)
    (tmp_path / "events.csv").write_text(events(12, 30))
    log = load_dataset(str(tmp_path / "shop.toml"))
    assert (log.name, len(log), log.num_users, log.item_texts[1][:6]) == ("shop", 360, 12, "Thing ")

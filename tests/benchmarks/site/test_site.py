"""The static site: every run, a summary over datasets, links that hold, nothing that is loaded, the same bytes from the same records."""

import dataclasses
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from fabricated_records import fabricate, slim, write
from html_page import Page

from benchmarks.cell import Cell
from benchmarks.records import load_records
from benchmarks.site.command import index, main
from benchmarks.site.summary import run_line, worth_lines

FULL = Cell(backbone="hstu", compression="full")
CONTROL = Cell(backbone="hstu", compression="experts", tokens=0)
TOKENS = Cell(backbone="hstu", compression="experts", tokens=16)
FLOOR = Cell(backbone="popularity", compression="none", training="none")
ODD = "a <b>run & 100%"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Two runs and a folder that is none, rendered twice: the second takes the first's place."""
    place = tmp_path_factory.mktemp("site")
    write(place / "results" / ODD, [slim(fabricate(FLOOR))])
    write(place / "results" / "plain", [slim(fabricate(FLOOR, status="oom"))])
    (place / "results" / "noise").mkdir()
    first = None
    for _ in range(2):
        assert main([str(place / "results"), "--out", str(place / "out")]) == 0
        files = {path.relative_to(place / "out"): path.read_bytes() for path in (place / "out").rglob("*") if path.is_file()}
        assert first in (None, files)
        first = files
    return place / "out"


def test_every_run_has_its_report_and_links_hold(site):
    links = re.findall(r'href="([^"#]+)"', (site / "index.html").read_text())
    assert {unquote(link) for link in links} == {f"runs/{ODD}.html", "runs/plain.html"}
    for link in links:
        assert "records-digest" in (site / unquote(link)).read_text()
    assert (site / "runs" / "plain" / "summary.md").is_file()


def test_the_index_loads_and_runs_nothing_and_escapes_all(site):
    text = (site / "index.html").read_text()
    page = Page(text)
    assert "default-src 'none'" in text
    assert not {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe", "object"}
    assert re.findall(r'(?:src|href)="(?:[a-z]+:)?//', text) == []
    assert ODD in page.text
    assert "<b>" not in text


def test_the_index_has_landmarks_and_headed_tables(site):
    page = Page((site / "index.html").read_text())
    tags = [tag for tag, _ in page.tags]
    assert tags.count("main") == tags.count("h1") == 1
    assert page.having("html") == [{"lang": "en"}]
    assert tags.count("caption") == tags.count("table")
    assert all("scope" in attributes for attributes in page.having("th"))


def test_the_summary_says_what_the_long_history_is_worth_and_what_tokens_keep(tmp_path):
    run = write(tmp_path / "run", [fabricate(cell) for cell in (FULL, CONTROL, TOKENS, FLOOR)])
    (line,) = worth_lines("run", load_records(run))
    values = {cell: fabricate(cell)["metrics"]["ndcg@10"]["value"] for cell in (FULL, CONTROL, TOKENS)}
    assert (line.data, line.backbone, line.verdict) == ("synthetic", "HSTU", "one seed, no verdict")
    assert line.full.startswith(f"{values[FULL]:.4f} (")
    assert line.no_token.startswith(f"{values[CONTROL]:.4f} (")
    assert line.gap.startswith(f"+{values[FULL] - values[CONTROL]:.4f} (")
    assert "16 tokens" in line.tokens
    assert line.kept.startswith(f"{100 * values[TOKENS] / values[FULL]:.1f}%"[:4])
    assert line.name in Page(index([run])).text


def test_a_run_says_what_has_to_be_known_of_it_first(tmp_path):
    stopped = fabricate(FULL)
    stopped["model"]["converged"] = False
    (tmp_path / "run").mkdir()
    said = run_line("run", load_records(write(tmp_path / "run", [stopped, fabricate(FLOOR), fabricate(TOKENS, status="timeout")])))
    assert said.said[:2] == ("1 of 1 models had not converged", "one seed")
    assert said.cells == "2 ok and 1 timeout"
    (alone,) = run_line("run", load_records(write(tmp_path / "floor", [fabricate(FLOOR)]))).said
    assert alone == "cost alone"


def test_what_a_killed_merge_left_is_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("run", ".run.0123456789abcdef.tmp"):
        write(Path("results", name), [slim(fabricate(FLOOR))])
    assert main(["results", "--out", "out"]) == 0
    assert [path.name for path in Path("out/runs").glob("*.html")] == ["run.html"]


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["nowhere", "--out", "out"], 2, "nowhere: no such folder"),
        (["empty", "--out", "out"], 3, "no run in it"),
        (["results", "--out", "mine"], 2, "holds other things than a site"),
        (["results", "--out", "file"], 2, "is no folder"),
        (["broken", "--out", "out"], 2, "not a whole JSON file"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, monkeypatch, capsys, arguments, code, expected):
    monkeypatch.chdir(tmp_path)
    write(Path("results/run"), [fabricate(FLOOR)])
    for name in ("empty", "mine", "broken/run/cells"):
        Path(name).mkdir(parents=True)
    Path("broken/run/cells/x.json").write_text("{")
    Path("mine/index.html").write_text("<html>my own page</html>")
    Path("file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "place", ["notes.txt", "CNAME", ".git/HEAD", "runs/notes.txt", "runs/notes.html", "runs/plain/mine.csv", "runs/folder/x"]
)
def test_what_somebody_put_into_a_site_is_not_lost_with_it(tmp_path, capsys, place):
    write(tmp_path / "results" / "plain", [slim(fabricate(FLOOR))])
    call = [str(tmp_path / "results"), "--out", str(tmp_path / "out")]
    assert main(call) == 0
    mine = tmp_path / "out" / place
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    assert main(call) == 2
    assert "is not of the site, and would be lost" in capsys.readouterr().err
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [((0.2, 0.001), "pays, at 95%"), ((0.0, 0.02), "worth nothing measurable"), ((0.2, None), "no interval, no verdict: ")],
)
def test_a_verdict_of_three_seeds_goes_by_the_interval(tmp_path, gap, verdict):
    more, spread = gap
    records = []
    for seed in (1, 2, 3):
        for cell in (FULL, CONTROL):
            record = fabricate(dataclasses.replace(cell, seed=seed), **({"replicates": None} if spread is None else {}))
            quality = 0.2 + ((more + 0.001 * (seed - 2)) if cell is FULL else 0.0)
            record["metrics"]["ndcg@10"]["value"] = quality
            if spread is not None:
                own = [quality + (spread if cell is FULL else -spread / 2) * (draw / 250 - 1) for draw in range(501)]
                record["replicates"]["means"]["ndcg@10"] = own
            records.append(record)
    (line,) = worth_lines("run", load_records(write(tmp_path / "run", records)))
    assert line.verdict.startswith(verdict)

import base64
import csv
import dataclasses
import hashlib
import re
from pathlib import Path

import pytest
from fabricated_records import configured, fabricate, grid_cells, metric, slim, write
from html_page import Page, rows_of_tables

from benchmarks import store
from benchmarks.cell import Cell
from benchmarks.report import names as families
from benchmarks.report import page as page_module
from benchmarks.report.page import render_report
from benchmarks.report.tables.ledger import item_table
from persrec import names as parts

EVIL = "<script>alert('x')</script>\"&$\\frac{"


def rendered(tmp_path: Path, records, *, name: str = "grid") -> str:
    out = tmp_path / "reports" / f"{name}.html"
    render_report(write(tmp_path / "results" / name, records), out)
    return out.read_text()


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """A whole grid with a failure of each kind, a disagreeing ledger and two history lengths, rendered once."""
    cells = grid_cells(histories=(64, 224))
    statuses = {3: "oom", 9: "crash", 14: "timeout", 15: "invalid", 16: "unsupported"}
    records = [fabricate(cell, status=statuses.get(place, "ok"), agrees=place != 12) for place, cell in enumerate(cells)]
    folder = tmp_path_factory.mktemp("run")
    results = write(folder / "results" / "grid", records)
    out = folder / "reports" / "grid.html"
    render_report(results, out)
    return results, out


@pytest.fixture(scope="module")
def page(grid):
    return Page(grid[1].read_text())


def test_sections_come_in_the_order_of_the_contract(page):
    ids = [attributes["id"] for attributes in page.having("section")]
    assert ids == [
        "verdict", "answer", "advise", "settings", "frontier", "ranking", "tokens", "history", "comparisons", "amortisation", "feasibility",
        "ledger", "noise", "failures", "provenance", "limits",
    ]  # fmt: skip
    linked = [attributes["href"] for attributes in page.having("a")]
    assert linked == ["#content", *(f"#{name}" for name in ids), "../results/grid/cells/"]


def test_item_vectors_that_are_computed_have_a_row_a_backbone(tmp_path):
    cells = [Cell(backbone="hllm", compression="experts", tokens=tokens) for tokens in (0, 4)]
    parameters = fabricate(Cell(backbone="hstu", compression="full"))
    assert item_table(configured([parameters])) is None
    records = [slim(fabricate(cell)) for cell in cells]
    for record in records:
        record["metrics"]["item_flops"] = metric(29_600_000, "flop")
        record["metrics"]["item_peak_bytes"] = metric(None, "byte", method="not told")
    table = item_table(configured([*records, parameters]))
    assert [[entry.text for entry in row.entries[:3]] for row in table.rows] == [["HLLM", "synthetic", "29.6 MFLOP"]]
    assert table.rows[0].entries[4].detail == "not told"
    assert table.caption in Page(rendered(tmp_path, records)).text


def test_every_cost_has_its_frontier(page):
    figures = [attributes["id"] for attributes in page.having("figure")]
    costs = ("serve-flops", "compress-serve-flops", "request-latency-p50-ms", "serve-peak-bytes", "cache-bytes")
    assert figures[:6] == ["answer-1", *(f"frontier-{cost}-1" for cost in costs)]
    assert {"tokens-1-1", "tokens-1-2", "history-1", "cost-history-1", "contrasts-1", "amortised-1"} == set(figures[6:])


def test_every_figure_is_named_described_and_has_its_table(page, grid):
    drawings = re.findall(r"<figure.*?</figure>", grid[1].read_text(), flags=re.DOTALL)
    assert len(drawings) == len(page.having("figure")) == len(page.having("svg"))
    for drawing in drawings:
        key = re.search(r'<figure id="([^"]+)"', drawing).group(1)
        assert 'role="img" focusable="false" viewBox="0 0' in drawing
        assert f'aria-labelledby="{key}-title {key}-desc"' in drawing
        assert re.search(rf'<title id="{key}-title">[^<]{{10,}}</title><desc id="{key}-desc">[^<]{{20,}}</desc>', drawing)
        assert "<details>" in drawing
        assert drawing.count("<tr") > 1
        assert "<text" in drawing  # text stays text
        assert "var(--ink" in drawing  # and takes the page's colours


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"].removeprefix("#") in ids
        for named in (attributes.get("aria-labelledby") or "").split():
            assert named in ids


def test_nothing_is_requested(grid):
    text = grid[1].read_text().replace('<a href="../results/grid/cells/">', "")  # a link, for a reader to follow
    assert not re.search(
        r"""\b(?:src|href|action|data|poster|srcset)\s*=\s*["']?(?!#)[^\s>]*[:/]""", re.sub(r"<(pre|code)>.*?</\1>", "", text)
    )
    assert "url(" not in text
    assert "@import" not in text
    assert "http" not in re.sub(r'<meta http-equiv="Content-Security-Policy"', "", text)


def test_the_policy_lets_no_script_run_but_the_pages_own(page, grid):
    (policy,) = [attributes["content"] for attributes in page.having("meta") if attributes.get("http-equiv")]
    (script,) = re.findall(r"<script>(.*?)</script>", grid[1].read_text(), flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_it_reads_without_scripts(page):
    assert not page.having("button")  # what only scripts can do is put there by the script
    assert not [attributes for _, attributes in page.tags if "hidden" in attributes]
    assert "MemoryError: crash: could not allocate 1,234 MiB" in page.text
    assert "python -m benchmarks.run --grid full --select" in page.text


def test_tables_have_captions_and_headings(page):
    tables = len(page.having("table"))
    assert len(page.having("caption")) == tables
    assert len(page.having("thead")) == tables
    headings = page.having("th")
    assert {attributes["scope"] for attributes in headings} == {"col", "row"}


def test_the_verdict_counts_and_names(page):
    assert "Incomplete" in page.text
    assert "3 of 52 cells crashed, ran out of time or are invalid" in page.text
    assert "47 ok 1 oom 1 unsupported 1 timeout 1 crash 1 invalid" in page.text
    for fact in ("0123456789ab", "AMD EPYC 7763", "2026-03-01", "synthetic (small), leave-one-out", "600 test users"):
        assert fact in page.text
    kept = r"HSTU · PerSRec, elastic, 16 tokens · 224 \+ 32 \(one seed\): 16 tokens keep [\d.]+% \([\d.]+% to [\d.]+%\) of full"
    assert re.search(kept, page.text)
    assert "The FLOP ledger disagrees by over 1% for" in page.text


def test_the_digest_says_which_records_are_shown(page, grid):
    (digest,) = [attributes["content"] for attributes in page.having("meta") if attributes.get("name") == "records-digest"]
    assert digest == store.records_digest(grid[0])


def test_a_record_that_comes_while_a_page_is_made_is_not_among_those_that_it_says_it_shows(tmp_path, monkeypatch):
    records = [slim(fabricate(cell)) for cell in grid_cells(histories=(64,), backbones=("hstu",))]
    folder = write(tmp_path / "run", records[:-1])
    before, load = store.records_digest(folder), page_module.load_records

    def loaded(results_dir):
        found = load(results_dir)
        write(folder, records)
        return found

    monkeypatch.setattr(page_module, "load_records", loaded)
    text = render_report(folder, tmp_path / "run.html").read_text()
    assert before in text
    assert store.records_digest(folder) not in text


def test_the_same_records_give_the_same_bytes(tmp_path):
    records = [slim(fabricate(cell)) for cell in grid_cells(histories=(64,), backbones=("hstu",))]
    pages = [rendered(tmp_path / place, order) for place, order in (("a", records), ("b", records[::-1]))]
    assert pages[0] == pages[1]
    first, second = (sorted((tmp_path / place / "reports" / "grid").iterdir()) for place in ("a", "b"))
    assert [path.name for path in first] == [path.name for path in second]
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(first, second, strict=True))


def test_no_path_of_this_machine_is_in_what_is_written(grid):
    results, page = grid
    for path in (page, page.with_suffix("") / "summary.md"):
        assert str(results.parent.parent) not in path.read_text()


def test_every_text_of_a_record_is_escaped(tmp_path):
    evil = Cell(backbone="hstu", compression="experts", tokens=4, dataset=EVIL)
    shown = slim(fabricate(evil))
    shown["metrics"]["serve_energy_j"] = {"value": None, "method": EVIL}
    shown["environment"] |= {"cpu": EVIL, "system": EVIL, "packages": {EVIL: EVIL}}
    shown["provenance"] |= {"commit": EVIL, "rerun": EVIL, "utc": EVIL}
    shown["dataset"]["notes"] = {EVIL: EVIL}
    shown["ledger"][0]["uncounted"] = {EVIL: 3}
    failed = fabricate(dataclasses.replace(evil, tokens=8), status="crash")
    failed["error"] = {"phase": EVIL, "type": EVIL, "message": EVIL, "log_tail": EVIL}
    text = rendered(tmp_path, [shown, failed], name="a'b<i>c")
    assert len(re.findall(r"<script>", text)) == 1  # the page's own; the others are data
    assert set(re.findall(r"<script([^>]*)>", text)) == {"", ' type="application/json" id="compact"'}
    assert "<i>" not in text
    assert Page(text).text.count("<script>alert('x')</script>") > 10
    summary = (tmp_path / "reports" / "a'b<i>c" / "summary.md").read_text()
    assert "<script>" not in summary.replace("\\<", "")


def test_a_single_cell_says_what_is_missing(tmp_path):
    page = Page(rendered(tmp_path, [slim(fabricate(Cell(backbone="hstu", compression="experts", tokens=4)))]))
    assert "the one cell on record ended well" in page.text
    assert "no cell without tokens" in page.text
    assert "No cell that reads no history (0 tokens, or the recent items alone) was measured here." in page.text
    assert "One history length alone was measured, 224 items." in page.text
    assert "One seed for every configuration" in page.text


def test_floors_alone(tmp_path):
    page = Page(
        rendered(tmp_path, [fabricate(Cell(backbone=name, compression="none", training="none")) for name in ("popularity", "repeat_last")])
    )
    assert "No PerSRec configuration with a quality" in page.text
    assert "No trained model was measured" in page.text
    assert not page.having("figure")


def test_every_compression_has_a_name_a_colour_and_a_mark_of_its_own(tmp_path):
    common = {"backbone": "hstu", "dataset_size": "small", "history": 64, "recent": 32}
    serving = {"retrieval": "recompute"}
    cells = [
        Cell(**common, compression=part.name, tokens=0 if part.tokens == "none" else 4, serving=serving.get(part.name, "cache"))
        for part in parts.compressions().values()
    ]
    floors = [Cell(backbone=name, compression="none", training="none") for name in parts.floors()]
    page = Page(rendered(tmp_path, [fabricate(cell) for cell in cells + floors]))
    of_cells = [families.family(one) for one in configured([fabricate(cell) for cell in cells])]
    for look in ("key", "name", "colour", "dark", "marker", "glyph", "place"):
        assert len({getattr(one, look) for one in of_cells}) == len(cells)
    assert all(one.name in page.text for one in of_cells)


def test_costs_alone(tmp_path):
    cells = [cell for cell in grid_cells(histories=(512, 2048)) if cell.compression != "none"]
    records = [fabricate(dataclasses.replace(cell, training="none", elastic_tokens=()), replicates=None) for cell in cells]
    for record in records:
        record["metrics"] = {name: entry for name, entry in record["metrics"].items() if entry["direction"] == "lower" or "second" in name}
    page = Page(rendered(tmp_path, records))
    assert "By the FLOPs of a request, as no quality was measured" in page.text
    assert [attributes["id"] for attributes in page.having("figure")] == ["cost-history-1", "amortised-1"]


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """A small grid with tokens in other places and a model that is served from something else, rendered once."""
    base = {"backbone": "hstu", "dataset_size": "small", "history": 224, "recent": 32, "epochs": 10}
    experts = base | {"compression": "experts", "tokens": 8}
    cells = [Cell(**base, compression="full", serving=serving) for serving in ("recompute", "cache")]
    cells += [Cell(**base, compression="recent"), Cell(**base, compression="experts"), Cell(**experts)]
    cells += [Cell(**experts, segments=2), Cell(**experts, segments=4), Cell(**experts, segments=4, plan="growing")]
    cells += [Cell(**experts, ablation=name) for name in ("random_tokens", "shuffled_history", "other_user")]
    cells += [Cell(**experts, staleness=items) for items in (16, 64)] + [Cell(**experts, cache_dtype="int8")]
    folder = tmp_path_factory.mktemp("run")
    out = folder / "reports" / "grid.html"
    render_report(write(folder / "results" / "grid", [slim(fabricate(cell)) for cell in cells]), out, tables=True)
    return out


def test_experiments_have_sections_of_their_own(experiments):
    page = Page(experiments.read_text())
    ids = [attributes["id"] for attributes in page.having("section")]
    assert ids[7:13] == ["history", "segments", "comparisons", "ablations", "staleness", "precision"]
    figures = [attributes["id"] for attributes in page.having("figure")]
    assert {"segments-1", "staleness-1"} <= set(figures)
    tables = rows_of_tables(experiments)
    assert [row[1] for row in tables["ablations-differences-1"]] == [
        "own, fresh, as computed", "another user's cache", "random tokens", "the history shuffled",
    ]  # fmt: skip
    assert [row[1] for row in tables["staleness-differences-1"]] == ["own, fresh, as computed", "16 items", "64 items"]
    assert [row[1] for row in tables["precision-differences-1"]] == ["own, fresh, as computed", "int8"]
    assert {row[0] for kind in ("ablations", "staleness") for row in tables[f"{kind}-differences-1"]} == {"HSTU · PerSRec, 8 tokens"}


def test_a_backbone_with_one_number_of_segments_has_no_part_in_their_figure(tmp_path):
    sizes = {"dataset_size": "small", "history": 224, "recent": 32, "epochs": 10}
    cells = [Cell(backbone=backbone, compression="full", **sizes) for backbone in ("hstu", "sasrec")]
    cells += [Cell(backbone="hstu", compression="experts", tokens=8, segments=count, **sizes) for count in (1, 2)]
    cells += [Cell(backbone="sasrec", compression="experts", tokens=8, **sizes)]
    out = tmp_path / "reports" / "grid.html"
    render_report(write(tmp_path / "results" / "grid", [slim(fabricate(cell)) for cell in cells]), out)
    assert {row[0].split(" ")[0] for row in rows_of_tables(out)["segments-1-table"]} == {"HSTU"}


def test_experiments_stand_in_no_ranking_and_on_no_frontier(experiments):
    for name, rows in rows_of_tables(experiments).items():
        named = " ".join(text for row in rows for text in row)
        if name.startswith(("ranking", "frontier", "comparison", "contrasts", "tokens", "history", "amortised", "qualities")):
            assert "items old" not in named, name
            assert "another user" not in named, name
    ranked = [row[1] for row in rows_of_tables(experiments)["ranking-1"]]
    assert "HSTU · PerSRec, 8 tokens, int8 cache" in ranked  # something one would serve
    assert "HSTU · PerSRec, 8 tokens in 4 growing segments" in ranked
    assert len(ranked) == 9
    with (experiments.with_suffix("") / "tables.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len({line["configuration"] for line in lines}) == 14  # every number is in the file
    assert {line["configuration"] for line in lines if line["metric"] == "ndcg@10_over_own_cache"} == {
        line["configuration"] for line in lines if (line["staleness"], line["ablation"], line["cache_dtype"]) != ("0", "none", "float32")
    }


def test_full_history_that_does_not_pay_is_said_plainly(tmp_path):
    records = [slim(fabricate(cell)) for cell in grid_cells(histories=(64,), backbones=("hstu",)) if cell.compression != "none"]
    control = {r["cell"]["backbone"]: r for r in records if r["cell"]["compression"] == "experts" and not r["cell"]["tokens"]}
    for record in records:
        if record["cell"]["compression"] == "full":
            record["metrics"] = record["metrics"] | {m: control[record["cell"]["backbone"]]["metrics"][m] for m in ("ndcg@10", "recall@10")}
            theirs = control[record["cell"]["backbone"]]["replicates"]
            moved = {m: [mean + (-1) ** draw * 0.001 for draw, mean in enumerate(means)] for m, means in theirs["means"].items()}
            record["replicates"] = theirs | {"means": moved}
    page = Page(rendered(tmp_path, records))
    first = Page(rendered(tmp_path, records)).text.partition("Verdict")[2].partition("cells")[0]
    assert "On this data the long history is worth nothing that we can measure, on HSTU. It is no verdict" in first
    assert "So one seed shows no worth of the long history, which is no verdict." in page.text
    gap = "+0.0000 (\N{MINUS SIGN}0.0010 to +0.0010)"
    assert f"Full history does not beat no token here: the difference is {gap}. So there is no share to keep or to recover." in page.text
    assert f"undefined full minus no token is {gap}; the smallest detectable difference is 0.0010" in page.text
    retention = [row[5] for row in rows_of_tables(tmp_path / "reports" / "grid.html")["comparison-ndcg-1"]]
    assert set(retention) == {"the reference", "undefined"}
    assert "the long history is worth nothing that could be measured here" in page.text


def test_mixed_code_data_and_machines_are_shown(tmp_path):
    cells = [Cell(backbone="hstu", compression="experts", tokens=tokens) for tokens in (1, 2, 4)]
    records = [slim(fabricate(cells[0])), slim(fabricate(cells[1])), slim(fabricate(cells[2], dataset_digest="e" * 64))]
    records[1]["quality"] |= {"code": {"training": "c0de" * 16, "evaluation": "0ld" * 20}}
    records[1]["quality"]["provenance"] |= {"utc": "2025-12-24T00:00:00Z"}
    records[2]["cost"]["environment"] |= {"fingerprint": "another", "cpu": "another processor"}
    records[2]["cost"]["provenance"] |= {"commit": "fedcba9876543210"}
    text = Page(rendered(tmp_path, records)).text
    assert "Measured by mixed code" in text
    expected = "1 of 3 qualities was measured by older code for evaluation (0123456789ab; newest 0123456789ab): HSTU · PerSRec, 2 tokens."
    assert expected in text
    assert "2 environments" in text
    assert "another processor, 2 threads" in text
    assert "0123456789ab and fedcba987654" in text
    assert "synthetic was measured in 2 versions of the data" in text
    assert "2025-12-24 to 2026-03-01" in text


def test_cells_that_share_a_cost_name_it(tmp_path):
    page = Page(rendered(tmp_path, [slim(fabricate(Cell(backbone="hstu", compression="full", seed=seed))) for seed in (1, 2)]))
    assert page.text.count("one cost for 2 cells") == 2
    assert "0123456789ab, 2026-03-01T12:00:00Z" in page.text


def test_several_datasets_are_kept_apart(tmp_path):
    cells = [
        Cell(backbone="hstu", compression="experts", tokens=tokens, dataset=name, seed=seed)
        for tokens in (0, 4)
        for name in ("synthetic", "ml-1m")
        for seed in (1, 2)
    ]
    page = Page(rendered(tmp_path, [slim(fabricate(cell)) for cell in cells]))
    titles = [attributes["id"] for attributes in page.having("figure")]
    assert {"frontier-serve-flops-1", "frontier-serve-flops-2"} <= set(titles)
    assert "MovieLens-1M: HSTU" in page.text
    assert "NDCG@10 from seed to seed" in page.text

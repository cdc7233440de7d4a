"""What lies beside a page: a summary and a picture, on demand every number and every picture, and whatever is the user's."""

import csv
from pathlib import Path

import pytest
from fabricated_records import fabricate, grid_cells, slim, write

from benchmarks.cell import Cell
from benchmarks.records import load_records
from benchmarks.report.page import render_report
from benchmarks.report.summary import MOST_BYTES


def rendered(tmp_path: Path, records) -> None:
    render_report(write(tmp_path / "results" / "grid", records), tmp_path / "reports" / "grid.html")


def test_what_lies_beside_the_page(tmp_path):
    rendered(tmp_path, [slim(fabricate(cell)) for cell in grid_cells(histories=range(16, 112, 8))])  # more rows than fit
    beside = tmp_path / "reports" / "grid"
    names = sorted(path.name for path in beside.iterdir())
    assert names == ["frontier-serve-flops-1.png", "summary.md"]
    assert (beside / names[0]).read_bytes().startswith(b"\x89PNG")
    summary = (beside / "summary.md").read_text()
    assert summary.startswith("# grid\n")
    assert "![" in summary
    assert "| rank | configuration |" in summary
    assert "more rows, on the page" in summary
    assert MOST_BYTES / 3 < len(summary.encode()) <= MOST_BYTES


def test_every_number_and_every_picture_is_written_on_demand_and_goes_again(tmp_path):
    cells = grid_cells(histories=(64,), backbones=("hstu",))[:5]
    results = write(tmp_path / "results" / "grid", [fabricate(cell) for cell in cells])
    out, beside = tmp_path / "reports" / "grid.html", tmp_path / "reports" / "grid"
    render_report(results, out, tables=True, pictures=True)
    costs = ("cache-bytes", "compress-serve-flops", "request-latency-p50-ms", "serve-flops", "serve-peak-bytes")
    everything = ["answer-1.png", *(f"frontier-{cost}-1.png" for cost in costs), "summary.md", "tables.csv"]
    assert sorted(path.name for path in beside.iterdir()) == everything
    with (beside / "tables.csv").open() as file:
        rows = list(csv.DictReader(file))
    shown = next(
        row
        for row in rows
        if row["backbone"] == "hstu" and row["history"] == "64" and row["compression"] == "full" and row["metric"] == "ndcg@10"
    )
    wanted = ("hstu", 64, "full", shown["serving"])
    record = next(
        record
        for record in load_records(results)
        if (record.cell.backbone, record.cell.history, record.cell.compression, record.cell.serving) == wanted
    )
    assert float(shown["value"]) == pytest.approx(record.value("ndcg@10"))
    assert {"ndcg@10_recovered", "ndcg@10_retention", "on_frontier_probability_serve_flops_ndcg@10"} <= {row["metric"] for row in rows}
    render_report(results, out)
    assert sorted(path.name for path in beside.iterdir()) == ["frontier-serve-flops-1.png", "summary.md"]


def test_pictures_of_an_earlier_rendering_go_and_the_users_own_stay(tmp_path):
    trained = slim(fabricate(Cell(backbone="hstu", compression="experts", tokens=4)))
    rendered(tmp_path, [trained])
    beside = tmp_path / "reports" / "grid"
    assert (beside / "frontier-serve-flops-1.png").exists()
    for mine in ("mine.png", "frontier-mine.png", "frontier-serve-flops-9.png"):
        (beside / mine).write_bytes(b"")
    (tmp_path / "results" / "grid" / "cells" / f"{trained['cell_key']}.json").unlink()
    rendered(tmp_path, [fabricate(Cell(backbone="popularity", compression="none", training="none"))])
    assert sorted(path.name for path in beside.iterdir()) == [
        "frontier-mine.png", "frontier-serve-flops-9.png", "mine.png", "summary.md",
    ]  # fmt: skip


def test_a_list_of_pictures_that_somebody_wrote_deletes_nothing_else(tmp_path):
    beside = tmp_path / "reports" / "grid"
    beside.mkdir(parents=True)
    (tmp_path / "reports" / "mine.txt").write_text("mine")
    (beside / "summary.md").write_text("# x\n\npictures of this page: ../mine.txt, frontier-x/../../mine.txt\n")
    (tmp_path / "reports" / "grid.html").write_text('<meta name="records-digest" content="0">')
    rendered(tmp_path, [fabricate(Cell(backbone="popularity", compression="none", training="none"))])
    assert (tmp_path / "reports" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("place", ["reports/grid.html", "reports/grid/summary.md"])
def test_a_page_and_a_summary_that_no_report_wrote_are_not_replaced(tmp_path, place):
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text("# mine\n")
    with pytest.raises(ValueError, match=f"--out: .*{place} was not written by a report"):
        rendered(tmp_path, [fabricate(Cell(backbone="popularity", compression="none", training="none"))])
    assert (tmp_path / place).read_text() == "# mine\n"
    assert [path for path in (tmp_path / "reports").rglob("*") if path.is_file()] == [tmp_path / place]

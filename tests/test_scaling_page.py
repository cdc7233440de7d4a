"""The figures of the page on scaling are those that the committed records give."""

from pathlib import Path

from benchmarks.records import load_records
from benchmarks.scale.arithmetic import CELLS, GRID, of_cells, of_users, tables, with_tables

PROJECT = Path(__file__).resolve().parent.parent
PAGE = (PROJECT / "docs" / "scaling.md").read_text()


def test_the_tables_are_those_of_the_records():
    filled = tables(PROJECT / "results")
    assert set(filled) == {"cells", "events", "users"}
    for table in filled.values():
        assert table.count("\n") > 4
        assert table in PAGE
    assert with_tables(PAGE, filled) == PAGE


def test_a_figure_is_a_measured_number_times_a_count():
    records = list(load_records(PROJECT / "results" / GRID))
    trained = {record.model.key for record in records if record.model is not None}
    figures = {figure.name: figure for figure in of_cells(records, PROJECT / "results" / GRID, PROJECT / "reports" / f"{GRID}.html")}
    assert figures["models to train"].value == f"{CELLS * len(trained) / len(records):,.0f}"
    sixteen = next(
        record for record in records
        if (record.cell.backbone, record.cell.compression, record.cell.tokens, record.cell.history) == ("hstu", "experts", 16, 64)
        and record.cell.serving == "cache" and record.cell.cache_dtype == "float32"
    )  # fmt: skip
    tebibytes = float(sixteen.metrics["cache_bytes"].value or 0) * 1e8 / 2**40
    assert (sixteen.cell.layers, sixteen.cell.width) == (5, 64)
    assert "HSTU with five layers of width 64, in float32" in PAGE
    assert f"{tebibytes:.2f} TiB" in [figure.value for figure in of_users(records)]

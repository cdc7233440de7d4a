"""Tables: of how many seeds each row is stands in the caption where all are alike, else in a column of its own."""

import dataclasses

import pytest
from fabricated_records import configured, fabricate, records_of, write
from html_page import Page

from benchmarks.cell import Cell
from benchmarks.report import tabular
from benchmarks.report.content import report_of
from benchmarks.report.names import families
from benchmarks.report.page import render_report
from benchmarks.report.summary import summary_of

SHARED = {"backbone": "hstu", "dataset_size": "small", "history": 64, "recent": 32}
CELLS = [Cell(**SHARED, compression=name, tokens=tokens) for name, tokens in (("full", 0), ("experts", 0), ("experts", 4), ("pooling", 4))]


def table_of(among):
    rows = tuple(tabular.row(str(place), one.cell.compression) for place, one in enumerate(among))
    return tabular.with_seeds(tabular.Table(key="t", caption="told", columns=tabular.columns("rank", "configuration"), rows=rows), among)


@pytest.mark.parametrize(("seeds", "said"), [((1,), "told; 1 seed each"), ((1, 2), "told; 2 seeds each")])
def test_a_caption_says_the_seeds_that_all_rows_have(seeds, said):
    table = table_of(configured([fabricate(dataclasses.replace(cell, seed=seed)) for cell in CELLS for seed in seeds]))
    assert table.caption == said
    assert [column.name for column in table.columns] == ["rank", "configuration"]


def test_a_column_says_the_seeds_of_each_row_and_counts_only_what_ended_well():
    records = [fabricate(cell) for cell in CELLS]
    records += [fabricate(dataclasses.replace(CELLS[0], seed=2)), fabricate(dataclasses.replace(CELLS[0], seed=3), status="crash")]
    among = configured(records)
    table = table_of(among)
    assert [column.name for column in table.columns] == ["rank", "configuration", "seeds"]
    assert {row.entries[1].text: row.entries[2].text for row in table.rows} == {"full": "2", "experts": "1", "pooling": "1"}
    assert table.caption == "told"


def several():
    """Cells of one seed and of two, an ablation, an aged cache, a precision and a floor."""
    changes = ({"ablation": "other_user"}, {"staleness": 4}, {"cache_dtype": "int8"})
    floor = Cell(**(SHARED | {"backbone": "popularity"}), compression="none", training="none")
    return [*CELLS, *(dataclasses.replace(CELLS[2], **change) for change in changes), dataclasses.replace(CELLS[0], seed=2), floor]


def test_every_table_with_a_row_a_configuration_says_of_how_many_seeds_it_is():
    report = report_of(records_of(*map(fabricate, several())), name="run")
    tables = [table for table in (*report.tables(), *report.ranked) if "configuration" in [column.name for column in table.columns]]
    said = [("seed" in table.caption or {"seed", "seeds"} & {column.name for column in table.columns}) for table in tables]
    assert [table.key for table, told in zip(tables, said, strict=True) if not told] == []
    assert len(tables) > 15


def test_a_page_says_what_each_count_is_of_and_what_its_commands_do(tmp_path):
    records = list(map(fabricate, several()))
    text = Page(render_report(write(tmp_path / "run", records), tmp_path / "run.html").read_text()).text
    assert "8: servable 5, ablations and aged caches 2, floors 1" in text
    assert "9, a configuration and a seed each; seeds 1 and 2" in text
    assert "One seed for 6 of 7 configurations of trained models" in text
    assert (
        "6 configurations, without ablations and aged caches; floors have no figure on validation and are ranked by their quality on test"
        in text
    )
    assert text.count("--resume always measures it although a good record of it is there") == 2  # in the one card, and in provenance
    for kind in families(configured(records)):
        assert f"{kind.name} {kind.explanation}." in text


@pytest.mark.parametrize("seeds", [(), (2,)])
def test_a_summary_holds_the_paired_comparison_of_one_quality_alone(seeds):
    records = records_of(*map(fabricate, [*CELLS, *(dataclasses.replace(CELLS[0], seed=seed) for seed in seeds)]))
    written = summary_of(report_of(records, name="run"), beside=[])
    assert written.count("paired differences") == 1
    assert "**NDCG@10: paired differences" in written


def test_what_columns_say_stands_below_their_table_once_for_columns_that_say_the_same(tmp_path):
    columns = tabular.columns("what", "one", "two", "three", explanations={"one": "a < b", "two": "a < b", "three": "of all"})
    table = tabular.Table(key="t", caption="told", columns=columns, rows=(tabular.row("x", "1", "2", "3"),))
    assert table.explained == (("one, two", "a < b"), ("three", "of all"))
    assert tabular.markdown(table).endswith("\n\n*one, two*: a \\< b.\n\n*three*: of all.\n")
    report = report_of(records_of(*map(fabricate, CELLS)), name="run")
    page = render_report(write(tmp_path / "run", list(map(fabricate, CELLS))), tmp_path / "run.html").read_text()
    explained = [table for table in report.tables() if table.explained]
    assert len(explained) >= 3
    assert page.count("<summary>What the columns say</summary>") >= len(explained)

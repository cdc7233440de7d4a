"""The table of paired differences: what stands in for a difference where a row is itself what the others are held against."""

import dataclasses

from fabricated_records import configured, fabricate

from benchmarks.analysis.references import compare
from benchmarks.cell import Cell
from benchmarks.report import tabular
from benchmarks.report.names import name_all
from benchmarks.report.tables.contrasts import comparison_table

SEPARATE = Cell(backbone="hstu", compression="full", history=64, recent=8, serving="recompute")
ELASTIC = dataclasses.replace(SEPARATE, training="elastic", elastic_history=(32, 64))
NO_TOKEN = Cell(backbone="hstu", compression="experts", history=64, recent=8)


def kept_of(*records):
    among = configured(records)
    table = comparison_table([compare(one, among, "ndcg@10") for one in among], name_all(among), key="c", metric="ndcg@10")
    place = [column.name for column in table.columns].index(tabular.RETENTION)
    return {
        (one.cell.training, one.cell.serving): row.entries[place].text
        for one, row in zip(among, table.rows, strict=True)
        if one.cell.compression == "full"
    }


def test_one_full_attention_is_the_reference_however_it_is_served_and_another_keeps_a_share():
    better, served, other, control = (
        fabricate(cell) for cell in (SEPARATE, dataclasses.replace(SEPARATE, serving="cache"), ELASTIC, NO_TOKEN)
    )
    for record, quality in ((better, 0.4), (served, 0.4), (other, 0.3), (control, 0.1)):
        record["metrics"]["ndcg@10"]["value"] = quality
        record["replicates"]["means"]["ndcg@10"] = [quality + 0.001 * (-1) ** draw for draw in range(501)]
        record["model"]["validation"] = quality
    kept = kept_of(better, served, other, control)
    assert kept["separate", "recompute"] == kept["separate", "cache"] == "the reference"
    assert kept["elastic", "recompute"].startswith("75.0%")

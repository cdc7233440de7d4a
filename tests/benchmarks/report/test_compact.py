"""What scripts draw from: the compact table holds what records say, packed rows unpack to themselves, and the page stays small."""

import json
import re

import pytest
from fabricated_records import configured, fabricate, grid_cells, records_of

from benchmarks.cell import Cell
from benchmarks.report.compact import compact, embedded
from benchmarks.report.content import report_of
from benchmarks.report.packing import Packing
from benchmarks.report.page import render_page
from benchmarks.report.tables.settings import settings_table
from benchmarks.report.tabular import Entry, Table, columns, row


def unpacked(packed, words):
    def word(text):
        return words[text] if isinstance(text, int) else text

    family, backbone, *entries = packed
    fields = [[entry] if not isinstance(entry, list) else entry for entry in entries]
    made = [
        Entry(
            **{
                name: value if name == "order" else word(value)
                for name, value in zip(("text", "order", "detail", "tone", "family", "folded"), entry, strict=False)
            }
        )
        for entry in fields
    ]
    return row(*made, family=word(family), backbone=word(backbone))


def test_packed_rows_unpack_to_themselves():
    rows = [
        row(
            Entry(text=f"label {place}"),
            Entry(text="1.5", order=1.5, detail="the same for all", tone="good"),
            Entry(text="", order=0.0),
            "plain",
            family="PerSRec",
        )
        for place in range(40)
    ]
    table = Table(key="t", caption="c", columns=columns("a", "b", "c", "d"), rows=tuple(rows))
    labels = ["label 39", "label 30"]
    packing = Packing.of([table], labels)
    assert [unpacked(packed, [*labels, *packing.words]) for packed in packing.rows(table)] == rows[len(table.shown) :]
    assert set(packing.words) == {"PerSRec", "the same for all", "good", "plain"}  # what stands once is written where it stands


def test_a_table_of_a_few_rows_more_than_a_screen_is_not_cut():
    rows = tuple(row(str(place)) for place in range(30))
    assert Table(key="t", caption="c", columns=columns("a"), rows=rows).rest == ()
    assert len(Table(key="t", caption="c", columns=columns("a"), rows=(*rows, row("30"))).rest) == 6


def test_no_tag_can_begin_in_embedded_data():
    evil = {"a": "</script><!--<script>&"}
    assert json.loads(str(embedded(evil))) == evil
    assert not re.search("[<&]", str(embedded(evil)))


def test_the_columns_hold_what_the_records_say():
    cells = grid_cells(histories=(64,), backbones=("hstu",))
    records = [fabricate(cell) for cell in cells]
    report = report_of(records_of(*records), name="grid")
    table = compact(report.shown, report.families, cells="cells/")["columns"]
    assert len(set(map(len, table.values()))) == 1
    by_key = {record["cell_key"]: record for record in records}
    for place, [key] in enumerate(table["records"]):
        metrics = by_key[key]["metrics"]
        for name in ("ndcg@10", "serve_flops", "compress_flops", "serve_latency_p50_ms", "cache_bytes", "compress_users_per_second"):
            keeps_items = name == "cache_bytes" and by_key[key]["cell"]["serving"] == "recompute"
            expected = None if keeps_items else metrics.get(name, {}).get("value")
            shown = table[name][place]
            assert (shown is None) == (expected is None)
            assert expected is None or abs(shown - expected) <= 1e-5 * abs(expected)
        assert table["rerun"][place] == by_key[key]["provenance"]["rerun"]
    for cost, by_metric in report.shown[0].frontiers.items():
        inside = {standing.configuration.key for standing in by_metric["ndcg@10"].standings}
        outside = [one.key not in inside for one in report.shown[0].ranked]
        assert [bool(out) for out in table.get(f"out:{cost}", [None] * len(outside))] == outside, cost
    assert {role for role in table["role"] if role} == set(report.answers[0].roles.values())


def test_what_a_further_configuration_adds_to_a_page_is_small():
    """Two thousand of them, and figures of two million bytes, are a page of less than eight million."""
    counts, sizes = [], []
    for histories in ((16, 32), (16, 32, 48, 64)):
        cells = grid_cells(histories=histories, backbones=("hstu",))
        page = render_page(report_of(records_of(*map(fabricate, cells)), name="grid"), digest="0" * 64)
        counts.append(len(cells))
        sizes.append(sum(map(len, re.findall(r"<script type=.application/json.[^>]*>(.*?)</script>", page))))
    assert 500 < (sizes[1] - sizes[0]) / (counts[1] - counts[0]) < 3000


@pytest.mark.parametrize(
    ("negatives", "said"),
    [
        ((480,), "sampled softmax over cosines"),
        ((0,), "full softmax over cosines"),
        ((0, 480), "sampled softmax or full softmax over cosines"),
    ],
)
def test_the_loss_is_that_of_the_negatives(negatives, said):
    cells = [Cell(backbone="hstu", compression="full", negatives=count) for count in negatives]
    table = settings_table(configured([fabricate(cell) for cell in cells]))
    assert {one.entries[0].text: one.entries[1].text for one in table.rows}["loss"] == said


def test_settings_that_were_the_same_are_one_row_with_their_value_and_the_others_with_theirs():
    cells = [Cell(backbone="hstu", compression="experts", tokens=tokens, width=64) for tokens in (1, 4)]
    floor = Cell(backbone="popularity", compression="none", training="none", width=8)
    table = settings_table(configured([fabricate(cell) for cell in (*cells, floor)]))
    values = {entries[0].text: entries[1].text for entries in (one.entries for one in table.rows)}
    assert values["width"] == "64"  # a floor, which learns nothing, has no say
    assert values["tokens"] == "1; 4"
    assert (values["time bias"], values["loss"]) == ("yes", "sampled softmax over cosines")
    assert settings_table(configured([fabricate(floor)])) is None

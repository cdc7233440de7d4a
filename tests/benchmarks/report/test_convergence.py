import re
from pathlib import Path

import pytest
from fabricated_records import configured, fabricate, metric, slim, write
from html_page import Page, rows_of_tables

from benchmarks.analysis.references import compare
from benchmarks.cell import Cell
from benchmarks.report import tabular
from benchmarks.report.names import name_all
from benchmarks.report.page import render_report
from benchmarks.report.tables.contrasts import comparison_table
from benchmarks.report.tables.training import training_table

COMMON = {"backbone": "hstu", "dataset_size": "small", "recent": 32, "epochs": 10}


def rendered(tmp_path: Path, records: list[dict]) -> str:
    out = tmp_path / "reports" / "grid.html"
    render_report(write(tmp_path / "results" / "grid", records), out)
    return out.read_text()


def test_a_model_that_had_not_converged_is_marked_wherever_it_stands(tmp_path):
    cells = [Cell(**COMMON, history=history, compression="experts", tokens=tokens) for history in (64, 224) for tokens in (0, 2, 4)]
    cells += [Cell(**COMMON, history=history, compression="full", serving="recompute") for history in (64, 224)]
    cells += [Cell(**COMMON, history=history, compression="pooling", tokens=4) for history in (64, 224)]
    records = [slim(fabricate(cell)) for cell in cells]
    for record in records:
        record["metrics"]["compress_flops"] = metric(1e6, "flop")
        if record["cell"]["compression"] == "experts" and record["cell"]["tokens"] == 4:
            record["model"]["converged"] = False
    html = rendered(tmp_path, records)
    text = Page(html).text
    assert text.partition("Verdict")[2].partition("Contents")[0].index("2 of 10 trained models had not converged") < text.index(
        "Not converged"
    )
    mark = "\N{DAGGER}"
    named = 0
    for key, rows in rows_of_tables(tmp_path / "reports" / "grid.html").items():
        for row in rows:
            for cell in row[:2]:
                if "PerSRec, 4 tokens" in cell:
                    assert mark in cell, (key, row)
                    named += 1
                elif "PerSRec, 2 tokens" in cell or "full history" in cell:
                    assert mark not in cell, (key, row)
    assert named > 20
    figures = re.findall(r"<figure.*?</figure>", html, flags=re.DOTALL)
    assert len(figures) > 4
    for figure in figures:
        svg = figure.partition("<details>")[0]
        assert f"{mark} not converged (dark edge)" in svg
        marked = mark in figure.partition("<table>")[2].partition("</table>")[0]
        assert (f'<p class="legend">{mark} not converged:' in figure) == marked
    summary = (tmp_path / "reports" / "grid" / "summary.md").read_text()
    assert summary.split("\n\n")[1].startswith("2 of 10 trained models had not converged")


def test_nothing_is_marked_where_all_converged(tmp_path):
    html = rendered(tmp_path, [slim(fabricate(Cell(**COMMON, compression="experts", tokens=tokens))) for tokens in (0, 4)])
    assert "\N{DAGGER}" not in html
    assert "not converged (dark edge)" not in html


@pytest.mark.parametrize(("converged", "text"), [(True, "yes"), (False, "no \N{DAGGER}"), (None, "not recorded")])
def test_how_a_model_was_trained_is_in_one_row(converged, text):
    record = fabricate(Cell(**COMMON, compression="experts", tokens=4))
    record["model"] |= {"converged": converged}
    among = configured([record])
    table = training_table(among, name_all(among))
    row = dict(zip([column.name for column in table.columns], table.rows[0].entries, strict=True))
    assert row["converged"].text == text
    assert [row[name].order for name in ("steps", "decay steps", "best step", "targets")] == [1000, 200, 600, 8_200_000]
    assert (row["s per million targets"].text, row["rate at best"].order) == ("38.7 s", 5e-4)


def test_shares_of_unequally_trained_models_are_marked_too():
    cells = [Cell(**COMMON, compression="experts", tokens=tokens) for tokens in (0, 4)] + [Cell(**COMMON, compression="full")]
    records = [fabricate(cell) for cell in cells]
    records[2]["model"] |= {"steps": 400, "converged": None}
    among = configured(records)
    ours = next(one for one in among if one.is_tokens)
    table = comparison_table([compare(ours, among, "ndcg@10")], name_all(among), key="c", metric="ndcg@10")
    row = dict(zip([column.name for column in table.columns], table.rows[0].entries, strict=True))
    assert "\N{DOUBLE DAGGER}" not in row["minus no token"].text
    for name in ("minus full history", tabular.RETENTION):
        assert row[name].text.endswith("\N{DOUBLE DAGGER}")
        assert "half the steps: 1,000 against 400 steps" in row[name].detail

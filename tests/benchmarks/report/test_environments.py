"""Records of several environments: each one's timings apart, quality and counts of all."""

from fabricated_records import configured, fabricate, write
from html_page import Page

from benchmarks.cell import Cell
from benchmarks.report.page import render_report
from benchmarks.report.peers import peers_of


def test_each_environment_has_its_own_timings_and_all_share_quality(tmp_path):
    records = [fabricate(Cell(backbone="hstu", compression="experts", tokens=tokens)) for tokens in (1, 2, 4)]
    records[2]["cost"]["environment"] |= {"fingerprint": "f" * 64, "cpu": "another processor"}
    out = tmp_path / "reports" / "grid.html"
    render_report(write(tmp_path / "results" / "grid", records), out)
    page = Page(out.read_text())
    assert "2 environments: timings are compared only within one environment." in page.text
    assert "timed on another processor (ffffffff)" in page.text
    assert "timed on AMD EPYC 7763 64-Core Processor (eeeeeeee)" in page.text
    here, there = peers_of(configured(records))
    for peers, timed in ((here, [1, 2]), (there, [4])):
        assert [one.cell.tokens for one in peers.configurations if one.quality("ndcg@10").value] == [1, 2, 4]
        assert [one.cell.tokens for one in peers.configurations if one.cost("serve_flops").value] == [1, 2, 4]
        assert [one.cell.tokens for one in peers.configurations if one.cost("serve_latency_p50_ms").value] == timed

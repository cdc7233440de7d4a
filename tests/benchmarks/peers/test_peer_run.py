"""A run with a peer beside ours, with a stand-in for its library: records, report, and what is refused before anything is made."""

from pathlib import Path

import pytest

from benchmarks.measures import MEASURES
from benchmarks.records import Status, load_records
from benchmarks.report.names import PEER_MARK
from benchmarks.run import command as run

GRID = """
[defaults]
dataset = "synthetic"
dataset_size = "tiny"
history = 12
recent = 4
width = 8
layers = 1
heads = 1
negatives = 16
batch_size = 16
serving = "recompute"
epochs = 2
[compression.peer]
warmup_steps = 0
decays = false
[limits]
processes = 1
costs_alone = false
[[sweep]]
backbone = "hstu"
compression = "full"
[[sweep]]
backbone = "rectools-hstu"
compression = "peer"
"""


def call(tmp_path: Path, cache: Path, *more: str) -> int:
    grid = tmp_path / "grid.toml"
    grid.write_text(GRID)
    return run.main(["--grid", str(grid), "--device", "cpu", "--out", str(tmp_path / "out"), "--cache-dir", str(cache), *more])


def test_a_peer_is_trained_ranked_and_timed_beside_ours_and_marked_in_the_report(peers_cache: Path, tmp_path: Path) -> None:
    assert call(tmp_path, peers_cache, "--workers", "2") == 0
    peer = next(record for record in load_records(tmp_path / "out") if record.cell.is_peer)
    ours = next(record for record in load_records(tmp_path / "out") if not record.cell.is_peer)
    assert peer.status is Status.OK
    assert peer.parts.peer is not None
    assert peer.parts.peer.version
    assert peer.model is not None
    assert ours.model is not None
    assert [epoch.epoch for epoch in peer.model.curve] == [1, 2]
    assert peer.metrics["ndcg@10"].n == ours.metrics["ndcg@10"].n  # the same users
    assert peer.metrics["ndcg@10"].method == ours.metrics["ndcg@10"].method
    timed = {name for name, metric in peer.metrics.items() if metric.value is not None and MEASURES[name].group == "cost"}
    assert {"serve_latency_p50_ms", "request_latency_p50_ms", "requests_per_second", "parameters", "cache_bytes"} <= timed
    assert "in its own Python" in peer.metrics["request_latency_p50_ms"].method
    assert peer.metrics["serve_flops"].value is None
    assert "not counted" in peer.metrics["serve_flops"].method
    assert list((tmp_path / "out" / "models").glob("*/exchange")) == []
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Peers beside full attention of ours" in page
    assert f"RecTools HSTU · peer {PEER_MARK}" in page
    assert f"{PEER_MARK} a peer: another library" in page
    assert call(tmp_path, peers_cache, "--no-report") == 0  # nothing is old


def test_without_an_environment_a_run_is_refused_in_one_line_and_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path, tmp_path / "cache") == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "make it with: python -m benchmarks.peers setup" in line
    assert not (tmp_path / "out").exists()
    assert call(tmp_path, tmp_path / "cache", "--list") == 0
    assert "RecTools HSTU · peer" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()

"""What the page on the protocol says of attention kernels beside the fastest plain form stands in the committed record."""

import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.kernels.record import CALL_BY_CALL, REQUESTS, KernelRow, KernelTimings, load_kernels
from benchmarks.text import significant

PROJECT = Path(__file__).resolve().parent.parent
KINDS = {"hstu, full forward": "a forward pass", "hstu, full training step": "a training step", "hstu, serving": "serving from 4 tokens"}
MEMORY = {"": "as it comes", ", freed memory kept by the process": "kept"}


def committed() -> KernelTimings:
    timings = load_kernels(PROJECT / "results" / "kernels" / "cpu.json")
    assert timings is not None
    return timings


def table_rows() -> Iterator[str]:
    """The rows as the page has them."""
    rows = committed().rows
    for kind, what in KINDS.items():
        for suffix, memory in MEMORY.items():
            fastest = min((row for row in rows if is_of(row, kind, suffix)), key=lambda row: row.ratio)
            yield f"| {what} | {memory} | {fastest.form} | {told(fastest)} | {significant(fastest.bound or 0.0)} |"


def is_of(row: KernelRow, kind: str, suffix: str) -> bool:
    return row.form is not None and row.name == f"{kind}, {row.form} over segmented{suffix}"


def test_the_table_is_that_of_the_record() -> None:
    page = (PROJECT / "docs" / "protocol.md").read_text()
    rows = list(table_rows())
    assert len(rows) == len(KINDS) * len(MEMORY)
    assert [row for row in rows if row not in page] == []


def test_the_record_is_of_several_processes_and_was_compared_before() -> None:
    timings = committed()
    assert {row.processes for row in timings.rows} == {3}
    assert all(
        row.largest_difference is not None and row.tolerance is not None and row.largest_difference <= row.tolerance for row in timings.rows
    )


def test_softmax_beside_the_frameworks_is_that_of_the_record() -> None:
    page = " ".join((PROJECT / "docs" / "protocol.md").read_text().split())
    ratios = {row.name: significant(row.ratio) for row in committed().rows}
    fused = ratios["softmax, full forward over the fused causal kernel"]
    flex = ratios["softmax, full forward over FlexAttention, compiled"]
    said = f"takes {fused} times the time of the framework's fused causal kernel, {flex} times FlexAttention's."
    assert f"Softmax attention's forward pass {said}" in page


SMALL = {"hstu": "HSTU", "sasrec": "SASRec", "llama": "Llama"}


def milliseconds(samples: tuple[float, ...]) -> str:
    """Of one request."""
    return significant(statistics.median(samples) * 1e3 / REQUESTS)


def compiled_figures() -> Iterator[str]:
    """What the page on costs says of compiled requests: of small ones, and of long ones beside full attention's cache."""
    rows = {row.name: row for row in committed().rows}
    for backbone, title in SMALL.items():
        yield f"{title} {told(rows[f'{backbone}, a compiled request {CALL_BY_CALL}'])}"
    for backbone in ("hstu", "sasrec"):
        graph, calls = (
            rows[f"{backbone}, {what} from 4 tokens over one from the keys of 4096 items, time over FLOPs"]
            for what in ("a compiled request", "a request")
        )
        quicker = statistics.median(graph.ours) / statistics.median(calls.other) / calls.share_of_flops
        yield (
            f"| {SMALL[backbone]} | {milliseconds(calls.other)} ms | {milliseconds(graph.other)} ms | {milliseconds(calls.ours)} ms "
            f"| {milliseconds(graph.ours)} ms | {calls.share_of_flops:.1%} | {told(calls)} | {significant(quicker)} |"
        )


def told(row: KernelRow) -> str:
    assert row.low is not None
    assert row.high is not None
    return f"{significant(row.ratio)} ({significant(row.low)} to {significant(row.high)})"


def test_compiled_requests_are_those_of_the_record() -> None:
    page = " ".join((PROJECT / "docs" / "costs.md").read_text().split())
    assert [figure for figure in compiled_figures() if figure not in page] == []

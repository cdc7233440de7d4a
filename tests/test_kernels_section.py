"""What the page on the protocol says of attention kernels beside the fastest plain form stands in the committed record."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.kernels.record import KernelRow, KernelTimings, load_kernels
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
            assert fastest.low is not None
            assert fastest.high is not None
            interval = f"{significant(fastest.ratio)} ({significant(fastest.low)} to {significant(fastest.high)})"
            yield f"| {what} | {memory} | {fastest.form} | {interval} | {significant(fastest.bound or 0.0)} |"


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

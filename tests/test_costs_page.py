"""What the page on costs says of time beside FLOPs stands in the committed records of ``paper`` and ``profile``."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.records import Record, load_records
from benchmarks.text import nbytes, percent, significant
from persrec.names import backbones

PROJECT = Path(__file__).resolve().parent.parent
GRIDS = ("paper", "profile")
LEAST_MS = 5.0  # of full attention's request: a shorter one is bound by its calls
LATENCY = "serve_latency_p50_ms"


def table_rows() -> Iterator[tuple[float, str]]:
    """The time share over the FLOP share, and the row as the page has it."""
    for grid in GRIDS:
        records = [record for record in load_records(PROJECT / "results" / f"{grid}-synthetic-cpu") if is_of_the_table(record)]
        full = {(one.cell.backbone, one.cell.history, one.cell.serving): one for one in records if one.cell.compression == "full"}
        tokens = [one for one in records if one.cell.compression == "experts"]
        for one in sorted(tokens, key=lambda one: (one.cell.backbone, one.cell.history)):
            for beside, serving in (("alike", "cache"), ("full", "recompute")):
                whole = full[one.cell.backbone, one.cell.history, serving]
                if number(whole, LATENCY) >= LEAST_MS:
                    yield over(one, beside), row(grid, one, whole, beside)


def is_of_the_table(record: Record) -> bool:
    cell = record.cell
    single = cell.compression == "experts" and (cell.tokens, cell.segments, cell.serving) == (4, 1, "cache")
    return cell.backbone in ("hstu", "sasrec") and cell.catalogue is None and (single or cell.compression == "full")


def number(record: Record, name: str) -> float:
    value = record.value(name)
    assert value is not None, name
    return value


def over(one: Record, beside: str) -> float:
    return number(one, f"serve_time_over_{beside}") / number(one, f"serve_flops_over_{beside}")


def row(grid: str, one: Record, whole: Record, beside: str) -> str:
    cell, time = one.cell, one.metrics[f"serve_time_over_{beside}"]
    assert time.value is not None
    assert time.low is not None
    assert time.high is not None
    rates = (significant(number(record, "serve_flops") / number(record, LATENCY) / 1e6, 2) for record in (one, whole))
    columns = [
        f"`{grid}`",
        f"{backbones()[cell.backbone].title} {cell.layers} x {cell.width}",
        f"{cell.history:,} + {cell.recent}",
        "its own cache" if beside == "alike" else "recomputing",
        f"{significant(number(whole, LATENCY))} ms",
        f"{percent(time.value)} ({percent(time.low)} to {percent(time.high)})",
        percent(number(one, f"serve_flops_over_{beside}")),
        significant(over(one, beside)),
        " / ".join(rates),
    ]
    return f"| {' | '.join(columns)} |"


def of_processes(record: Record, name: str) -> str:
    """Bytes and their interval, in the unit of the value."""
    metric, mib = record.metrics[name], 2**20
    assert metric.low is not None
    assert metric.high is not None
    return f"{nbytes(number(record, name))} ({significant(metric.low / mib)} to {significant(metric.high / mib)})"


def test_the_page_has_the_rows_of_the_records():
    page = (PROJECT / "docs" / "costs.md").read_text()
    section = page.partition("## Time beside FLOPs")[2].partition("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("| `")] == [row for _, row in table_rows()]


def test_the_page_says_what_hstus_full_attention_with_times_takes_beside_sasrecs():
    records = load_records(PROJECT / "results" / "profile-synthetic-cpu")
    whole = {
        (one.cell.backbone, one.cell.history): one
        for one in records
        if (one.cell.compression, one.cell.serving, one.cell.time_bias) == ("full", "recompute", True)
    }
    hstu, sasrec = whole["hstu", 4096], whole["sasrec", 4096]
    times = [number(one, LATENCY) for one in (hstu, sasrec)]
    peaks = [of_processes(whole[name, 16128], "serve_peak_bytes") for name in ("hstu", "sasrec")]
    flops = number(hstu, "serve_flops") / number(sasrec, "serve_flops")
    said = (
        f"HSTU's full attention with the time bias, over 4,352 items, takes {significant(times[0])} ms where SASRec's takes "
        f"{significant(times[1])} ms, {significant(times[0] / times[1])} times, at {significant(flops)} times the FLOPs; "
        f"over 16,384 items its peak of memory is {peaks[0]} where SASRec's is {peaks[1]}, which three "
        "processes do not tell apart."
    )
    assert said in " ".join((PROJECT / "docs" / "costs.md").read_text().split())

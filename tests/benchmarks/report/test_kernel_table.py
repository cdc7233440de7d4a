"""The table of the kernels' ratios."""

from dataclasses import replace

from benchmarks.kernels.record import CALL_BY_CALL, KernelMachine, KernelRow, KernelSettings, KernelTimings
from benchmarks.records import Environment, Provenance
from benchmarks.report.tables.kernels import FASTEST, kernel_table

ROW = KernelRow(
    name="half as long",
    ratio=2.0,
    bound=3.0,
    higher_is_better=True,
    share_of_flops=1.0,
    unit="s",
    ours=(0.002, 0.001, 0.003),
    other=(0.004,),
)
BYTES = KernelRow(
    name="bytes", ratio=2.0, bound=None, higher_is_better=True, share_of_flops=1.0, unit="byte", ours=(2.0**20,), other=(2.0**21,)
)


def timings(*rows):
    return KernelTimings(
        settings=KernelSettings(device="cpu", threads=1, rounds=1, layers=1),
        machine=KernelMachine(matrix_product_flops_per_second=5e10),
        rows=rows,
        environment=Environment(),
        provenance=Provenance(),
    )


def test_rows_of_requests_say_their_own_sizes():
    names = {f"hstu, a compiled request {CALL_BY_CALL}": 16, "hstu, a request from 4 tokens over one from the keys of 4096 items": 256}
    table = kernel_table(timings(ROW, *(replace(ROW, name=name) for name in names)))
    assert [row.entries[0].detail for row in table.rows] == [
        "",
        *(f"2 layers, 2 heads, one user, {recent} recent items; 100 requests in a row" for recent in names.values()),
    ]


def test_a_table_says_what_was_asked_and_whether_it_was_reached():
    table = kernel_table(timings(ROW, BYTES))
    first, second = table.rows
    assert [entry.text for entry in first.entries] == ["half as long", "2.00", "at least 3.00, missed", "2.00 ms", "4.00 ms"]
    assert first.entries[1].tone == "warn"
    assert [entry.text for entry in second.entries[2:]] == ["", "1.00 MiB", "2.00 MiB"]
    assert "matrix products reach 50.0 GFLOP/s here" in table.caption


def test_a_bound_is_reached_where_the_whole_interval_reaches_it():
    def tone(**changes):
        return kernel_table(timings(replace(ROW, processes=3, **changes))).rows[0].entries[1].tone

    assert tone(ratio=3.5, low=3.1, high=4.0) == "fine"
    assert tone(ratio=3.5, low=2.9, high=4.0) == "warn"
    assert tone(ratio=2.5, low=2.0, high=3.1, higher_is_better=False) == "warn"
    assert tone(ratio=2.5, low=2.0, high=2.9, higher_is_better=False) == "fine"


def test_a_caption_says_over_what_an_interval_is():
    assert "each row within one process, so without an interval over processes;" in kernel_table(timings(ROW)).caption
    of_three = kernel_table(timings(replace(ROW, processes=3, low=1.5, high=2.5)))
    assert "each row in 3 processes;" in of_three.caption
    assert of_three.rows[0].entries[1].detail == "1.50 to 2.50"


def test_the_fastest_plain_form_of_each_kind_is_marked():
    rows = [
        replace(ROW, name=f"{kind}, {form} over segmented{kept}", form=form, ratio=ratio)
        for kind, kept, ratios in (("forward", "", (3.0, 1.1)), ("forward", ", kept", (0.9, 1.0)), ("training", "", (4.0, 2.0)))
        for form, ratio in zip(("dense", "loop"), ratios, strict=True)
    ]
    marked = [row.entries[0].text for row in kernel_table(timings(*rows, ROW)).rows if row.entries[0].detail == FASTEST]
    assert marked == ["forward, loop over segmented", "forward, dense over segmented, kept", "training, loop over segmented"]

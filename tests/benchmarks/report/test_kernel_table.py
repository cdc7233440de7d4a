"""The table of the kernels' ratios."""

from benchmarks.kernels.record import KernelMachine, KernelRow, KernelSettings, KernelTimings
from benchmarks.records import Environment, Provenance
from benchmarks.report.tables.kernels import kernel_table

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


def test_a_table_says_what_was_asked_and_whether_it_was_reached():
    timings = KernelTimings(
        settings=KernelSettings(device="cpu", threads=1, rounds=1, layers=1),
        machine=KernelMachine(matrix_product_flops_per_second=5e10),
        rows=(ROW, BYTES),
        environment=Environment(),
        provenance=Provenance(),
    )
    table = kernel_table(timings)
    first, second = table.rows
    assert [entry.text for entry in first.entries] == ["half as long", "2.00", "at least 3.00", "2.00 ms", "4.00 ms"]
    assert first.entries[1].tone == "warn"
    assert [entry.text for entry in second.entries[2:]] == ["", "1.00 MiB", "2.00 MiB"]
    assert "matrix products reach 50.0 GFLOP/s here" in table.caption

"""From how many requests on a compressed history pays: in FLOPs exactly, in time only where the intervals over processes say it."""

import pytest
from fabricated_records import configured, fabricate

from benchmarks.cell import Cell
from benchmarks.report.names import name_all
from benchmarks.report.tables.amortisation import break_even_table

OURS = Cell(backbone="hstu", compression="experts", tokens=4)
CACHED = Cell(backbone="hstu", compression="full")


def in_time(serve, *, processes=3):
    """What the table says against full attention of 10 ms a request and no refresh to speak of, where a refresh of ours takes 10 ms."""
    records = [fabricate(cell, replicates=None) for cell in (OURS, CACHED)]
    for record, (value, low, high), refresh in zip(records, (serve, (100, 100, 100)), (100, 1e6), strict=True):
        record["metrics"]["serve_users_per_second"] |= {"value": value, "low": low, "high": high}
        record["metrics"]["compress_users_per_second"] |= {"value": refresh, "low": refresh, "high": refresh}
        record["cost"]["processes"] = processes
    found = configured(records)
    table = break_even_table(found, name_all(found), key="e", caption="")
    ours = next(row for row in table.rows if "PerSRec" in row.entries[0].text)
    by_name = dict(zip((column.name for column in table.columns), ours.entries, strict=True))
    cell = by_name["in time, vs full from KV cache"]
    return cell.text, cell.detail


@pytest.mark.parametrize(
    ("serve", "options", "said"),
    [
        ((200, 200, 200), {}, ("from r = 2", "")),
        ((200, 150, 300), {}, ("from r = 2", "from r = 3 at worst, from r = 2 at best")),
        ((105, 90, 130), {}, ("not decided", "never at worst, from r = 5 at best")),
        ((80, 70, 90), {}, ("never", "")),
        ((200, 200, 200), {"processes": 1}, ("not decided", "one process, so no interval")),
    ],
)
def test_a_break_even_in_time_is_said_where_both_ends_of_the_intervals_say_it(serve, options, said):
    assert in_time(serve, **options) == said


def test_like_stands_before_recomputing():
    found = configured([fabricate(cell, replicates=None) for cell in (OURS, CACHED)])
    names = [column.name for column in break_even_table(found, name_all(found), key="e", caption="").columns]
    assert names.index("vs full from KV cache") < names.index("vs full recomputed") < names.index("in time, vs full recomputed")

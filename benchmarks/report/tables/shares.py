"""What a configuration takes of full attention's time and FLOPs, both of one process: the report's table of shares.

Full attention that is served in the same way stands first, and recomputing last.
"""

from collections.abc import Sequence

from benchmarks import text
from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.estimates import Estimate
from benchmarks.report import tabular
from benchmarks.report.names import Names, family, filter_name
from benchmarks.report.tabular import Entry, Table

_ALIKE = "request, served alike"
_PASSES = {
    "serve_{}_over_alike": _ALIKE,
    "train_{}_over_full": "training step",
    "serve_{}_over_full": "request, recomputed",
    "compress_{}_over_full": "refresh over a request recomputed",
    "compress_serve_{}_over_full": "refresh and request over one recomputed",
}
_BEYOND = ("serve_{}_over_alike", "serve_{}_over_full")
_NEAR = 1.15  # a larger ratio of time to FLOPs: work that is no multiply-add takes its time


def shares_table(among: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """A row for each configuration that has a control: its shares of full attention's time and of its FLOPs; ``None`` without any."""
    rows = []
    for one in among:
        times, flops = ({name: one.cost(name.format(of)) for name in _PASSES} for of in ("time", "flops"))
        if all(share.value is None for share in (*times.values(), *flops.values())):
            continue
        filters = {"family": family(one).name, "backbone": filter_name(one)}
        entries = [entry for name in _PASSES for entry in (_share(times[name]), _share(flops[name]))]
        beyond = [_beyond(times[name], flops[name]) for name in _BEYOND]
        rows.append(tabular.row(Entry(text=names(one), family=family(one).key), *entries, *beyond, **filters))
    if not rows:
        return None
    last = [f"{_PASSES[name]}: time over FLOPs" for name in _BEYOND]
    numeric = [*(f"{pass_name}: {of}" for pass_name in _PASSES.values() for of in ("time", "FLOPs")), *last]
    explanations = dict.fromkeys(last, "1 where a request takes as much of full attention's time as of its FLOPs")
    explanations |= {f"{pass_name}: time": "calls timed in turn; the interval over processes below" for pass_name in _PASSES.values()}
    headings = tabular.columns("configuration", *numeric, numeric=numeric, explanations=explanations)
    caption += f"; {tabular.NO_SEED}"
    return Table(key=key, caption=caption, columns=headings, rows=tuple(rows), filters=True)


def _share(share: Estimate) -> Entry:
    if share.value is None:
        return Entry(text=text.MISSING, detail=share.reason, tone="muted")
    interval = ""
    if share.low is not None and share.high is not None:
        interval = f"{text.percent(share.low)} to {text.percent(share.high)}"
    return Entry(text=text.percent(share.value), order=share.value, detail=interval)


def _beyond(time: Estimate, flops: Estimate) -> Entry:
    if time.value is None or not flops.value:
        return Entry(text=text.MISSING, tone="muted")
    ratio = time.value / flops.value
    return Entry(text=text.significant(ratio), order=ratio, tone="warn" if ratio > _NEAR else "")

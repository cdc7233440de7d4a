"""What a request costs with its share of a refresh, where that is no more than full history costs, and the quality meanwhile."""

from collections.abc import Sequence

from benchmarks import text
from benchmarks.analysis.amortise import ages_of, break_even, flops_price, quality_over_ages, time_price, timed_break_even
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import difference
from benchmarks.analysis.references import find_references
from benchmarks.labels import METRIC_NAMES
from benchmarks.report import tabular
from benchmarks.report.names import Names, family, filter_name
from benchmarks.report.tabular import Entry, Table

REQUESTS = (1, 10, 100)
AGED_REQUESTS = (1, 4, 16, 32, 64, 128)
_ITSELF = Entry(text="itself", tone="muted")
_UNDECIDED = "not decided"
_LAST = 1e300  # sorts after every number of requests; JSON has no infinity


def break_even_table(among: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """Costs of compressing and of serving, their sum per request at some refresh rates, and where full history costs no less."""
    rates = [f"r = {r}" for r in REQUESTS]
    numeric = ("compress", "serve", *rates, "cache per user")
    breaks = ("vs full from KV cache", "in time, vs full from KV cache", "vs full recomputed", "in time, vs full recomputed")
    rows = []
    for one in among:
        price = None if one.is_floor or one.cell.compression == "recent" else flops_price(one)
        if price is None:
            continue
        references = find_references(one, among)
        rows.append(
            tabular.row(
                Entry(text=names(one), family=family(one).key),
                *(
                    Entry(text=text.flops(value), order=value)
                    for value in (price.compress, price.serve, *(price.per_request(r) for r in REQUESTS))
                ),
                tabular.bare_cost("cache_bytes", one.cost("cache_bytes")),
                _break_even_entry(one, references.full_cached),
                _break_even_in_time_entry(one, references.full_cached),
                _break_even_entry(one, references.full),
                _break_even_in_time_entry(one, references.full),
                family=family(one).name,
                backbone=filter_name(one),
            )
        )
    explanations = dict.fromkeys(breaks, "the requests per refresh at which it costs no more, a request")
    in_time = "the same of the backbone's time, where it is so at either end of the intervals over processes; else not decided"
    explanations |= {name: in_time for name in breaks if name.startswith("in time")}
    headings = tabular.columns("configuration", *numeric, *breaks, numeric=(*numeric, *breaks), explanations=explanations)
    caption += f"; {tabular.NO_SEED}"
    return Table(key=key, caption=caption, columns=headings, rows=tuple(rows), filters=True) if rows else None


def aged_table(everyone: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """The cost of a request and its quality over the ages that its refresh rate implies; ``None`` where no cache was aged."""
    rows, members = [], []
    for one in everyone:
        price = flops_price(one)
        ages = [] if one.is_experiment or price is None else ages_of(one, everyone)
        if price is None or len(ages) < 2:
            continue
        full = find_references(one, everyone).full
        whole = None if full is None else full.cost("serve_flops").value
        for requests in AGED_REQUESTS:
            each = price.per_request(requests)
            entries = [Entry(text=names(one), family=family(one).key), Entry(text=f"{requests:,}", order=requests)]
            entries.append(Entry(text=text.flops(each), order=each))
            entries.append(Entry(text=text.percent(each / whole), order=each / whole) if whole else Entry(text=text.MISSING))
            for metric in QUALITY_METRICS:
                aged = quality_over_ages(ages, metric, requests)
                entries += [tabular.of_quality(aged), tabular.of_difference(difference(aged, one.quality(metric)))]
            rows.append(tabular.row(*entries, family=family(one).name, backbone=filter_name(one)))
            members.append(one)
    per_metric = [name for metric in QUALITY_METRICS for name in (METRIC_NAMES[metric], f"{METRIC_NAMES[metric]} minus fresh")]
    numeric = ("requests per refresh", "a request", "of full recomputed", *per_metric)
    over = "mean over the ages 0 to r - 1 items, interpolated between the ages that were measured and not beyond"
    explanations = {METRIC_NAMES[metric]: over for metric in QUALITY_METRICS} | {"a request": "FLOPs, the refresh shared"}
    headings = tabular.columns("configuration", *numeric, numeric=numeric, explanations=explanations)
    table = Table(key=key, caption=caption, columns=headings, rows=tuple(rows), filters=True)
    return tabular.with_seeds(table, members) if rows else None


def _break_even_entry(one: Configuration, other: Configuration | None) -> Entry:
    if other is one:
        return _ITSELF
    ours, theirs = flops_price(one), None if other is None else flops_price(other)
    if ours is None or theirs is None:
        return _unknown(other)
    even = break_even(ours, theirs)
    return Entry(text=str(even), order=float(even.first) if even.first else _LAST, tone="" if even.first else "muted")


def _break_even_in_time_entry(one: Configuration, other: Configuration | None) -> Entry:
    """The break-even of two timed prices: a number where both ends of the intervals give one kind of answer, else "not decided"."""
    if other is one:
        return _ITSELF
    ours, theirs = time_price(one), None if other is None else time_price(other)
    if ours is None or theirs is None:
        return _unknown(other)
    ends = timed_break_even(ours, theirs)
    if ends is None:
        return Entry(text=_UNDECIDED, detail="one process, so no interval", tone="muted", order=_LAST)
    worst, best = ends
    if (worst.first is None) != (best.first is None) or (worst.last is None) != (best.last is None):
        return Entry(text=_UNDECIDED, detail=f"{worst} at worst, {best} at best", tone="muted", order=_LAST)
    even = break_even(ours.value, theirs.value)
    detail = "" if worst == best else f"{worst} at worst, {best} at best"
    return Entry(text=str(even), detail=detail, order=float(even.first) if even.first else _LAST, tone="" if even.first else "muted")


def _unknown(other: Configuration | None) -> Entry:
    return Entry(text=text.MISSING, tone="muted", detail="no such cell" if other is None else "not measured")

"""What a request costs once refreshes are shared, where that is no more than full history, and what it ranks meanwhile."""

from collections.abc import Sequence
from typing import Any

from benchmarks import text
from benchmarks.analysis.amortise import Price, ages_of, break_even, flops_price, quality_over_ages, time_price
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import difference
from benchmarks.analysis.references import find_references
from benchmarks.labels import METRIC_NAMES
from benchmarks.report import tabular
from benchmarks.report.names import Names, family, filter_name
from benchmarks.report.tabular import Entry, Table

REQUESTS = (1, 10, 100)
AGED_REQUESTS = (1, 4, 16, 32, 64, 128)


def break_even_table(among: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """Compress, serve, and their sum per request at some refresh rates; where a compressed history costs no more than full history."""
    rates = [f"r = {r}" for r in REQUESTS]
    numeric = ("compress", "serve", *rates, "cache per user")
    breaks = ("vs full recomputed", "vs full from KV cache", "in time, vs full recomputed", "in time, vs full from KV cache")
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
                tabular.of_cost("cache_bytes", one.cost("cache_bytes")),
                _broken_even(one, references.full, flops_price),
                _broken_even(one, references.full_cached, flops_price),
                _broken_even(one, references.full, time_price),
                _broken_even(one, references.full_cached, time_price),
                family=family(one).name,
                backbone=filter_name(one),
            )
        )
    explanations = dict.fromkeys(breaks, "the requests per refresh at which it costs no more, a request")
    headings = tabular.columns("configuration", *numeric, *breaks, numeric=(*numeric, *breaks), explanations=explanations)
    caption += f"; {tabular.NO_SEED}"
    return Table(key=key, caption=caption, columns=headings, rows=tuple(rows), filters=True) if rows else None


def aged_table(everyone: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """Cost of a request beside the quality over the ages that its refresh rate implies; ``None`` where no model was aged."""
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


def _broken_even(one: Configuration, other: Configuration | None, price_of: Any) -> Entry:
    if other is one:
        return Entry(text="itself", tone="muted")
    ours: Price | None = price_of(one)
    theirs: Price | None = None if other is None else price_of(other)
    if ours is None or theirs is None:
        return Entry(text=text.MISSING, tone="muted", detail="no such cell" if other is None else "not measured")
    even = break_even(ours, theirs)
    return Entry(text=str(even), order=float(even.first) if even.first else float("inf"), tone="" if even.first else "muted")

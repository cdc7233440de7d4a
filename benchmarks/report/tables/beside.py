"""Peers beside full attention of ours: quality, the time to the peer's best on validation, and a request's time."""

from collections.abc import Sequence

from benchmarks import text
from benchmarks.analysis.beside import PeerBeside, beside
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import Estimate, difference
from benchmarks.labels import METRIC_NAMES
from benchmarks.report import tabular
from benchmarks.report.names import Names, family
from benchmarks.report.tabular import Entry, Row, Table
from persrec.commandline import duration

_REQUEST = "request_latency_p50_ms"
_TIMES = ("its best validation", "its training until then", "ours to the same validation", "ours over its")
_EXPLANATIONS = {
    "beside": "full attention of ours on the same data and window, the best on validation",
    "its best validation": "NDCG@10 on the validation targets by our rank code, the mean over seeds",
    "its training until then": "seconds of its epochs, validations apart, the mean over seeds",
    "ours to the same validation": "seconds of our epochs until our validation was as high, validations apart, the mean over seeds",
    "ours over its": "those seconds over the peer's",
    "its request": "median of one whole request in its own Python, from tensors; what its library does with a caller's table is left out",
    "our request": "median of one whole request by the same clock",
}


def beside_table(among: Sequence[Configuration], names: Names, *, key: str) -> Table | None:
    """A row for each trained peer; ``None`` where there is none."""
    rows = [_row(one, names) for one in beside(among)]
    qualities = [
        (METRIC_NAMES[metric], f"{METRIC_NAMES[metric]} of ours", f"{METRIC_NAMES[metric]}: ours minus it") for metric in QUALITY_METRICS
    ]
    numeric = [*(name for of_metric in qualities for name in of_metric), *_TIMES, "its request", "our request"]
    explanations = _EXPLANATIONS | {minus: tabular.PAIRED for *_, minus in qualities}
    headings = tabular.columns("peer", "beside", *numeric, numeric=numeric, explanations=explanations)
    return Table(key=key, caption="Peers beside full attention of ours", columns=headings, rows=tuple(rows)) if rows else None


def _row(one: PeerBeside, names: Names) -> Row:
    peer, ours = one.peer, one.ours
    entries = [Entry(text=names(peer), family=family(peer).key)]
    entries.append(
        Entry(text=text.MISSING, detail=one.reason, tone="muted") if ours is None else Entry(text=names(ours), family=family(ours).key)
    )
    nothing = Estimate(value=None, reason=one.reason)
    for metric in QUALITY_METRICS:
        theirs = peer.quality(metric)
        mine = nothing if ours is None else ours.quality(metric)
        minus = tabular.of_comparison(difference(mine, theirs), ours or peer, peer)
        entries += [tabular.of_quality(theirs), tabular.of_quality(mine), minus]
    entries += [tabular.of_ratio(one.best_validation), _seconds(one.peer_seconds, ""), _seconds(one.our_seconds, one.reason)]
    entries.append(tabular.NOTHING if one.share is None else Entry(text=text.percent(one.share), order=one.share))
    entries += [tabular.of_cost(_REQUEST, nothing if side is None else side.cost(_REQUEST)) for side in (peer, ours)]
    return tabular.row(*entries)


def _seconds(value: float | None, reason: str) -> Entry:
    return Entry(text=text.MISSING, detail=reason, tone="muted") if value is None else Entry(text=duration(value), order=value)

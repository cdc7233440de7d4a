"""One trained model under published protocols; rows that know the time of the request stand in a table of their own."""

from collections.abc import Sequence

from benchmarks import text
from benchmarks.analysis.configurations import Configuration
from benchmarks.peers.part import PEERS
from benchmarks.records import ProtocolQuality
from benchmarks.report import tabular
from benchmarks.report.names import Names, family, filter_name
from benchmarks.report.tabular import Entry, Table
from persrec import names as parts

METRICS = {"recall@10": "HR@10", "ndcg@10": "NDCG@10", "recall@200": "HR@200", "ndcg@200": "NDCG@200"}
PROTOCOLS = "protocols-"  # what the keys of these tables begin with
OTHERWISE = "the protocol's own rows {}, so it does not stand beside them"


def protocol_tables(among: Sequence[Configuration], names: Names, *, key: str) -> list[Table]:
    """A table of the models that know the time of a request, and one of those that do not; a table without rows is left out."""
    tables = []
    for knows_time, title in ((True, "with the request's time as input"), (False, "without the request's time")):
        every = [(one, row) for one in among for row in _rows(one, names, knows_time=knows_time)]
        if every:
            headings = tabular.columns("configuration", "protocol", "items", "users", *METRICS.values(), numeric=list(METRICS.values()))
            caption = f"The same models under published protocols, {title}"
            ones, rows = zip(*every, strict=True)
            table = Table(key=f"{key}-{'timed' if knows_time else 'free'}", caption=caption, columns=headings, rows=rows, filters=True)
            tables.append(tabular.with_seeds(table, ones))
    return tables


def _rows(one: Configuration, names: Names, *, knows_time: bool) -> list[tabular.Row]:
    """A row for each protocol: means over seeds."""
    by_name: dict[str, list[ProtocolQuality]] = {}
    for record in one.measured:
        for quality in (one for one in record.protocols if one.metrics):  # older records hold protocols without a target
            by_name.setdefault(quality.name, []).append(quality)
    return [
        tabular.row(
            Entry(text=names(one), family=family(one).key),
            Entry(text=name, detail=_otherwise(of_seeds[0], one)),
            Entry(text=f"{of_seeds[0].items:,}", order=of_seeds[0].items),
            Entry(text=f"{of_seeds[0].metrics['ndcg@10'].n:,}", order=of_seeds[0].metrics["ndcg@10"].n),
            *(_mean(of_seeds, metric) for metric in METRICS),
            family=family(one).name,
            backbone=filter_name(one),
        )
        for name, of_seeds in by_name.items()
        if of_seeds[0].request_time == knows_time
    ]


def _reads_times(one: Configuration) -> bool:
    part = parts.backbones().get(one.cell.backbone) or PEERS.get(one.cell.backbone)
    return part is not None and part.reads_times


def _otherwise(quality: ProtocolQuality, one: Configuration) -> str:
    """A note where the protocol's own rows know more, or less, than this model; a model that reads no times stands beside its like."""
    reads = _reads_times(one)
    if quality.request_time != (reads and quality.asks_request_time):
        return OTHERWISE.format("know the time of the request" if quality.asks_request_time else "read no times")
    times_alone = reads and one.cell.time_bias and not parts.PROTOCOLS.get(quality.name, True)
    return OTHERWISE.format("read no times, and it reads those of its items") if times_alone else ""


def _mean(of_seeds: Sequence[ProtocolQuality], metric: str) -> Entry:
    values = [figure.value for quality in of_seeds if (figure := quality.metrics.get(metric)) is not None and figure.value is not None]
    if not values:
        return Entry(text=text.MISSING, tone="muted")
    mean = sum(values) / len(values)
    return Entry(text=text.ratio(mean), order=mean, detail=_of_seeds(values) if len(values) > 1 else "")


def _of_seeds(values: Sequence[float]) -> str:
    return f"mean of {len(values)} seeds: lowest {text.ratio(min(values))}, highest {text.ratio(max(values))}"

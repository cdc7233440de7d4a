"""Quality by how long users' histories are: the report's table of groups."""

from collections.abc import Sequence

from benchmarks import text
from benchmarks.analysis.configurations import Configuration
from benchmarks.records import GroupQuality
from benchmarks.report import tabular
from benchmarks.report.names import Names, family, filter_name
from benchmarks.report.tabular import Entry, Table

METRIC = "ndcg@10"
Bounds = tuple[int, int | None]


def groups_table(among: Sequence[Configuration], names: Names, *, key: str) -> Table | None:
    """NDCG@10 by configuration (rows) and group (columns); ``None`` where all users are in one group or the records have no groups."""
    of_each = {one.key: [_by_bounds(record.groups) for record in one.measured if record.groups] for one in among}
    bounds = sorted({bound for seeds in of_each.values() for groups in seeds for bound in groups}, key=lambda bound: bound[0])
    if len(bounds) < 2:
        return None
    grouped = [one for one in among if of_each[one.key]]
    rows = [
        tabular.row(
            Entry(text=names(one), family=family(one).key),
            *(_entry([groups[bound] for groups in of_each[one.key] if bound in groups]) for bound in bounds),
            family=family(one).name,
            backbone=filter_name(one),
        )
        for one in grouped
    ]
    numeric = [_title(bound) for bound in bounds]
    explanations = dict.fromkeys(numeric, "NDCG@10 of the users with so many events before the target")
    headings = tabular.columns("configuration", *numeric, numeric=numeric, explanations=explanations)
    table = Table(key=key, caption="NDCG@10 by the length of a user's history", columns=headings, rows=tuple(rows), filters=True)
    return tabular.with_seeds(table, grouped)


def _by_bounds(groups: Sequence[GroupQuality]) -> dict[Bounds, GroupQuality]:
    return {(group.least, group.below): group for group in groups}


def _title(bounds: Bounds) -> str:
    least, below = bounds
    return f"from {least}" if below is None else f"{least} to {below - 1}"


def _entry(of_seeds: Sequence[GroupQuality]) -> Entry:
    """The mean over seeds; of one seed with its interval over users."""
    metrics = [group.metrics[METRIC] for group in of_seeds]
    values = [metric.value for metric in metrics if metric.value is not None]
    if not values:
        return Entry(text=text.MISSING, tone="muted")
    mean = sum(values) / len(values)
    detail = f"{metrics[0].n:,} users"
    if len(metrics) == 1 and metrics[0].low is not None and metrics[0].high is not None:
        detail = f"{text.ratio(metrics[0].low)} to {text.ratio(metrics[0].high)}, {detail}"
    return Entry(text=text.ratio(mean), order=mean, detail=detail)

"""Trained models served from something else than their own fresh cache."""

from collections.abc import Callable, Sequence

from benchmarks import text
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import Estimate, difference
from benchmarks.analysis.references import compare, untouched
from benchmarks.labels import METRIC_NAMES
from benchmarks.report import tabular
from benchmarks.report.names import Names, family, filter_name
from benchmarks.report.tabular import Entry, Row, Table
from persrec import names as parts

_NO_UNTOUCHED = Estimate(value=None, reason="no cell of this model served from its own cache")


def ablations_table(among: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """The quality of a model with something else in place of its tokens; ``None`` where there is no such cell."""
    return _beside_untouched(
        [one for one in among if one.cell.ablation != "none"],
        among,
        names,
        key=key,
        caption=caption,
        column=("served from", lambda one: parts.ABLATIONS[one.cell.ablation]),
        shares=True,
    )


def precision_table(among: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """The size of a cache and the quality of its model at each precision; ``None`` where there is only one."""
    return _beside_untouched(
        [one for one in among if one.cell.cache_dtype != "float32" and not one.is_experiment],
        among,
        names,
        key=key,
        caption=caption,
        column=("kept as", lambda one: one.cell.cache_dtype),
        sizes=True,
    )


def staleness_table(among: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """The quality of a model as its cache ages; ``None`` where no cache is aged."""
    return _beside_untouched(
        sorted((one for one in among if one.cell.staleness > 0 and one.cell.ablation == "none"), key=lambda one: one.cell.staleness),
        among,
        names,
        key=key,
        caption=caption,
        column=("history ends before the recent items by", lambda one: text.amount(one.cell.staleness, "item")),
    )


def _beside_untouched(
    changed: Sequence[Configuration],
    among: Sequence[Configuration],
    names: Names,
    *,
    key: str,
    caption: str,
    column: tuple[str, Callable[[Configuration], str]],
    shares: bool = False,
    sizes: bool = False,
) -> Table | None:
    """A row for each model as it is, and below it one for each change, with the difference paired over users."""
    if not changed:
        return None
    heading, describe = column
    per_metric = [
        (METRIC_NAMES[metric], f"{METRIC_NAMES[metric]} minus own", *((f"{METRIC_NAMES[metric]} recovered",) if shares else ()))
        for metric in QUALITY_METRICS
    ]
    numeric = [*(("bytes per user", "share of the bytes") if sizes else ()), *(name for names_of in per_metric for name in names_of)]
    rows: list[Row] = []
    members: list[Configuration] = []
    for own, ones in _by_model(changed, among):
        for member in ones if own is None else [own, *ones]:
            description = "own, fresh, as computed" if member is own else describe(member)
            entries: list[Entry | str] = [Entry(text=names(own or member), family=family(member).key), description]
            if sizes:
                entries += _size_entries(member, own)
            for metric in QUALITY_METRICS:
                entries += _quality_entries(member, own, among, metric, shares=shares)
            rows.append(tabular.row(*entries, family=family(member).name, backbone=filter_name(member)))
            members.append(member)
    explanations = {name: tabular.PAIRED for name in numeric if name.endswith("own")}
    explanations |= {name: "(quality - no token) / (full - no token)" for name in numeric if name.endswith("recovered")}
    headings = tabular.columns("configuration", heading, *numeric, numeric=numeric, explanations=explanations)
    return tabular.with_seeds(Table(key=key, caption=caption, columns=headings, rows=tuple(rows), filters=True), members)


def _by_model(changed: Sequence[Configuration], among: Sequence[Configuration]) -> list[tuple[Configuration | None, list[Configuration]]]:
    """Each model served from its own cache, where the run has that, and its changed variants."""
    models: dict[str, tuple[Configuration | None, list[Configuration]]] = {}
    for one in changed:
        own = untouched(one, among)
        models.setdefault(one.key if own is None else own.key, (own, []))[1].append(one)
    return list(models.values())


def _quality_entries(
    one: Configuration, own: Configuration | None, among: Sequence[Configuration], metric: str, *, shares: bool
) -> list[Entry | str]:
    quality = one.quality(metric)
    change = _NO_UNTOUCHED if own is None else difference(quality, own.quality(metric))
    entries: list[Entry | str] = [
        tabular.of_quality(quality),
        tabular.REFERENCE if one is own else tabular.of_difference(change),
    ]
    if shares:
        contrast = compare(one, among, metric)
        entries.append(tabular.of_unequal(tabular.of_quality(contrast.recovered, "percent"), contrast.all_unequal))
    return entries


def _size_entries(one: Configuration, own: Configuration | None) -> list[Entry | str]:
    size, whole = one.cost("cache_bytes"), None if own is None else own.cost("cache_bytes").value
    share: Entry | str = Entry(text=text.MISSING, tone="muted")
    if size.value is not None and whole:
        share = Entry(text=text.percent(size.value / whole), order=size.value / whole)
    return [tabular.bare_cost("cache_bytes", size), share]

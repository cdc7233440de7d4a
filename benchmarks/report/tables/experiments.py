"""Trained models served from something else than their own fresh cache, and expert tokens in other places."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import text
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import Estimate, difference
from benchmarks.analysis.references import compare, find_references, untouched
from benchmarks.cell import PLANS
from benchmarks.report import tables
from benchmarks.report.figures.axes import METRIC_NAMES
from benchmarks.report.figures.curves import Ceiling, Series, quality_panels, quality_table, series
from benchmarks.report.figures.frontier import Drawing
from benchmarks.report.names import ABLATIONS, Names, family, filter_name
from benchmarks.report.tables import Entry, Row, Table

_MODEL = ("backbone", "compression", "training", "history", "recent", "segments", "tokens", "plan")
_NO_UNTOUCHED = Estimate(value=None, reason="no cell of this model served from its own cache")


def ablations_table(among: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """What a model ranks with something else in its tokens' place; ``None`` where nothing was put there."""
    return _beside_untouched(
        [one for one in among if one["ablation"] != "none"],
        among,
        names,
        key=key,
        caption=caption,
        told=("served from", lambda one: ABLATIONS[str(one["ablation"])]),
        shares=True,
    )


def precision_table(among: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """What a cache takes and what its model ranks at each precision; ``None`` where there is one alone."""
    return _beside_untouched(
        [one for one in among if one["cache_dtype"] != "float32" and not one.is_experiment],
        among,
        names,
        key=key,
        caption=caption,
        told=("kept as", lambda one: str(one["cache_dtype"])),
        sizes=True,
    )


def staleness_table(among: Sequence[Configuration], names: Names, *, key: str, caption: str) -> Table | None:
    """What a model ranks as its cache ages; ``None`` where none is aged."""
    return _beside_untouched(
        sorted((one for one in among if one["staleness"] > 0 and one["ablation"] == "none"), key=lambda one: int(one["staleness"])),
        among,
        names,
        key=key,
        caption=caption,
        told=("history ends before the recent items by", lambda one: f"{one['staleness']} items"),
    )


def staleness_figure(among: Sequence[Configuration], names: Names, *, ceiling: Ceiling, key: str, where: str) -> Drawing | None:
    """Quality against the age of the cache, the target held fixed; ``None`` where no model has two ages."""
    lines = series(
        among,
        by="staleness",
        alike=(*_MODEL, "serving", "cache_dtype"),
        wanted=lambda one: one["ablation"] == "none" and _has_quality(one),
    )
    lines = [line for line in lines if len(set(line.positions)) > 1]
    if not lines:
        return None
    controls = {control.key: control for line in lines if (control := find_references(line.head, among).no_token) is not None}
    return _drawn(
        lines,
        list(controls.values()),
        names,
        ceiling=ceiling,
        key=key,
        title=f"Quality against the age of the cache, {where}",
        axis_name="items between the history's end and the recent ones",
        named=_model_name,
    )


def segments_figure(among: Sequence[Configuration], names: Names, *, ceiling: Ceiling, key: str, where: str) -> Drawing | None:
    """Quality against the number of segments at the same tokens in all; ``None`` where no token count has two numbers."""
    lines = series(
        among,
        by="segments",
        alike=("backbone", "training", "history", "recent", "tokens", "plan"),
        wanted=lambda one: one.is_tokens and not one.changed and _has_quality(one),
    )
    spread = [line for line in lines if len(set(line.positions)) > 1]
    totals, backbones = {_total(line) for line in spread}, {line.head["backbone"] for line in spread}
    lines = [line for line in lines if _total(line) in totals and line.head["backbone"] in backbones]
    if not lines:
        return None
    windows = {(line.head["history"], line.head["recent"]) for line in lines}
    references = [
        one
        for one in among
        if one["compression"] in ("full", "recent")
        and one["backbone"] in backbones
        and not one.changed
        and (one["history"], one["recent"]) in windows
    ]
    return _drawn(
        lines,
        references,
        names,
        ceiling=ceiling,
        key=key,
        title=f"Quality against segments at the same number of tokens, {where}",
        axis_name="history segments",
        named=_placement_name,
    )


def _drawn(
    lines: Sequence[Series],
    references: Sequence[Configuration],
    names: Names,
    *,
    ceiling: Ceiling,
    key: str,
    title: str,
    axis_name: str,
    named: Callable[[Configuration], str],
) -> Drawing:
    image, description = quality_panels(lines, references, ceiling, key=key, title=title, axis_name=axis_name, named=named)
    shown = {one.key: one for one in [*(one for line in lines for one in line.members), *references]}
    table = quality_table(list(shown.values()), names, key=f"{key}-table", caption=title)
    return Drawing(key=key, title=title, description=description, image=image, table=table)


def _beside_untouched(
    changed: Sequence[Configuration],
    among: Sequence[Configuration],
    names: Names,
    *,
    key: str,
    caption: str,
    told: tuple[str, Callable[[Configuration], str]],
    shares: bool = False,
    sizes: bool = False,
) -> Table | None:
    """A row for each model as it is, and below it one for each change, with the difference paired over users."""
    if not changed:
        return None
    heading, tell = told
    per_metric = [
        (METRIC_NAMES[metric], f"{METRIC_NAMES[metric]} minus own", *((f"{METRIC_NAMES[metric]} recovered",) if shares else ()))
        for metric in QUALITY_METRICS
    ]
    numeric = [*(("bytes per user", "share of the bytes") if sizes else ()), *(name for names_of in per_metric for name in names_of)]
    rows: list[Row] = []
    for own, ones in _by_model(changed, among):
        for member in ones if own is None else [own, *ones]:
            said = "own, fresh, as computed" if member is own else tell(member)
            entries: list[Entry | str] = [Entry(text=names(own or member), family=family(member).key), said]
            if sizes:
                entries += _size_entries(member, own)
            for metric in QUALITY_METRICS:
                entries += _quality_entries(member, own, among, metric, shares=shares)
            rows.append(tables.row(*entries, family=family(member).name, backbone=filter_name(member)))
    explanations = {name: tables.PAIRED for name in numeric if name.endswith("own")}
    explanations |= {name: "(quality - no token) / (full - no token)" for name in numeric if name.endswith("recovered")}
    headings = tables.columns("configuration", heading, *numeric, numeric=numeric, explanations=explanations)
    return Table(key=key, caption=caption, columns=headings, rows=tuple(rows), filters=True)


def _by_model(changed: Sequence[Configuration], among: Sequence[Configuration]) -> list[tuple[Configuration | None, list[Configuration]]]:
    """Each model served from its own cache, where the run has that, and what was changed of it."""
    found: dict[str, tuple[Configuration | None, list[Configuration]]] = {}
    for one in changed:
        own = untouched(one, among)
        found.setdefault(one.key if own is None else own.key, (own, []))[1].append(one)
    return list(found.values())


def _quality_entries(
    one: Configuration, own: Configuration | None, among: Sequence[Configuration], metric: str, *, shares: bool
) -> list[Entry | str]:
    quality = one.quality(metric)
    lost = _NO_UNTOUCHED if own is None else difference(quality, own.quality(metric))
    entries: list[Entry | str] = [
        tables.of_quality(quality),
        tables.REFERENCE if one is own else tables.of_difference(lost),
    ]
    if shares:
        entries.append(tables.of_quality(compare(one, among, metric).recovered, "percent"))
    return entries


def _size_entries(one: Configuration, own: Configuration | None) -> list[Entry | str]:
    size, whole = one.cost("cache_bytes"), None if own is None else own.cost("cache_bytes").value
    share: Entry | str = Entry(text=text.MISSING, tone="muted")
    if size.value is not None and whole:
        share = Entry(text=text.percent(size.value / whole), order=size.value / whole)
    return [tables.of_cost("cache_bytes", size), share]


def _has_quality(one: Configuration) -> bool:
    return any(one.quality(metric).value is not None for metric in QUALITY_METRICS)


def _total(line: Series) -> tuple[Any, ...]:
    return tuple(line.head[name] for name in ("backbone", "training", "history", "recent", "tokens"))


def _model_name(head: Configuration) -> str:
    if not head["tokens"]:
        return family(head).name
    text = f"{head['tokens']} tokens" if head.is_tokens else f"{family(head).name} {head['tokens']}"
    return text if head["cache_dtype"] == "float32" else f"{text}, {head['cache_dtype']}"


def _placement_name(head: Configuration) -> str:
    plan = str(head["plan"])
    return f"{head['tokens']} tokens, {plan if plan in PLANS else f'at {plan}'}"

"""Quality as a cache ages, and by the number of segments."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.references import find_references
from benchmarks.cell import Cell
from benchmarks.report.figures.canvas import Drawing
from benchmarks.report.figures.curves import Ceiling, Series, named_by_recipe, quality_panels, quality_table, recipe_of, series
from benchmarks.report.names import Names, family
from persrec import names as parts


def staleness_figure(among: Sequence[Configuration], names: Names, *, ceiling: Ceiling, key: str, where: str) -> Drawing | None:
    """Quality against the age of the cache, the target held fixed; ``None`` where no model has two ages."""
    lines = series(
        among,
        by=lambda cell: cell.staleness,
        alike=lambda cell: (_layout(cell), cell.compression, cell.tokens, cell.serving, cell.cache_dtype),
        include=lambda one: one.cell.ablation == "none" and _has_quality(one),
    )
    lines = [line for line in lines if len(set(line.positions)) > 1]
    if not lines:
        return None
    controls = {control.key: control for line in lines if (control := find_references(line.head, among).no_token) is not None}
    return _drawing(
        lines,
        list(controls.values()),
        names,
        ceiling=ceiling,
        key=key,
        title=f"Quality against the age of the cache, {where}",
        axis_name="items between the history's end and the recent ones",
        name_of=_model_name,
    )


def segments_figure(among: Sequence[Configuration], names: Names, *, ceiling: Ceiling, key: str, where: str) -> Drawing | None:
    """Quality against the number of segments at the same tokens in all; ``None`` where no token count has two numbers."""
    lines = series(
        among,
        by=lambda cell: cell.segments,
        alike=lambda cell: (cell.training, cell.history, cell.recent, cell.tokens, cell.plan),
        include=lambda one: one.is_tokens and not one.changed and _has_quality(one),
    )
    varied_lines = [line for line in lines if len(set(line.positions)) > 1]
    totals, backbones = {_total(line) for line in varied_lines}, {line.head.cell.backbone for line in varied_lines}
    recipes = {recipe_of(line.head) for line in varied_lines}
    lines = [line for line in lines if _total(line) in totals and line.head.cell.backbone in backbones and recipe_of(line.head) in recipes]
    if not lines:
        return None
    windows = {(line.head.cell.history, line.head.cell.recent) for line in lines}
    references = [
        one
        for one in among
        if one.cell.compression in ("full", "recent")
        and one.cell.backbone in backbones
        and not one.changed
        and (one.cell.history, one.cell.recent) in windows
    ]
    return _drawing(
        lines,
        references,
        names,
        ceiling=ceiling,
        key=key,
        title=f"Quality against segments at the same number of tokens, {where}",
        axis_name="history segments",
        name_of=_placement_name,
    )


def _drawing(
    lines: Sequence[Series],
    references: Sequence[Configuration],
    names: Names,
    *,
    ceiling: Ceiling,
    key: str,
    title: str,
    axis_name: str,
    name_of: Callable[[Configuration], str],
) -> Drawing:
    image, description = quality_panels(
        lines, references, ceiling, key=key, title=title, axis_name=axis_name, name_of=named_by_recipe(lines, name_of)
    )
    members = {one.key: one for one in [*(one for line in lines for one in line.members), *references]}
    table = quality_table(list(members.values()), names, key=f"{key}-table", caption=title)
    return Drawing(key=key, title=title, description=description, image=image, table=table)


def _layout(cell: Cell) -> tuple[object, ...]:
    return cell.training, cell.history, cell.recent, cell.segments, cell.plan


def _has_quality(one: Configuration) -> bool:
    return any(one.quality(metric).value is not None for metric in QUALITY_METRICS)


def _total(line: Series) -> tuple[Any, ...]:
    cell = line.head.cell
    return cell.backbone, cell.training, cell.history, cell.recent, cell.tokens


def _model_name(head: Configuration) -> str:
    if not head.cell.tokens:
        return family(head).name
    cell = head.cell
    name = f"{cell.tokens} tokens" if head.is_tokens else f"{family(head).name} {cell.tokens}"
    return name if cell.cache_dtype == "float32" else f"{name}, {cell.cache_dtype}"


def _placement_name(head: Configuration) -> str:
    plan = head.cell.plan
    return f"{head.cell.tokens} tokens, {plan if plan in parts.PLANS else f'at {plan}'}"

"""Differences from the no-token reference, drawn with their intervals."""

from collections.abc import Sequence
from dataclasses import replace

from matplotlib.ticker import FixedFormatter, FixedLocator

from benchmarks import text
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import with_interval
from benchmarks.analysis.references import Contrast, compare, contrasted
from benchmarks.labels import METRIC_NAMES
from benchmarks.report import tabular
from benchmarks.report.figures import axes, canvas
from benchmarks.report.figures.axes import Backbones
from benchmarks.report.figures.canvas import Drawing
from benchmarks.report.names import Names, family
from benchmarks.report.tabular import Entry, Table

_MOST_ROWS = 30  # of all backbones, shared out evenly


def forest_figure(among: Sequence[Configuration], names: Names, *, key: str, where: str) -> Drawing | None:
    """Differences from no token with their intervals; ``None`` where no configuration has that reference."""
    contrasts = {metric: [compare(one, among, metric) for one in contrasted(among)] for metric in QUALITY_METRICS}
    kept = [
        index
        for index, contrast in enumerate(contrasts[QUALITY_METRICS[0]])
        if contrast.over_no_token.value is not None
        and contrast.references.no_token is not contrast.configuration
        and not contrast.configuration.is_control
        and not _served_twice(contrast)
    ]
    if not kept:
        return None
    every = len(kept)
    kept = _fitting(kept, [one.configuration for one in contrasts[QUALITY_METRICS[0]]])
    drawn = [contrasts[QUALITY_METRICS[0]][index].configuration for index in kept]
    backbones = Backbones.of(drawn)
    cut = f" ({len(kept)} of {every}; the tables have all)" if len(kept) < every else ""
    title = f"Difference from no token, {where}{cut}"
    with canvas.settings():
        figure, panels = canvas.new_figure(height=0.9 + 0.21 * len(kept), columns=len(QUALITY_METRICS), sharey=True)
        for axis, metric in zip(panels, QUALITY_METRICS, strict=True):
            axis.axvline(0.0, color=canvas.INK, linewidth=0.9)
            for place, index in enumerate(kept):
                contrast = contrasts[metric][index]
                gain = contrast.over_no_token
                if gain.value is None:
                    continue
                if gain.low is not None:
                    axis.hlines(place, gain.low, gain.high, color=family(contrast.configuration).colour, linewidth=1.3)
                axes.draw_marks(axis, [(gain.value, place, contrast.configuration)], backbones=backbones, size=5.5)
            axis.set_title(f"{METRIC_NAMES[metric]}, minus no token")
            axis.xaxis.set_major_formatter(lambda value, _: text.decimals(value, signed=True))
        panels[0].set_ylim(len(kept) - 0.4, -0.6)
        panels[0].yaxis.set_major_locator(FixedLocator(range(len(kept))))
        panels[0].yaxis.set_major_formatter(FixedFormatter([names.brief(one) for one in drawn]))
        panels[0].tick_params(axis="y", labelcolor=canvas.INK)
        axes.legend(figure, drawn, backbones=backbones)
        description = _forest_in_words([contrasts[QUALITY_METRICS[0]][index] for index in kept], names)
        image = canvas.export(figure, key=key, title=title, description=description)
    return Drawing(
        key=key,
        title=title,
        description=description,
        image=image,
        table=_forest_table(contrasts, kept, names, key=f"{key}-table", caption=title),
    )


def _fitting(kept: Sequence[int], of: Sequence[Configuration]) -> list[int]:
    """Of too many rows as many of each backbone, what few leave to the others: one of each family, then others spread over its rows.

    What differs from another of them in how its cache is stored alone goes first: it ranks nearly as that.
    """
    if len(kept) <= _MOST_ROWS:
        return list(kept)
    as_computed = {of[index].cell for index in kept}
    own: dict[str, list[int]] = {}
    for index in kept:
        cell = of[index].cell
        if cell.cache_dtype == "float32" or replace(cell, cache_dtype="float32") not in as_computed:
            own.setdefault(cell.backbone, []).append(index)
    chosen: set[int] = set()
    for number, rows in enumerate(sorted(own.values(), key=len)):
        most = min(len(rows), (_MOST_ROWS - len(chosen)) // (len(own) - number))
        families = list({family(of[index]).key: index for index in rows}.values())[:most]
        others = [index for index in rows if index not in families]
        left = min(len(others), most - len(families))
        chosen |= {*families, *(others[-1 - place * (len(others) - 1) // max(1, left - 1)] for place in range(left))}
    return [index for index in kept if index in chosen]


def _served_twice(contrast: Contrast) -> bool:
    """Full history from its cache where full history recomputed is there: the same ranks."""
    one = contrast.configuration
    return one.cell.compression == "full" and one.cell.serving == "cache" and contrast.references.full is not None


def _forest_table(contrasts: dict[str, list[Contrast]], kept: Sequence[int], names: Names, *, key: str, caption: str) -> Table:
    numeric = [f"{METRIC_NAMES[metric]} minus no token" for metric in QUALITY_METRICS]
    rows = [
        tabular.row(
            Entry(
                text=names(contrasts[QUALITY_METRICS[0]][index].configuration),
                family=family(contrasts[QUALITY_METRICS[0]][index].configuration).key,
            ),
            *(_held(contrasts[metric][index]) for metric in QUALITY_METRICS),
        )
        for index in kept
    ]
    table = Table(key=key, caption=caption, columns=tabular.columns("configuration", *numeric, numeric=numeric), rows=tuple(rows))
    return tabular.with_seeds(table, [contrasts[QUALITY_METRICS[0]][index].configuration for index in kept])


def _held(contrast: Contrast) -> Entry:
    return tabular.of_comparison(contrast.over_no_token, contrast.configuration, contrast.references.no_token)


def _forest_in_words(drawn: Sequence[Contrast], names: Names) -> str:
    said = [f"{names(contrast.configuration)} {with_interval(contrast.over_no_token, 'signed')}" for contrast in drawn]
    return f"{METRIC_NAMES[QUALITY_METRICS[0]]} minus no token's: {'; '.join(said)}."

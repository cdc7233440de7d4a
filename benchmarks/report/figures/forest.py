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

_MOST_ROWS = 30  # of all backbones together, an even share for each


def forest_figure(among: Sequence[Configuration], names: Names, *, key: str, where: str) -> Drawing | None:
    """Differences from no token with their intervals; ``None`` where no configuration has that reference."""
    contrasts = {metric: [compare(one, among, metric) for one in contrasted(among)] for metric in QUALITY_METRICS}
    indices = [
        index
        for index, contrast in enumerate(contrasts[QUALITY_METRICS[0]])
        if contrast.over_no_token.value is not None
        and contrast.references.no_token is not contrast.configuration
        and not contrast.configuration.is_control
        and not _served_twice(contrast)
    ]
    if not indices:
        return None
    total = len(indices)
    indices = _rows_that_fit(indices, [one.configuration for one in contrasts[QUALITY_METRICS[0]]])
    configurations = [contrasts[QUALITY_METRICS[0]][index].configuration for index in indices]
    backbones = Backbones.of(configurations)
    note = f" ({len(indices)} of {total}; the tables have all)" if len(indices) < total else ""
    title = f"Difference from no token, {where}{note}"
    with canvas.settings():
        figure, panels = canvas.new_figure(height=0.9 + 0.21 * len(indices), columns=len(QUALITY_METRICS), sharey=True)
        for axis, metric in zip(panels, QUALITY_METRICS, strict=True):
            axis.axvline(0.0, color=canvas.INK, linewidth=0.9)
            for place, index in enumerate(indices):
                contrast = contrasts[metric][index]
                gain = contrast.over_no_token
                if gain.value is None:
                    continue
                if gain.low is not None:
                    axis.hlines(place, gain.low, gain.high, color=family(contrast.configuration).colour, linewidth=1.3)
                axes.draw_marks(axis, [(gain.value, place, contrast.configuration)], backbones=backbones, size=5.5)
            axis.set_title(f"{METRIC_NAMES[metric]}, minus no token")
            axis.xaxis.set_major_formatter(lambda value, _: text.decimals(value, signed=True))
        panels[0].set_ylim(len(indices) - 0.4, -0.6)
        panels[0].yaxis.set_major_locator(FixedLocator(range(len(indices))))
        panels[0].yaxis.set_major_formatter(FixedFormatter([names.brief(one) for one in configurations]))
        panels[0].tick_params(axis="y", labelcolor=canvas.INK)
        axes.legend(figure, configurations, backbones=backbones)
        description = _forest_in_words([contrasts[QUALITY_METRICS[0]][index] for index in indices], names)
        image = canvas.export(figure, key=key, title=title, description=description)
    return Drawing(
        key=key,
        title=title,
        description=description,
        image=image,
        table=_forest_table(contrasts, indices, names, key=f"{key}-table", caption=title),
    )


def _rows_that_fit(indices: Sequence[int], configurations: Sequence[Configuration]) -> list[int]:
    """The rows to draw. Of too many, each backbone has an even share; one with fewer rows leaves the rest to the others.

    A backbone keeps one row of each family, then others spread over its rows. A row that differs from another only in how its cache is
    stored is left out: the two rank nearly the same.
    """
    if len(indices) <= _MOST_ROWS:
        return list(indices)
    as_computed = {configurations[index].cell for index in indices}
    own: dict[str, list[int]] = {}
    for index in indices:
        cell = configurations[index].cell
        if cell.cache_dtype == "float32" or replace(cell, cache_dtype="float32") not in as_computed:
            own.setdefault(cell.backbone, []).append(index)
    selection: set[int] = set()
    for number, rows in enumerate(sorted(own.values(), key=len)):
        most = min(len(rows), (_MOST_ROWS - len(selection)) // (len(own) - number))
        families = list({family(configurations[index]).key: index for index in rows}.values())[:most]
        others = [index for index in rows if index not in families]
        other_count = min(len(others), most - len(families))
        selection |= {*families, *(others[-1 - place * (len(others) - 1) // max(1, other_count - 1)] for place in range(other_count))}
    return [index for index in indices if index in selection]


def _served_twice(contrast: Contrast) -> bool:
    """Whether it is full history from its cache while recomputed full history is there, too: the two rank the same."""
    one = contrast.configuration
    return one.cell.compression == "full" and one.cell.serving == "cache" and contrast.references.full is not None


def _forest_table(contrasts: dict[str, list[Contrast]], indices: Sequence[int], names: Names, *, key: str, caption: str) -> Table:
    numeric = [f"{METRIC_NAMES[metric]} minus no token" for metric in QUALITY_METRICS]
    rows = [
        tabular.row(
            Entry(
                text=names(contrasts[QUALITY_METRICS[0]][index].configuration),
                family=family(contrasts[QUALITY_METRICS[0]][index].configuration).key,
            ),
            *(_gain_entry(contrasts[metric][index]) for metric in QUALITY_METRICS),
        )
        for index in indices
    ]
    table = Table(key=key, caption=caption, columns=tabular.columns("configuration", *numeric, numeric=numeric), rows=tuple(rows))
    return tabular.with_seeds(table, [contrasts[QUALITY_METRICS[0]][index].configuration for index in indices])


def _gain_entry(contrast: Contrast) -> Entry:
    return tabular.of_comparison(contrast.over_no_token, contrast.configuration, contrast.references.no_token)


def _forest_in_words(contrasts: Sequence[Contrast], names: Names) -> str:
    phrases = [f"{names(contrast.configuration)} {with_interval(contrast.over_no_token, 'signed')}" for contrast in contrasts]
    return f"{METRIC_NAMES[QUALITY_METRICS[0]]} minus no token's: {'; '.join(phrases)}."

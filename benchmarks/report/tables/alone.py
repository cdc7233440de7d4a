"""Models that differ from a plain one in a single setting of their recipe."""

from collections.abc import Sequence

from benchmarks import text
from benchmarks.analysis.alone import Alone, alone
from benchmarks.analysis.configurations import QUALITY_METRICS, Configuration
from benchmarks.analysis.estimates import difference
from benchmarks.analysis.trained import own_validation, steps
from benchmarks.labels import METRIC_NAMES, Labels, in_words
from benchmarks.report import tabular
from benchmarks.report.names import family, filter_name
from benchmarks.report.tabular import Entry, Row, Table

_PLAIN = "the plain recipe"


def alone_table(among: Sequence[Configuration], *, key: str) -> Table | None:
    """A row for each plain model, and below it one for each model with one setting changed; None where there is none."""
    every = alone(among)
    if not every:
        return None
    validated = f"{METRIC_NAMES[QUALITY_METRICS[0]]} on validation"
    per_metric = [(METRIC_NAMES[metric], f"{METRIC_NAMES[metric]} minus the plain one's") for metric in QUALITY_METRICS]
    numeric = [validated, *(name for names_of in per_metric for name in names_of), "steps"]
    rows = [row for around in every for row in _rows(around)]
    ones = [one for around in every for one in (around[0].plain, *(pair.changed for pair in around))]
    explanations = {name: tabular.PAIRED for name in numeric if name.endswith("one's")}
    headings = tabular.columns("configuration", "changed alone", *numeric, numeric=numeric, explanations=explanations)
    caption = "One setting at a time: a choice is made on validation"
    return tabular.with_seeds(Table(key=key, caption=caption, columns=headings, rows=tuple(rows), filters=True), ones)


def _rows(around: Sequence[Alone]) -> list[Row]:
    plain = around[0].plain
    name = Labels.of([plain.cell], plain.parts.all(), seeds=False)(plain.cell)
    changed = [(pair.changed, " in place of ".join(_in_words(pair))) for pair in around]
    return [
        tabular.row(
            Entry(text=name, family=family(one).key),
            change,
            tabular.of_ratio(own_validation(one)),
            *(entry for metric in QUALITY_METRICS for entry in _quality(one, plain, metric)),
            _steps(one),
            family=family(one).name,
            backbone=filter_name(one),
        )
        for one, change in [(plain, _PLAIN), *changed]
    ]


def _in_words(pair: Alone) -> tuple[str, str]:
    """The changed value and the plain one."""
    changed, plain = (", ".join(in_words(one.cell, pair.fields)) for one in (pair.changed, pair.plain))
    return changed, plain


def _quality(one: Configuration, plain: Configuration, metric: str) -> tuple[Entry, Entry]:
    quality = one.quality(metric)
    if one is plain:
        return tabular.of_quality(quality), tabular.REFERENCE
    return tabular.of_quality(quality), tabular.of_comparison(difference(quality, plain.quality(metric)), one, plain)


def _steps(one: Configuration) -> Entry:
    mean = steps(one)
    return tabular.NOTHING if mean is None else Entry(text=text.exact(round(mean)), order=mean)

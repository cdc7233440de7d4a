"""Whether there is a frontier at all: what the long history is worth, and which floors lie above trained models."""

from collections.abc import Sequence

from benchmarks.analysis.configurations import QUALITY_METRICS
from benchmarks.analysis.worth import AboveModels, Worth
from benchmarks.labels import METRIC_NAMES
from benchmarks.report import tabular
from benchmarks.report.names import Names, backbone_name, family
from benchmarks.report.tabular import Entry, Table

_METRIC = QUALITY_METRICS[0]
_METRIC_NAME = METRIC_NAMES[_METRIC]


def worth_table(every: Sequence[Worth], names: Names, *, key: str) -> Table | None:
    """A row for each backbone: full history and no token, the best on validation, their difference, and the smallest detectable one."""
    rows = [
        tabular.row(
            backbone_name(worth.full),
            Entry(text=names(worth.full), family=family(worth.full).key),
            tabular.of_quality(worth.full.quality(_METRIC)),
            Entry(text=names(worth.no_token), family=family(worth.no_token).key),
            tabular.of_quality(worth.no_token.quality(_METRIC)),
            tabular.of_comparison(worth.gap, worth.full, worth.no_token),
            tabular.of_ratio(worth.gap.half_width),
            tabular.of_count(len(worth.gap.by_seed)),
        )
        for worth in every
    ]
    numeric = (f"full history: {_METRIC_NAME}", f"no token: {_METRIC_NAME}", "full minus no token", "smallest difference", "seeds")
    explanations = {
        "full minus no token": tabular.PAIRED,
        "smallest difference": "half the width of the interval: the smallest difference from 0 that can be detected",
    }
    headings = tabular.columns("backbone", "full history", numeric[0], "no token", *numeric[1:], numeric=numeric, explanations=explanations)
    caption = "What the long history is worth at the longest window; each side is the best of its kind on validation"
    return Table(key=key, caption=caption, columns=headings, rows=tuple(rows)) if rows else None


def floors_table(every: Sequence[AboveModels], names: Names, *, key: str) -> Table | None:
    """A row for each floor that scores above trained models; ``None`` where all models rise above all floors."""
    rows = [
        tabular.row(
            Entry(text=names(above.floor), family=family(above.floor).key),
            tabular.of_quality(above.floor.quality(_METRIC)),
            Entry(text=f"{len(above.below)} of {above.models}", order=len(above.below) / above.models, tone="warn"),
            Entry(text=names(above.best), family=family(above.best).key),
            tabular.of_quality(above.best.quality(_METRIC)),
            tabular.of_difference(above.gap),
        )
        for above in every
    ]
    numeric = (_METRIC_NAME, "models below it", f"{_METRIC_NAME} of the best model", "best model minus floor")
    headings = tabular.columns("floor", *numeric[:2], "best model on validation", *numeric[2:], numeric=numeric)
    return Table(key=key, caption="Floors that score above trained models", columns=headings, rows=tuple(rows)) if rows else None

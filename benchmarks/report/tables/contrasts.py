"""Configurations held against their references: paired differences, retention, and the share recovered."""

from collections.abc import Sequence

from benchmarks import text
from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.estimates import Estimate
from benchmarks.analysis.references import Contrast
from benchmarks.labels import METRIC_NAMES
from benchmarks.report import tabular
from benchmarks.report.names import Names, family, filter_name
from benchmarks.report.tabular import Entry, Table

_WEAK = "against a point of an elastic model: no model was trained for this reference alone"


def comparison_table(contrasts: Sequence[Contrast], names: Names, *, key: str, metric: str) -> Table:
    """A row for each configuration: its quality, the differences from its references, retention and the share recovered.

    Where the run has counts alone they are a reference: nothing else tells what tokens are worth beside counts.
    """
    counts = ("minus counts only",) if any(contrast.references.counts_only is not None for contrast in contrasts) else ()
    metric_name = METRIC_NAMES.get(metric, metric)
    numeric = (metric_name, "minus no token", "minus full history", "minus recent only", *counts, tabular.RETENTION, "recovered")
    explanations = {
        "minus no token": f"against the best on validation of what reads no history: 0 tokens or the recent items alone; {tabular.PAIRED}",
        "minus full history": tabular.PAIRED,
        "minus recent only": "against a model trained on the recent items alone",
        "minus counts only": f"against no token with the same counts of the whole history; {tabular.PAIRED}",
        tabular.RETENTION: tabular.RETENTION_IS,
        "recovered": "(quality - no token) / (full - no token)",
    }
    rows = []
    for contrast in contrasts:
        one = contrast.configuration
        rows.append(
            tabular.row(
                Entry(text=names(one), family=family(one).key),
                tabular.of_quality(contrast.quality),
                _difference(contrast, contrast.over_no_token, contrast.references.no_token),
                _difference(contrast, contrast.over_full, contrast.references.full_quality),
                _difference(contrast, contrast.over_recent, contrast.references.recent),
                *(_difference(contrast, contrast.over_counts_only, contrast.references.counts_only) for _ in counts),
                tabular.REFERENCE if _is_full_reference(contrast) else _share(contrast.retention, contrast),
                Entry(text=text.MISSING, tone="muted")
                if one.is_control or one.cell.compression == "full"
                else _share(contrast.recovered, contrast, besides=_weakness(contrast, contrast.references.no_token)),
                family=family(one).name,
                backbone=filter_name(one),
            )
        )
    headings = tabular.columns("configuration", *numeric, numeric=numeric, explanations=explanations)
    caption = f"{metric_name}: paired differences, share kept and share recovered"
    table = Table(key=key, caption=caption, columns=headings, rows=tuple(rows), filters=True)
    return tabular.with_seeds(table, [contrast.configuration for contrast in contrasts])


def _difference(contrast: Contrast, gap: Estimate, reference: Configuration | None) -> Entry:
    """The difference from a reference; none of full history served another way, as it ranks the same. A weak one is unequal training."""
    one = contrast.configuration
    if reference is not None and (reference is one or (reference.cell.compression == one.cell.compression == "full" and gap.value == 0)):
        return tabular.REFERENCE
    return tabular.of_comparison(gap, one, reference, besides=_weakness(contrast, reference))


def _weakness(contrast: Contrast, reference: Configuration | None) -> tuple[str, ...]:
    return (_WEAK,) if any(reference is other for other in contrast.references.weak) else ()


def _is_full_reference(contrast: Contrast) -> bool:
    """Whether it is the full attention that the others are compared with, or another way to serve that."""
    one, full = contrast.configuration, contrast.references.full_quality
    return one is full or (one.cell.compression == "full" and contrast.over_full.value == 0)


def _share(share: Estimate, contrast: Contrast, *, besides: Sequence[str] = ()) -> Entry:
    full = contrast.references.full_quality
    entry = tabular.with_steps(tabular.of_quality(share, "percent"), contrast.configuration, full)
    return tabular.of_unequal(entry, (*contrast.all_unequal, *besides))

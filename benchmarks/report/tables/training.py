"""How each model was trained."""

from collections.abc import Sequence

from benchmarks import text
from benchmarks.analysis.configurations import Configuration
from benchmarks.records import Record
from benchmarks.report import tabular
from benchmarks.report.names import Names, family, filter_name
from benchmarks.report.tabular import Entry, Row, Table


def training_table(among: Sequence[Configuration], names: Names) -> Table | None:
    """How each model was trained, and whether it was still getting better when its epochs ended."""
    rows = [row for one in among for record in one.measured if (row := _row(one, record, names)) is not None]
    numeric = ("seed", "epochs", "best epoch", "validation NDCG@10", "training time")
    headings = tabular.columns("configuration", *numeric, "best at its last epoch", "model", numeric=numeric)
    return Table(key="training", caption="How each model was trained", columns=headings, rows=tuple(rows), filters=True) if rows else None


def _row(one: Configuration, record: Record, names: Names) -> Row | None:
    model = record.model
    if model is None:
        return None
    best, seconds = model.best_validation, model.train_seconds
    return tabular.row(
        Entry(text=names(one), family=family(one).key),
        tabular.of_count(record.cell.seed),
        tabular.of_count(model.epochs),
        tabular.NOTHING if best is None else tabular.of_count(model.best_epoch),
        tabular.NOTHING if best is None else Entry(text=text.ratio(best), order=best),
        tabular.NOTHING if seconds is None else Entry(text=f"{text.significant(seconds)} s", order=seconds),
        Entry(text="yes: train longer", tone="warn") if still_rising(record) else Entry(text="no", tone="muted"),
        Entry(text=model.key[:12], tone="code"),
        family=family(one).name,
        backbone=filter_name(one),
    )


def still_rising(record: Record) -> bool:
    """Whether a model used up its epochs and was best at the last of them, so that more epochs may have made it better."""
    model = record.model
    if model is None or model.best_validation is None:
        return False
    return model.best_epoch == model.epochs >= record.cell.epochs

"""How each model was trained."""

from collections.abc import Sequence

from benchmarks import text
from benchmarks.analysis.configurations import Configuration
from benchmarks.records import Record
from benchmarks.report import tabular
from benchmarks.report.names import NOT_CONVERGED, Names, family, filter_name
from benchmarks.report.tabular import Entry, Row, Table

_CONVERGED = {
    True: Entry(text="yes", tone="fine"),
    False: Entry(text=f"no {NOT_CONVERGED}", tone="warn"),
    None: Entry(text="not recorded", tone="muted"),
}
_EXPLANATIONS = {
    "targets": "next items that all steps predicted, padding not counted",
    "s per million targets": "validations apart",
    "rate at best": "the learning rate at the best step",
    "decay steps": "of all steps, those in which the rate fell to 0",
    "validation NDCG@10": "of the weights that are kept, as the training watched it",
    "as used": "NDCG@10 on validation as this cell uses the model: by it the best of many is chosen",
}


def training_table(among: Sequence[Configuration], names: Names) -> Table | None:
    """How each model was trained, and whether it had converged when its training ended."""
    rows = [row for one in among for record in one.measured if (row := _row(one, record, names)) is not None]
    numeric = (
        "seed", "steps", "decay steps", "best step", "epochs", "targets", "training time", "s per million targets", "rate at best",
        "validation NDCG@10", "as used",
    )  # fmt: skip
    headings = tabular.columns("configuration", "converged", *numeric, "model", numeric=numeric, explanations=_EXPLANATIONS)
    return Table(key="training", caption="How each model was trained", columns=headings, rows=tuple(rows), filters=True) if rows else None


def _row(one: Configuration, record: Record, names: Names) -> Row | None:
    model = record.model
    if model is None:
        return None
    return tabular.row(
        Entry(text=names(one), family=family(one).key),
        _CONVERGED[model.converged],
        tabular.of_count(record.cell.seed),
        *(_count(number) for number in (model.steps, model.decay_steps, model.best_step, model.epochs, model.targets)),
        _significant(model.train_seconds, " s"),
        _significant(model.seconds_per_million_targets, " s"),
        _significant(model.learning_rate_at_best),
        tabular.of_ratio(model.best_validation),
        tabular.of_ratio(model.validation),
        Entry(text=model.key[:12], tone="code"),
        family=family(one).name,
        backbone=filter_name(one),
    )


def _count(number: int | None) -> Entry:
    return tabular.NOTHING if number is None else tabular.of_count(number)


def _significant(number: float | None, unit: str = "") -> Entry:
    return tabular.NOTHING if number is None else Entry(text=f"{text.significant(number)}{unit}", order=number)

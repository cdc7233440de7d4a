"""The records of ``benchmarks.audit`` as tables of the pages. Imports no torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.audit.record import AuditRecord, SmallModel, gain_in_words, load_audit

COLUMNS = (
    "data", "split", "targets", "users", "events before (median)", "R", "last R", "older only", "new", "counter", "NDCG@10, whole past",
    "NDCG@10, last R", "gain (95%)",
)  # fmt: skip
MODEL_COLUMNS = (
    "data", "split", "users", "R", "output counts", "steps", "NDCG@10 without", "with: gain (95%)", "shuffled: gain", "aged by R: gain",
)  # fmt: skip


def table(folder: Path) -> str:
    """Markdown of all records in ``folder``, by name; a row a counter."""
    return _markdown(COLUMNS, [_row(record, name) for record in _records(folder) for name in record.audit.counters])


def model_table(folder: Path) -> str:
    """Markdown of the small models of the records in ``folder``, by name; a row a model."""
    return _markdown(MODEL_COLUMNS, [_model_row(record, record.model) for record in _records(folder) if record.model is not None])


def _records(folder: Path) -> list[AuditRecord]:
    return [record for path in sorted(folder.glob("*.json")) if (record := load_audit(path)) is not None]


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))


def _model_row(record: AuditRecord, model: SmallModel) -> list[str]:
    gains = (gain_in_words(answer.gain, answer.low, answer.high) for name, answer in model.asked.items() if name != "without")
    return [
        record.dataset, record.split, f"{record.audit.users:,}", str(model.recent), "yes" if model.counts else "no",
        f"{model.steps:,}" + " (no plateau)" * (not model.converged), f"{model.asked['without'].ndcg:.4f}", *gains,
    ]  # fmt: skip


def _row(record: AuditRecord, counter: str) -> list[str]:
    audit = record.audit
    shares, values = audit.shares, audit.counters[counter]
    gain, low, high = values.gain["ndcg@10"]
    return [
        record.dataset, record.split, f"{audit.targets:,}", f"{audit.users:,}", f"{audit.events_before:.0f}", str(audit.recent),
        *(f"{share:.3f}" for share in (shares.recent, shares.older, shares.new)), counter,
        f"{values.whole['ndcg@10']:.4f}", f"{values.recent['ndcg@10']:.4f}", gain_in_words(gain, low, high),
    ]  # fmt: skip

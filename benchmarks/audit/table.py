"""The records of ``benchmarks.audit`` as tables of the pages. Imports no torch."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.audit.record import gain_in_words

COLUMNS = (
    "data", "split", "targets", "users", "events before (median)", "R", "last R", "older only", "new", "counter", "NDCG@10, whole past",
    "NDCG@10, last R", "gain (95%)",
)  # fmt: skip
MODEL_COLUMNS = (
    "data", "split", "users", "R", "output counts", "steps", "NDCG@10 without", "with: gain (95%)", "shuffled: gain", "aged by R: gain",
)  # fmt: skip


def table(folder: Path) -> str:
    """Markdown of all records in ``folder``, by name; a row a counter."""
    return _markdown(COLUMNS, [_row(record, name) for record in _records(folder) for name in record["audit"]["counters"]])


def model_table(folder: Path) -> str:
    """Markdown of the small models of the records in ``folder``, by name; a row a model."""
    return _markdown(MODEL_COLUMNS, [_model_row(record) for record in _records(folder) if record.get("model") is not None])


def _records(folder: Path) -> list[Any]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))


def _model_row(record: Mapping[str, Any]) -> list[str]:
    model = record["model"]
    gains = (gain_in_words(answer["gain"], answer["low"], answer["high"]) for name, answer in model["asked"].items() if name != "without")
    return [
        record["dataset"], record["split"], f"{record['audit']['users']:,}", str(model["recent"]), "yes" if model["counts"] else "no",
        f"{model['steps']:,}" + " (no plateau)" * (not model["converged"]), f"{model['asked']['without']['ndcg']:.4f}", *gains,
    ]  # fmt: skip


def _row(record: Mapping[str, Any], counter: str) -> list[str]:
    audit = record["audit"]
    values = audit["counters"][counter]
    gain, low, high = values["gain"]["ndcg@10"]
    return [
        record["dataset"], record["split"], f"{audit['targets']:,}", f"{audit['users']:,}", f"{audit['events_before']:.0f}",
        str(audit["recent"]),
        *(f"{audit['shares'][name]:.3f}" for name in ("recent", "older", "new")), counter,
        f"{values['whole']['ndcg@10']:.4f}", f"{values['recent']['ndcg@10']:.4f}", gain_in_words(gain, low, high),
    ]  # fmt: skip

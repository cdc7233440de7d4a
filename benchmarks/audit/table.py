"""The records of ``benchmarks.audit`` as one table of the pages. Imports no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.audit.record import gain_in_words

COLUMNS = (
    "data", "split", "targets", "users", "events before (median)", "R", "last R", "older only", "new", "counter", "NDCG@10, whole past",
    "NDCG@10, last R", "gain (95%)",
)  # fmt: skip


def table(folder: Path) -> str:
    """Markdown of all records in ``folder``, by name; a row a counter."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    lines = ["| " + " | ".join(COLUMNS) + " |", "| " + " | ".join(["---"] * len(COLUMNS)) + " |"]
    return "\n".join([*lines, *(_row(record, name) for record in records for name in record["audit"]["counters"])])


def _row(record: Mapping[str, Any], counter: str) -> str:
    audit = record["audit"]
    values = audit["counters"][counter]
    gain, low, high = values["gain"]["ndcg@10"]
    cells = [
        record["dataset"], record["split"], f"{audit['targets']:,}", f"{audit['users']:,}", f"{audit['events_before']:.0f}",
        str(audit["recent"]),
        *(f"{audit['shares'][name]:.3f}" for name in ("recent", "older", "new")), counter,
        f"{values['whole']['ndcg@10']:.4f}", f"{values['recent']['ndcg@10']:.4f}", gain_in_words(gain, low, high),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"

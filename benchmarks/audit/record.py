"""The record of ``benchmarks.audit``: its types and its writer. Imports no torch."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.records import read_typed

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Where the test targets were before, as shares that sum to 1; a user's several targets count as one user's."""

    recent: float
    older: float
    new: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Counter:
    """A counter's metrics from the whole past and from the recent items; ``gain`` is the paired difference with its 95% interval.

    Of few users, or of users who all gain the same, there is no interval: its ends are None.
    """

    whole: dict[str, float | None]
    recent: dict[str, float | None]
    gain: dict[str, tuple[float, float | None, float | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """What a log's test targets say; ``events_before`` and ``older_events`` are medians over the targets."""

    recent: int
    users: int
    targets: int
    events_before: float
    older_events: float
    shares: Shares
    counters: dict[str, Counter] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """NDCG@10 of a small model asked in one way; ``gain`` is over asking it without the older items, paired over users, with 95%."""

    ndcg: float
    gain: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallModel:
    """A small model's answers: ``without`` the older items, ``with`` them, with them ``shuffled``, and ``aged`` by R items.

    ``counts`` says whether its output counts a user's own items; shuffled or aged, these counts are of the true items.
    """

    width: int
    layers: int
    history: int
    recent: int
    counts: bool
    seed: int
    steps: int
    converged: bool
    seconds: float
    asked: dict[str, Asked]


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditRecord:
    """The audit of one dataset and split, and what it is of; ``model`` where one was trained."""

    dataset: str
    size: str | None
    split: str
    days: tuple[str, ...]
    digest: str
    seen_items: str
    statistics: dict[str, Any]
    audit: Audit
    argv: tuple[str, ...]
    commit: str | None
    model: SmallModel | None = None
    schema_version: int = SCHEMA_VERSION


def gain_in_words(gain: float, low: float | None, high: float | None) -> str:
    """``+0.0171 (+0.0131 to +0.0215)``; the gain alone where there is no interval, or, in older records, one of no width."""
    return f"{gain:+.4f}" if low is None or high is None or low == high else f"{gain:+.4f} ({low:+.4f} to {high:+.4f})"


def load_audit(path: Path) -> AuditRecord | None:
    """Reads the record of an audit; None where there is none.

    Raises:
        RecordError: it is no such record, or of another version; the message is one line that names it.
    """
    if not path.is_file():
        return None
    return read_typed(path, AuditRecord, version=SCHEMA_VERSION, what="an audit's record", again="run the audit")


def to_json(record: AuditRecord) -> bytes:
    """As the file keeps it."""
    return (json.dumps(dataclasses.asdict(record), indent=1, ensure_ascii=False) + "\n").encode()

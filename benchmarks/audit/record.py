"""The record of ``benchmarks.audit``: its types and its writer. Imports no torch."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Where the test targets were before, as shares that sum to 1; a user's several targets count as one user's."""

    recent: float
    older: float
    new: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Counter:
    """A counter's metrics from the whole past and from the recent items; ``gain`` is the paired difference with its 95% interval."""

    whole: dict[str, float | None]
    recent: dict[str, float | None]
    gain: dict[str, tuple[float, float, float]]


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
class AuditRecord:
    """The audit of one dataset and split, and what it is of."""

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
    schema_version: int = SCHEMA_VERSION


def to_json(record: AuditRecord) -> bytes:
    """As the file keeps it."""
    return (json.dumps(dataclasses.asdict(record), indent=1, ensure_ascii=False) + "\n").encode()

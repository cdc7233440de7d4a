"""A peak of memory as a metric."""

from collections.abc import Callable
from typing import Any

from benchmarks.probes.peak import peak_bytes
from benchmarks.probes.subject import Subject, nothing

Metrics = dict[str, Any]


def peak(call: Callable[[], object], subject: Subject, *, of: str | None = None) -> Metrics:
    """Peak bytes of ``call`` as a metric, or why the kernel does not tell."""
    how = "peak allocated above resident" if subject.cell.device == "cuda" else "VmHWM above resident"
    try:
        return {"value": peak_bytes(call, subject.cell.device), "n": 1, "method": f"{how}, {of or f'batch of {subject.cell.batch_size}'}"}
    except OSError as error:
        return nothing(f"this system does not tell: {error}")

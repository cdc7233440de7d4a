"""Peak memory of compressing, of serving and of computing item vectors, above what the process held before.

A request brings what it fetches of its users: a cache counts in the memory of serving from it, as recomputing's keys and values do.
"""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.probes.peak import peak_bytes
from benchmarks.probes.request import fetching_server
from benchmarks.probes.subject import NO_ITEMS, NOTHING_BEFORE, TIMED_ITEMS, Subject

Metrics = dict[str, Any]


def measure_memory(subject: Subject) -> tuple[Metrics, dict[str, Any]]:
    """Peak bytes of one batch; nothing raw is kept."""
    request = subject.request(subject.cell.batch_size)
    with torch.inference_mode():
        metrics = {"serve_peak_bytes": peak(fetching_server(subject, request), subject)}
        if subject.compresses:
            metrics["compress_peak_bytes"] = peak(lambda: subject.compress(request), subject)
        else:
            metrics["compress_peak_bytes"] = _nothing(NOTHING_BEFORE)
        metrics["item_peak_bytes"] = _item_peak(subject)
    return metrics, {}


def _item_peak(subject: Subject) -> Metrics:
    if not subject.computes_items:
        return _nothing(NO_ITEMS)
    items = subject.some_items(TIMED_ITEMS)
    return peak(lambda: subject.model.items.compute(items), subject, of=f"{len(items)} items")


def _nothing(reason: str) -> Metrics:
    return {"value": None, "low": None, "high": None, "n": 0, "method": reason}


def peak(call: Callable[[], object], subject: Subject, *, of: str | None = None) -> Metrics:
    """Peak bytes of ``call`` as a metric, or why the kernel does not tell."""
    how = "peak allocated above resident" if subject.cell.device == "cuda" else "VmHWM above resident"
    try:
        return {"value": peak_bytes(call, subject.cell.device), "n": 1, "method": f"{how}, {of or f'batch of {subject.cell.batch_size}'}"}
    except OSError as error:
        return _nothing(f"this system does not tell: {error}")

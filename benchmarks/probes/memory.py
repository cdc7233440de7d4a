"""Peak memory of compressing, of serving and of computing item vectors, above what the process held before.

A request brings what it fetches of its users: a cache counts in the memory of serving from it, as recomputing's keys and values do.
"""

from typing import Any

import torch

from benchmarks.probes.fetching import fetching_server
from benchmarks.probes.peaks import peak
from benchmarks.probes.subject import NO_ITEMS, NOTHING_BEFORE, TIMED_ITEMS, Subject, nothing

Metrics = dict[str, Any]


def measure_memory(subject: Subject) -> tuple[Metrics, dict[str, Any]]:
    """Peak bytes of one batch; nothing raw is kept."""
    request = subject.request(subject.cell.batch_size)
    with torch.inference_mode():
        metrics = {"serve_peak_bytes": peak(fetching_server(subject, request), subject)}
        if subject.compresses:
            metrics["compress_peak_bytes"] = peak(lambda: subject.compress(request), subject)
        else:
            metrics["compress_peak_bytes"] = nothing(NOTHING_BEFORE)
        metrics["item_peak_bytes"] = _item_peak(subject)
    return metrics, {}


def _item_peak(subject: Subject) -> Metrics:
    if not subject.computes_items:
        return nothing(NO_ITEMS)
    items = subject.some_items(TIMED_ITEMS)
    return peak(lambda: subject.model.items.compute(items), subject, of=f"{len(items)} items")

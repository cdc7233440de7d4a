"""Compress, serve and item-vector throughput in batches: the median call, its quartiles, and the raw times."""

from typing import Any

import numpy as np
import torch

from benchmarks.measures import WIDE_SPREAD
from benchmarks.probes.clock import repeat
from benchmarks.probes.subject import NO_ITEMS, NOTHING_BEFORE, TIMED_ITEMS, Subject, nothing

SECONDS, LEAST = 0.3, 5


def measure_throughput(subject: Subject) -> tuple[dict[str, Any], dict[str, Any]]:
    """Users or items a second."""
    cell, size = subject.cell, subject.cell.batch_size
    request = subject.request(size)
    raw = {}
    with torch.inference_mode():
        raw["serve_batch_seconds"] = repeat(subject.server(request), device=cell.device, seconds=SECONDS, least=LEAST)
        if subject.compresses:
            raw["compress_batch_seconds"] = repeat(lambda: subject.compress(request), device=cell.device, seconds=SECONDS, least=LEAST)
        if subject.computes_items:
            items = subject.some_items(TIMED_ITEMS)
            raw["item_batch_seconds"] = repeat(lambda: subject.model.items.compute(items), device=cell.device, seconds=SECONDS, least=LEAST)
    metrics = {"serve_users_per_second": rate(raw["serve_batch_seconds"], size)}
    if subject.computes_items:
        metrics["item_vectors_per_second"] = rate(raw["item_batch_seconds"], len(items))
    else:
        metrics["item_vectors_per_second"] = nothing(NO_ITEMS)
    if subject.compresses:
        metrics["compress_users_per_second"] = rate(raw["compress_batch_seconds"], size)
    else:
        metrics["compress_users_per_second"] = nothing(NOTHING_BEFORE)
    return metrics, raw


def rate(seconds: np.ndarray, batch: int) -> dict[str, Any]:
    """The median rate; low and high are its quartiles."""
    quick, median, slow = np.percentile(seconds, [25, 50, 75])
    spread = (slow - quick) / median
    wide = f", interquartile range {spread:.0%} of the median" if spread > WIDE_SPREAD else ""
    return {
        "value": float(batch / median),
        "low": float(batch / slow),
        "high": float(batch / quick),
        "n": len(seconds),
        "method": f"median of batches of {batch}, low and high are quartiles{wide}",
    }

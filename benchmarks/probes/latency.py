"""Latency of one request alone, and its energy where the device reports it."""

from typing import Any

import numpy as np
import torch

from benchmarks.measures import WIDE_SPREAD
from benchmarks.probes.clock import repeat, warm_up
from benchmarks.probes.nvml import NOT_CUDA, energy_mj
from benchmarks.probes.subject import Subject, nothing

SECONDS, LEAST = 0.5, 67  # three processes then have the 200 requests that a 95th percentile takes
PERCENTILES = (50, 95, 99)
KEPT = 300  # times of single requests in a process's record, from which percentiles over all processes are taken


def measure_latency(subject: Subject) -> tuple[dict[str, Any], dict[str, Any]]:
    """Milliseconds of a request for one user, catalogue scoring apart."""
    with torch.inference_mode():
        cuda = subject.cell.device == "cuda"
        serve = subject.server(subject.request(1))  # what is computed before a request takes no part of its energy
        warm_up(serve, device=subject.cell.device)
        before, _ = energy_mj() if cuda else NOT_CUDA
        seconds = repeat(serve, device=subject.cell.device, seconds=SECONDS, least=LEAST, warm=True)
        after, how = energy_mj() if cuda else NOT_CUDA
    metrics = percentiles("serve_latency", seconds)
    metrics["serve_energy_j"] = _energy(before, after, how, len(seconds))
    return metrics, {"serve_request_seconds": seconds}


def percentiles(name: str, seconds: np.ndarray) -> dict[str, Any]:
    """The percentiles of requests one after the other, in milliseconds, as metrics ``NAME_pNN_ms``; the median has the samples."""
    quick, slow = np.percentile(seconds, [25, 75]) * 1e3
    spread = (slow - quick) / (np.median(seconds) * 1e3)
    wide = f", interquartile range {spread:.0%} of the median" if spread > WIDE_SPREAD else ""
    metrics: dict[str, Any] = {
        f"{name}_p{percentile}_ms": {
            "value": float(np.percentile(seconds, percentile) * 1e3),
            "low": float(quick) if percentile == 50 else None,
            "high": float(slow) if percentile == 50 else None,
            "n": len(seconds),
            "method": f"batch 1, {len(seconds)} requests" + (f", low and high are quartiles{wide}" if percentile == 50 else ""),
        }
        for percentile in PERCENTILES
    }
    metrics[f"{name}_p50_ms"]["samples"] = _samples(seconds)
    return metrics


def _samples(seconds: np.ndarray) -> list[float]:
    """All times, ascending, in milliseconds; of more than `KEPT`, as many of evenly spaced ranks."""
    ranks = np.linspace(0, 1, min(len(seconds), KEPT))
    return [float(f"{one:.5g}") for one in np.quantile(seconds, ranks) * 1e3]


def _energy(before_mj: int | None, after_mj: int | None, how: str, requests: int) -> dict[str, Any]:
    """Joules of 1,000 requests, one after the other."""
    if before_mj is None or after_mj is None:
        return nothing(how)
    return {"value": (after_mj - before_mj) / requests, "n": requests, "method": f"{how} over {requests} requests at batch 1, times 1,000"}

"""Latency of one request alone, and its energy where the device reports it."""

from typing import Any

import numpy as np
import torch

from benchmarks.probes.clock import repeat
from benchmarks.probes.subject import Subject

SECONDS, LEAST = 0.5, 50
PERCENTILES = (50, 95, 99)


def measure_latency(subject: Subject) -> tuple[dict[str, Any], dict[str, Any]]:
    """Milliseconds of a request for one user, catalogue scoring apart."""
    with torch.inference_mode():
        seconds = repeat(subject.server(subject.request(1)), device=subject.cell.device, seconds=SECONDS, least=LEAST)
    quick, slow = np.percentile(seconds, [25, 75]) * 1e3
    metrics: dict[str, Any] = {}
    for percentile in PERCENTILES:
        metrics[f"serve_latency_p{percentile}_ms"] = {
            "value": float(np.percentile(seconds, percentile) * 1e3),
            "low": float(quick) if percentile == 50 else None,
            "high": float(slow) if percentile == 50 else None,
            "n": len(seconds),
            "method": f"batch 1, {len(seconds)} requests" + (", low and high are quartiles" if percentile == 50 else ""),
        }
    metrics["serve_energy_j"] = {"value": None, "low": None, "high": None, "n": 0, "method": _no_energy(subject.cell.device)}
    return metrics, {"serve_request_seconds": seconds}


def _no_energy(device: str) -> str:
    return "a CPU reports no energy here" if device == "cpu" else "not measured yet"

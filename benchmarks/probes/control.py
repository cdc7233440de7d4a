"""Serving beside full attention of the same shape in the same process: time over time, and FLOPs over FLOPs.

Calls are timed in turn, so that what slows the machine slows both sides; such ratios travel between machines where times do
not. The control recomputes the whole window at each request.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measures import WIDE_SPREAD
from benchmarks.probes.clock import interleaved, warm_up
from benchmarks.probes.flops import executed_flops
from benchmarks.probes.subject import NOT_RUN, NOTHING_BEFORE, Subject

SECONDS, LEAST, MOST = 1.0, 5, 40
Seconds = NDArray[np.float64]
Metrics = dict[str, Any]


def measure_control(subject: Subject, control: Subject) -> tuple[Metrics, dict[str, Any]]:
    """Ratios of a request, of what is computed before it, and of both, with the raw seconds.

    Args:
        subject: the cell's.
        control: full attention's.
    """
    metrics = _shares_of_flops(executed_flops(subject), executed_flops(control))
    if subject.cell.counted_only:
        return metrics | {name.replace("_flops_", "_time_"): nothing(NOT_RUN) for name in metrics}, {}
    serve, full, *compress = _serving(subject, control)
    both = serve + compress[0] if compress else serve
    size = subject.cell.batch_size
    metrics |= {
        "serve_time_over_full": share_of_time(serve, full, size),
        "compress_time_over_full": share_of_time(compress[0], full, size) if compress else nothing(NOTHING_BEFORE),
        "compress_serve_time_over_full": share_of_time(both, full, size),
    }
    raw = {"serve": serve, "full": full} | ({"compress": compress[0]} if compress else {})
    return metrics, {f"control_{name}_seconds": seconds for name, seconds in raw.items()}


def _shares_of_flops(own: Mapping[str, float], full: Mapping[str, float]) -> Metrics:
    shares = {
        "serve": own["serve"] / full["serve"],
        "compress": own["compress"] / full["serve"],
        "compress_serve": (own["compress"] + own["serve"]) / full["serve"],
    }
    return {f"{name}_flops_over_full": share_of_flops(share) for name, share in shares.items()}


def share_of_flops(share: float) -> Metrics:
    """A ratio of executed FLOPs as a metric."""
    method = "executed FLOPs over those of full attention over the whole window, by the closed formula of both layouts"
    return {"value": share, "method": method, "n": 1}


def _serving(subject: Subject, control: Subject) -> list[Seconds]:
    """Of a request, of the control's, and of compressing, where anything is compressed."""
    size = subject.cell.batch_size
    request, whole = subject.request(size), control.request(size)
    with torch.inference_mode():
        calls: list[Callable[[], object]] = [subject.server(request), control.server(whole)]
        if subject.compresses:
            calls.append(lambda: subject.compress(request))
        return in_turn(calls, subject.cell.device)


def in_turn(calls: Sequence[Callable[[], object]], device: str) -> list[Seconds]:
    """Seconds of each call, as many times as `SECONDS` hold, after a warm-up of each."""
    rounds = min(MOST, max(LEAST, int(SECONDS / sum(warm_up(call, device=device) for call in calls))))
    return [np.array(samples) for samples in interleaved(calls, rounds=rounds, device=device, warm=True)]


def share_of_time(ours: Seconds, full: Seconds, size: int) -> Metrics:
    """The median of the ratios, call by call; low and high are their quartiles."""
    low, value, high = (float(ratio) for ratio in np.percentile(ours / full, [25, 50, 75]))
    spread = (high - low) / value
    wide = f", interquartile range {spread:.0%} of the value" if spread > WIDE_SPREAD else ""
    return {
        "value": value,
        "low": low,
        "high": high,
        "n": len(ours),
        "method": f"median ratio of batches of {size}, timed in turn in one process, low and high are quartiles{wide}",
    }


def nothing(reason: str) -> Metrics:
    """A number that could not be taken, and why."""
    return {"value": None, "low": None, "high": None, "n": 0, "method": reason}

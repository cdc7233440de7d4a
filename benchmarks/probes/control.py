"""Serving beside full attention of the same shape in the same process: time over time, and FLOPs over FLOPs.

Calls are timed in turn, so that what slows the machine slows both sides; such ratios travel between machines where times do
not. The control recomputes the whole window at each request. Of what is served from a cache, full attention that is served in the
same way is timed as well, from a cache as computed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measures import WIDE_SPREAD
from benchmarks.probes.clock import interleaved, warm_up
from benchmarks.probes.flops import executed_flops
from benchmarks.probes.subject import NOT_RUN, NOTHING_BEFORE, Subject, nothing

SECONDS, LEAST, MOST = 1.0, 5, 40
NONE_ALIKE = "recomputed, or full attention itself"
Seconds = NDArray[np.float64]
Metrics = dict[str, Any]


def measure_control(subject: Subject, control: Subject) -> tuple[Metrics, dict[str, Any]]:
    """Ratios of a request, of what is computed before it, and of both, with the raw seconds.

    Args:
        subject: the cell's.
        control: full attention's.
    """
    alike = served_alike(subject, control)
    metrics = _shares_of_flops(subject, control, alike)
    if subject.cell.counted_only:
        return metrics | {name.replace("_flops_", "_time_"): nothing(NOT_RUN) for name in metrics}, {}
    seconds, size = _serving(subject, control, alike), subject.cell.batch_size
    serve, full = seconds["serve"], seconds["full"]
    both = serve + seconds["compress"] if "compress" in seconds else serve
    metrics |= {
        "serve_time_over_full": share_of_time(serve, full, size),
        "compress_time_over_full": share_of_time(seconds["compress"], full, size) if "compress" in seconds else nothing(NOTHING_BEFORE),
        "compress_serve_time_over_full": share_of_time(both, full, size),
        "serve_time_over_alike": share_of_time(serve, seconds["alike"], size) if "alike" in seconds else nothing(NONE_ALIKE),
    }
    return metrics, {f"control_{name}_seconds": samples for name, samples in seconds.items()}


def served_alike(subject: Subject, control: Subject) -> Subject | None:
    """The control as the cell is served, from a cache as computed; None where the cell recomputes, or is full attention itself."""
    if subject.cell.serving == "recompute" or subject.cell.compression == control.cell.compression:
        return None
    return replace(control, cell=replace(control.cell, serving=subject.cell.serving))


def _shares_of_flops(subject: Subject, control: Subject, alike: Subject | None) -> Metrics:
    flops, full = executed_flops(subject), executed_flops(control)
    shares = {
        "serve": flops["serve"] / full["serve"],
        "compress": flops["compress"] / full["serve"],
        "compress_serve": (flops["compress"] + flops["serve"]) / full["serve"],
    }
    metrics = {f"{name}_flops_over_full": share_of_flops(share) for name, share in shares.items()}
    metrics["serve_flops_over_alike"] = nothing(NONE_ALIKE)
    if alike is not None:
        share = flops["serve"] / executed_flops(alike)["serve"]
        method = "executed FLOPs over those of full attention served in the same way, by the closed formula of both layouts"
        metrics["serve_flops_over_alike"] = share_of_flops(share) | {"method": method}
    return metrics


def share_of_flops(share: float) -> Metrics:
    """A ratio of executed FLOPs as a metric."""
    method = "executed FLOPs over those of full attention over the whole window, by the closed formula of both layouts"
    return {"value": share, "method": method, "n": 1}


def _serving(subject: Subject, control: Subject, alike: Subject | None) -> dict[str, Seconds]:
    """Of a request, of the control's, of compressing, where anything is compressed, and of a request served alike, where one is."""
    size = subject.cell.batch_size
    request, whole = subject.request(size), control.request(size)
    with torch.inference_mode():
        calls: dict[str, Callable[[], object]] = {"serve": subject.server(request), "full": control.server(whole)}
        if subject.compresses:
            calls["compress"] = lambda: subject.compress(request)
        if alike is not None:
            calls["alike"] = alike.server(whole)
        return dict(zip(calls, in_turn(list(calls.values()), subject.cell.device), strict=True))


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

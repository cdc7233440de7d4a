"""Peak memory of compressing, of serving and of computing item vectors, above what the process held before.

CPU: ``VmHWM`` after a reset through ``/proc/self/clear_refs``, less the resident size before; freed heap is given back
first, or it would hide a peak. CUDA: peak allocated above the resident tensors.
"""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.probes.subject import NO_ITEMS, NOTHING_BEFORE, TIMED_ITEMS, Subject

Metrics = dict[str, Any]
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def measure_memory(subject: Subject) -> tuple[Metrics, dict[str, Any]]:
    """Peak bytes of one batch; nothing raw is kept."""
    request = subject.request(subject.cell.batch_size)
    with torch.inference_mode():
        server = subject.server(request)
        metrics = {"serve_peak_bytes": peak(server, subject)}
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


def peak_bytes(call: Callable[[], object], device: str) -> int:
    """Peak bytes of ``call`` above what is resident, after a first call that makes lazy buffers resident.

    Raises:
        OSError: this system does not tell.
    """
    call()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        allocated = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - allocated
    gc.collect()
    _give_back_freed_memory()
    CLEAR_REFS.write_text(RESET_PEAK)
    before = _status_bytes("VmRSS")
    call()
    return max(0, _status_bytes("VmHWM") - before)


def _give_back_freed_memory() -> None:
    """Has the C library return what it keeps of freed memory: used again, it would raise no peak."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError as error:
        raise OSError("the C library has no malloc_trim") from error


def _status_bytes(name: str) -> int:
    """A line of ``/proc/self/status`` in bytes; psutil knows the resident size of a process and not its peak."""
    lines = [line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:")]
    if not lines:
        raise OSError(f"{STATUS} has no {name}")
    return int(lines[0].split()[1]) * 1024

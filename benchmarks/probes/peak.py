"""Peak memory of a call above what the process held before. Imports nothing of the project: a comparison loads it by its path.

CPU: ``VmHWM`` after a reset through ``/proc/self/clear_refs``, less the resident size before; freed heap is given back
first, or it would hide a peak. CUDA: peak allocated above the resident tensors.
"""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"


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

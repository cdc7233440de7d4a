"""What the driver tells of the GPU, by nvidia-ml-py; where it cannot, a reason instead of a number."""

import os
from collections.abc import Callable
from typing import Any

import torch

Answer = tuple[int | None, str]
NOT_CUDA: Answer = (None, "not a CUDA cell")


def process_bytes() -> Answer:
    """GPU memory of this process: the larger of the driver's compute and graphics lists, or None and why."""
    return _ask(_own_bytes)


def energy_mj() -> Answer:
    """Millijoules the GPU has used since its driver was loaded, or None and why."""
    return _ask(lambda nvml, device: (int(nvml.nvmlDeviceGetTotalEnergyConsumption(device)), "NVML total energy"))


def _own_bytes(nvml: Any, device: Any) -> Answer:
    lists = (nvml.nvmlDeviceGetComputeRunningProcesses(device), nvml.nvmlDeviceGetGraphicsRunningProcesses(device))
    own = [process.usedGpuMemory for processes in lists for process in processes if process.pid == os.getpid()]
    if not own:
        return None, "NVML lists no process with this number, as in a container"
    if any(used is None for used in own):
        return None, "NVML does not tell the memory of a process here"
    return max(int(used) for used in own), "NVML, this process"


def _ask(question: Callable[[Any, Any], Answer]) -> Answer:
    try:
        import pynvml  # noqa: PLC0415 - its absence is a reason, not an error
    except ImportError:
        return None, "nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return None, f"no NVML device: {error}"
    try:
        uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
        return question(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except (pynvml.NVMLError, RuntimeError, AssertionError) as error:
        return None, f"NVML does not tell: {error}"
    finally:
        pynvml.nvmlShutdown()

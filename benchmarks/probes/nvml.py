"""What the driver tells of this process's GPU, by NVML; where it cannot, a reason instead of a number.

What disturbs a timing there makes it invalid: clocks that are held back, and other processes that compute.
"""

import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import torch

from benchmarks.cell import InvalidMeasurementError
from benchmarks.environment import driver

Answer = tuple[int | None, str]
Result = TypeVar("Result")
NOT_CUDA: Answer = (None, "not a CUDA cell")
# bits of NVML that hold clocks below what was asked for; its other bits are idleness and settings
THROTTLING: Mapping[int, str] = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "heat, held back by software",
    0x40: "heat, held back by hardware",
    0x80: "power brake",
}


def process_bytes() -> Answer:
    """GPU memory of this process: the larger of the driver's compute and graphics lists, or None and why."""
    return _number(_own_bytes)


def energy_mj() -> Answer:
    """Millijoules the GPU has used since its driver was loaded, or None and why."""
    return _number(lambda nvml, device: (int(nvml.nvmlDeviceGetTotalEnergyConsumption(device)), "NVML total energy"))


class GpuWatch:
    """Watches a timed region on CUDA: clocks and temperature before and after it, and what disturbs it; idle on another device."""

    def __init__(self, device: str) -> None:
        """Nothing is asked yet."""
        self._watches = device == "cuda"
        self._readings: dict[str, Any] = {}

    def __enter__(self) -> Self:
        """Asks before."""
        if self._watches:
            self._readings["gpu_before"] = _state()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Asks after.

        Raises:
            InvalidMeasurementError: before or after, the clocks were held back or another process computed on the GPU.
        """
        if not self._watches or error is not None:
            return
        self._readings["gpu_after"] = _state()
        disturbed = [
            f"{when.removeprefix('gpu_')} the timing: {disturbance}"
            for when, state in self._readings.items()
            for disturbance in _disturbances(state)
        ]
        if disturbed:
            raise InvalidMeasurementError(f"the GPU was disturbed {'; '.join(disturbed)}")

    def readings(self) -> dict[str, Any]:
        """What a record keeps: clocks, temperature, throttling and the number of other processes; ``None`` and why for what is missing."""
        return self._readings


def _state() -> dict[str, Any]:
    """Clocks, temperature, throttling and other processes, each by itself; only ``reason`` where the driver answers nothing at all."""
    state, reason = _ask(_state_of)
    return {"reason": reason} if state is None else state


def _state_of(nvml: Any, device: Any) -> dict[str, Any]:
    clocks = driver.clocks(nvml, device)
    others = driver.fields(nvml, {"foreign_processes": lambda: _foreign(nvml, device)})
    reasons = clocks.pop("reasons", {}) | others.pop("reasons", {})
    return clocks | others | ({"reasons": reasons} if reasons else {})


def _foreign(nvml: Any, device: Any) -> int:
    """How many other processes compute on the device; in a container none may bear this one's number, and one of them is it."""
    numbers = {process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(device)}
    return len(numbers - {os.getpid()}) if os.getpid() in numbers else max(0, len(numbers) - 1)


def _disturbances(state: Mapping[str, Any]) -> list[str]:
    """What makes a timing invalid; what the driver does not tell counts as no disturbance, and its reason is in the record."""
    held_back = [name for bit, name in THROTTLING.items() if (state.get("throttle_reasons") or 0) & bit]
    others = state.get("foreign_processes") or 0
    disturbances = [f"clocks held back ({', '.join(held_back)})"] if held_back else []
    return [*disturbances, *([f"{others} other process{'es' if others > 1 else ''} computing on it"] if others else [])]


def _own_bytes(nvml: Any, device: Any) -> Answer:
    compute, reason = driver.field(nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses(device))
    graphics, _ = driver.field(nvml, lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses(device))
    if compute is None and graphics is None:
        return None, str(reason)
    own = [process.usedGpuMemory for process in (*(compute or ()), *(graphics or ())) if process.pid == os.getpid()]
    if not own:
        return None, "NVML lists no process with this number, as in a container"
    if any(used is None for used in own):
        return None, "NVML does not tell the memory of a process here"
    return max(int(used) for used in own), "NVML, this process"


def _number(question: Callable[[Any, Any], Answer]) -> Answer:
    answer, reason = _ask(question)
    return (None, str(reason)) if answer is None else answer


def _ask(question: Callable[[Any, Any], Result]) -> tuple[Result | None, str | None]:
    """The answer on the device that torch uses, or ``None`` and why there is none."""

    def of_device(nvml: Any) -> Result:
        uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
        return question(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid))

    try:
        return driver.ask(of_device)
    except (RuntimeError, AssertionError) as error:  # torch sees no device
        return None, f"NVML does not tell: {error}"

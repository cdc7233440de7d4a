"""Asks NVML, the GPU driver's library; what it cannot tell is ``None`` with a reason. Imports neither torch nor persrec."""

from collections.abc import Callable
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def ask(question: Callable[[Any], Answer]) -> tuple[Answer | None, str | None]:
    """The answer to a question to NVML, or ``None`` and why there is none."""
    try:
        import pynvml  # noqa: PLC0415 - only where a GPU is asked about; its absence is a reason, not an error
    except ImportError:
        return None, "nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"
    try:
        return question(pynvml), None
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"
    finally:
        pynvml.nvmlShutdown()


def clocks(nvml: Any, device: Any) -> dict[str, Any]:
    """A device's clocks, temperature and what holds its clocks back, as NVML's bits."""
    return {
        "sm_mhz": nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
        "memory_mhz": nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM),
        "temperature_c": nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
        "throttle_reasons": nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device),
    }

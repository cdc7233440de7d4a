"""Asks NVML, the GPU driver's library; what it cannot tell is ``None`` with a reason. Imports neither torch nor persrec.

A GPU lacks single fields: one with unified memory has no memory of its own, many laptops report no temperature. So each field is
asked for by itself, and one that is missing loses no other.
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class NoDeviceError(LookupError):
    """CUDA sees no device."""


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
        return field(pynvml, lambda: question(pynvml))
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def field(nvml: Any, question: Callable[[], Answer]) -> tuple[Answer | None, str | None]:
    """The answer to one question, or ``None`` and why there is none."""
    try:
        return question(), None
    except nvml.NVMLError as error:
        return None, f"NVML: {error}"
    except NoDeviceError as error:
        return None, str(error)
    except AttributeError as error:  # an older or another package of that name
        return None, f"nvidia-ml-py lacks a function: {error}"


def fields(nvml: Any, questions: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """The answer to each question, ``None`` where there is none; ``reasons`` says why, and is absent where no answer is missing."""
    answers = {name: field(nvml, question) for name, question in questions.items()}
    values: dict[str, Any] = {name: value for name, (value, _) in answers.items()}
    reasons = {name: reason for name, (_, reason) in answers.items() if reason is not None}
    return values | ({"reasons": reasons} if reasons else {})


def facts(nvml: Any) -> dict[str, Any]:
    """Name, memory and driver of the first device that CUDA sees, as `fields`."""
    device = first_visible(nvml)
    return fields(
        nvml,
        {
            "name": lambda: _text(nvml.nvmlDeviceGetName(device)),
            "memory_bytes": lambda: int(nvml.nvmlDeviceGetMemoryInfo(device).total),
            "driver": lambda: _text(nvml.nvmlSystemGetDriverVersion()),
        },
    )


def clocks(nvml: Any, device: Any) -> dict[str, Any]:
    """A device's clocks, temperature and what holds its clocks back, as NVML's bits; as `fields`."""
    return fields(
        nvml,
        {
            "sm_mhz": lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
            "memory_mhz": lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM),
            "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
            "throttle_reasons": lambda: _throttle_reasons(nvml, device),
        },
    )


def first_visible(nvml: Any) -> Any:
    """The device that CUDA calls 0, which need not be NVML's 0.

    An index in ``CUDA_VISIBLE_DEVICES`` is taken as NVML's. Where GPUs of different kinds are mixed, that holds with
    ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` alone.

    Raises:
        NoDeviceError: CUDA sees none.
    """
    visible = visible_devices(nvml)
    if not visible:
        setting = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise NoDeviceError("NVML lists no device" if setting is None else f"CUDA_VISIBLE_DEVICES={setting!r} names no device here")
    return visible[0]


def visible_devices(nvml: Any) -> list[Any]:
    """The devices that CUDA sees, in its order: those of ``CUDA_VISIBLE_DEVICES`` up to the first entry that names none, else all."""
    count = int(nvml.nvmlDeviceGetCount())
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None:
        return [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
    devices: list[Any] = []
    entries = [entry.strip() for entry in setting.split(",")]
    for entry in entries:
        device = _device_of_entry(nvml, entry, count)
        if device is None:
            break
        devices.append(device)
    return devices if len(set(entries)) == len(entries) else []  # CUDA shows none where one is named twice


def _device_of_entry(nvml: Any, entry: str, count: int) -> Any:
    """The device that an entry of ``CUDA_VISIBLE_DEVICES`` names, by index or by (the start of) its UUID; ``None`` for no device."""
    if entry.isdecimal():
        return nvml.nvmlDeviceGetHandleByIndex(int(entry)) if int(entry) < count else None
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    device, _ = field(nvml, lambda: nvml.nvmlDeviceGetHandleByUUID(entry))
    if device is not None:
        return device
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
    matches = [handle for handle in handles if (_uuid(nvml, handle) or "").startswith(entry)]
    return matches[0] if len(matches) == 1 else None


def _uuid(nvml: Any, device: Any) -> str | None:
    return field(nvml, lambda: _text(nvml.nvmlDeviceGetUUID(device)))[0]


def _throttle_reasons(nvml: Any, device: Any) -> int:
    """The bits that say what holds the clocks back; newer drivers call them event reasons."""
    bits, _ = field(nvml, lambda: int(nvml.nvmlDeviceGetCurrentClocksEventReasons(device)))
    return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device)) if bits is None else bits


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value

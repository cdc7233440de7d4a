"""A GPU driver in which single fields are missing, as on machines with unified memory and on laptops."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest


class FakeError(Exception):
    """What NVML raises."""


HEAT = 0x40
FIELDS: dict[str, Any] = {
    "Name": b"Gr\xfcn GPU",
    "MemoryInfo": SimpleNamespace(total=80 * 2**30),
    "ClockInfo": 1500,
    "Temperature": 40,
    "CurrentClocksThrottleReasons": HEAT,
    "ComputeRunningProcesses": [],
    "GraphicsRunningProcesses": [],
    "TotalEnergyConsumption": 7,
}


def install(monkeypatch: pytest.MonkeyPatch, *, missing: tuple[str, ...] = (), uuids: tuple[str, ...] = ("GPU-aa11",), **own: Any) -> None:
    """Puts it in the place of ``pynvml``; the fields in ``missing`` are not supported, those in ``own`` are as given."""
    functions = {f"nvmlDeviceGet{name}": _answer(name, value, missing) for name, value in (FIELDS | own).items()}

    def by_index(index: int) -> int:
        if index not in range(len(uuids)):
            raise FakeError("Invalid Argument")
        return index

    def by_uuid(uuid: str) -> int:
        if uuid not in uuids:
            raise FakeError("Not Found")
        return uuids.index(uuid)

    module = SimpleNamespace(
        NVMLError=FakeError,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=_answer("Init", None, missing),
        nvmlShutdown=_answer("Shutdown", None, missing),
        nvmlSystemGetDriverVersion=_answer("DriverVersion", "580.1", missing),
        nvmlDeviceGetCount=lambda: len(uuids),
        nvmlDeviceGetHandleByIndex=by_index,
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetUUID=lambda device: uuids[device],
        **functions,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)


def _answer(name: str, value: Any, missing: tuple[str, ...]) -> Callable[..., Any]:
    def answer(*_: object) -> Any:
        if name in missing:
            raise FakeError("Not Supported")
        return value

    return answer

import os
import sys
from types import SimpleNamespace

import pytest
import torch
from fake_driver import install

from benchmarks.cell import InvalidMeasurementError
from benchmarks.probes import nvml


class FakeError(Exception):
    pass


def fake(
    monkeypatch: pytest.MonkeyPatch, *, compute: list[object], graphics: list[object], energy: int = 0, reasons: list[int] | None = None
) -> None:
    """``reasons`` are the bits that hold the clocks back, one for each time that the driver is asked."""
    given = iter(reasons or [])
    module = SimpleNamespace(
        NVMLError=FakeError,
        NVML_CLOCK_SM="sm",
        NVML_CLOCK_MEM="memory",
        NVML_TEMPERATURE_GPU="gpu",
        nvmlDeviceGetClockInfo=lambda device, clock: {"sm": 1980, "memory": 2619}[clock],
        nvmlDeviceGetTemperature=lambda device, sensor: 41,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda device: next(given, 0),
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetComputeRunningProcesses=lambda device: compute,
        nvmlDeviceGetGraphicsRunningProcesses=lambda device: graphics,
        nvmlDeviceGetTotalEnergyConsumption=lambda device: energy,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    on_torch_device(monkeypatch)


def on_torch_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="abc"))


def process(used: int | None, pid: int | None = None) -> SimpleNamespace:
    return SimpleNamespace(pid=os.getpid() if pid is None else pid, usedGpuMemory=used)


def test_the_larger_of_both_lists_counts_and_other_processes_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, compute=[process(300), process(9000, pid=1)], graphics=[process(500)])
    assert nvml.process_bytes() == (500, "NVML, this process")


@pytest.mark.parametrize(("listed", "why"), [([], "container"), ([process(None)], "does not tell")])
def test_what_cannot_be_told_is_none_with_a_reason(monkeypatch: pytest.MonkeyPatch, listed: list[object], why: str) -> None:
    fake(monkeypatch, compute=listed, graphics=[])
    value, reason = nvml.process_bytes()
    assert value is None
    assert why in reason


def test_without_the_package_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.energy_mj() == (None, "nvidia-ml-py is not installed")


def test_energy_is_the_drivers_count(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, compute=[], graphics=[], energy=1234)
    assert nvml.energy_mj()[0] == 1234


def watched(device: str = "cuda") -> dict[str, object]:
    with nvml.GpuWatch(device) as watch:
        pass
    return watch.readings()


IDLE, BY_APPLICATION, DISPLAY = 0x01, 0x02, 0x100  # no throttling


def test_an_undisturbed_timing_keeps_its_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, compute=[process(300)], graphics=[process(5, pid=1)], reasons=[IDLE, BY_APPLICATION | DISPLAY])
    state = {"sm_mhz": 1980, "memory_mhz": 2619, "temperature_c": 41, "throttle_reasons": IDLE, "foreign_processes": 0}
    assert watched() == {"gpu_before": state, "gpu_after": state | {"throttle_reasons": BY_APPLICATION | DISPLAY}}


@pytest.mark.parametrize(("bit", "name"), nvml.THROTTLING.items())
@pytest.mark.parametrize("when", ["before", "after"])
def test_clocks_held_back_on_either_side_make_a_timing_invalid(monkeypatch: pytest.MonkeyPatch, bit: int, name: str, when: str) -> None:
    fake(monkeypatch, compute=[process(300)], graphics=[], reasons=[bit | IDLE, 0] if when == "before" else [0, bit])
    with pytest.raises(InvalidMeasurementError, match=rf"^the GPU was disturbed {when} the timing: clocks held back \({name}\)$"):
        watched()


@pytest.mark.parametrize(
    ("others", "foreign"),
    [([None, 1], 1), ([None, 1, 2], 2), ([1, 2], 1), ([1], 0), ([], 0)],  # None is this process; in a container its number is another
)
def test_another_process_that_computes_makes_a_timing_invalid(
    monkeypatch: pytest.MonkeyPatch, others: list[int | None], foreign: int
) -> None:
    fake(monkeypatch, compute=[process(300, pid=pid) for pid in others], graphics=[])
    if not foreign:
        assert watched()["gpu_after"]["foreign_processes"] == 0
        return
    with pytest.raises(InvalidMeasurementError, match=rf"before the timing: {foreign} other process.* computing on it; after the timing: "):
        watched()


@pytest.mark.parametrize("missing", ["Temperature", "ClockInfo", "ComputeRunningProcesses"])
def test_a_gpu_held_back_by_heat_is_refused_whatever_else_it_does_not_tell(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    install(monkeypatch, missing=(missing,), uuids=("GPU-abc",))
    on_torch_device(monkeypatch)
    with pytest.raises(InvalidMeasurementError, match="clocks held back"):
        watched()


def test_what_a_gpu_does_not_tell_is_null_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = ("Temperature", "CurrentClocksThrottleReasons", "ComputeRunningProcesses")
    install(monkeypatch, missing=missing, uuids=("GPU-abc",))
    on_torch_device(monkeypatch)
    nulls = ("temperature_c", "throttle_reasons", "foreign_processes")
    reasons = dict.fromkeys(nulls, "NVML: Not Supported")
    state = dict.fromkeys(nulls) | {"sm_mhz": 1500, "memory_mhz": 1500, "reasons": reasons}
    assert watched() == {"gpu_before": state, "gpu_after": state}


def test_a_list_of_processes_that_is_missing_loses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    on_torch_device(monkeypatch)
    install(monkeypatch, missing=("GraphicsRunningProcesses",), uuids=("GPU-abc",), ComputeRunningProcesses=[process(300)])
    assert nvml.process_bytes() == (300, "NVML, this process")
    install(monkeypatch, missing=("GraphicsRunningProcesses", "ComputeRunningProcesses"), uuids=("GPU-abc",))
    assert nvml.process_bytes() == (None, "NVML: Not Supported")


def test_a_watch_asks_nothing_on_a_cpu_and_hides_no_other_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched("cpu") == {}
    fake(monkeypatch, compute=[process(300)], graphics=[], reasons=[0x40, 0x40])
    with pytest.raises(MemoryError), nvml.GpuWatch("cuda"):
        raise MemoryError


def test_a_driver_that_tells_nothing_is_a_reason_and_no_disturbance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    told = {"reason": "nvidia-ml-py is not installed"}
    assert watched() == {"gpu_before": told, "gpu_after": told}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with a GPU has a driver")
def test_without_a_driver_the_reason_says_so() -> None:
    value, reason = nvml.process_bytes()
    assert value is None
    assert "NVML" in reason

import os
import sys
from types import SimpleNamespace

import pytest
import torch

from benchmarks.probes import nvml


class FakeError(Exception):
    pass


def fake(monkeypatch: pytest.MonkeyPatch, *, compute: list[object], graphics: list[object], energy: int = 0) -> None:
    module = SimpleNamespace(
        NVMLError=FakeError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetComputeRunningProcesses=lambda device: compute,
        nvmlDeviceGetGraphicsRunningProcesses=lambda device: graphics,
        nvmlDeviceGetTotalEnergyConsumption=lambda device: energy,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
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


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with a GPU has a driver")
def test_without_a_driver_the_reason_says_so() -> None:
    value, reason = nvml.process_bytes()
    assert value is None
    assert "NVML" in reason

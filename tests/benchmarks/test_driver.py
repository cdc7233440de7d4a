"""One field that a GPU does not have loses no other; and what CUDA sees of the GPUs."""

import sys

import pytest
from fake_driver import HEAT, install

from benchmarks import environment as env
from benchmarks.environment import driver

CLOCKS = {"sm_mhz": 1500, "memory_mhz": 1500, "temperature_c": 40, "throttle_reasons": HEAT}
FACTS = {"name": "Gr\N{REPLACEMENT CHARACTER}n GPU", "memory_bytes": 80 * 2**30, "driver": "580.1"}
NOT_SUPPORTED = "NVML: Not Supported"


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_all_fields_come_without_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    assert driver.ask(driver.facts) == (FACTS, None)
    assert driver.ask(lambda nvml: driver.clocks(nvml, 0)) == (CLOCKS, None)


@pytest.mark.parametrize(
    ("missing", "lost"),
    [
        ("Temperature", ["temperature_c"]),
        ("ClockInfo", ["sm_mhz", "memory_mhz"]),
        ("CurrentClocksThrottleReasons", ["throttle_reasons"]),
        ("Name", ["name"]),
        ("MemoryInfo", ["memory_bytes"]),
        ("DriverVersion", ["driver"]),
        ("Shutdown", []),
    ],
)
def test_a_field_that_is_missing_is_null_with_its_reason_and_loses_no_other(
    monkeypatch: pytest.MonkeyPatch, missing: str, lost: list[str]
) -> None:
    install(monkeypatch, missing=(missing,))
    answers = [driver.ask(driver.facts)[0], driver.ask(lambda nvml: driver.clocks(nvml, 0))[0]]
    for answer, whole in zip(answers, (FACTS, CLOCKS), strict=True):
        assert answer is not None
        assert answer.pop("reasons", {}) == {name: NOT_SUPPORTED for name in lost if name in whole}
        assert answer == {name: None if name in lost else value for name, value in whole.items()}


def test_a_record_names_the_gpu_whose_memory_is_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, missing=("MemoryInfo",))
    assert env._gpu_facts() == (FACTS | {"memory_bytes": None}, f"memory_bytes: {NOT_SUPPORTED}")


def test_an_older_package_lacks_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    del sys.modules["pynvml"].nvmlDeviceGetTemperature
    clocks, _ = driver.ask(lambda nvml: driver.clocks(nvml, 0))
    assert clocks is not None
    assert "nvmlDeviceGetTemperature" in clocks.pop("reasons")["temperature_c"]
    assert clocks == CLOCKS | {"temperature_c": None}


def test_newer_drivers_call_what_throttles_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, missing=("CurrentClocksThrottleReasons",), CurrentClocksEventReasons=0x20)
    clocks, _ = driver.ask(lambda nvml: driver.clocks(nvml, 0))
    assert clocks == CLOCKS | {"throttle_reasons": 0x20}


def test_a_driver_that_does_not_start_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, missing=("Init",))
    assert driver.ask(driver.facts) == (None, NOT_SUPPORTED)


@pytest.mark.parametrize(
    ("named", "visible"),
    [
        (None, [0, 1]),
        ("1", [1]),
        ("1,0", [1, 0]),
        (" 1 , 0 ", [1, 0]),
        ("5", []),
        ("0,5,1", [0]),  # CUDA stops at the first that names none
        ("0,-1,1", [0]),
        ("x", []),
        ("0,0", []),
        ("", []),
        ("-1", []),
        ("GPU-bb22", [1]),
        ("GPU-b", [1]),
        ("GPU-", []),  # both begin so
        ("GPU-cc33", []),
    ],
)
def test_what_cuda_sees(monkeypatch: pytest.MonkeyPatch, named: str | None, visible: list[int]) -> None:
    install(monkeypatch, uuids=("GPU-aa11", "GPU-bb22"))
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert driver.ask(driver.visible_devices) == (visible, None)
    monkeypatch.setattr(env, "package_versions", lambda: {"torch": "2.13.0"})
    count, reason = env.cuda_device_count()
    assert (count, bool(reason)) == (len(visible), not visible)
    assert env.chosen_device("auto") == ("cuda" if visible else "cpu")
    if visible:
        assert driver.ask(driver.first_visible) == (visible[0], None)
    else:
        assert repr(named) in (driver.ask(driver.first_visible)[1] or "")
        assert repr(named) in reason


def test_a_machine_without_a_device_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, uuids=())
    assert driver.ask(driver.first_visible) == (None, "NVML lists no device")
    assert env.readings(device="cuda")["gpu"] == {"reason": "NVML lists no device"}


def test_the_package_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert driver.ask(driver.facts) == (None, "nvidia-ml-py is not installed")

"""What other processes used, from counters that are made up."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from benchmarks.probes import load


@pytest.fixture
def machine(monkeypatch):
    """A machine of two processors: its counters in seconds, and the seconds of this process and of those it started."""
    own = {"seconds": 5.0}
    # a quarter each in user code and in the system, of this process and of those that it started and that have ended; then what passed
    monkeypatch.setattr(os, "times", lambda: (*(own["seconds"] / 4,) * 4, 1e6))

    def at(*, seconds, **counters):
        times = SimpleNamespace(**({"user": 0.0, "nice": 0.0, "system": 0.0, "idle": 0.0, "guest": counters["user"]} | counters))
        monkeypatch.setattr(load.psutil, "cpu_times", lambda: times)
        own["seconds"] = seconds

    return at


def watched(machine, before, after):
    machine(**before)
    with load.LoadWatch() as watch:
        machine(**after)
    return watch


def test_what_others_used_is_all_that_was_used_less_ones_own(machine):
    # 10 s of two processors: 20 s; 14 used, 8 of them by this process
    watch = watched(machine, {"user": 10, "idle": 10, "seconds": 5}, {"user": 22, "system": 2, "idle": 16, "seconds": 13})
    assert watch.foreign_share == pytest.approx((14 - 8) / 20)
    assert watch.readings()["foreign_cpu_share"] == 0.3


def test_waiting_is_no_use_and_what_other_guests_took_is(machine):
    watch = watched(machine, {"user": 0, "idle": 0, "seconds": 0}, {"user": 5, "idle": 3, "iowait": 1, "steal": 1, "seconds": 5})
    assert watch.foreign_share == pytest.approx(0.1)


def test_rounding_never_gives_less_than_nothing(machine):
    assert watched(machine, {"user": 0, "idle": 0, "seconds": 0}, {"user": 1, "idle": 1, "seconds": 1.2}).foreign_share == 0.0


def test_a_system_that_does_not_tell_gives_none(monkeypatch):
    def nothing():
        raise OSError("no /proc")

    monkeypatch.setattr(load.psutil, "cpu_times", nothing)
    monkeypatch.setattr(load.psutil, "getloadavg", nothing)
    with load.LoadWatch() as watch:
        pass
    assert watch.readings() == {"load_average_before": None, "load_average_after": None, "foreign_cpu_share": None}
    assert watch.said({"a": {"value": 1.0, "method": "timed"}}, above=0.1) == {"a": {"value": 1.0, "method": "timed"}}


@pytest.mark.parametrize(("share", "method"), [(0.08, "timed"), (0.35, "timed, other processes used 35% of the processors")])
def test_a_timing_says_so_above_a_tenth_and_stays_valid(share, method):
    watch = load.LoadWatch()
    watch.foreign_share = share
    told = watch.said({"a": {"value": 1.0, "method": "timed"}, "b": {"value": None, "method": "nothing to time"}}, above=0.1)
    assert told == {"a": {"value": 1.0, "method": method}, "b": {"value": None, "method": "nothing to time"}}


@pytest.mark.skipif(not sum(psutil.cpu_times()[:4]) or not Path("/proc/stat").is_file(), reason="this system does not tell")
def test_this_machine_can_tell():
    with load.LoadWatch() as watch:
        deadline = time.monotonic() + 0.3  # several of the ticks in which a kernel counts
        while time.monotonic() < deadline:
            pass
    assert watch.foreign_share is not None
    assert 0.0 <= watch.foreign_share <= 1.0
    readings = watch.readings()
    assert set(readings) == {"load_average_before", "load_average_after", "foreign_cpu_share"}
    assert None not in readings.values()

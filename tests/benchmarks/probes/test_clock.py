"""The clock that every timing comes from, held against a clock that the calls themselves advance; and what times become in a record."""

import types

import numpy as np
import pytest
import torch
from tiny_cells import CELLS, subject_of

from benchmarks import execute
from benchmarks.probes import clock, control, training_cost
from benchmarks.probes.control import share_of_time
from benchmarks.probes.latency import _energy, percentiles
from benchmarks.probes.peak import peak_bytes
from benchmarks.probes.throughput import rate
from benchmarks.run.processes import NOTES

MIB = 1 << 20


class FakeClock:
    """Time that passes in calls alone. On a device a call only queues its work, whose time passes when somebody waits for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.queued, self.log = 0.0, 0.0, []
        monkeypatch.setattr(clock, "time", types.SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(torch.cuda, "synchronize", self.wait)

    def wait(self):
        self.log.append("wait")
        self.now, self.queued = self.now + self.queued, 0.0

    def call(self, name, *seconds, queues=False):
        """A call of this name that takes so many seconds, one after the other, then always the last."""
        left = list(seconds)

        def run():
            self.log.append(name)
            took = left.pop(0) if len(left) > 1 else left[0]
            if queues:
                self.queued += took
            else:
                self.now += took

        return run


@pytest.fixture
def fake(monkeypatch):
    return FakeClock(monkeypatch)


def test_on_a_device_a_call_is_timed_to_its_end_and_what_was_queued_before_is_not_its_time(fake):
    fake.queued = 100.0
    assert clock.timed(fake.call("a", 2.0, 3.0, queues=True), device="cuda", count=2) == [2.0, 3.0]
    assert fake.log == ["wait", "a", "wait"] * 2


def test_on_a_cpu_nothing_waits(fake):
    assert clock.timed(fake.call("a", 2.0, 3.0), device="cpu", count=3) == [2.0, 3.0, 3.0]
    assert fake.log == ["a"] * 3


def test_calls_take_turns_in_an_order_that_changes_every_round(fake):
    found = clock.interleaved([fake.call("a", 9.0, 1.0, 2.0, 3.0), fake.call("b", 9.0, 5.0)], rounds=3, device="cpu")
    assert "".join(fake.log) == "ab" + "ab" + "ba" + "ab"  # each once before, which is not timed
    assert found == [[1.0, 2.0, 3.0], [5.0] * 3]
    fake.log.clear()
    clock.interleaved([fake.call("a", 1.0), fake.call("b", 1.0)], rounds=1, device="cpu", warm=True)
    assert "".join(fake.log) == "ab"


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [
        ((9.0, 4.0, 2.0, 2.0), 4),  # each over 1.5 times the next, until two are alike
        ((2.0, 2.0), 2),
        (tuple(2.0**-n for n in range(40)), clock.MOST_WARM_UP_CALLS),
        ((100.0, 8.0, 3.0, 1.0), 3),  # enough seconds behind the first, which may compile
    ],
)
def test_a_warm_up_ends_where_calls_take_as_long_as_before_or_after_enough(fake, seconds, calls):
    assert clock.warm_up(fake.call("a", *seconds), device="cpu") == seconds[calls - 1]
    assert len(fake.log) == calls


@pytest.mark.parametrize(
    ("each", "least", "samples"),
    [
        (0.25, 3, 3),  # as many as are asked for
        (0.125, 3, 4),  # until the seconds are through
        (6.0, 67, clock.FEWEST),  # of slow calls a few are enough
    ],
)
def test_calls_are_repeated_until_there_are_enough_and_enough_time_has_passed(fake, each, least, samples):
    found = clock.repeat(fake.call("a", each), device="cpu", seconds=0.5, least=least)
    assert found.tolist() == [each] * samples
    assert len(fake.log) == samples + 2  # two of the warm-up
    fake.log.clear()
    clock.repeat(fake.call("a", each), device="cpu", seconds=0.5, least=least, warm=True)
    assert len(fake.log) == samples


WIDE, NARROW = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([3.0, 3.1, 2.9, 3.0, 3.05])


def test_a_rate_is_the_batch_over_the_median_and_says_where_it_spreads():
    found = rate(WIDE, 6)
    assert (found["value"], found["low"], found["high"], found["n"]) == (2.0, 1.5, 3.0, 5)
    assert NOTES[0].search(found["method"])["share"] == "67"
    assert not NOTES[0].search(rate(NARROW, 6)["method"])


def test_percentiles_are_milliseconds_and_the_median_says_where_they_spread():
    found = percentiles("serve_latency", WIDE)
    median = found["serve_latency_p50_ms"]
    assert (median["value"], median["low"], median["high"], median["samples"]) == (
        3000.0,
        2000.0,
        4000.0,
        [1000.0 * n for n in range(1, 6)],
    )
    assert found["serve_latency_p95_ms"]["value"] == pytest.approx(4800.0)
    assert found["serve_latency_p99_ms"]["value"] == pytest.approx(4960.0)
    assert NOTES[0].search(median["method"])["share"] == "67"
    assert not NOTES[0].search(percentiles("serve_latency", NARROW)["serve_latency_p50_ms"]["method"])


def test_a_share_of_time_is_the_median_of_the_ratios_of_pairs():
    found = share_of_time(np.array([1.0, 4.0, 9.0, 16.0, 25.0]), WIDE, 8)
    assert (found["value"], found["low"], found["high"]) == (3.0, 2.0, 4.0)
    assert NOTES[0].search(found["method"])["share"] == "67"
    assert not NOTES[0].search(share_of_time(NARROW, NARROW, 8)["method"])


def test_energy_is_joules_of_a_thousand_requests():
    assert _energy(1000, 8000, "told", 70)["value"] == 100.0  # 7 joules over 70 requests


@pytest.mark.usefixtures("measuring")
def test_what_is_timed_of_training_is_whole_steps_of_the_optimiser(monkeypatch):
    monkeypatch.setattr(training_cost, "SECONDS", 0.01)
    monkeypatch.setattr(training_cost, "LEAST", 4)
    monkeypatch.setattr(control, "SECONDS", 0.01)
    subject = subject_of(CELLS["experts"])
    steps, own = [], torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *args, **kwargs: steps.append(id(self)) or own(self, *args, **kwargs))
    seconds = training_cost._seconds(subject)
    assert len(steps) >= len(seconds) + 2  # and the warm-up
    steps.clear()
    ours, full = training_cost._in_turn(subject, execute._control(subject))
    assert len(ours) == len(full) > 0
    assert {steps.count(optimiser) - len(ours) for optimiser in set(steps)} <= set(range(2, clock.MOST_WARM_UP_CALLS + 1))
    assert len(set(steps)) == 2  # a side each


def touched(mib):
    """A call that takes so much memory for a moment, every page of it."""
    return lambda: np.ones(mib * MIB, dtype=np.uint8).sum()


def test_a_peak_on_a_cpu_is_that_of_the_call_above_what_was_there():
    peak_bytes(touched(256), "cpu")  # an earlier and larger one
    assert 60 * MIB <= peak_bytes(touched(64), "cpu") < 96 * MIB  # the kernel counts a little late
    kept = np.ones(64 * MIB, dtype=np.uint8)
    assert peak_bytes(lambda: kept[0], "cpu") < 8 * MIB


def test_a_peak_on_a_gpu_is_what_was_allocated_at_most_above_what_was_before(monkeypatch):
    log = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("wait"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: log.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: log.append("resident") or 1000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: log.append("peak") or 5000)
    assert peak_bytes(lambda: log.append("call"), "cuda") == 4000
    assert log == ["call", "wait", "reset", "resident", "call", "wait", "peak"]

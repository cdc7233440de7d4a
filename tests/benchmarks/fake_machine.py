"""Processes of a timing comparison that are made up: no clock is looked at."""

from pathlib import Path

import numpy as np

from benchmarks.cell import Cell
from benchmarks.compare import worker
from benchmarks.compare.judge import comparisons_of
from benchmarks.compare.turns import BASE, HEAD, ProcessError, WorkOrder, run_pairs
from benchmarks.environment import PROJECT

SPREAD = 0.01
PEAK = 4_000_000
MADE_UP = {worker.SERVE: 1e-3, worker.COMPRESS: 2e-3, worker.TRAIN: 8e-3}


class Machine:
    """Starts processes that answer as real ones would: times around a thousandth, with noise."""

    def __init__(self, *, slower=None, larger=None, fails=None, spread=SPREAD, foreign=0.0):
        self.random = np.random.default_rng(3)
        self.slower, self.fails, self.spread, self.foreign = slower or {}, fails or {}, spread, foreign
        self.larger = larger or {}
        self.silent = {}
        self.started, self.asked, self.turns, self.sizes = [], [], [], []
        self.own_sizes = {}

    def __call__(self, root, order):
        assert order["root"] == str(root)
        self.started.append("head" if len(self.started) % 2 else "base")  # the base's process is started first
        return FakeProcess(self, self.started[-1], order)

    def noise(self):
        return float(np.exp(self.random.normal(0, self.spread / np.sqrt(2))))


class FakeProcess:
    """One of a machine's processes."""

    def __init__(self, machine, side, order):
        self.machine, self.side, self.order = machine, side, order

    def ready(self):
        if self.machine.fails.get(self.side) == "process":
            raise ProcessError(f"{self.side}: ended with exit code 1: ImportError: no torch")

    def ask(self, key, timing=None, size=None):
        if timing is not None:
            self.machine.turns.append((self.side, key, timing))
            self.machine.sizes.append((timing, tuple(size)))
            return {"seconds": self.medians[timing]}
        self.machine.asked.append((self.side, key))
        fault = self.machine.fails.get(self.side)
        if fault is not None and (fault[1] is None or len(self.machine.started) in fault[1]):
            return {"error": fault[0]}
        names = [worker.SERVE, worker.TRAIN, worker.COMPRESS][: comparisons_of(Cell.from_dict(self.order["cells"][key]))]
        noise, slower = self.machine.noise, self.machine.slower
        self.medians = {name: MADE_UP[name] * noise() * slower.get((self.side, name), 1.0) for name in names}
        if key in self.order["planted"]:
            self.medians[worker.PLANTED] = MADE_UP[worker.SERVE] * noise() * 1.2
        sizes = {name: self.machine.own_sizes.get((self.side, name), (5, 3)) for name in self.medians}
        return {"timings": list(self.medians), "sizes": sizes, "readings": {"foreign_cpu_share": self.machine.foreign}}

    def peaks(self, key):
        assert key in self.order["cells"]
        names = [name for name in self.medians if name != worker.PLANTED]
        noise = self.machine.random.normal(1, SPREAD, len(names))  # whatever the clock does
        larger = self.machine.larger
        if self.side in self.machine.silent:
            return self.machine.silent[self.side]
        return {"peaks": {name: int(PEAK * own * larger.get((self.side, name), 1.0)) for name, own in zip(names, noise, strict=True)}}

    def close(self):
        pass


def one_pair(process):
    """A pair of a cell that serves and trains, with a process class of the test's own."""
    machine = Machine()

    def start(root, order):
        machine(root, order)
        return process(machine, machine.started[-1], order)

    order = WorkOrder(cells={"a": {"backbone": "hstu", "compression": "recent"}}, payload={}, threads=1, affinity=[0], timeout_s=1)
    return run_pairs({BASE: Path("base"), HEAD: PROJECT}, order, count=1, seed=1, on_pair=lambda number: None, start=start)[0]

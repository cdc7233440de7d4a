"""The process of a timing comparison: what it times, and what it says where it cannot."""

import math

import pytest

from benchmarks.cell import Cell
from benchmarks.compare import worker
from benchmarks.compare.judge import comparisons_of
from benchmarks.compare.turns import BASE, HEAD, MeasuringProcess, ProcessError, WorkOrder
from benchmarks.environment import PROJECT


class Subject:
    """Counts its calls."""

    def __init__(self, cell):
        self.cell, self.calls, self.compresses = cell, {"serve": 0, "compress": 0, "train": 0}, bool(cell.tokens)
        self.model = self

    def train(self, mode):
        self.training = mode

    def request(self, users):
        return users

    def training_batch(self, users):
        return users

    def server(self, users):
        assert users == self.cell.batch_size
        return lambda: self.count("serve")

    def compress(self, users):
        assert users == self.cell.batch_size
        self.count("compress")

    def trainer(self):
        return self

    def step(self, users):
        assert users == self.cell.batch_size
        self.count("train")

    def count(self, name):
        assert self.training == (name == "train")
        self.calls[name] += 1


def test_the_planted_slow_down_is_a_fifth_more_real_work():
    done = {}

    def timed(call, *, device, count):
        before = dict(subject.calls)
        call()
        done[name] = {what: subject.calls[what] - before[what] for what in before if subject.calls[what] > before[what]}
        return [0.030] * count

    subject = Subject(Cell(backbone="hstu", compression="experts", tokens=4))
    of_cell = worker.Timings(subject, timed, planted=True)
    medians = {}
    for name in (*of_cell.names, worker.SERVE):  # serving again behind a training step
        medians[name] = of_cell.median(name, *of_cell.sizes[name])
    assert done == {
        worker.SERVE: {"serve": 5},
        worker.PLANTED: {"serve": 6},
        worker.COMPRESS: {"compress": 5},
        worker.TRAIN: {"train": 1},
    }
    assert medians == {worker.SERVE: 0.006, worker.PLANTED: 0.006, worker.COMPRESS: 0.006, worker.TRAIN: 0.030}
    assert worker.Timings(Subject(Cell(backbone="hstu", compression="recent")), timed, planted=False).names == [
        worker.SERVE,
        worker.TRAIN,
    ]


@pytest.mark.parametrize(("seconds", "calls", "samples"), [(0.002, 5, 3), (0.02, 1, 3), (0.3, 1, 1)])
def test_a_call_that_takes_long_is_a_sample_alone_and_then_a_turn_alone(seconds, calls, samples):
    counts = []

    def timed(call, *, device, count):
        before = subject.calls["serve"]
        call()
        done = subject.calls["serve"] - before
        counts.append((done, count))
        return [seconds * max(1, done)] * count

    subject = Subject(Cell(backbone="hstu", compression="recent"))
    of_cell = worker.Timings(subject, timed, planted=False)
    of_cell.warm_up()
    assert of_cell.sizes[worker.SERVE] == (calls, samples)
    assert of_cell.median(worker.SERVE, calls, samples) == pytest.approx(seconds)
    assert counts[-1] == (calls, samples)


def test_peaks_are_of_each_call_once_and_none_where_the_system_does_not_tell():
    subject = Subject(Cell(backbone="hstu", compression="experts", tokens=4))
    of_cell = worker.Timings(subject, None, planted=True)
    seen = []

    def peak_bytes(call, device):
        call()
        seen.append(dict(subject.calls))
        return len(seen)

    assert of_cell.peaks(peak_bytes) == {worker.SERVE: 1, worker.COMPRESS: 2, worker.TRAIN: 3}
    assert seen[-1] == {"serve": 1, "compress": 1, "train": 1}

    def untold(call, device):
        raise OSError("no malloc_trim")

    assert of_cell.peaks(untold) == {}


def test_a_real_process_times_a_cell_of_this_checkout(tmp_path):
    settings = {"dataset_size": "tiny", "history": 6, "recent": 2, "width": 8, "batch_size": 2, "negatives": 8, "layers": 1}
    good = Cell(backbone="hstu", compression="experts", tokens=2, training="none", **settings)
    cells = {"good": good.to_dict(), "bad": {"backbone": "nothing", "compression": "full"}}
    payload = {"data_dir": None, "cache_dir": str(tmp_path)}
    order = WorkOrder(cells=cells, payload=payload, threads=1, affinity=[0], timeout_s=300, planted=["good"])
    process = MeasuringProcess(PROJECT, order.to_dict(PROJECT, HEAD))
    try:
        process.ready()
        bad, answer = process.ask("bad"), process.ask("good")
        turns = [process.ask("good", name, answer["sizes"][name]) for name in answer["timings"]]
        peaks = process.peaks("good")["peaks"]
        unknown = process.ask("good", "sleeping", (1, 1))
    finally:
        process.close()
    assert set(answer["timings"]) == {worker.SERVE, worker.PLANTED, worker.COMPRESS, worker.TRAIN}
    assert all(turn["seconds"] > 0 for turn in turns)
    assert len(answer["timings"]) - 1 == comparisons_of(good)
    assert set(peaks) == {worker.SERVE, worker.COMPRESS, worker.TRAIN}
    assert all(peak >= 0 for peak in peaks.values())
    assert "sleeping" in unknown["error"]
    assert set(answer["readings"]) == {"load_average_before", "load_average_after", "foreign_cpu_share"}
    assert "backbone: unknown 'nothing'" in bad["error"]


@pytest.mark.parametrize(
    ("timeout_s", "code", "part"),
    [
        (
            300,
            "raise OSError('broken')",
            "^base: its measuring process ended with exit code 1: OSError: broken$",
        ),
        (math.inf, "raise SystemExit(5)", "^base: its measuring process ended with exit code 5: no output$"),  # `cell_seconds = inf`
        (300, "raise SystemExit(7)", "^base: its measuring process ended with exit code 7: no output$"),
        (0.01, "import signal; signal.pause()", r"^base: no answer after 0\.01 s$"),  # it waits for ever, however slow the machine is
    ],
)
def test_a_process_that_does_not_run_says_whose_it_is_and_why(tmp_path, timeout_s, code, part):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text(f"{code}\n")
    order = WorkOrder(cells={}, payload={}, threads=1, affinity=[0], timeout_s=timeout_s)
    process = MeasuringProcess(tmp_path, order.to_dict(tmp_path, BASE))
    try:
        with pytest.raises(ProcessError, match=part):
            process.ready()
    finally:
        process.close()
    assert [path.name for path in tmp_path.rglob("*")] == ["benchmarks", "__init__.py"]  # a checkout is only read

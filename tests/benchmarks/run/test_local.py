"""Which processors and GPUs the workers of this machine get."""

import itertools
import json
import os
import types
from dataclasses import replace
from pathlib import Path

import pytest
from drive_run import FAKE
from places import CELLS, SHAPES, Call

from benchmarks import environment
from benchmarks.cell import Cell
from benchmarks.grids import Limits
from benchmarks.isolation import Job
from benchmarks.labels import Labels
from benchmarks.run import local, slurm
from benchmarks.run.jobs import CostsOf, QualityOf, SweepSettings, TrainingOf
from benchmarks.run.plan import Planned

CELL = Cell(backbone="hstu", compression="recent", device="cuda")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs that would run, on a machine of 4 processors and 2 GPUs."""
    jobs: list[Job] = []
    monkeypatch.setattr(local, "Isolated", lambda job: jobs.append(job) or types.SimpleNamespace(job=job))
    monkeypatch.setattr(environment, "available_processors", lambda: (0, 1, 2, 3))
    for module in (environment, local):
        monkeypatch.setattr(module, "cuda_device_count", lambda: (2, ""))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return jobs


def executor(places: int, *, threads: int = 1) -> local.LocalExecutor:
    settings = SweepSettings(
        out=Path("out"), data_dir=None, cache_dir=None, dataset_file=None, workers=places, limits=Limits(), argv=(), order_seed=1,
        labels=Labels.of([CELL]), work=FAKE,
    )  # fmt: skip
    return local.LocalExecutor(settings, places=places, threads=threads)


def planned(cell: Cell) -> Planned:
    keys = {name: name for name in ("key", "model_key", "quality_key", "cost_key", "dataset_digest")}
    return Planned(cell=cell, code={"training": "c0de"}, quality_reason="missing", known=None, **keys)


def test_each_worker_has_its_own_gpu_and_processor(started: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    for slot in range(3):
        executor(3).start(QualityOf(planned=planned(CELL)), slot=slot, attempt=1)
    assert [job.gpu for job in started] == ["0", "1", "0"]
    assert [job.affinity for job in started] == [(0,), (1,), (2,)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    executor(2).start(QualityOf(planned=planned(CELL)), slot=1, attempt=1)
    assert started[-1].gpu == "GPU-b"


def test_one_worker_sees_every_gpu_and_no_gpu_is_chosen_on_a_cpu(started: list[Job]) -> None:
    executor(1).start(QualityOf(planned=planned(CELL)), slot=0, attempt=1)
    executor(2).start(QualityOf(planned=planned(replace(CELL, device="cpu"))), slot=0, attempt=1)
    assert [job.gpu for job in started] == [None, None]


def test_a_training_on_several_processes_has_processors_and_gpus_for_all(started: list[Job]) -> None:
    """And what runs beside it has others."""
    workers = executor(2, threads=2)
    workers.start(TrainingOf(planned=planned(replace(CELL, world_size=2))), slot=0, attempt=1)
    assert (started[0].affinity, started[0].gpu) == ((0, 1), None)
    workers.start(QualityOf(planned=planned(replace(CELL, world_size=2))), slot=1, attempt=1)
    assert started[1].affinity == (2, 3)


@pytest.mark.parametrize(("named", "count", "gpu"), [("-1", 0, None), ("", 0, None), ("1,-1,0", 1, "1"), (None, 2, "1")])
def test_no_gpu_is_given_that_may_not_be_seen(
    started: list[Job], monkeypatch: pytest.MonkeyPatch, named: str | None, count: int, gpu: str | None
) -> None:
    for module in (environment, local):
        monkeypatch.setattr(module, "cuda_device_count", lambda: (count, ""))
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    executor(2).start(QualityOf(planned=planned(CELL)), slot=1, attempt=1)
    assert started[0].gpu == gpu


def test_workers_keep_to_their_processors_and_a_cost_has_the_machine_to_itself(place: Path, call: Call) -> None:
    assert call("--workers", "3", seconds=0.6, cost_seconds=0.1) == 0
    spans = [json.loads(line) for line in (place / "spans").read_text().splitlines()]
    costs = [span for span in spans if span["kind"] == "cost"]
    assert len(costs) == SHAPES
    assert len(spans) == SHAPES + CELLS
    for cost in costs:
        beside = [other for other in spans if other is not cost and other["began"] < cost["ended"] and cost["began"] < other["ended"]]
        assert beside == []
    assert {len(span["affinity"]) for span in spans} == {1}
    qualities = [span for span in spans if span["kind"] == "quality"]
    pairs = itertools.combinations(qualities, 2)
    side_by_side = [(one, two) for one, two in pairs if two["began"] < one["ended"] and one["began"] < two["ended"]]
    assert side_by_side
    if len(os.sched_getaffinity(0)) >= 3:
        assert all(set(one["affinity"]).isdisjoint(two["affinity"]) for one, two in side_by_side)


def test_costs_run_one_by_one(started: list[Job]) -> None:
    with pytest.raises(TypeError, match="one by one"):
        executor(2).start(CostsOf(costs=()), slot=0, attempt=1)


def test_slurm_is_refused_where_its_commands_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="--executor: slurm: no sbatch on this machine"):
        slurm.check_slurm()

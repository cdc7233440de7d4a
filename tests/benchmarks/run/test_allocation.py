"""What a cluster's job runs on its node, and what the run makes of a job's end, without a cluster."""

import pickle
import time
from dataclasses import replace
from pathlib import Path

import pytest
from drive_run import FAKE
from places import order

from benchmarks.cell import Cell
from benchmarks.grids import Limits, load_grid
from benchmarks.grids.cluster import ClusterRequest, LaneRequest
from benchmarks.isolation import Job, Outcome
from benchmarks.keys import Catalogue, cost_shape
from benchmarks.labels import Labels
from benchmarks.records import Status
from benchmarks.run import allocation as node
from benchmarks.run import slurm
from benchmarks.run.allocation import Allocation, code_stamp
from benchmarks.run.jobs import Answer, CostOf, CostsOf, Place, SweepSettings, TrainingOf, costs_of
from benchmarks.run.plan import Planned, PlannedCost

CELL = Cell(backbone="hstu", compression="recent", training="none")


@pytest.fixture
def costs(tmp_path: Path) -> Allocation:
    """The costs of two shapes, two processes each, in turn."""
    order(tmp_path)
    (tmp_path / "did").write_text("")
    cells = [CELL, replace(CELL, compression="full")] * 2
    jobs = [
        Job(
            function=FAKE.cost,
            payload={"cell": cell.to_dict(), "cache_dir": str(tmp_path), "kinds": ["flops", "training_cost"], "train_flops": None},
            log_path=tmp_path / "log",
        )
        for cell in cells
    ]
    keys = tuple(cell.compression for cell in cells)
    return Allocation(
        answers=tmp_path / "x.answers",
        jobs=tuple(jobs),
        keys=keys,
        preload=(),
        exclusive=True,
        minutes=60,
        requeues=1,
        code=code_stamp(),
    )


def cluster_executor(out: Path) -> slurm.ClusterExecutor:
    settings = SweepSettings(
        out=out, data_dir=None, cache_dir=None, dataset_file=None, workers=1, limits=Limits(), argv=(), order_seed=1,
        labels=Labels.of([CELL]), work=FAKE,
    )  # fmt: skip
    return slurm.ClusterExecutor(settings, ClusterRequest(), places=1, anew=False)


def answers(allocation: Allocation) -> list[Answer]:
    return list(pickle.loads(allocation.answers.read_bytes()))


def test_costs_run_in_turn_on_processors_of_their_own_and_answer_together(costs: Allocation, tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(costs))()
    assert [answer.outcome.status for answer in answers(costs)] == [Status.OK] * 4
    assert [line.split()[2] for line in (tmp_path / "did").read_text().splitlines()] == ["recent", "full"] * 2
    places = [answer.place for answer in answers(costs)]
    assert all(place.facts is not None and len(place.affinity) == 1 and place.utc for place in places)


def test_a_shape_that_fails_is_not_tried_by_its_other_processes_and_fails_alone(costs: Allocation, tmp_path: Path) -> None:
    order(tmp_path, fail="cost-memory:recent")
    costs()
    assert [answer.outcome.status for answer in answers(costs)] == [Status.OOM, Status.OK] * 2
    assert [line.split()[2] for line in (tmp_path / "did").read_text().splitlines()] == ["recent", "full", "full"]


def test_what_may_be_bad_luck_is_tried_again_on_the_node(costs: Allocation, tmp_path: Path) -> None:
    order(tmp_path, fail="cost-signal:recent")
    replace(costs, jobs=costs.jobs[:1], keys=costs.keys[:1])()
    (answer,) = answers(costs)
    assert (answer.outcome.status, answer.outcome.retry) == (Status.CRASH, False)
    assert len((tmp_path / "did").read_text().splitlines()) == 3


def test_code_that_was_edited_meanwhile_measures_nothing(costs: Allocation, tmp_path: Path) -> None:
    replace(costs, code="another")()
    assert {answer.outcome.status for answer in answers(costs)} == {Status.INVALID}
    assert (tmp_path / "did").read_text() == ""


def test_the_stamp_of_the_code_changes_with_an_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "persrec").mkdir()
    (tmp_path / "persrec" / "a.py").write_text("1\n")
    monkeypatch.setattr(node, "PROJECT", tmp_path)
    before = code_stamp()
    assert before == code_stamp()
    (tmp_path / "persrec" / "a.py").write_text("12\n")
    assert before != code_stamp()


def test_a_job_begins_again_as_often_as_the_grid_allows(costs: Allocation, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    object.__setattr__(costs, "_began", time.monotonic())
    again = costs.checkpoint()
    assert again.function == costs
    assert not costs.answers.exists()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert costs.checkpoint() is None
    assert {(answer.outcome.status, answer.outcome.message) for answer in answers(costs)} == {
        (Status.CRASH, "begun 2 times, and preempted each time")
    }
    object.__setattr__(costs, "_began", time.monotonic() - 3600)
    assert costs.checkpoint() is None
    assert {answer.outcome.status for answer in answers(costs)} == {Status.TIMEOUT}
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    costs()
    assert "begun 3 times" in str(answers(costs)[0].outcome.message)


@pytest.mark.parametrize(
    ("state", "status", "retry"),
    [
        ("TIMEOUT", Status.TIMEOUT, False),
        ("OUT_OF_MEMORY", Status.OOM, False),
        ("CANCELLED", Status.CRASH, False),
        ("NODE_FAIL", Status.CRASH, True),
        ("GONE", Status.CRASH, True),
    ],
)
def test_the_end_of_a_job_without_answers(
    costs: Allocation, monkeypatch: pytest.MonkeyPatch, state: str, status: Status, *, retry: bool
) -> None:
    monkeypatch.setattr(slurm, "GRACE_S", 0.02)
    running = slurm.ClusterRunning(CostsOf(costs=()), costs)
    running.tell("RUNNING")
    running.tell(state)
    time.sleep(0.05)
    assert running.poll() is None  # Slurm may put it back, and its answers may be on their way
    running.tell(state)
    outcome = running.poll()
    assert outcome is not None
    assert (outcome.status, outcome.retry) == (status, retry)


@pytest.mark.parametrize(
    ("status", "is_there", "outlived"), [(Status.OK, True, False), (Status.OK, False, True), (Status.CRASH, False, False)]
)
def test_an_answer_of_a_training_whose_model_is_gone_is_none(
    costs: Allocation, tmp_path: Path, status: Status, *, is_there: bool, outlived: bool
) -> None:
    """As of an earlier run whose models were removed; of one that failed there is none."""
    (tmp_path / "model").mkdir()
    if is_there:
        (tmp_path / "model" / "model.json").write_text("{}")
    of_training = replace(costs, jobs=(replace(costs.jobs[0], payload={"model_dir": str(tmp_path / "model")}),))
    costs.answers.write_bytes(pickle.dumps([Answer(outcome=Outcome(status=status), place=Place())]))
    planned = Planned(
        cell=CELL,
        code={},
        quality_reason="missing",
        known=None,
        **dict.fromkeys(("key", "model_key", "quality_key", "cost_key", "dataset_digest"), "k"),
    )
    running = slurm.ClusterRunning(TrainingOf(planned=planned), of_training)
    running.is_answered = True
    assert running.has_outlived_its_model() == outlived


def test_a_job_that_slurm_puts_back_has_not_failed(costs: Allocation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "GRACE_S", 0.02)
    running = slurm.ClusterRunning(CostsOf(costs=()), costs)
    for state in ("NODE_FAIL", "PENDING", "NODE_FAIL"):
        running.tell(state)
        time.sleep(0.05)
        assert running.poll() is None


@pytest.mark.parametrize(
    "line",
    [
        "slurmstepd-node7: error: StepId=1.0 exceeded memory limit (613773312 > 314572800), being killed",
        "slurmstepd: error: Exceeded job memory limit",
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=1.0. Some of your processes may have been killed by the handler.",
        "slurmstepd: error: Detected 2 oom_kill events in StepId=1.batch. Some of the step tasks have been OOM Killed.",
    ],
)
def test_memory_that_slurm_ended_a_job_for_is_read_from_its_log(costs: Allocation, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(slurm, "GRACE_S", 0.0)
    running = slurm.ClusterRunning(CostsOf(costs=()), costs)
    running.job_id = "7_1"
    log = costs.answers.parent / "7_1_0_log.err"
    for told, status in ((f"srun: {line}", Status.CRASH), (line, Status.OOM)):  # only where it is Slurm that says so
        log.write_text(f"submitit WARNING\n{told}\n")
        running.tell("FAILED")
        outcome = running.poll()
        assert outcome is not None
        assert outcome.status is status
        assert outcome.retry is (status is Status.CRASH)
        assert told in str(outcome.log_tail)


def test_a_run_with_nothing_to_wait_for_waits_for_nothing(tmp_path: Path) -> None:
    cluster_executor(tmp_path).wait([])


@pytest.mark.parametrize(("minutes", "seconds"), [(1, 20), (3, 60), (5, 90), (600, 90)])
def test_a_job_is_told_of_its_end_after_it_has_begun(minutes: int, seconds: int) -> None:
    assert node.warning_s(minutes) == seconds


def test_a_grid_asks_for_its_lanes(tmp_path: Path) -> None:
    grid = tmp_path / "own.toml"
    sweep = '[[sweep]]\nbackbone = "hstu"\ncompression = "full"\n'
    grid.write_text(f'{sweep}[slurm]\npartition = "many"\njobs = 7\n[slurm.cost]\npartition = "whole"\nconstraint = "h100"\nmem_gb = 16\n')
    cluster = load_grid(str(grid), device="cpu").cluster
    assert cluster.training == LaneRequest(partition="many", jobs=7)
    assert cluster.cost == LaneRequest(partition="whole", constraint="h100", mem_gb=16.0, jobs=7)
    assert cluster.jobs == 7
    for table, message in (
        ("[slurm]\npartitoin = 'a'", r"\[slurm\]: unknown 'partitoin'"),
        ("[slurm.cost]\ncpus = 0", r"\[slurm\.cost\]: cpus: 0; expected 1"),
        ("[slurm.costs]\ncpus = 1", r"\[slurm\]: unknown 'costs'"),
        ("[slurm.quality]\nmem_gb = -1", r"\[slurm\.quality\]: mem_gb: -1\.0; expected"),
    ):
        grid.write_text(f"{sweep}{table}\n")
        with pytest.raises(ValueError, match=message):
            load_grid(str(grid), device="cpu")


def test_a_job_may_take_as_long_as_the_grid_lets_it() -> None:
    assert LaneRequest().minutes_for(600) == 15
    assert LaneRequest().minutes_for(float("inf")) == 24 * 60 + 5
    assert LaneRequest(minutes=3000).minutes_for(600) == 3000
    assert ClusterRequest().lane("quality") == LaneRequest()


def cost_of(cell: Cell) -> CostOf:
    planned = PlannedCost(
        key=cell.compression, cell=cell, shape=cost_shape(cell, Catalogue(items=9)), dataset_digest="d", code={}, anew=(), jobs=(),
        processes=1, first=0, reason="missing", known=None,
    )  # fmt: skip
    return CostOf(planned=planned, kinds=("flops",))


def test_costs_that_are_divided_by_each_other_share_an_allocation(tmp_path: Path) -> None:
    full, tokens, wider = (replace(CELL, **changes) for changes in ({"compression": "full"}, {"compression": "experts"}, {"width": 96}))
    groups = cluster_executor(tmp_path).grouped([cost_of(cell) for cell in (full, wider, tokens, full)])
    assert [[cost.planned.cell for cost in costs_of(group)] for group in groups] == [[full, tokens, full], [wider]]


def test_a_run_takes_away_what_it_and_its_jobs_left_and_nothing_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("squeue", "scancel"):  # a queue without jobs
        (commands / name).write_text("#!/bin/sh\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    executor, jobs, ours = cluster_executor(tmp_path / "out"), tmp_path / "out" / "slurm", ["7_0_log.err", f"{'b' * 32}.pkl"]
    for theirs in ([jobs / "my_job.sbatch"], []):
        executor.prepare([])
        for path in [*(jobs / name for name in ours), *theirs]:
            path.write_text("")
        executor.end()
        assert sorted(jobs.rglob("*")) == theirs
        for path in theirs:
            path.unlink()
    assert not jobs.exists()


def test_answers_that_nobody_took_in_stay_for_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm.SlurmQueue, "cancel", lambda _: None)
    executor, answer = cluster_executor(tmp_path / "out"), tmp_path / "out" / "slurm" / f"{'c' * 64}.answers"
    executor.prepare([])
    answer.write_bytes(b"")
    executor.end()
    assert {path.name for path in answer.parent.iterdir()} == {answer.name, "queue"}

"""What goes wrong on a real Slurm: cancelled jobs, a daemon or a node that dies, memory, time. Each end has its record, nothing is lost."""

import random
from pathlib import Path

from places import CELLS, GRID, done, of_kind, order, wait_for

from benchmarks.records import RunRecords, Status, load_records
from tests.slurm.cluster import SlurmCluster
from tests.slurm.conftest import Begin, finished, in_a_hurry

FLOOR = ("--out", "out", "--executor", "slurm", "--only", "quality", "--select", "backbone=popularity")


def ask_for(place: Path, what: str) -> None:
    """The grid asks this of Slurm for its qualities."""
    (place / "own.toml").write_text(f"{GRID}\n[slurm.quality]\n{what}\n")


def begun(place: Path, kind: str) -> int:
    """Stand-ins of a kind that have begun."""
    return sum(line.startswith(kind) for line in (place / "did").read_text().splitlines())


def without(records: RunRecords, metric: str) -> list[str]:
    """The cells that have no number of this kind, as stand-ins name them."""
    return sorted(f"{one.cell.backbone} {one.cell.compression} {one.cell.tokens}" for one in records if one.value(metric) is None)


def test_cancelled_jobs_and_a_daemon_that_dies_lose_nothing_and_double_nothing(place: Path, begin: Begin, cluster: SlurmCluster) -> None:
    order(place, seconds=3)
    chance = random.Random(20)
    first = begin("--out", "out", "--executor", "slurm", "--workers", "4")
    for number, kind in enumerate(("train", "quality", "quality")):
        before = begun(place, kind)
        wait_for(lambda: begun(place, kind) > before)  # noqa: B023 - waited for right here
        if number == 1:
            cluster.kill_daemon()
        cluster.run("scancel", chance.choice(cluster.jobs()).split()[0])
        if number == 1:
            cluster.start_node()
    in_a_hurry(cluster, lambda: first.poll() is not None)
    assert first.returncode == 3, first.communicate()
    records = load_records(place / "out")
    assert len(records) == CELLS
    assert {record.status for record in records} == {Status.OK, Status.CRASH}
    no_quality = without(records, "ndcg@10")
    no_cost = [name for name in without(records, "serve_flops") if not name.startswith("popularity")]
    done(place)
    order(place)
    finished(begin, "--out", "out", "--executor", "slurm", "--resume", "failed")
    did, after = done(place), load_records(place / "out")
    assert [record.status for record in after] == [Status.OK] * CELLS
    assert len(list((place / "out" / "cells").iterdir())) == CELLS
    assert of_kind(did, "quality") == no_quality
    assert of_kind(did, "cost") == no_cost
    trained = of_kind(did, "train")
    assert set(trained) <= set(no_quality)
    assert len(set(trained)) == len(trained)
    whole = {record.cell_key: record for record in records if record.ok}
    assert [record for record in after if record.cell_key in whole] == list(whole.values())
    assert cluster.jobs() == []


def test_a_node_that_fails_is_a_crash_that_is_tried_again(place: Path, begin: Begin, cluster: SlurmCluster) -> None:
    order(place, seconds=900)
    run = begin(*FLOOR, "--seeds", "1,2")
    wait_for(lambda: begun(place, "quality") == 2)
    lost, _put_back = (line.split()[0] for line in cluster.jobs())
    cluster.run("scontrol", "update", f"JobId={lost}", "Requeue=0")  # as for a job that Slurm may not put back
    order(place)
    # drained first, as a node that answers while its jobs still end comes back, and has them killed, and their next start with them
    for state in ("DRAIN", "DOWN"):
        cluster.run("scontrol", "update", "NodeName=localhost", f"State={state}", "Reason=test")
    wait_for(lambda: not cluster.steps())
    cluster.run("scontrol", "update", "NodeName=localhost", "State=RESUME")
    in_a_hurry(cluster, lambda: run.poll() is not None)
    out, err = run.communicate()
    assert err == ""
    (again,) = (line for line in out.splitlines() if "trying again" in line)
    assert again.endswith(f"Slurm's job {lost} ended without an answer: node fail; trying again (2 of 3)")
    assert begun(place, "quality") == 4
    assert [record.status for record in load_records(place / "out")] == [Status.OK] * 2
    assert cluster.jobs() == []


def test_a_node_that_dies_begins_its_jobs_again(place: Path, begin: Begin, cluster: SlurmCluster) -> None:
    order(place, seconds=900)
    run = begin(*FLOOR)
    wait_for(lambda: begun(place, "quality") == 1)
    cluster.kill_node()
    order(place)
    cluster.start_node()
    in_a_hurry(cluster, lambda: run.poll() is not None)
    _, err = run.communicate()
    assert err == ""
    assert begun(place, "quality") == 2
    assert [record.status for record in load_records(place / "out")] == [Status.OK]


def test_a_job_beyond_its_memory_is_an_oom_record_and_not_tried_again(place: Path, begin: Begin, cluster: SlurmCluster) -> None:
    ask_for(place, "mem_gb = 0.6")
    order(place, seconds=900, megabytes=800)
    finished(begin, *FLOOR)
    (record,) = load_records(place / "out")
    assert record.status is Status.OOM
    assert record.error is not None
    assert "out of memory" in str(record.error.message)
    assert "exceeded memory limit" in str(record.error.log_tail)
    assert begun(place, "quality") == 1
    assert cluster.jobs() == []


def test_a_job_out_of_its_time_begins_again_as_often_as_it_may(place: Path, begin: Begin, cluster: SlurmCluster) -> None:
    ask_for(place, "minutes = 1\nrequeues = 1")
    order(place, seconds=900)
    run = begin(*FLOOR)
    wait_for(lambda: begun(place, "quality") == 1)
    cluster.run("scancel", "--signal=USR2", cluster.jobs()[0].split()[0])  # Slurm looks every 30 s who is out of time: once will do
    in_a_hurry(cluster, lambda: run.poll() is not None)
    run.communicate()
    (record,) = load_records(place / "out")
    assert record.status is Status.TIMEOUT
    assert record.error is not None
    assert record.error.message == "begun 2 times, not finished after 1 minutes each"
    assert begun(place, "quality") == 2
    assert cluster.jobs() == []

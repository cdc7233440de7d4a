"""Runs on a real Slurm: the numbers are those of a local run, and what fails in the queue loses nothing."""

import random
import signal
import time
from pathlib import Path

from places import CELLS, LONG_S, done, of_kind, order, wait_for

from benchmarks.measures import MEASURES
from benchmarks.records import RunRecords, Status, load_records
from tests.slurm.cluster import SlurmCluster
from tests.slurm.conftest import Begin

TINY = """
[dataset.synthetic]
dataset_size = "tiny"
[limits]
processes = 1
[[sweep]]
backbone = "sasrec"
compression = "recent"
history = 12
recent = 4
width = 8
layers = 1
negatives = 16
epochs = 1
"""


def finished(begin: Begin, *arguments: str, real: bool = False) -> str:
    """What a run that ended well printed."""
    out, err = begin(*arguments, real=real).communicate(timeout=LONG_S)
    assert err == "", err
    return out


def deterministic(records: RunRecords) -> dict[tuple[str, str], object]:
    """Every number that is the same in each run on a machine."""
    return {
        (record.cell_key, name): metric.value
        for record in records
        for name, metric in record.metrics.items()
        if MEASURES[name].deterministic
    }


def test_numbers_are_those_of_a_local_run(place: Path, begin: Begin, cluster: SlurmCluster) -> None:
    (place / "tiny.toml").write_text(TINY)
    finished(begin, "--grid", "tiny.toml", "--out", "slurm", "--executor", "slurm", "--device", "cpu", real=True)
    finished(begin, "--grid", "tiny.toml", "--out", "local", "--device", "cpu", real=True)
    through_slurm, local = load_records(place / "slurm"), load_records(place / "local")
    assert [record.status for record in through_slurm] == [Status.OK]
    numbers = deterministic(through_slurm)
    assert {name for _, name in numbers} >= {"ndcg@10", "serve_flops", "parameters", "train_flops"}
    assert numbers == deterministic(local)
    assert through_slurm[0].environment.fingerprint == local[0].environment.fingerprint
    assert not (place / "slurm" / "slurm").exists()
    assert cluster.jobs() == []


def test_cancelled_jobs_and_a_node_that_dies_lose_nothing(place: Path, begin: Begin, cluster: SlurmCluster) -> None:
    order(place, seconds=1, fail="memory:recent")
    first = begin("--out", "out", "--executor", "slurm", "--workers", "4")
    wait_for(lambda: "train" in (place / "did").read_text())
    cluster.kill_node()
    cluster.start_node()
    wait_for(lambda: "quality" in (place / "did").read_text())
    running = [line.split()[0] for line in cluster.jobs() if " RUNNING " in line]
    if running:
        cluster.run("scancel", "--signal=KILL", "--full", random.Random(1).choice(running))
    first.communicate(timeout=LONG_S)
    before = {record.cell_key: record for record in load_records(place / "out")}
    assert len(before) == CELLS
    failed = sorted(record.cell.backbone for record in before.values() if record.status is not Status.OK)
    oom = [record for record in before.values() if record.status is Status.OOM]
    assert [record.cell.compression for record in oom] == ["recent"]
    done(place)
    order(place)
    finished(begin, "--out", "out", "--executor", "slurm", "--resume", "failed")
    after = load_records(place / "out")
    assert [record.status for record in after] == [Status.OK] * CELLS
    did = done(place)
    assert len(of_kind(did, "quality")) <= len(failed)
    assert of_kind(did, "train") == []
    kept = [record for record in after if before[record.cell_key].status is Status.OK]
    assert [record.quality for record in kept] == [before[record.cell_key].quality for record in kept]
    assert cluster.jobs() == []


def test_a_killed_run_leaves_jobs_whose_answers_the_next_one_takes_in(place: Path, begin: Begin, cluster: SlurmCluster) -> None:
    arguments = ("--out", "out", "--executor", "slurm", "--only", "quality", "--select", "backbone=popularity")
    order(place, seconds=1)
    first = begin(*arguments)
    wait_for(lambda: "quality" in (place / "did").read_text())
    first.send_signal(signal.SIGKILL)
    first.communicate()
    wait_for(lambda: cluster.jobs() == [])  # the job ends, and its answer lies in the folder
    assert "took over from process" in finished(begin, *arguments)
    assert of_kind(done(place), "quality") == ["popularity none 0"]
    assert [record.status for record in load_records(place / "out")] == [Status.OK]


def test_a_preempted_job_begins_again_and_ctrl_c_leaves_no_job(place: Path, begin: Begin, cluster: SlurmCluster) -> None:
    order(place, seconds=900)
    running = begin("--out", "out", "--executor", "slurm", "--only", "quality", "--select", "backbone=popularity")
    wait_for(lambda: (place / "did").read_text().count("quality") == 1)
    (job,) = (line.split()[0] for line in cluster.jobs())
    cluster.run("scancel", "--signal=USR2", job)

    def has_begun_again() -> bool:
        cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")  # Slurm lets it rest for two minutes
        return (place / "did").read_text().count("quality") == 2

    wait_for(has_begun_again)
    # on a busy machine the job may end before it is queued again: the run then submits another, and never has two
    assert len(cluster.jobs()) == 1
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=LONG_S)
    assert running.returncode == 130
    assert "ended by SIGINT" in err
    assert cluster.jobs() == []
    assert time.monotonic() - began < 30


def test_what_slurm_refuses_is_one_line(place: Path, begin: Begin, cluster: SlurmCluster) -> None:
    (place / "own.toml").write_text((place / "own.toml").read_text() + '[slurm.quality]\npartition = "none-such"\n')
    refused = begin("--out", "out", "--executor", "slurm", "--only", "quality", "--select", "backbone=popularity")
    _, err = refused.communicate(timeout=LONG_S)
    assert refused.returncode == 2
    assert "[slurm.quality]: sbatch: error:" in err
    assert "none-such" in err or "partition" in err
    assert err.count("\n") == 1
    assert cluster.jobs() == []

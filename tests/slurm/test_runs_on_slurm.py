"""Runs on a real Slurm: the numbers are those of a local run, and what fails in the queue loses nothing."""

import signal
import time
from pathlib import Path

from places import LONG_S, done, of_kind, order, wait_for

from benchmarks.measures import MEASURES
from benchmarks.records import RunRecords, Status, load_records
from tests.slurm.cluster import SlurmCluster
from tests.slurm.conftest import Begin, finished, in_a_hurry

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
    ((job, _, name),) = (line.split() for line in cluster.jobs())
    urgent = ("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true")
    for restarts, preempted in enumerate((("scancel", "--signal=USR2", job), urgent), start=1):
        cluster.run(*preempted)
        in_a_hurry(cluster, lambda: f"Restarts={restarts} " in cluster.run("scontrol", "show", "job", job))  # noqa: B023 - waited for right here
        in_a_hurry(cluster, lambda: (place / "did").read_text().count("quality") > restarts)  # noqa: B023 - as above
        assert (place / "did").read_text().count("quality") == restarts + 1
        assert cluster.jobs() == [f"{job} RUNNING {name}"]
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

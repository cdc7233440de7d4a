"""What a sweep costs beside its cells: 500 trivial ones through a real Slurm, and no job left after Ctrl-C.

``python -m tests.slurm.overhead --cells 500`` prints the figures; it takes minutes. Own overhead is processor time: of the run that
submits, per cell, and of a job on its node, beyond what Python and submitit take to start there. Slurm's daemons are not ours.
"""

import argparse
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.isolation import Job
from benchmarks.run.allocation import Allocation, code_stamp
from tests.slurm.cluster import SlurmCluster, why_not

ROOT = Path(__file__).parent.parent.parent
STAND_INS = ROOT / "tests" / "benchmarks"
GRID = """
[dataset.synthetic]
dataset_size = "tiny"
[[sweep]]
backbone = "popularity"
compression = "none"
training = "none"
"""
OF_SUBMITIT = "import submitit.core._submit"
ON_A_NODE = "import pickle, pathlib, sys, submitit.core._submit; pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())()"
REPEATS = 20


def main() -> int:
    """Prints the figures."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--cells", type=int, default=500)
    cells = options.parse_args().cells
    if (reason := why_not()) is not None:
        sys.stderr.write(f"{reason}\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "own.toml").write_text(GRID)
        (place / "did").write_text("")
        (place / "orders.json").write_text('{"fail": "", "seconds": 0}')
        submitit_s, node_s = _seconds_of(OF_SUBMITIT), _seconds_of_a_job(place)
        with SlurmCluster(place / "cluster", processors=os.cpu_count() or 1) as cluster:
            wall_s, run_s = _sweep(place, cluster, cells)
            left = _jobs_after_ctrl_c(place, cluster, cells)
        own = run_s / cells + node_s - submitit_s
        sys.stdout.write(
            f"{cells} cells in {wall_s:.0f} s; processor time a cell: {run_s / cells:.3f} s of the run and {node_s:.3f} s of the job, "
            f"of which Python and submitit take {submitit_s:.3f} s: {own:.3f} s are our own; jobs left after Ctrl-C: {left}\n"
        )
        return int(own >= 0.5 or left > 0)


def _sweep(place: Path, cluster: SlurmCluster, cells: int) -> tuple[float, float]:
    """Wall-clock seconds of a sweep, and processor seconds of the run with the commands that it called."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    _begin(place, cluster, cells, "all").wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    count = len(list((place / "all" / "cells").glob("*.json")))
    if count != cells:
        raise RuntimeError(f"{count} records; expected {cells}")
    return time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _jobs_after_ctrl_c(place: Path, cluster: SlurmCluster, cells: int) -> int:
    (place / "orders.json").write_text('{"fail": "", "seconds": 900}')
    (place / "did").write_text("")
    run = _begin(place, cluster, cells, "interrupted")
    while not (place / "did").read_text():
        time.sleep(0.2)
    run.send_signal(signal.SIGINT)
    run.wait()
    return len(cluster.jobs())


def _begin(place: Path, cluster: SlurmCluster, cells: int, out: str) -> "subprocess.Popen[bytes]":
    seeds = ",".join(str(seed) for seed in range(1, cells + 1))
    command = [sys.executable, str(STAND_INS / "drive_run.py"), "--grid", "own.toml", "--out", out, "--cache-dir", str(place)]
    surroundings = cluster.surroundings | {"PYTHONPATH": f"{ROOT}{os.pathsep}{STAND_INS}", "OMP_NUM_THREADS": "1"}
    more = ["--seeds", seeds, "--no-report", "--quiet", "--executor", "slurm", "--workers", str(cells)]
    return subprocess.Popen([*command, *more], cwd=place, env=surroundings)


def _seconds_of_a_job(place: Path) -> float:
    """Processor seconds of a job with a trivial task, from its start to its answer."""
    cell = {"backbone": "popularity", "compression": "none", "training": "none"}
    work = Job(function="benchmarks.isolation:nothing", payload={"cell": cell}, log_path=place / "log")
    shape = {"keys": ("",), "preload": (), "exclusive": False, "minutes": 60, "requeues": 0}
    allocation = Allocation(answers=place / "answers", jobs=(work,), code=code_stamp(), **shape)
    (place / "allocation").write_bytes(pickle.dumps(allocation))
    return _seconds_of(ON_A_NODE, str(place / "allocation"))


def _seconds_of(program: str, *arguments: str) -> float:
    """Processor seconds of a program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(REPEATS):
        subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / REPEATS


if __name__ == "__main__":
    sys.exit(main())

"""A Slurm for all tests of this folder, and runs on it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import SlurmCluster, why_not

ROOT = Path(__file__).parent.parent.parent
STAND_INS = ROOT / "tests" / "benchmarks"
sys.path += [str(STAND_INS / "run")]

Begin = Callable[..., subprocess.Popen[str]]


def finished(begin: Begin, *arguments: str, real: bool = False) -> str:
    """What a run that ended well printed."""
    from places import LONG_S

    out, err = begin(*arguments, real=real).communicate(timeout=LONG_S)
    assert err == "", err
    return out


def in_a_hurry(cluster: SlurmCluster, condition: Callable[[], object]) -> None:
    """Waits for something, while no job rests for long that Slurm put back into its queue."""
    from places import wait_for

    def look() -> object:
        cluster.hurry()
        time.sleep(0.2)
        return condition()

    wait_for(look)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a grid and orders for the stand-ins; what they did is in its file ``did``."""
    from places import GRID, order

    (tmp_path / "own.toml").write_text(GRID)
    (tmp_path / "did").write_text("")
    order(tmp_path)
    return tmp_path


@pytest.fixture
def begin(cluster: SlurmCluster, place: Path) -> Iterator[Begin]:
    """Begins a run in a process of its own, with the stand-ins or, with ``real``, with what is measured by."""
    running: list[subprocess.Popen[str]] = []

    def beginning(*arguments: str, real: bool = False) -> subprocess.Popen[str]:
        program = ["-m", "benchmarks.run"] if real else [str(STAND_INS / "drive_run.py")]
        own = () if "--grid" in arguments else ("--grid", "own.toml")
        command = [sys.executable, *program, *own, "--cache-dir", str(place), "--no-report", *arguments]
        surroundings = cluster.surroundings | {"PYTHONPATH": f"{ROOT}{os.pathsep}{STAND_INS}", "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, cwd=place, env=surroundings, stdout=pipe, stderr=pipe, text=True))
        return running[-1]

    yield beginning
    for process in running:
        process.kill()
        process.communicate()

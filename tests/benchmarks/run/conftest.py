import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from drive_run import FAKE
from places import GRID, Call, Start, order, wait_for

from benchmarks.run import command as run
from tests.soak.kills import MARK, relatives

HERE = Path(__file__).parent.parent
ROOT = HERE.parent.parent


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a grid and orders for the stand-ins; what they did is in its file ``did``."""
    (tmp_path / "own.toml").write_text(GRID)
    (tmp_path / "did").write_text("")
    order(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(place: Path) -> Call:
    """The command line in this process; ``fail`` is for the stand-ins."""

    def calling(*arguments: str, fail: str = "", **orders: float) -> int:
        order(place, fail=fail, **orders)
        return run.main(["--grid", "own.toml", "--out", "out", "--cache-dir", str(place), "--no-report", *arguments], work=FAKE)

    return calling


@pytest.fixture
def start(place: Path) -> Iterator[Start]:
    """The command line in a process of its own, with the stand-ins; what a test leaves running, as one that fails does, ends with it."""
    surroundings = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", MARK: str(place)}
    command = [sys.executable, str(HERE / "drive_run.py"), "--grid", "own.toml", "--out", "out", "--cache-dir", str(place), "--no-report"]
    running: list[subprocess.Popen[str]] = []

    def starting(*arguments: str, **orders: float) -> subprocess.Popen[str]:
        order(place, **orders)
        pipe = subprocess.PIPE
        running.append(subprocess.Popen([*command, *arguments], cwd=place, env=surroundings, stdout=pipe, stderr=pipe, text=True))
        return running[-1]

    yield starting
    for process in running:
        process.kill()
        process.wait()
        for stream in filter(None, (process.stdout, process.stderr)):
            stream.close()
    wait_for(lambda: not relatives(place))

"""From a CSV to a report, command by command, as `docs/your_own_data.md` shows: how long each takes on a large file."""

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import PROJECT
from persrec.commandline import one_line

FLOORS = "backbone=popularity|repeat_last|frequency"
COMMANDS = (
    ("persrec.data", "init", "events.csv"),
    ("persrec.data", "prepare", "events.toml"),
    ("benchmarks.audit", "events.toml"),
    ("benchmarks.run", "--grid", "quick", "--dataset", "events.toml", "--select", FLOORS, "--quiet"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A command as it is typed, and the seconds that it took."""

    command: str
    seconds: float


def walk(folder: Path) -> list[Step]:
    """Runs the commands on ``events.csv`` of a folder, with a cache of its own there.

    Raises:
        ValueError: one of them failed; the message has its last line.
    """
    steps = []
    paths = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    environ = {**os.environ, "PYTHONPATH": paths, "PERSREC_CACHE": str(folder / "cache")}
    for words in COMMANDS:
        started = time.monotonic()
        ran = subprocess.run([sys.executable, "-m", *words], cwd=folder, env=environ, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - started
        command = shlex.join(("python", "-m", *words))
        if ran.returncode:
            lines = (ran.stderr or ran.stdout).strip().splitlines()
            raise ValueError(f"{command}: exit code {ran.returncode}: {one_line(lines[-1]) if lines else ''}")
        steps.append(Step(command=command, seconds=round(seconds, 1)))
    return steps

"""Runs a task in the peers' Python, in a process that ends with ours."""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmarks.peers.environment import surroundings
from benchmarks.peers.exchange import ANSWER, Arrays, PeerTask, read_answer

WORKER = "benchmarks.peers.worker"
PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("benchmarks", "persrec")  # the worker imports from them what needs torch and numpy alone
# a worker's errors of these kinds are raised as they are, since another try would end no better; any other may be bad luck
PERMANENT_ERRORS = {kind.__name__: kind for kind in (MemoryError, FloatingPointError, TypeError, ValueError)}


def run_task(
    python: Path, task: PeerTask, arrays: Arrays, folder: Path, say: Callable[[Mapping[str, Any]], None]
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Runs a task, and returns its facts and its arrays.

    Args:
        python: the peers' interpreter.
        task: what to do.
        arrays: the task's arrays.
        folder: an empty one, for the files of both sides.
        say: called with each message of the worker that is no error.

    Raises:
        MemoryError: the worker ran out of memory; as the other kinds of `PERMANENT_ERRORS`.
        RuntimeError: it failed otherwise, or ended without an answer; the message is its own, where it has one.
    """
    task.write(folder, arrays)
    process = subprocess.Popen(
        [str(python), "-m", WORKER, str(folder)],
        cwd=folder,
        env={**surroundings(), "PYTHONPATH": str(_our_code(folder)), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    error = None
    with process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        for line in process.stdout:
            message = json.loads(line)
            error = message.get("error", error)
            if error is None:
                say(message)
    if error is not None:
        raise PERMANENT_ERRORS.get(error["type"], RuntimeError)(f"peers: {error['type']}: {error['message']}")
    if process.returncode or not (folder / ANSWER).is_file():
        raise RuntimeError(f"peers: the worker ended with exit code {process.returncode} and without an answer")
    return read_answer(folder)


def _our_code(folder: Path) -> Path:
    """A folder with our two packages and nothing else: what is installed beside them needs another numpy."""
    code = folder / "code"
    code.mkdir()
    for package in PACKAGES:
        (code / package).symlink_to(PROJECT / package, target_is_directory=True)
    return code

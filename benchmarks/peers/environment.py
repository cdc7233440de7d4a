"""The environment that peers run in: a folder of its own in the cache, made once by ``python -m benchmarks.peers setup``.

It is not ours: RecTools needs an older numpy. Its name holds a digest of the pins and the version of Python, so that other pins are
another environment. A mark is written last; without it a folder is what a stopped setup left, and is made anew.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.cell import Cell
from benchmarks.peers.pins import NEWEST_PYTHON, PINS
from persrec.files import write_atomically, writing

MARK = "whole.json"
SETUP = "python -m benchmarks.peers setup"
PYTHON = Path("bin", "python")
_LINES = 3  # of the end of a step's standard error, for the message
# what would lead the peers' Python to our packages, and pip to our versions
_NOT_PASSED_ON = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "PIP_CONSTRAINT", "PIP_REQUIRE_VIRTUALENV", "PIP_TARGET")
_STDERR = 2


class PeerEnvironmentError(ValueError):
    """There is no environment for the peers, or it cannot be made; the message is one line that says what to do."""


def environment_folder(cache_dir: Path | str | None) -> Path:
    """Where the environment of these pins and this Python lies in ``cache_dir``; None is where prepared data go by default."""
    if cache_dir is None:
        from persrec.data.prepared import default_cache_dir  # noqa: PLC0415 - takes a moment, and who names a place needs none

        cache_dir = default_cache_dir()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Path(cache_dir) / "peers" / f"rectools-py{version}-{hashlib.sha256(json.dumps(PINS).encode()).hexdigest()[:12]}"


def interpreter(cache_dir: Path | str | None) -> Path:
    """The peers' Python, by a path that holds in any working directory.

    Raises:
        PeerEnvironmentError: the environment is not there, or not whole.
    """
    folder = environment_folder(cache_dir)
    if not (folder / MARK).is_file():
        raise PeerEnvironmentError(f"peers: no environment in {folder}; make it with: {SETUP}")
    return (folder / PYTHON).absolute()


def check_environment(cells: Iterable[Cell], cache_dir: Path | str | None) -> None:
    """Refuses peers that have no environment: for a command to ask before it starts anything.

    Raises:
        PeerEnvironmentError: a cell is a peer's, and there is none.
    """
    if any(cell.is_peer for cell in cells):
        interpreter(cache_dir)


def set_up(cache_dir: Path | str | None) -> Path:
    """Makes the environment, unless it is there, and returns its folder. What pip says goes to the standard error.

    Raises:
        PeerEnvironmentError: this Python is too new, or something could not be installed; nothing is left behind.
        WriteError: the cache cannot be written.
    """
    folder = environment_folder(cache_dir)
    if (folder / MARK).is_file():
        return folder
    if sys.version_info[:2] > NEWEST_PYTHON:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise PeerEnvironmentError(
            f"peers: Python {version}; expected at most {'.'.join(map(str, NEWEST_PYTHON))}, which numpy below 2 takes"
        )
    with writing(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(folder / PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", *PINS])
        _run([str(folder / PYTHON), "-m", "pip", "check"])
        write_atomically(folder / MARK, json.dumps({"pins": PINS}, indent=1).encode() + b"\n")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def surroundings() -> dict[str, str]:
    """The environment variables of a process of the peers' Python."""
    return {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}


def _run(command: list[str]) -> None:
    """Runs a step of the setup.

    Raises:
        PeerEnvironmentError: it failed; the message ends with the last lines of its standard error.
    """
    process = subprocess.run(
        command, env=surroundings(), stdin=subprocess.DEVNULL, stdout=_STDERR, stderr=subprocess.PIPE, text=True, check=False
    )
    if process.returncode:
        errors = " ".join(" ".join(process.stderr.splitlines()[-_LINES:]).split())
        raise PeerEnvironmentError(f"peers: {' '.join(command[1:4])} failed: {errors or f'exit code {process.returncode}'}")

"""A peers' environment that holds a stand-in for RecTools, run by this very Python."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.peers.environment import MARK, PYTHON, environment_folder

LIBRARY = Path(__file__).parent / "library"
STANDS_IN_FOR = ("rectools", "pytorch_lightning")


@pytest.fixture
def peers_cache(tmp_path: Path) -> Path:
    """A cache folder with such an environment."""
    folder = environment_folder(tmp_path / "cache")
    (folder / PYTHON).parent.mkdir(parents=True)
    (folder / PYTHON).write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{LIBRARY}" exec "{sys.executable}" "$@"\n')
    (folder / PYTHON).chmod(0o755)
    (folder / MARK).write_text("{}")
    return tmp_path / "cache"


@pytest.fixture
def in_process(one_thread: None, peers_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The worker runs here and not in a process of its own, which takes seconds to import torch; gives the cache folder."""
    from benchmarks.peers import training, worker
    from benchmarks.peers.exchange import read_answer

    def run_task(python, task, arrays, folder, say):
        task.write(folder, arrays)
        worker.main(folder, say)
        return read_answer(folder)

    monkeypatch.setattr(training, "run_task", run_task)
    monkeypatch.syspath_prepend(LIBRARY)
    yield peers_cache
    for name in [name for name in sys.modules if name.partition(".")[0] in STANDS_IN_FOR]:
        del sys.modules[name]

"""A process that ends with its parent, also where the kernel cannot be asked for it."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_isolation import gone

from benchmarks.isolation import tether

TETHER = Path(tether.__file__)

TIED = f"""
import os, runpy, time
runpy.run_path({str(TETHER)!r})["end_with_parent"]()
print(os.getpid(), flush=True)
time.sleep(900)
"""
PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-I", "-c", sys.argv[1]])
time.sleep(900)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the call is Linux's")
def test_loaded_by_its_path_alone_it_ends_a_process_whose_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, TIED], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert gone([child])
    parent.stdout.close()


class NoSuchCall:
    """A C library without ``prctl``."""


def test_a_system_without_the_call_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: NoSuchCall())
    tether.end_with_parent()

"""The lock of a run's folder: one holder at a time, on one machine and between machines."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import lock

HOLD = """
import os, pathlib, signal, sys, time
from benchmarks import lock
out, how = pathlib.Path(sys.argv[1]), sys.argv[2]
if len(sys.argv) > 3:
    lock._machine = lambda: sys.argv[3]
try:
    with lock.locked(out, beat_s=0.05, dead_s=0.5):
        print("held", flush=True)
        if how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        sys.stdin.readline()
except lock.LockedError as error:
    print(f"refused: {error}", flush=True)
"""
ELSEWHERE = "another machine"


class Other:
    """A process that takes the lock, and holds it until it is told to let go."""

    def __init__(self, out: Path, how: str = "hold", *machine: str) -> None:
        command = [sys.executable, "-c", HOLD, str(out), how, *machine]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> int:
        _, err = self.process.communicate("\n")
        self.err = err
        return self.process.returncode


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_lock_keeps_a_second_run_out_and_leaves_nothing(tmp_path: Path) -> None:
    with lock.locked(tmp_path) as dead:
        assert dead is None
        assert names(tmp_path) == [".lock"]
        with pytest.raises(lock.LockedError, match=f"process {os.getpid()} on .* is writing"), lock.locked(tmp_path):
            pass
        assert names(tmp_path) == [".lock"]
    assert names(tmp_path) == []
    with lock.locked(tmp_path) as dead:
        assert dead is None


def test_the_lock_of_a_dead_run_is_taken_over_at_once(tmp_path: Path) -> None:
    holder = Other(tmp_path, "die")
    assert holder.end() == -9
    assert names(tmp_path) == [".lock"]
    began = time.monotonic()
    with lock.locked(tmp_path) as dead:
        assert dead is not None
        assert dead.process == holder.process.pid
    assert time.monotonic() - began < lock.DEAD_S / 10
    assert names(tmp_path) == []


def test_a_process_that_has_the_id_of_a_dead_one_does_not_hold_its_lock(tmp_path: Path) -> None:
    holder = Other(tmp_path, "die")
    holder.end()
    path = tmp_path / ".lock"
    path.write_text(re.sub(r'"process": \d+', f'"process": {os.getpid()}', path.read_text()).replace('"started": 1', '"started": 2'))
    with lock.locked(tmp_path) as dead:
        assert dead is not None


def test_a_run_of_another_machine_holds_the_lock_while_it_beats(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    holder = Other(tmp_path, "hold", ELSEWHERE)
    assert holder.says() == "held"
    with pytest.raises(lock.LockedError, match=f"process {holder.process.pid} on"), lock.locked(tmp_path, dead_s=5):
        pass
    assert "looking for a sign of life" in capfd.readouterr().err
    assert holder.end() == 0
    assert names(tmp_path) == []


def test_the_lock_of_a_silent_machine_is_taken_over_and_a_sleeper_that_wakes_ends_itself(tmp_path: Path) -> None:
    sleeper = Other(tmp_path, "stop", ELSEWHERE)
    assert sleeper.says() == "held"
    with lock.locked(tmp_path, dead_s=0.5) as dead:
        assert dead is not None
        assert dead.process == sleeper.process.pid
        sleeper.process.send_signal(18)  # SIGCONT
        assert sleeper.process.wait(30) == -15
        assert lock.is_lock(tmp_path / ".lock")
    sleeper.end()
    assert "was taken over" in sleeper.err


def test_of_many_that_find_a_dead_lock_one_takes_it(tmp_path: Path) -> None:
    for machine in ((), (ELSEWHERE,)):  # dead for the system of their own machine, or by silence
        Other(tmp_path, "die").end()
        many = [Other(tmp_path, "hold", *machine) for _ in range(5)]
        said = [one.says() for one in many]
        assert sorted(text.partition(":")[0] for text in said) == ["held", *["refused"] * 4], said
        for one in many:
            one.end()
        assert names(tmp_path) == []


def test_a_claim_that_a_dead_process_left_is_taken_over(tmp_path: Path) -> None:
    Other(tmp_path, "die").end()
    token = lock._token(tmp_path / ".lock")
    Other(tmp_path / "beside", "die").end()
    (tmp_path / "beside" / ".lock").rename(tmp_path / f".lock.{token}.tmp")
    with lock.locked(tmp_path) as dead:
        assert dead is not None
        assert dead.token == token
    assert names(tmp_path) == ["beside"]


def test_a_lock_of_an_earlier_form_is_dead_by_silence(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("persrec run, process 1\n")
    with lock.locked(tmp_path, dead_s=0.2) as dead:
        assert dead is not None

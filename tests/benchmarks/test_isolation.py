import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.isolation import Isolated, Job, Outcome, run_isolated


def job(tmp_path: Path, function: str, payload: dict[str, Any] | None = None, **options: Any) -> Job:
    return Job(function=f"fake_work:{function}", payload=payload or {}, log_path=tmp_path / "logs" / "cell.log", **options)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int], *, within: float = 10.0) -> bool:
    end = time.monotonic() + within
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(alive, pids))


def appeared(path: Path, *, within: float = 20.0) -> Any:
    end = time.monotonic() + within
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    return json.loads(path.read_text())


def test_the_answer_comes_from_another_process_with_its_threads_and_processors(tmp_path: Path) -> None:
    processor = min(os.sched_getaffinity(0))
    outcome = run_isolated(job(tmp_path, "echo", {"a": 1}, threads=3, affinity=(processor,)))
    assert outcome.status == "ok"
    assert outcome.error() is None
    assert outcome.value["payload"] == {"a": 1}
    assert outcome.value["pid"] != os.getpid()
    assert outcome.value["affinity"] == [processor]
    assert outcome.value["threads"] == "3"
    assert (tmp_path / "logs" / "cell.log").read_text() == "a line on the standard output\n"


def test_no_two_jobs_share_a_process(tmp_path: Path) -> None:
    pids = {run_isolated(job(tmp_path, "echo")).value["pid"] for _ in range(3)}
    assert len(pids) == 3


def test_a_job_costs_well_under_two_seconds_beyond_its_work(tmp_path: Path) -> None:
    run_isolated(job(tmp_path, "echo"))
    assert run_isolated(job(tmp_path, "echo")).seconds < 2


@pytest.mark.parametrize(
    ("how", "status", "kind", "message"),
    [
        ("memory", "oom", "MemoryError", "too much"),
        ("allocator", "oom", "RuntimeError", "can't allocate memory"),
        ("caused", "oom", "RuntimeError", "while measuring"),
        ("value", "crash", "ValueError", "a wrong value"),
        ("unsupported", "unsupported", "UnsupportedError", "no such kernel"),
        ("invalid", "invalid", "InvalidMeasurementError", "throttled"),
        ("signal", "crash", "SIGSEGV", "ended by signal SIGSEGV"),
        ("exit", "crash", "SystemExit", "exit code 7"),
    ],
)
def test_every_end_has_its_status_phase_and_log(tmp_path: Path, how: str, status: str, kind: str, message: str) -> None:
    outcome = run_isolated(job(tmp_path, "fail", {"how": how}))
    assert (outcome.status, outcome.phase, outcome.type) == (status, "flops", kind)
    assert message in (outcome.message or "")
    assert "about to fail" in (outcome.log_tail or "")
    assert outcome.error() == {"phase": "flops", "type": kind, "message": outcome.message, "log_tail": outcome.log_tail}


def test_memory_beyond_the_limit_is_oom(tmp_path: Path) -> None:
    outcome = run_isolated(job(tmp_path, "allocate", {"bytes": 2**33}, address_space_bytes=2**31))
    assert (outcome.status, outcome.phase) == ("oom", "start")


def test_a_function_that_is_not_there_is_a_crash_in_the_start(tmp_path: Path) -> None:
    outcome = run_isolated(job(tmp_path, "no_such"))
    assert (outcome.status, outcome.phase, outcome.type) == ("crash", "start", "AttributeError")


def test_the_log_tail_is_the_end_of_the_log(tmp_path: Path) -> None:
    outcome = run_isolated(job(tmp_path, "chatter"))
    lines = (outcome.log_tail or "").splitlines()
    assert len(lines) == 40
    assert lines[-1] == "ValueError: enough"
    assert "line 199" in lines
    assert "line 100" not in lines


def test_a_second_attempt_adds_to_the_log(tmp_path: Path) -> None:
    for attempt in (1, 2):
        run_isolated(job(tmp_path, "echo", attempt=attempt))
    assert (tmp_path / "logs" / "cell.log").read_text() == "a line on the standard output\n" * 2


def test_a_job_out_of_time_ends_with_all_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    outcome = run_isolated(job(tmp_path, "sleep_with_child", {"pids": str(pids)}, timeout_s=1.5))
    assert (outcome.status, outcome.phase) == ("timeout", "latency")
    assert "1.5 s" in (outcome.message or "")
    assert gone(json.loads(pids.read_text()))


def test_killing_a_running_job_leaves_nothing(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    running = Isolated(job(tmp_path, "sleep_with_child", {"pids": str(pids)}))
    started = appeared(pids)
    assert running.poll() is None
    running.kill()
    assert gone(started)


def test_a_process_that_cannot_start_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionRefusedError("no fork server")

    monkeypatch.setattr("multiprocessing.popen_forkserver.Popen._launch", refuse)
    outcome = run_isolated(job(tmp_path, "echo"))
    assert (outcome.status, outcome.phase, outcome.type) == ("crash", "start", "ConnectionRefusedError")


PARENT = """
import sys
from pathlib import Path
from benchmarks.isolation import Job, run_isolated
if __name__ == "__main__":
    run_isolated(Job(function="fake_work:sleep_with_child", payload={"pids": sys.argv[1]}, log_path=Path(sys.argv[2])))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_children_end_with_a_parent_that_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    pids = tmp_path / "pids"
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(pids), str(tmp_path / "log")], env=surroundings)
    started = appeared(pids)
    server = int(Path(f"/proc/{started[0]}/stat").read_text().rpartition(")")[2].split()[1])
    assert all(map(alive, [*started, server]))
    parent.send_signal(number)
    parent.wait()
    assert gone([*started, server])


PRELOADING = """
from benchmarks.isolation import preload
if __name__ == "__main__":
    preload(["slow_import"], threads=1)
"""


def test_a_fork_server_that_still_imports_ends_with_its_run(tmp_path: Path) -> None:
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PERSREC_TEST_IMPORTING": str(tmp_path / "pid")}
    parent = subprocess.Popen([sys.executable, "-c", PRELOADING], env=surroundings)
    server = appeared(tmp_path / "pid")
    assert alive(server)
    assert server != parent.pid
    parent.kill()
    parent.wait()
    assert gone([server])


def test_an_outcome_without_failure_has_no_error() -> None:
    assert Outcome(status="ok", value=1).error() is None

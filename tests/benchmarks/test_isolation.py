import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import isolation
from benchmarks.isolation import Isolated, Job, Outcome, run_isolated


def job(tmp_path: Path, function: str, payload: dict[str, Any] | None = None, **options: Any) -> Job:
    return Job(function=f"fake_work:{function}", payload=payload or {}, log_path=tmp_path / "logs" / "cell.log", **options)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


LONG_S = 300.0  # until a test gives up: no verdict hangs on how fast the machine is


def gone(pids: list[int], *, within: float = LONG_S) -> bool:
    end = time.monotonic() + within
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(alive, pids))


def surroundings(**variables: str) -> dict[str, str]:
    """What a process of a test's own needs to import what this one can."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables


def appeared(path: Path, *, within: float = LONG_S) -> Any:
    end = time.monotonic() + within
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    return json.loads(path.read_text())


def test_the_answer_comes_from_another_process_with_its_threads_and_processors(tmp_path: Path) -> None:
    processor = min(os.sched_getaffinity(0))
    outcome = run_isolated(job(tmp_path, "echo", {"a": 1}, threads=3, affinity=(processor,)))
    assert outcome.status == "ok"
    assert outcome.message is None
    assert outcome.value["payload"] == {"a": 1}
    assert outcome.value["pid"] != os.getpid()
    assert outcome.value["affinity"] == [processor]
    assert outcome.value["threads"] == "3"
    assert (tmp_path / "logs" / "cell.log").read_text() == "a line on the standard output\n"


@pytest.mark.parametrize("gpu", ["1", "GPU-b", None])
def test_a_job_sees_the_gpu_that_it_was_given_and_no_other(tmp_path: Path, gpu: str | None) -> None:
    before = run_isolated(job(tmp_path, "echo")).value["gpu"]
    assert run_isolated(job(tmp_path, "echo", gpu=gpu)).value["gpu"] == (gpu or before)


def test_what_a_cluster_sends_before_it_ends_a_job_ends_no_cell(tmp_path: Path) -> None:
    warned = Job(function="odd_jobs:warned", payload={}, log_path=tmp_path / "log")
    first, second = run_isolated(warned), run_isolated(warned)
    assert first.status == second.status == "ok", (first.message, second.message)
    assert first.value == second.value


def test_no_two_jobs_share_a_process(tmp_path: Path) -> None:
    pids = {run_isolated(job(tmp_path, "echo")).value["pid"] for _ in range(3)}
    assert len(pids) == 3


def test_every_job_comes_from_the_one_fork_server_that_has_imported_what_it_needs(tmp_path: Path) -> None:
    starts = [odd(tmp_path, "tell_of_start").value for _ in range(3)]
    assert len({start["parent"] for start in starts}) == 1
    assert starts[0]["parent"] != os.getpid()


def test_a_collection_in_a_job_does_not_walk_through_what_the_fork_server_imported(tmp_path: Path) -> None:
    start = odd(tmp_path, "tell_of_start").value
    assert start["collected"] < start["frozen"] / 10


def test_what_was_preloaded_costs_a_job_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", PRELOADED], env=surroundings(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[True, True]\n")


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
    assert (outcome.phase, outcome.type) == ("flops", kind)


def odd(tmp_path: Path, function: str, payload: dict[str, Any] | None = None, **options: Any) -> Outcome:
    return run_isolated(Job(function=f"odd_jobs:{function}", payload=payload or {}, log_path=tmp_path / "log", **options))


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        ("ValueError", False),
        ("TypeError", False),
        ("KeyError", False),
        ("AttributeError", False),
        ("AssertionError", False),
        ("FloatingPointError", False),
        ("FileNotFoundError", False),
        ("PermissionError", False),
        ("RuntimeError", True),
        ("OSError", True),
        ("ConnectionResetError", True),
        ("MemoryError", False),  # not a crash
    ],
)
def test_what_must_fail_again_is_not_tried_again(tmp_path: Path, error: str, retry: bool) -> None:
    outcome = odd(tmp_path, "raise_error", {"error": error})
    assert (outcome.status, outcome.retry) == ("oom" if error == "MemoryError" else "crash", retry)


def test_bad_input_behind_another_error_is_not_tried_again(tmp_path: Path) -> None:
    assert odd(tmp_path, "raise_from_bad_input").retry is False
    full = odd(tmp_path, "raise_full_disk")
    assert (full.status, full.retry, full.disk_is_at_fault) == ("crash", False, True)


def test_what_may_be_bad_luck_is_tried_again(tmp_path: Path) -> None:
    assert run_isolated(job(tmp_path, "fail", {"how": "signal"})).retry
    assert run_isolated(job(tmp_path, "fail", {"how": "exit"})).retry
    assert run_isolated(job(tmp_path, "echo")).retry is False


def test_sizes_beyond_counting_are_out_of_memory(tmp_path: Path) -> None:
    assert odd(tmp_path, "overflow").status == "oom"


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="no real-time signals here")
def test_a_signal_without_a_name_is_its_number(tmp_path: Path) -> None:
    number = signal.SIGRTMIN + 5
    outcome = odd(tmp_path, "end_by_signal", {"number": int(number)})
    assert (outcome.status, outcome.message) == ("crash", f"ended by signal {int(number)}")


@pytest.mark.parametrize("function", ["answer_unreadable", "answer_unsendable"])
def test_an_answer_that_cannot_be_passed_on_is_a_crash_that_happens_again(tmp_path: Path, function: str) -> None:
    outcome = odd(tmp_path, function)
    assert (outcome.status, outcome.retry, outcome.value) == ("crash", False, None)


@pytest.mark.parametrize("timeout_s", [None, math.inf, 1e300, 3e9])
def test_a_job_may_have_all_the_time_there_is(tmp_path: Path, timeout_s: float | None) -> None:
    assert odd(tmp_path, "wait", timeout_s=timeout_s).value == "done"


def test_without_affinity_a_job_runs_wherever_it_is_put(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", WITHOUT_AFFINITY, str(tmp_path / "log")], env=surroundings(), check=False).returncode == 0


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


def test_a_job_out_of_time_is_ended(tmp_path: Path) -> None:
    outcome = run_isolated(job(tmp_path, "sleep_with_child", {"pids": str(tmp_path / "pids")}, timeout_s=0.5))
    assert (outcome.status, outcome.retry) == ("timeout", False)
    assert outcome.message == "not finished after 0.5 s"


def test_a_job_out_of_time_ends_with_all_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids, now = tmp_path / "pids", time.monotonic
    running = Isolated(job(tmp_path, "sleep_with_child", {"pids": str(pids)}, timeout_s=LONG_S))
    started = appeared(pids)
    assert running.poll() is None
    monkeypatch.setattr(time, "monotonic", lambda: now() + 2 * LONG_S)
    outcome = running.poll()
    monkeypatch.undo()
    assert outcome is not None
    assert (outcome.status, outcome.phase) == ("timeout", "latency")
    assert gone(started)


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


PRELOADED = """
from pathlib import Path
from benchmarks.isolation import Job, preload, run_isolated
if __name__ == "__main__":
    preload(["odd_jobs", "zoneinfo"], threads=1)
    job = Job(function="odd_jobs:tell_of_start", payload={}, log_path=Path("/dev/null"))
    print([run_isolated(job).value["has_zoneinfo"] for _ in range(2)])
"""

WITHOUT_AFFINITY = """
import os, sys
from pathlib import Path
for name in ("sched_getaffinity", "sched_setaffinity"):
    if hasattr(os, name):
        delattr(os, name)
from benchmarks.isolation import Job, _apply_limits
_apply_limits(Job(function="odd_jobs:wait", payload={}, log_path=Path(sys.argv[1]), affinity=(0,)))
"""

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
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(pids), str(tmp_path / "log")], env=surroundings())
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
    parent = subprocess.Popen([sys.executable, "-c", PRELOADING], env=surroundings(PERSREC_TEST_IMPORTING=str(tmp_path / "pid")))
    server = appeared(tmp_path / "pid")
    assert alive(server)
    assert server != parent.pid
    parent.kill()
    parent.wait()
    assert gone([server])


class Ended(BaseException):
    """What the handler of a run raises."""


def terminate_this_process() -> None:
    """Has another thread take a SIGTERM, since the one that starts a process has it blocked."""

    def send() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    sender.join()


def test_a_signal_that_comes_while_a_process_starts_is_answered_once_it_has_and_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(number: int, frame: object) -> None:
        raise Ended

    pids: list[int | None] = []
    own = isolation._context.Process.start

    def start(process: Any) -> None:
        terminate_this_process()
        own(process)
        pids.append(process.pid)

    monkeypatch.setattr(isolation._context.Process, "start", start)
    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(Ended):
            Isolated(job(tmp_path, "sleep_with_child", {"pids": str(tmp_path / "pids")}))
        assert signal.getsignal(signal.SIGTERM) is end
    finally:
        signal.signal(signal.SIGTERM, before)
    assert gone([pid for pid in pids if pid is not None])
    assert len(pids) == 1

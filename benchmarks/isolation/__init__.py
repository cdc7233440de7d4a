"""Runs one function in one fresh process and says how that ended.

The process comes from a fork server that has imported the measuring code and run nothing, so a cell starts in
milliseconds with no trace of the cell before it. Its output goes to a log file, its answer comes back through a pipe, and
it cannot outlive its parent: a thread in it ends its whole process group when the parent is gone, whatever ended that.
"""

import contextlib
import errno
import faulthandler
import gc
import importlib
import math
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.process
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from benchmarks.cell import UnsupportedError
from benchmarks.isolation.failures import meaning_of
from benchmarks.isolation.holding import signals_held
from benchmarks.isolation.tether import end_with_parent
from benchmarks.records import Status

ReportPhase = Callable[[str], None]

ATTEMPTS = 3  # of what may be bad luck (`Outcome.retry`)
START = "start"
LOG_TAIL_LINES = 40
LOG_TAIL_BYTES = 64 * 1024
GRACE_SECONDS = 5.0  # for a process that has answered to come to its end
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
TETHERED = "benchmarks.isolation.tethered"
LONGEST_WAIT_S = 86400.0  # the system's waiting calls take no much longer time; the caller looks again and waits on
ANSWERED_BY_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

_context = multiprocessing.get_context("forkserver")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What to run in a process of its own.

    ``function`` is ``module:function``; it is called as ``function(payload, report_phase)``. ``address_space_bytes``
    limits what the process may map, ``timeout_s`` how long it may take. ``gpu`` is the only one that it sees, in the words of
    ``CUDA_VISIBLE_DEVICES``; None is all.
    """

    function: str
    payload: Mapping[str, Any]
    log_path: Path
    threads: int = 1
    affinity: tuple[int, ...] = ()
    gpu: str | None = None
    timeout_s: float | None = None
    address_space_bytes: int | None = None
    attempt: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a job ended; ``value`` is what the function returned, the other fields say what went wrong and in which phase.

    ``retry`` says whether another try may end better: after a signal or an error that may be bad luck. Bad input, like running out
    of memory or time, is a property of the job.
    """

    status: Status
    value: Any = None
    phase: str | None = None
    type: str | None = None
    message: str | None = None
    log_tail: str | None = None
    seconds: float = 0.0
    retry: bool = False

    @property
    def disk_is_at_fault(self) -> bool:
        """Whether something could not be written: a finding on the disk, not on the job."""
        return self.status == Status.CRASH and any(os.strerror(number) in (self.message or "") for number in DISK_ERRORS)


def preload(modules: Sequence[str], *, threads: int) -> None:
    """Starts the fork server, which imports ``modules`` once for all processes that will come from it, and waits until it serves."""
    _context.set_forkserver_preload([TETHERED, *modules])
    run_isolated(Job(function=f"{__name__}:nothing", payload={}, log_path=Path(os.devnull), threads=threads))


def nothing(payload: dict[str, Any], report_phase: ReportPhase) -> None:
    """A job that does nothing: it takes as long as its process takes to start."""


def run_isolated(job: Job) -> Outcome:
    """Runs one job and waits for its end, without spinning and without a second try."""
    isolated = Isolated(job)
    try:
        while (outcome := isolated.poll()) is None:
            multiprocessing.connection.wait(isolated.waitables(), timeout=isolated.remaining_s())
    finally:
        isolated.kill()
    return outcome


class Isolated:
    """A job that is running; its owner waits on ``waitables`` and calls ``poll``."""

    def __init__(self, job: Job) -> None:
        """Starts the process.

        A process that cannot be started is a crash in the phase ``start``, not an exception here. A signal that ends the run meanwhile is
        answered once the process is known, and ends it too.
        """
        self.job = job
        self.phase = START
        self._new_phases: list[str] = []
        self._start_time = time.monotonic()
        self._oom_kills = _kernel_oom_kills()
        self._outcome: Outcome | None = None
        self._process: multiprocessing.process.BaseProcess | None = None
        self._answers, answers_of_child = _context.Pipe(duplex=False)
        self._listening = True
        try:
            with signals_held():
                self._start(answers_of_child)
        except BaseException:
            self.kill()
            raise

    def _start(self, answers_of_child: multiprocessing.connection.Connection) -> None:
        process = _context.Process(target=_run_in_child, args=(answers_of_child, self.job), name="cell")
        try:
            with _surroundings(self.job.threads):
                process.start()
        except (OSError, EOFError) as error:
            self._outcome = self._outcome_of(
                Status.CRASH, type_=type(error).__name__, message=f"the process did not start: {error}", retry=True
            )
        else:
            self._process = process
        finally:
            answers_of_child.close()

    def waitables(self) -> list[Any]:
        """What becomes ready when ``poll`` may have news."""
        pipes: list[Any] = [self._answers] if self._listening else []
        return pipes + ([self._process.sentinel] if self._process is not None else [])

    def remaining_s(self) -> float | None:
        """Seconds to wait for the job at most, 0 once its time is over; ``None`` where it has no limit."""
        if self.job.timeout_s is None or math.isinf(self.job.timeout_s):
            return None
        return min(LONGEST_WAIT_S, max(0.0, self._start_time + self.job.timeout_s - time.monotonic()))

    def poll(self) -> Outcome | None:
        """The outcome once there is one, ``None`` while the job runs."""
        if self._outcome is None:
            exit_code = self._process.exitcode if self._process is not None else None
            self._outcome = self._answer()  # after the exit code: what it sent before its end is in the pipe
            if self._outcome is None and exit_code is not None:
                self._outcome = self._crash_outcome(exit_code)
            if self._outcome is None and self.remaining_s() == 0.0:
                self._outcome = self._outcome_of(
                    Status.TIMEOUT, type_="TimeoutError", message=f"not finished after {self.job.timeout_s:g} s"
                )
            if self._outcome is not None:
                self._end_process(self._outcome.status)
        return self._outcome

    def new_phases(self) -> list[str]:
        """The phases that began since the last call, in order."""
        phases, self._new_phases = self._new_phases, []
        return phases

    def kill(self) -> None:
        """Ends the process and everything it started, at once."""
        process = self._process
        if process is None:
            self._answers.close()
            return
        pid = process.pid
        if pid is not None:
            # the group outlives its leader where the cell left processes behind
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            if process.exitcode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.join()
        process.close()
        self._process = None
        self._listening = False
        self._answers.close()

    def _end_process(self, status: Status) -> None:
        if self._process is not None and status != Status.TIMEOUT:
            self._process.join(GRACE_SECONDS)
        self.kill()

    def _answer(self) -> Outcome | None:
        """What the process has sent: phases are noted, an outcome is returned."""
        try:
            while self._listening and self._answers.poll():
                kind, content = self._answers.recv()
                if kind == "outcome":
                    return self._outcome_of(
                        content["status"], type_=content["type"], message=content["message"], value=content["value"], retry=content["retry"]
                    )
                self.phase = content
                self._new_phases.append(content)
        except (EOFError, OSError):
            self._listening = False
        except Exception as error:  # noqa: BLE001 - a value of a type that only the other process knows fails in any way
            return self._outcome_of(Status.CRASH, type_=type(error).__name__, message=f"the answer cannot be read: {error}")
        return None

    def _crash_outcome(self, exit_code: int) -> Outcome:
        if exit_code == -signal.SIGKILL and _kernel_oom_kills() > self._oom_kills:
            return self._outcome_of(Status.OOM, type_="SIGKILL", message="ended by the kernel's out-of-memory killer")
        if exit_code < 0:
            name = _signal_name(-exit_code)
            return self._outcome_of(Status.CRASH, type_=name, message=f"ended by signal {name}", retry=True)
        message = f"ended with exit code {exit_code} and without an answer"
        return self._outcome_of(Status.CRASH, type_="SystemExit", message=message, retry=True)

    def _outcome_of(self, status: Status, *, type_: str | None, message: str | None, value: Any = None, retry: bool = False) -> Outcome:
        failed = status != Status.OK
        return Outcome(
            status=status,
            value=value,
            phase=self.phase if failed else None,
            type=type_,
            message=message,
            log_tail=_log_tail(self.job.log_path) if failed else None,
            seconds=time.monotonic() - self._start_time,
            retry=retry,
        )


def _run_in_child(answers: multiprocessing.connection.Connection, job: Job) -> None:
    """What the fresh process does: settles in, calls the function, sends how it went."""
    os.setpgid(0, 0)
    _tie_to_run()
    gc.freeze()  # what the fork server imported stays: a collection, as before each peak of memory, need not walk through all of it
    try:
        _write_output_to(job.log_path, append=job.attempt > 1)
        _apply_limits(job)
        value = _resolve(job.function)(dict(job.payload), lambda phase: answers.send(("phase", phase)))
        answers.send(("outcome", {"status": Status.OK, "type": None, "message": None, "value": value, "retry": False}))
    except BaseException as error:  # noqa: BLE001 - the boundary of the process: whatever it is becomes a record
        with contextlib.suppress(OSError):  # a disk that is full takes no log either
            traceback.print_exc()
            sys.stderr.flush()
        status, retry = meaning_of(error)
        failure = {"status": status, "type": type(error).__name__, "message": str(error), "value": None, "retry": retry}
        answers.send(("outcome", failure))
    finally:
        answers.close()


def _apply_limits(job: Job) -> None:
    if job.affinity and hasattr(os, "sched_setaffinity"):  # elsewhere than on Linux the system alone places processes
        os.sched_setaffinity(0, job.affinity)
    if job.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = job.gpu
    for name in THREAD_VARIABLES:
        os.environ[name] = str(job.threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(job.threads)
    if job.address_space_bytes is not None:
        _limit_address_space(job.address_space_bytes)
    # should the kernel run out of memory, it ends the cell and not the run
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")


def _limit_address_space(size: int) -> None:
    """Limits what this process may map; a stricter limit that it came with stays."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    size = size if hard_limit == resource.RLIM_INFINITY else min(size, hard_limit)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    except (ValueError, OSError) as error:
        raise UnsupportedError(f"address_space_bytes: this system cannot limit a process to {size} bytes: {error}") from error


def _resolve(function: str) -> Callable[[dict[str, Any], ReportPhase], Any]:
    module, _, name = function.partition(":")
    target: Callable[[dict[str, Any], ReportPhase], Any] = getattr(importlib.import_module(module), name)
    return target


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)


def _tie_to_run() -> None:
    """Ties this process, and what it starts, to the life of the run and of the fork server."""
    end_with_parent()
    parent = multiprocessing.process.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _write_output_to(path: Path, *, append: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC), 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)
    faulthandler.enable(file=2)


def _log_tail(path: Path) -> str | None:
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    return "\n".join(lines[-LOG_TAIL_LINES:]) or None


def _kernel_oom_kills() -> int:
    """How many processes the kernel has ended for memory so far, by its own count and this container's."""
    kills = 0
    for name in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        with contextlib.suppress(OSError):
            kills += sum(int(line.split()[1]) for line in Path(name).read_text().splitlines() if line.startswith("oom_kill "))
    return kills


@contextlib.contextmanager
def _surroundings(threads: int) -> Iterator[None]:
    """The environment and the blocked signals of a fork server that may start now.

    Numerical libraries read thread counts from the environment as they load. The run answers an interrupt from the terminal, and
    a job answers a cluster's warnings. The server and the cells get these signals too, so they have them blocked.
    """
    resource_tracker.ensure_running()  # before the signals are blocked, as it unblocks them once it has started
    previous_values = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ANSWERED_BY_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in previous_values.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

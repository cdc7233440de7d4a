"""What one job of a cluster runs on its node: a task, or costs that are compared with each other, each in a fresh process.

A job and the run that submitted it share the run's folder alone. The pickled allocation lies there. The answers go there in one file, which
is whole or not there. So an allocation that is ended midway begins again, and all its costs come from one allocation.
"""

import contextlib
import hashlib
import os
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cell import Cell
from benchmarks.digests import PACKAGES, PROJECT
from benchmarks.environment import environment, processors, utc_now
from benchmarks.isolation import ATTEMPTS, Job, Outcome, preload, run_isolated
from benchmarks.records import Status
from benchmarks.run.jobs import Answer, Place
from persrec.files import write_atomically

ALLOCATION = "allocation"  # the phase of what ended with its job
WARNING_S = 90  # how long before its end a job is warned, unless it is a short one
_PERIOD_S = 30  # between two checks by Slurm of which jobs to warn; it warns those that would end before the next check
_BEGUN = "SLURM_RESTART_COUNT"


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The work of one job.

    Attributes:
        answers: the file for its results, a pickled list with an `Answer` for each of ``jobs``.
        jobs: to run one after the other.
        keys: the key of what each job measures; once a job has failed, later jobs with its key are not run.
        preload: modules that the processes share, where there are several.
        exclusive: whether it has the node to itself.
        minutes: until the cluster ends it.
        requeues: how often it may begin again.
        code: the `code_stamp` of the run that submitted it.
    """

    answers: Path
    jobs: tuple[Job, ...]
    keys: tuple[str, ...]
    preload: tuple[str, ...]
    exclusive: bool
    minutes: int
    requeues: int
    code: str

    def __call__(self) -> None:
        """Runs the jobs, and writes their answers."""
        object.__setattr__(self, "_began", time.monotonic())
        if code_stamp() != self.code:
            self._end(Status.INVALID, "the code was edited after the run began; run the command again with --resume failed")
        elif _restarts() > self.requeues:
            self._end(Status.CRASH, f"begun {_restarts() + 1} times; each time its node failed or another job took its place")
        else:
            with _no_main_module():
                self._answer(self._run())

    def checkpoint(self) -> Any:
        """What is submitted again when this job is preempted or out of time; ``None`` once that has happened too often."""
        from submitit.helpers import DelayedSubmission  # noqa: PLC0415 - an extra, which is there where a cluster's job runs

        if _restarts() < self.requeues:
            return DelayedSubmission(replace(self))
        out_of_time = time.monotonic() - getattr(self, "_began", 0.0) > self.minutes * 60 - warning_s(self.minutes) - 2 * _PERIOD_S
        times = f"begun {_restarts() + 1} times"
        if out_of_time:
            self._end(Status.TIMEOUT, f"{times}, not finished after {self.minutes} minutes each")
        else:
            self._end(Status.CRASH, f"{times}, and preempted each time")
        return None

    def _run(self) -> list[Answer]:
        if len(self.jobs) > 1:
            preload(self.preload, threads=self.jobs[0].threads)
        answers: list[Answer] = []
        failed: dict[str, Answer] = {}
        train_flops: dict[str, Any] = {}  # the first process of each shape counts them, the others do not count again
        for job, key in zip(self.jobs, self.keys, strict=True):
            payload = dict(job.payload) | ({"train_flops": train_flops[key]} if key in train_flops else {})
            answer = failed.get(key) or _answer_of(replace(job, payload=payload), exclusive=self.exclusive)
            if answer.outcome.status is not Status.OK:
                failed[key] = answer
            elif "train_flops" in payload and key not in train_flops:
                train_flops[key] = answer.outcome.value.get("metrics", {}).get("train_flops", {}).get("value")
            answers.append(answer)
        return answers

    def _end(self, status: Status, message: str) -> None:
        """Answers every job with this failure."""
        outcome = Outcome(status=status, phase=ALLOCATION, type="SlurmJob", message=message)
        self._answer([Answer(outcome=outcome, place=_place(job, ())) for job in self.jobs])

    def _answer(self, answers: list[Answer]) -> None:
        write_atomically(self.answers, pickle.dumps(answers))


def warning_s(minutes: int) -> int:
    """How many seconds before its end a job of so many minutes is warned: a third of its time at most, so that it has begun by then."""
    return min(WARNING_S, 20 * minutes)


def code_stamp() -> str:
    """Changes with every edit of the code; all machines that share its folder see the same one."""
    files = sorted(path for package in PACKAGES for path in (PROJECT / package).rglob("*.py"))
    states = ((path.relative_to(PROJECT), path.stat()) for path in files)
    return hashlib.sha256("\n".join(f"{path} {state.st_size} {state.st_mtime_ns}" for path, state in states).encode()).hexdigest()


def _answer_of(job: Job, *, exclusive: bool) -> Answer:
    """Runs one job, and again where its failure may be bad luck."""
    affinity = processors(0, job.threads) if exclusive else ()
    for attempt in range(1, ATTEMPTS + 1):
        outcome = run_isolated(replace(job, affinity=affinity, attempt=attempt))
        if not outcome.retry:
            break
    return Answer(outcome=replace(outcome, retry=False), place=_place(job, affinity))


def _place(job: Job, affinity: tuple[int, ...]) -> Place:
    cell = Cell.from_dict(job.payload["cell"])
    return Place(affinity=affinity, facts=environment(device=cell.device, threads=cell.threads, affinity=affinity), utc=utc_now())


def _restarts() -> int:
    return int(os.environ.get(_BEGUN, "0"))


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Hides the main module, which a fresh process would read again: here it is the submitter's, and of no use to that process."""
    import __main__  # noqa: PLC0415 - as it is now

    spec, file = getattr(__main__, "__spec__", None), __main__.__dict__.pop("__file__", None)
    __main__.__spec__ = None
    try:
        yield
    finally:
        __main__.__spec__ = spec
        if file is not None:
            __main__.__file__ = file

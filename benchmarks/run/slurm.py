"""Runs a sweep's tasks as jobs of Slurm, submitted by submitit as arrays, a lane for each kind of task.

Slurm schedules. This module says what may be submitted, how many jobs at once, and what a job's end means. Jobs and the run share the
run's folder alone, so a run can go on from another login node: it ends the jobs that dead runs left in the queue, and takes in the answers
that their jobs left.
"""

import contextlib
import importlib.util
import io
import itertools
import os
import pickle
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from benchmarks.cell import Cell
from benchmarks.grids.cluster import LANES, ClusterRequest, Lane, LaneRequest
from benchmarks.isolation import LOG_TAIL_LINES, Outcome
from benchmarks.records import Status
from benchmarks.run.allocation import ALLOCATION, Allocation, code_stamp, warning_s
from benchmarks.run.jobs import CostOf, CostsOf, Place, Running, SweepSettings, Task, TrainingOf, costs_of, first_of, job
from benchmarks.store import JOBS, job_files, remove_jobs
from benchmarks.text import digest
from persrec.files import write_atomically

LOOK_S = 10.0  # between two questions to Slurm
GRACE_S = 5.0  # until the answers of an ended job are visible here, and until Slurm has put the job back, if it does
END_S = 120.0  # until cancelled jobs are gone
MOST_ELEMENTS = 1000  # of an array, as Slurm has it by default
ANSWERS, QUEUE = ".answers", "queue"
# two shapes that differ in one of these are no rivals: their costs are never divided by each other
FAMILY = ("backbone", "history", "recent", "layers", "heads", "item_layers", "width", "key_value_heads", "feed_forward", "dtype", "device")
ENDED: Mapping[str, tuple[Status, bool]] = MappingProxyType({
    "TIMEOUT": (Status.TIMEOUT, False), "DEADLINE": (Status.TIMEOUT, False), "OUT_OF_MEMORY": (Status.OOM, False),
    "CANCELLED": (Status.CRASH, False), "COMPLETED": (Status.CRASH, True), "FAILED": (Status.CRASH, True),
    "NODE_FAIL": (Status.CRASH, True), "BOOT_FAIL": (Status.CRASH, True), "PREEMPTED": (Status.CRASH, True), "GONE": (Status.CRASH, True),
})  # fmt: skip

# Slurm's own words in a job's log: where it counts memory itself, without cgroups, it kills the job and calls it failed
MEMORY = re.compile(r"^slurmstepd.*(exceeded (job )?memory limit|oom[-_]kill)", re.MULTILINE | re.IGNORECASE)


def check_slurm() -> None:
    """Refuses where no job can be submitted.

    Raises:
        ValueError: Slurm's commands or submitit are not here.
    """
    missing = next((name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None), None)
    if missing is not None:
        raise ValueError(f"--executor: slurm: no {missing} on this machine")
    if importlib.util.find_spec("submitit") is None:
        raise ValueError("--executor: slurm: submitit is not installed; pip install --constraint constraints.txt --editable '.[slurm]'")


def end_jobs_of_earlier_run(out: Path) -> None:
    """Ends the jobs that a dead run left in Slurm's queue, before another run writes to the folder.

    Raises:
        ValueError: that cannot be done here.
    """
    queue = SlurmQueue.of_earlier_run(out / JOBS)
    if queue is None:
        return
    if shutil.which("scancel") is None:
        raise ValueError(f"--out: {out}: jobs named {queue.name} may still write to it; end them with scancel, and remove {out / JOBS}")
    queue.cancel()


class SlurmQueue:
    """The jobs of one run in Slurm's queue, all of one name; the run's folder holds the name of the run that last wrote to it."""

    def __init__(self, folder: Path, name: str) -> None:
        """Of the folder ``slurm`` of a run."""
        self.folder, self.name = folder, name

    @classmethod
    def of_earlier_run(cls, folder: Path) -> Self | None:
        """The queue of the run before; ``None`` where that run ended well."""
        path = folder / QUEUE
        return cls(folder, path.read_text().strip()) if path.is_file() else None

    @classmethod
    def begun(cls, folder: Path) -> Self:
        """A new queue, whose name takes the place of the one before."""
        queue = cls(folder, f"persrec-{secrets.token_hex(4)}")
        write_atomically(folder / QUEUE, queue.name.encode())
        return queue

    @property
    def has_the_folder(self) -> bool:
        """Whether no other run began meanwhile, for example while this one slept."""
        with contextlib.suppress(OSError):
            return (self.folder / QUEUE).read_text().strip() == self.name
        return False

    def states(self) -> dict[str, str] | None:
        """The state of each job that Slurm still knows, by id; ``None`` where Slurm does not answer."""
        command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T", *self._ours()]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        return None if answer.returncode else dict(line.split(maxsplit=1) for line in answer.stdout.splitlines())

    def cancel(self) -> None:
        """Ends all jobs, and waits until they are gone.

        Raises:
            ValueError: they are not.
        """
        # running jobs are killed: they ignore Slurm's other signals, because a preemption begins with these
        for how in (["--state=PENDING"], ["--signal=KILL", "--full"], []):
            subprocess.run(["scancel", "--quiet", *how, *self._ours()], capture_output=True, check=False)
        end = time.monotonic() + END_S
        while time.monotonic() < end:
            states = self.states()
            if states is not None and all(state in ENDED for state in states.values()):
                return
            time.sleep(0.2)
        raise ValueError(f"--executor: slurm: jobs named {self.name} are still in the queue; end them with scancel --name={self.name}")

    def _ours(self) -> list[str]:
        return [f"--name={self.name}", f"--user={os.getuid()}"]


class ClusterRunning:
    """A task that waits or runs in Slurm's queue."""

    phase = "in the queue"

    def __init__(self, task: Task, allocation: Allocation) -> None:
        """Not submitted yet."""
        self.task, self.allocation = task, allocation
        self.place, self.job_id = Place(), ""
        self.state, self._state_at, self._ended_at = "", 0.0, 0.0
        self.is_answered = False

    def poll(self) -> Outcome | None:
        """The outcome once there is one."""
        if self.is_answered:
            return self._outcome()
        return self._without_answer() if self.has_failed() else None

    @property
    def has_ended(self) -> bool:
        """Whether Slurm's last answer said so; it may still put the job back into its queue."""
        return self.state in ENDED

    def has_failed(self) -> bool:
        """Whether the job ended for good: Slurm says so again a while later, and its answers would be here if there were any."""
        return self.has_ended and self._state_at - self._ended_at >= GRACE_S

    def tell(self, state: str) -> None:
        """Notes the state that Slurm gives now."""
        self._state_at = time.monotonic()
        if not self.has_ended:
            self._ended_at = self._state_at
        self.state = state

    def new_phases(self) -> list[str]:
        """No phases: a node reports none."""
        return []

    def kill(self) -> None:
        """Does nothing: all jobs of a run are cancelled together."""

    def has_outlived_its_model(self) -> bool:
        """Whether an earlier run's job answered that it trained a model, and that model is no longer there."""
        if not self.is_answered or not isinstance(self.task, TrainingOf) or self._outcome().status is not Status.OK:
            return False
        return not (Path(self.allocation.jobs[0].payload["model_dir"]) / "model.json").is_file()

    def _outcome(self) -> Outcome:
        answers = pickle.loads(self.allocation.answers.read_bytes())  # noqa: S301 - written by our own job in our own folder
        self.place = answers[0].place
        if isinstance(self.task, TrainingOf):  # a network file system remembers that there was no model, until its folder is listed
            with contextlib.suppress(OSError):
                list(Path(self.allocation.jobs[0].payload["model_dir"]).iterdir())
        if isinstance(self.task, CostsOf):
            return Outcome(status=Status.OK, value=answers, seconds=sum(answer.outcome.seconds for answer in answers))
        outcome: Outcome = answers[0].outcome
        return outcome

    def _without_answer(self) -> Outcome:
        """The outcome of a job that ended and left no answers."""
        log, (status, retry) = "", ENDED[self.state]
        with contextlib.suppress(OSError):
            log = (self.allocation.answers.parent / f"{self.job_id}_0_log.err").read_text(errors="replace")
        state = self.state.lower().replace("_", " ")
        if MEMORY.search(log):
            status, retry, state = Status.OOM, False, "out of memory"
        message, tail = f"Slurm's job {self.job_id} ended without an answer: {state}", "\n".join(log.splitlines()[-LOG_TAIL_LINES:])
        return Outcome(status=status, phase=ALLOCATION, type="SlurmJob", message=message, log_tail=tail or None, retry=retry)


class ClusterExecutor:
    """Runs tasks as jobs of Slurm."""

    costs_wait = costs_alone = False

    def __init__(self, settings: SweepSettings, request: ClusterRequest, *, places: int, anew: bool) -> None:
        """With ``places`` jobs in the queue at once; with ``anew``, no answer of an earlier run is taken in."""
        self.places, self._settings, self._request, self._anew = places, settings, request, anew
        self._folder = (settings.out / JOBS).absolute()
        self._queue: SlurmQueue | None = None
        self._code = code_stamp()
        self._to_submit: list[tuple[Lane, ClusterRunning]] = []
        self._used_answers: set[Path] = set()
        self._last_question = time.monotonic()

    def prepare(self, cells: Sequence[Cell]) -> None:  # noqa: ARG002 - a node imports what it needs
        """Begins a queue, and removes what submissions left; answers of an earlier run stay, unless all is measured again."""
        self._queue = SlurmQueue.begun(self._folder)
        self._remove(answers=self._anew)

    def grouped(self, costs: Sequence[CostOf]) -> list[CostOf | CostsOf]:
        """Costs that may be divided by each other share an allocation, in their order."""
        families: dict[str, list[CostOf]] = {}
        for cost in costs:
            family = digest({name: cost.planned.shape.get(name) for name in FAMILY})
            families.setdefault(family, []).append(cost)
        return [CostsOf(costs=tuple(family)) for family in families.values()]

    def start(self, task: Task, *, slot: int, attempt: int) -> Running:  # noqa: ARG002 - Slurm chooses the place, a job the attempt
        """Submits a task at the next `wait`, unless an earlier run's job left its answers."""
        lane: Lane = task.kind
        running = ClusterRunning(task, self._allocation(lane, task))
        answers = running.allocation.answers
        if answers in self._used_answers:  # this very run measures it again
            self._used_answers.remove(answers)
            answers.unlink()
        running.is_answered = answers.is_file()
        if running.has_outlived_its_model():
            running.is_answered = False
            answers.unlink()
        if not running.is_answered:
            self._to_submit.append((lane, running))
        return running

    def wait(self, running: Sequence[Running]) -> None:
        """Submits what was started, and sleeps until one of the jobs has news."""
        for path in self._used_answers:  # their records are written by now
            path.unlink(missing_ok=True)
        self._used_answers.clear()
        self._submit()
        ours = [one for one in running if isinstance(one, ClusterRunning)]
        pause = 0.05
        while ours and not self._look(ours):
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)
            if time.monotonic() - self._last_question > (GRACE_S if any(one.has_ended for one in ours) else LOOK_S):
                self._ask(ours)

    def end(self) -> None:
        """Leaves no job in the queue, and no file but answers that no run took in."""
        if self._queue is None:
            return
        self._queue.cancel()
        if not self._queue.has_the_folder:
            return
        for path in self._used_answers:
            path.unlink(missing_ok=True)
        self._remove(answers=False)
        if not any(path.suffix == ANSWERS for path in job_files(self._settings.out)):
            remove_jobs(self._settings.out)

    def _allocation(self, lane: Lane, task: Task) -> Allocation:
        request, limits = self._request.lane(lane), self._settings.limits
        tasks = costs_of(task) or (first_of(task),)
        jobs = tuple(job(one, self._settings, affinity=(), attempt=1) for one in tasks)
        keys = tuple(one.planned.key for one in tasks)
        seconds = limits.training_seconds if lane == "training" else limits.cell_seconds * len(jobs)
        codes = [dict(one.planned.code) for one in tasks]
        identity = digest({"jobs": [[one.function, dict(one.payload)] for one in jobs], "keys": keys, "codes": codes})
        return Allocation(
            answers=self._folder / f"{identity}{ANSWERS}",
            jobs=jobs,
            keys=keys,
            preload=tuple(self._settings.work.modules(())),
            exclusive=_exclusive(lane, request),
            minutes=request.minutes_for(seconds),
            requeues=request.requeues,
            code=self._code,
        )

    def _submit(self) -> None:
        """Submits the started tasks to Slurm, an array for each lane.

        Raises:
            ValueError: Slurm refuses it.
        """
        import submitit  # noqa: PLC0415 - an extra

        waiting, self._to_submit = self._to_submit, []
        for (number, minutes), group in itertools.groupby(sorted(waiting, key=_place_in_line), key=_place_in_line):
            lane = LANES[number]
            executor = submitit.SlurmExecutor(folder=self._folder, max_num_timeout=self._request.lane(lane).requeues)
            runnings = [running for _, running in group]
            executor.update_parameters(**self._parameters(lane, minutes, [running.allocation for running in runnings]))
            for start in range(0, len(runnings), MOST_ELEMENTS):
                part = runnings[start : start + MOST_ELEMENTS]
                try:
                    with contextlib.redirect_stderr(io.StringIO()):  # it prints what it raises
                        jobs = executor.submit_array([running.allocation for running in part])
                except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
                    raise ValueError(f"--executor: slurm: [slurm.{lane}]: {str(error).strip().splitlines()[-1]}") from error
                for running, slurm_job in zip(part, jobs, strict=True):
                    running.job_id = slurm_job.job_id

    def _parameters(self, lane: Lane, minutes: int, allocations: Iterable[Allocation]) -> dict[str, Any]:
        """The parameters of sbatch."""
        assert self._queue is not None  # noqa: S101 - nothing is submitted before `prepare`
        request = self._request.lane(lane)
        cells = [Cell.from_dict(one.payload["cell"]) for allocation in allocations for one in allocation.jobs]
        processes = {cell: cell.world_size if lane == "training" else 1 for cell in cells}
        gpus = request.gpus if request.gpus is not None else max(number * (cell.device == "cuda") for cell, number in processes.items())
        resources = {
            "time": minutes,
            "cpus_per_task": request.cpus or max(cell.threads * number for cell, number in processes.items()),
            "gpus_per_node": gpus or None,
            "mem": None if request.mem_gb is None else f"{round(request.mem_gb * 1024)}MB",
            "exclusive": _exclusive(lane, request) or None,
        }
        common = {name: value for name, value in asdict(request).items() if name in ("partition", "constraint", "account", "qos")}
        parameters = {name: value for name, value in (resources | common).items() if value is not None}
        # a cluster may not put jobs back unless they ask for it
        ours = {"job_name": self._queue.name, "signal_delay_s": warning_s(minutes), "additional_parameters": {"requeue": True}}
        return parameters | ours | {"array_parallelism": request.parallel}

    def _look(self, running: Sequence[ClusterRunning]) -> bool:
        """Whether one of them has an answer or failed."""
        names = {entry.name for entry in os.scandir(self._folder)}
        for one in running:
            if not one.is_answered and one.allocation.answers.name in names:
                one.is_answered = True
            if one.is_answered:
                self._used_answers.add(one.allocation.answers)
        return any(one.is_answered or one.has_failed() for one in running)

    def _ask(self, running: Sequence[ClusterRunning]) -> None:
        """Asks Slurm for the state of all jobs."""
        assert self._queue is not None  # noqa: S101 - nothing runs before `prepare`
        self._last_question = time.monotonic()
        states = self._queue.states()
        if states is not None:
            for one in running:
                one.tell(states.get(one.job_id, "GONE"))

    def _remove(self, *, answers: bool) -> None:
        """Removes what submissions left, and with ``answers`` what jobs answered."""
        for path in job_files(self._settings.out):
            if path.name != QUEUE and (answers or path.suffix != ANSWERS):
                path.unlink(missing_ok=True)


def _exclusive(lane: Lane, request: LaneRequest) -> bool:
    return lane == "cost" if request.exclusive is None else request.exclusive


def _place_in_line(waiting: tuple[Lane, ClusterRunning]) -> tuple[int, int]:
    """Trainings first."""
    lane, running = waiting
    return LANES.index(lane), running.allocation.minutes

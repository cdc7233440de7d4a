"""Runs a sweep's tasks on this machine: each worker has its own processors, and a cost that is timed has the machine to itself."""

import multiprocessing.connection
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from benchmarks.cell import Cell
from benchmarks.environment import cuda_device_count, gpus, processors
from benchmarks.isolation import Isolated, Outcome, preload
from benchmarks.run.jobs import CostOf, CostsOf, Place, Running, SweepSettings, Task, TrainingOf, job


class Executor(Protocol):
    """Where a sweep's tasks run.

    Attributes:
        places: tasks that may run at once.
        costs_wait: whether costs begin only once all qualities have begun; on one machine they do.
        costs_alone: whether nothing else may run beside a cost.
    """

    places: int
    costs_wait: bool
    costs_alone: bool

    def prepare(self, cells: Sequence[Cell]) -> None:
        """Gets ready to run tasks of these cells."""

    def grouped(self, costs: Sequence[CostOf]) -> list[CostOf | CostsOf]:
        """The costs as tasks, in the order to start them."""

    def start(self, task: Task, *, slot: int, attempt: int) -> Running:
        """Starts a task, at the next `wait` at the latest."""

    def wait(self, running: Sequence[Running]) -> None:
        """Returns when a running task may have news."""

    def end(self) -> None:
        """Ends what still runs."""


class LocalExecutor:
    """Runs tasks in processes of this machine."""

    costs_wait = True

    def __init__(self, settings: SweepSettings, *, places: int, threads: int) -> None:
        """With ``places`` workers of ``threads`` processors each."""
        self.places, self.costs_alone = places, settings.limits.costs_alone
        self._settings, self._threads = settings, threads

    def prepare(self, cells: Sequence[Cell]) -> None:
        """Also imports what the program's main module does: a fresh process reads that module again, which then takes no time."""
        preload([*self._settings.work.modules(cells), __name__.rpartition(".")[0] + ".sweep"], threads=self._threads)

    def grouped(self, costs: Sequence[CostOf]) -> list[CostOf | CostsOf]:
        """One by one."""
        return list(costs)

    def start(self, task: Task, *, slot: int, attempt: int) -> Running:
        """Starts a fresh process on the processors of this slot and, where there are several workers, on its GPU."""
        if isinstance(task, CostsOf):
            raise TypeError("costs run one by one here")
        cell = task.planned.cell
        processes = cell.world_size if isinstance(task, TrainingOf) else 1
        work = job(task, self._settings, affinity=processors(slot, self._threads), attempt=attempt)
        if cell.device == "cuda" and processes == 1 and self.places > 1:
            devices = gpus()[: cuda_device_count()[0]]  # CUDA reads the names up to the first that it does not know
            work = replace(work, gpu=devices[slot % len(devices)]) if devices else work
        return LocalRunning(Isolated(work))

    def wait(self, running: Iterable[Running]) -> None:
        """Sleeps until a process has news or has run out of time."""
        isolated = [one.isolated for one in running if isinstance(one, LocalRunning)]
        if not isolated:
            return
        patience = [seconds for one in isolated if (seconds := one.remaining_s()) is not None]
        multiprocessing.connection.wait([waitable for one in isolated for waitable in one.waitables()], timeout=min(patience, default=None))

    def end(self) -> None:
        """Does nothing: each process is ended by its own `kill`."""


class LocalRunning:
    """A process of this machine."""

    def __init__(self, isolated: Isolated) -> None:
        """Takes a process that runs."""
        self.isolated = isolated
        self.place = Place(affinity=isolated.job.affinity)

    @property
    def phase(self) -> str:
        """The phase that it is in."""
        return self.isolated.phase

    def poll(self) -> Outcome | None:
        """The outcome once there is one."""
        return self.isolated.poll()

    def new_phases(self) -> list[str]:
        """The phases that began since the last call."""
        return self.isolated.new_phases()

    def kill(self) -> None:
        """Ends the process and everything it started, at once."""
        self.isolated.kill()

"""The jobs of a sweep: what runs in a process of its own, with what payload, and on which processors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from benchmarks.cell import Cell
from benchmarks.digests import part_modules
from benchmarks.environment import environment, utc_now
from benchmarks.grids import Limits
from benchmarks.grids.cluster import Lane
from benchmarks.isolation import Job, Outcome
from benchmarks.labels import Labels
from benchmarks.measures import Kind
from benchmarks.run.plan import Planned, PlannedCost
from benchmarks.store import log_path, model_dir


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """The functions that do the measuring, as ``module:function``; tests put others in their place.

    The fork server imports their modules once, since each process would need seconds for that. It also imports the cells' own parts and
    ``preload``: what torch imports for deterministic algorithms, and pyarrow for reading a table (pandas among it).
    """

    train: str = "benchmarks.execute:train_model"
    quality: str = "benchmarks.execute:measure_cell_quality"
    cost: str = "benchmarks.execute:measure_cost"
    preload: tuple[str, ...] = ("torch._inductor", "pyarrow.dataset")

    def function(self, kind: Lane) -> str:
        """The function of a kind of task."""
        return {"training": self.train, "quality": self.quality, "cost": self.cost}[kind]

    def modules(self, cells: Iterable[Cell]) -> list[str]:
        """What the fork server imports for these cells: so the code whose digest was taken at the start runs until the end."""
        functions = (function.partition(":")[0] for function in (self.train, self.quality, self.cost))
        parts = (module for cell in cells for module in part_modules(cell))
        return list(dict.fromkeys([*functions, *self.preload, *parts]))


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSettings:
    """What is the same for all cells of a sweep."""

    out: Path
    data_dir: str | None
    cache_dir: str | None
    dataset_file: str | None
    workers: int
    limits: Limits
    argv: Sequence[str]
    order_seed: int
    labels: Labels
    work: Work = Work()
    seconds_per_model: float = 30.0
    seconds_per_cell: float = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingOf:
    """Trains the model of a cell."""

    planned: Planned
    kind: Literal["training"] = "training"


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityOf:
    """Measures the quality of a cell."""

    planned: Planned
    kind: Literal["quality"] = "quality"


@dataclass(frozen=True, kw_only=True, slots=True)
class CostOf:
    """Measures ``kinds`` of the cost of a shape, in its process ``number``; later processes are told the FLOPs that the first counted."""

    planned: PlannedCost
    kinds: tuple[Kind, ...]
    number: int = 0
    train_flops: float | None = None
    kind: Literal["cost"] = "cost"


@dataclass(frozen=True, kw_only=True, slots=True)
class CostsOf:
    """Measures costs that are compared with each other, one after the other in one allocation of a cluster: all of them, or none."""

    costs: tuple[CostOf, ...]
    kind: Literal["cost"] = "cost"


Task = TrainingOf | QualityOf | CostOf | CostsOf


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where and when a process ran: here and now, unless ``facts`` and ``utc`` say otherwise."""

    affinity: tuple[int, ...] = ()
    facts: Mapping[str, Any] | None = None
    utc: str | None = None

    def environment(self, cell: Cell) -> dict[str, Any]:
        """The facts of its machine, for a record."""
        if self.facts is not None:
            return dict(self.facts)
        return environment(device=cell.device, threads=cell.threads, affinity=self.affinity)

    def when(self) -> str:
        """The time, as records write it."""
        return self.utc or utc_now()


class Running(Protocol):
    """A task that runs."""

    @property
    def phase(self) -> str:
        """The phase that it is in."""

    @property
    def place(self) -> Place:
        """Where it ran, once it has an outcome."""

    def poll(self) -> Outcome | None:
        """The outcome once there is one; of `CostsOf`, its value is a list of `Answer`."""

    def new_phases(self) -> list[str]:
        """The phases that began since the last call, in order."""

    def kill(self) -> None:
        """Ends it, and what it started."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """How a process ended, and where."""

    outcome: Outcome
    place: Place


@dataclass(slots=True)
class Worker:
    """One of the tasks that run side by side."""

    slot: int
    running: Running | None = None
    task: Task | None = None
    attempt: int = 1


def first_of(task: Task) -> TrainingOf | QualityOf | CostOf:
    """The task itself, or the first of several costs."""
    return task.costs[0] if isinstance(task, CostsOf) else task


def costs_of(task: Task | None) -> tuple[CostOf, ...]:
    """The costs that a task measures."""
    return task.costs if isinstance(task, CostsOf) else (task,) if isinstance(task, CostOf) else ()


def job(task: TrainingOf | QualityOf | CostOf, settings: SweepSettings, *, affinity: tuple[int, ...], attempt: int) -> Job:
    """The process that a task runs in."""
    limits = settings.limits
    return Job(
        function=settings.work.function(task.kind),
        payload=_payload(task, settings),
        log_path=log_path(settings.out, _log_name(task)).absolute(),
        threads=task.planned.cell.threads,
        affinity=affinity,
        timeout_s=limits.training_seconds if task.kind == "training" else limits.cell_seconds,
        address_space_bytes=int(limits.address_space_bytes) if limits.address_space_bytes else None,
        attempt=attempt,
    )


def _payload(task: TrainingOf | QualityOf | CostOf, settings: SweepSettings) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "cell": task.planned.cell.to_dict(),
        "data_dir": settings.data_dir,
        "cache_dir": settings.cache_dir,
        "dataset_file": settings.dataset_file,
        "dataset_digest": task.planned.dataset_digest,
    }
    if isinstance(task, CostOf):
        return payload | {"kinds": list(task.kinds), "train_flops": task.train_flops, "briefly": task.planned.briefly}
    key = task.planned.model_key
    if key is None:
        return payload
    return payload | {"model_dir": str(model_dir(settings.out, key).absolute()), "code_digest": task.planned.code["training"]}


def _log_name(task: TrainingOf | QualityOf | CostOf) -> str:
    if isinstance(task, CostOf):
        return f"cost-{task.planned.key}"
    return f"model-{task.planned.model_key}" if isinstance(task, TrainingOf) else task.planned.key

"""The jobs of a sweep: what runs in a process of its own, with what payload, and on which processors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.cell import Cell
from benchmarks.digests import part_modules
from benchmarks.grids import Limits
from benchmarks.isolation import Isolated, Job
from benchmarks.labels import Labels
from benchmarks.measures import Kind
from benchmarks.run.plan import Planned, PlannedCost
from benchmarks.store import log_path, model_dir

TaskKind = Literal["training", "quality", "cost"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """The functions that do the measuring, as ``module:function``; tests put others in their place.

    The fork server imports their modules once, and those of ``preload``: what torch imports when it is asked for deterministic
    algorithms, and pyarrow when it reads a table (pandas among it). They would cost each process seconds. It also imports the
    cells' own parts.
    """

    train: str = "benchmarks.execute:train_model"
    quality: str = "benchmarks.execute:measure_cell_quality"
    cost: str = "benchmarks.execute:measure_cost"
    preload: tuple[str, ...] = ("torch._inductor", "pyarrow.dataset")

    def function(self, kind: TaskKind) -> str:
        """The function of a kind of task."""
        return {"training": self.train, "quality": self.quality, "cost": self.cost}[kind]

    def modules(self, cells: Iterable[Cell]) -> list[str]:
        """What the fork server imports for these cells: what a digest was taken of when the run began runs until its end."""
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
    """Measures these ``kinds`` of the cost of a shape, in the process of this number; all but the first are told what it counted."""

    planned: PlannedCost
    kinds: tuple[Kind, ...]
    number: int = 0
    train_flops: float | None = None
    kind: Literal["cost"] = "cost"


Task = TrainingOf | QualityOf | CostOf


@dataclass(slots=True)
class Worker:
    """One of the places where jobs run, with its own processors."""

    slot: int
    affinity: tuple[int, ...]
    running: Isolated | None = None
    task: Task | None = None


def job(task: Task, settings: SweepSettings, *, affinity: tuple[int, ...], attempt: int) -> Job:
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


def _payload(task: Task, settings: SweepSettings) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "cell": task.planned.cell.to_dict(),
        "data_dir": settings.data_dir,
        "cache_dir": settings.cache_dir,
        "dataset_file": settings.dataset_file,
        "dataset_digest": task.planned.dataset_digest,
    }
    if isinstance(task, CostOf):
        briefly = not settings.limits.costs_alone
        return payload | {"kinds": list(task.kinds), "train_flops": task.train_flops, "briefly": briefly}
    key = task.planned.model_key
    if key is None:
        return payload
    return payload | {"model_dir": str(model_dir(settings.out, key).absolute()), "code_digest": task.planned.code["training"]}


def _log_name(task: Task) -> str:
    if isinstance(task, CostOf):
        return f"cost-{task.planned.key}"
    return f"model-{task.planned.model_key}" if isinstance(task, TrainingOf) else task.planned.key

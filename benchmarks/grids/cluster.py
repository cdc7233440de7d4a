"""What a grid asks of a cluster: the table ``[slurm]`` of its file.

::

    [slurm]                   # for every lane
    partition = "gpu"
    jobs = 200                # in the queue at once
    [slurm.cost]              # for one lane: training, quality or cost
    partition = "whole-nodes"
    constraint = "h100"
    minutes = 120
"""

import math
import typing
from dataclasses import dataclass
from typing import Literal

Lane = Literal["training", "quality", "cost"]
LANES: tuple[Lane, ...] = typing.get_args(Lane)
MOST_JOBS = 100_000
MOST_SECONDS = 24 * 3600.0  # the longest time to ask for, unless the grid says more


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneRequest:
    """What each job of a lane asks for; a field that is None is as the cells or the cluster have it.

    Attributes:
        partition: of the cluster, as ``constraint``, ``account`` and ``qos``.
        constraint: features that a node must have; timings are compared on one kind of node alone.
        account: who pays.
        qos: the quality of service.
        cpus: processors; None is the threads of the cells.
        gpus: None is one for each process that trains or measures on CUDA.
        mem_gb: memory; None is the cluster's default.
        minutes: until a job is ended; None is what the grid's limits allow, a day at most, and five more.
        exclusive: whether a job has its nodes alone; None is true for costs.
        parallel: jobs of an array that run at once.
        requeues: how often a job that was preempted, timed out or lost its node begins again.
        jobs: in the queue at once, of all lanes together; the smallest number that a lane says holds.
    """

    partition: str | None = None
    constraint: str | None = None
    account: str | None = None
    qos: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    mem_gb: float | None = None
    minutes: int | None = None
    exclusive: bool | None = None
    parallel: int = 256
    requeues: int = 3
    jobs: int = 100

    def __post_init__(self) -> None:
        for name, least in (("cpus", 1), ("gpus", 0), ("minutes", 1), ("parallel", 1), ("requeues", 0), ("jobs", 1)):
            value = getattr(self, name)
            if value is not None and not least <= value <= MOST_JOBS:
                raise ValueError(f"{name}: {value}; expected {least} to {MOST_JOBS}")
        if self.mem_gb is not None and not 0 < self.mem_gb < math.inf:
            raise ValueError(f"mem_gb: {self.mem_gb}; expected a finite number above 0")

    def minutes_for(self, seconds: float) -> int:
        """Minutes to ask for, where the grid's limits allow a job so many seconds."""
        if self.minutes is not None:
            return self.minutes
        return math.ceil(min(seconds, MOST_SECONDS) / 60) + 5


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterRequest:
    """What the jobs of each lane ask for."""

    training: LaneRequest = LaneRequest()
    quality: LaneRequest = LaneRequest()
    cost: LaneRequest = LaneRequest()

    @property
    def jobs(self) -> int:
        """Jobs in the queue at once."""
        return min(self.lane(name).jobs for name in LANES)

    def lane(self, name: Lane) -> LaneRequest:
        """One lane's."""
        return {"training": self.training, "quality": self.quality, "cost": self.cost}[name]

"""The types of a run's records."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

from benchmarks.cell import Cell
from benchmarks.peers.part import PeerPart
from persrec.names import LEAVE_ONE_OUT, BackbonePart, CompressionPart, DatasetPart, FloorPart, Part

SCHEMA_VERSION = 2
Half = Literal["quality", "cost"]  # of a cell


class Status(StrEnum):
    """How a measurement ended."""

    OK = "ok"
    OOM = "oom"
    TIMEOUT = "timeout"
    CRASH = "crash"
    UNSUPPORTED = "unsupported"
    INVALID = "invalid"


WORST_FIRST = (Status.CRASH, Status.TIMEOUT, Status.INVALID, Status.OOM, Status.UNSUPPORTED, Status.OK)
FINDINGS = frozenset({Status.OK, Status.OOM, Status.UNSUPPORTED})  # what a finished sweep may hold; the others are no measurement


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One number: in ``unit``, of ``n`` observations, with a 95% interval; of a single process with quartiles, as ``method`` says.

    A number that could not be taken is ``None``, and ``method`` says why. ``samples`` are what a later number is taken from, ascending:
    the single requests of one process.
    """

    value: int | float | None
    unit: str = ""
    direction: str = "lower"
    method: str = ""
    n: int = 0
    low: float | None = None
    high: float | None = None
    samples: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRow:
    """FLOPs of one part of one pass, counted in three ways; ``agrees`` where each differs from the formula by at most 1%.

    A sequence's share of what a training step computes for all of them, as of texts, need be no whole number.
    """

    phase: str
    part: str
    formula_flops: int | float | None = None
    torch_flops: int | float | None = None
    fvcore_flops: int | float | None = None
    visible_flops: int | float | None = None
    executed_flops: int | float | None = None
    uncounted: dict[str, int] = field(default_factory=dict)
    agrees: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Replicates:
    """Bootstrap means over users, by metric; replicate ``b`` has the same users in every cell of one dataset."""

    seed: int
    means: dict[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """One epoch of a training; ``validation`` is NDCG@10, ``steps`` those since the training's start, ``learning_rate`` the last step's."""

    epoch: int
    loss: float | None
    validation: float | None
    seconds: float | None = None
    padding_share: float | None = None
    steps: int | None = None
    learning_rate: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedModel:
    """The model behind a quality, and how it was trained; ``best_validation`` is NDCG@10.

    ``converged`` says whether validation was on a plateau before the learning rate fell; None where a record is older than the question.
    ``targets`` are the next-item targets of all ``steps`` without padding, ``decay_steps`` those steps in which the rate fell.
    ``validation`` is NDCG@10 on the validation targets as the cell uses the model: of an elastic model that of the cell's own token
    count, where ``best_validation`` is that of the count which training watched. None where the cell changes what is served.
    ``machine`` is the fingerprint of the environment that ended its training; None where a record is older than the question.
    """

    key: str
    epochs: int
    best_epoch: int
    best_validation: float | None
    train_seconds: float | None
    validation: float | None = None
    resumes: int = 0
    diverged_at: int | None = None
    cached_joint_gap: float | None = None
    converged: bool | None = None
    steps: int | None = None
    best_step: int | None = None
    decay_steps: int | None = None
    targets: int | None = None
    learning_rate_at_best: float | None = None
    seconds_per_million_targets: float | None = None
    machine: str | None = None
    curve: tuple[Epoch, ...] = ()


# facts that came after the first records, and what they were then: of a model, an epoch, the data, a half, the record, a metric
LATER_FACTS: Mapping[str, Any] = MappingProxyType(dict.fromkeys((
    "converged", "steps", "best_step", "decay_steps", "targets", "learning_rate_at_best", "seconds_per_million_targets", "validation",
    "machine",
)))  # fmt: skip
LATER_EPOCH_FACTS: Mapping[str, Any] = MappingProxyType(dict.fromkeys(("steps", "learning_rate")))
LATER_DATA_FACTS: Mapping[str, Any] = MappingProxyType({"split": LEAVE_ONE_OUT, "days": (), "targets": None})
LATER_ORIGIN_FACTS: Mapping[str, Any] = MappingProxyType({"processes": None})
LATER_PARTS: Mapping[str, Any] = MappingProxyType({"groups": (), "protocols": ()})
LATER_METRIC_FACTS: Mapping[str, Any] = MappingProxyType({"samples": ()})
LATER_PROCESS_FACTS: Mapping[str, Any] = MappingProxyType({"brief": False})


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupQuality:
    """Quality of the users who have a history of ``least`` to below ``below`` events before the target; None is without an end."""

    least: int
    below: int | None
    metrics: dict[str, Metric]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtocolQuality:
    """Quality of the same model under a published protocol (`persrec.evaluation.protocols`), among ``items``.

    ``request_time`` says whether the model knew the time of the request, ``asks_request_time`` whether the protocol's own rows do.
    """

    name: str
    items: int
    request_time: bool
    asks_request_time: bool
    metrics: dict[str, Metric]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetFacts:
    """The data of a cell; ``digest`` is what they are keyed by, ``ceiling`` what an exact predictor reaches, where one is known.

    ``days`` are the first of the validation and of the test, of the temporal split; ``targets`` are those of the test.
    """

    name: str
    size: str | None = None
    digest: str = ""
    users: int | None = None
    items: int | None = None
    interactions: int | None = None
    exclude_seen: bool | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    split: str = LEAVE_ONE_OUT
    days: tuple[str, ...] = ()
    targets: int | None = None
    ceiling: dict[str, dict[str, float]] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """What ended a measurement, and in which phase."""

    phase: str | None = None
    type: str | None = None
    message: str | None = None
    log_tail: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """The machine: stable facts, their ``fingerprint``, and the ``readings`` of the moment, which no digest holds."""

    fingerprint: str | None = None
    python: str | None = None
    packages: dict[str, str | None] = field(default_factory=dict)
    system: str | None = None
    cpu: str | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    gpu: str | None = None
    gpu_memory_bytes: int | None = None
    driver: str | None = None
    gpu_reason: str | None = None
    threads: int | None = None
    affinity: tuple[int, ...] | None = None
    readings: dict[str, Any] = field(default_factory=dict)

    def loads(self) -> dict[str, dict[str, Any]]:
        """What other processes used while each kind of number was taken; readings have no fixed form: what is no table is left out."""
        load = self.readings.get("load")
        return {kind: reading for kind, reading in load.items() if isinstance(reading, dict)} if isinstance(load, dict) else {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """The place of a measurement in its run; the order was shuffled by ``seed``."""

    seed: int
    position: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Which code and command made a number, and when. ``dirty`` is the digest of uncommitted changes, ``None`` where there are none."""

    commit: str | None = None
    commit_reason: str | None = None
    dirty: str | None = None
    dirty_reason: str | None = None
    argv: tuple[str, ...] = ()
    utc: str = ""
    rerun: str | None = None
    order: Order | None = None
    workers: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where one half of a cell, its quality or its cost, comes from.

    ``code`` are the digests of the code that made it, by kind of number (`benchmarks.digests`); ``seconds`` what each phase took.
    ``processes`` is how many fresh ones measured a part of a timed cost; None of a quality, and where a record is older than this.
    """

    key: str
    status: Status
    code: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    environment: Environment = Environment()
    provenance: Provenance = Provenance()
    error: Failure | None = None
    processes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The declarations of a cell's parts, so that a report can draw parts that are not installed."""

    backbone: BackbonePart | None = None
    floor: FloorPart | None = None
    peer: PeerPart | None = None
    compression: CompressionPart | None = None
    dataset: DatasetPart | None = None

    def all(self) -> Iterator[Part]:
        """The declarations that are there."""
        return (part for part in (self.backbone, self.floor, self.peer, self.compression, self.dataset) if part is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One cell: its quality beside its cost, whole in itself."""

    cell_key: str
    status: Status
    cell: Cell
    parts: Parts = Parts()
    measure_versions: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    replicates: Replicates | None = None
    groups: tuple[GroupQuality, ...] = ()
    protocols: tuple[ProtocolQuality, ...] = ()
    ledger: tuple[LedgerRow, ...] = ()
    model: TrainedModel | None = None
    dataset: DatasetFacts | None = None
    quality: Origin | None = None
    cost: Origin | None = None
    error: Failure | None = None
    environment: Environment = Environment()
    provenance: Provenance = Provenance()
    schema_version: int = SCHEMA_VERSION

    @property
    def trained_on(self) -> str | None:
        """The machine that ended the training of its model, or evaluated where that is not known: a fingerprint."""
        evaluated = None if self.quality is None else self.quality.environment.fingerprint
        return evaluated if self.model is None else self.model.machine or evaluated

    @property
    def ok(self) -> bool:
        """Whether nothing failed of what was asked for, which may be one half alone."""
        return self.status is Status.OK

    def value(self, metric: str) -> float | None:
        """A metric's finite value, or ``None``."""
        entry = self.metrics.get(metric)
        return float(entry.value) if entry is not None and entry.value is not None and math.isfinite(entry.value) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """One fresh process that measured a cost; a ``brief`` one timed a few calls of each kind."""

    metrics: dict[str, Metric]
    seconds: dict[str, float] = field(default_factory=dict)
    environment: Environment = Environment()
    provenance: Provenance = Provenance()
    brief: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a shape costs on a device, shared by all cells of that shape.

    ``shape`` are the settings that it depends on; the catalogue is among them, interactions, seed and trained weights are not.
    """

    cost_key: str
    status: Status
    shape: dict[str, Any]
    measure_versions: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    ledger: tuple[LedgerRow, ...] = ()
    processes: tuple[Process, ...] = ()
    code: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    error: Failure | None = None
    environment: Environment = Environment()
    provenance: Provenance = Provenance()
    schema_version: int = SCHEMA_VERSION

    def origin(self) -> Origin:
        """As a cell's record names it."""
        return Origin(
            key=self.cost_key, status=self.status, code=self.code, seconds=self.seconds,
            environment=self.environment, provenance=self.provenance, error=self.error, processes=len(self.processes),
        )  # fmt: skip

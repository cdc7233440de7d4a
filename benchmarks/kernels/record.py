"""The record of ``benchmarks.kernels``: its types, its reader and its writer. Imports no torch, so that a report reads it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks.records import Environment, Provenance, read_typed

SCHEMA_VERSION = 1
WHAT = "a record of benchmarks.kernels"
# what rows of requests are measured at, whatever the settings say: one user's requests, many in a row, as one is too short to be timed
REQUESTS, REQUEST_LAYERS, REQUEST_HEADS, FEW_RECENT = 100, 2, 2, 16
BY_GRAPHS = "a compiled request from 4 tokens over one from the keys"  # of two graphs: nothing is asked of it, whatever older records say
CALL_BY_CALL = "from 4 tokens over it call by call"  # of few recent items; other rows of requests have the settings'


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelSettings:
    """How rows are measured.

    Attributes:
        device: ``cpu`` or ``cuda``.
        threads: threads to compute with.
        rounds: measurements of each side, over all processes.
        layers: of the models, but where a row is of requests (`request_sizes`).
        users: at once.
        heads: of a layer.
        width: of a layer, over all heads.
        history: items before the recent ones.
        recent: items at the end of the window.
        tokens: that PerSRec keeps of the history.
        dtype: what is computed in; rows in another type say so in their names.
    """

    device: str
    threads: int
    rounds: int
    layers: int
    users: int = 4
    heads: int = 8
    width: int = 64
    history: int = 1024
    recent: int = 256
    tokens: int = 4
    dtype: str = "float32"

    @property
    def window(self) -> int:
        """All items."""
        return self.history + self.recent


def request_sizes(name: str, settings: KernelSettings) -> str:
    """In words, what a row of requests was measured at; nothing of another row."""
    if "request from" not in name:
        return ""
    recent = FEW_RECENT if CALL_BY_CALL in name else settings.recent
    note = "; full attention, dense in its graph, is quicker call by call" if BY_GRAPHS in name else ""
    return f"{REQUEST_LAYERS} layers, {REQUEST_HEADS} heads, one user, {recent} recent items; {REQUESTS} requests in a row{note}"


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelRow:
    """One ratio of ``other`` over ``ours``, or its inverse, divided by ``share_of_flops``; the samples are seconds or bytes.

    Attributes:
        name: what is compared.
        ratio: of a process, the median over pairs of samples that were taken one after the other, or the ratio of two peaks; of several
            processes, the median of theirs.
        low: the lower end of its 95% interval over processes; ``None`` of one process, where how far it would differ is not known.
        high: the upper end.
        bound: what is asked of the ratio, if anything is.
        higher_is_better: whether the bound is a lower one.
        share_of_flops: the FLOPs of one side over those of the other; 1 where both do the same.
        unit: ``s`` or ``byte``.
        ours: the samples of one side, process by process.
        other: those of the other.
        form: the plain form that the kernels are measured against, where the row has one of `benchmarks.kernels.plain`.
        processes: fresh processes that the samples were taken in.
        largest_difference: the distance of outputs, and of gradients where a training step is timed, from those of the plain form,
            as a share of their norm; ``None`` in records that are older than the check.
        tolerance: what the difference may be.
    """

    name: str
    ratio: float
    bound: float | None
    higher_is_better: bool
    share_of_flops: float
    unit: Literal["s", "byte"]
    ours: tuple[float, ...]
    other: tuple[float, ...]
    low: float | None = None
    high: float | None = None
    form: str | None = None
    processes: int = 1
    largest_difference: float | None = None
    tolerance: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelMachine:
    """What the machine reaches at its best, measured beside the rows."""

    matrix_product_flops_per_second: float


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelTimings:
    """The rows of one device."""

    settings: KernelSettings
    machine: KernelMachine
    rows: tuple[KernelRow, ...]
    environment: Environment
    provenance: Provenance
    schema_version: int = SCHEMA_VERSION


def load_kernels(path: Path) -> KernelTimings | None:
    """The record, or ``None`` where there is none.

    Raises:
        RecordError: the file is no JSON, of another version, or no such record; the message is one line that names it.
    """
    if not path.exists():
        return None
    return read_typed(path, KernelTimings, version=SCHEMA_VERSION, what=WHAT, again="run benchmarks.kernels")


def to_json(content: object) -> bytes:
    """The bytes of the file of a `KernelTimings`, or of another dataclass."""
    return json.dumps(msgspec.to_builtins(content), indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"

"""What ``benchmarks.kernels`` measured, as it lies beside the runs: typed, and read without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.records import check_version, read_json, typed

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelSettings:
    """The sizes that were timed."""

    device: str
    threads: int
    layers: int
    heads: int
    width: int
    users: int
    history: int
    recent: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """What the machine reaches on matrix products."""

    matrix_product_flops_per_second: float


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelRow:
    """A ratio of two medians, the ``bound`` that it should reach if there is one, and the samples of both in seconds or bytes."""

    name: str
    ratio: float
    bound: float | None
    higher_is_better: bool
    unit: Literal["s", "byte"]
    ours: tuple[float, ...]
    other: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelTimings:
    """One device's record."""

    settings: KernelSettings
    machine: Peak
    rows: tuple[KernelRow, ...]


def load_kernels(path: Path) -> KernelTimings | None:
    """The record, or ``None`` where there is none.

    Raises:
        RecordError: the file is no JSON, of another version, or no such record.
    """
    if not path.exists():
        return None
    values = read_json(path, again="run benchmarks.kernels")
    check_version(values, known=SCHEMA_VERSION, where=str(path), what="a record of benchmarks.kernels")
    return typed(values, KernelTimings, where=str(path), what="a record of benchmarks.kernels")

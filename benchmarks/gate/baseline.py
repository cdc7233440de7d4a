"""The reviewed baseline: a file of one run's deterministic numbers, and how far each measure may move from them.

::

    {"schema_version": 1, "utc": "...", "source": {...}, "margins": {"ndcg@10": {"relative": 0.1, "absolute": 0.005}},
     "entries": {"<cell_key>": {"cell": {...}, "status": "ok", "dataset": {...}, "measure_versions": {...},
                                "ledger_rows": 0, "holds": ["quality", ...], "metrics": {"ndcg@10": 0.1}}}}
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from benchmarks.cell import Cell
from benchmarks.environment import utc_now
from benchmarks.gate.differences import METRIC
from benchmarks.keys import cell_key
from benchmarks.measures import MEASURES, is_gated, margin_around
from benchmarks.records import Record, RecordError, Status, check_settings, check_version, read_json, typed

BASELINE_VERSION = 1
SAME_MACHINE = 1e-9  # of a seeded quality on the machine of its baseline, where it is the same to the bit
WHAT = "a baseline"
Held = Literal["quality", "cost", "model", "gap", "replicates", "intervals", "targets", "ceiling", "items"]  # beside numbers and ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class Margin:
    """How far a number may be from its baseline: the larger of a share of the baseline and a number in the measure's unit."""

    relative: float
    absolute: float

    def __post_init__(self) -> None:
        for name in ("relative", "absolute"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: {getattr(self, name)}; expected a finite number from 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataIdentity:
    """Which data a number is of."""

    name: str
    size: str | None = None
    digest: str | None = None

    @classmethod
    def of(cls, record: Record) -> "DataIdentity":
        """The data of a record; a record that failed before it had read its data has no digest."""
        digest = record.dataset.digest if record.dataset is not None else None
        return cls(name=record.cell.dataset, size=record.cell.dataset_size, digest=digest or None)

    def __str__(self) -> str:
        return f"{self.name} (size {self.size}, digest {str(self.digest)[:12]})"


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineEntry:
    """One cell: its gated numbers, what they depend on, and what else of its record the gate examines.

    ``holds`` is empty where the baseline is older than this field.
    """

    cell: Cell
    status: Status
    dataset: DataIdentity
    measure_versions: dict[str, int]
    metrics: dict[str, int | float]
    ledger_rows: int = 0
    holds: tuple[Held, ...] = ()

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if as_finite(value) is None:
                raise ValueError(f"metrics: {name} is beyond the range of a number")

    @classmethod
    def of(cls, record: Record) -> "BaselineEntry":
        """The baseline of a record: what is gated, and the quality whose differences are gated, even where it is not gated itself."""
        names = [name for name in sorted(record.metrics) if name == METRIC or is_gated(name, device=record.cell.device)]
        values = {name: record.metrics[name].value for name in names}
        return cls(
            cell=record.cell,
            status=record.status,
            dataset=DataIdentity.of(record),
            measure_versions=dict(record.measure_versions),
            metrics={name: value for name, value in values.items() if value is not None and as_finite(value) is not None},
            ledger_rows=len(record.ledger),
            holds=held_by(record),
        )

    def numbers_alone(self) -> "BaselineEntry":
        """The entry without ledger rows and halves: for a record that is made of the numbers alone."""
        return dataclasses.replace(self, ledger_rows=0, holds=())

    def key(self) -> str | None:
        """The key that its settings, its data and its measures' versions make; None where it knows no data."""
        if self.dataset.digest is None:
            return None
        return cell_key(self.cell, dataset_digest=self.dataset.digest, versions=self.measure_versions)


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineSource:
    """Where the numbers come from: every commit, code, machine and version among the records."""

    commits: tuple[str, ...] = ()
    code_digests: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    cpus: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()
    torch: tuple[str, ...] = ()

    @classmethod
    def of(cls, records: Sequence[Record]) -> "BaselineSource":
        """The source of a run's records."""

        def every(value: Callable[[Record], object]) -> tuple[str, ...]:
            return tuple(sorted({str(value(record)) for record in records}))

        origins = [origin for record in records for origin in (record.quality, record.cost) if origin is not None]
        return cls(
            commits=every(lambda record: record.provenance.commit),
            code_digests=tuple(sorted({digest for origin in origins for digest in origin.code.values()})),
            fingerprints=every(quality_machine),
            cpus=every(lambda record: record.environment.cpu),
            gpus=every(lambda record: record.environment.gpu),
            pythons=every(lambda record: record.environment.python),
            torch=every(lambda record: record.environment.packages.get("torch")),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """A baseline; one without entries compares with nothing."""

    utc: str
    source: BaselineSource = BaselineSource()
    margins: dict[str, Margin] = field(default_factory=dict)
    entries: dict[str, BaselineEntry]
    schema_version: int = BASELINE_VERSION

    def __post_init__(self) -> None:
        if datetime.fromisoformat(self.utc).tzinfo is None:
            raise ValueError(f"utc: {self.utc} has no time zone; expected such as 2026-01-31T12:00:00+00:00")

    @classmethod
    def of(cls, records: Sequence[Record], *, margins: Mapping[str, Margin]) -> "Baseline":
        """The baseline that a run's records make; ``margins`` that were reviewed before stay."""
        entries = {record.cell_key: BaselineEntry.of(record) for record in records}
        names = sorted({name for entry in entries.values() for name in entry.metrics})
        return cls(
            utc=utc_now(),
            source=BaselineSource.of(records),
            margins={name: margins.get(name) or _own_margin(name) for name in names},
            entries=entries,
        )

    def qualities(self, metric: str) -> dict[str, float]:
        """A quality by the key of its cell, of the cells that have it."""
        return {key: entry.metrics[metric] for key, entry in self.entries.items() if metric in entry.metrics}

    def age_days(self) -> int:
        """Whole days since it was written; 0 where this machine's clock is behind."""
        return max(0, (datetime.now(UTC) - datetime.fromisoformat(self.utc)).days)

    def margin(self, metric: str, number: float, *, fingerprint: str | None) -> float:
        """How far ``metric`` may be from ``number``, on the machine of this fingerprint: by the file, else by the measure.

        A seeded quality is the same to the bit on the machine of the baseline; elsewhere processors round otherwise. A baseline of several
        machines does not say which number is from which.
        """
        if MEASURES[metric].group == "quality" and self.source.fingerprints == (fingerprint,):
            return SAME_MACHINE * abs(number)
        margin = self.margins.get(metric) or _own_margin(metric)
        return margin_around(number, relative=margin.relative, absolute=margin.absolute)

    def to_json(self) -> bytes:
        """The bytes of its file."""
        content = {
            "schema_version": self.schema_version,
            "utc": self.utc,
            "source": dataclasses.asdict(self.source),
            "margins": {name: dataclasses.asdict(margin) for name, margin in self.margins.items()},
            "entries": {key: _entry_to_dict(entry) for key, entry in self.entries.items()},
        }
        return json.dumps(content, indent=1, allow_nan=False).encode() + b"\n"


def load_baseline(path: Path) -> Baseline:
    """Reads a baseline file.

    Raises:
        RecordError: it is not there, is no baseline, or was written in another version; the message is one line that names it.
    """
    try:
        values = read_json(path, again="write it by --update")
    except RecordError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise RecordError(f"{error}; expected a baseline (--update writes one)") from error
        raise
    check_version(values, known=BASELINE_VERSION, where=str(path), what=WHAT)
    baseline = typed(values, Baseline, where=str(path), what=WHAT)
    for key, entry in values["entries"].items():
        check_settings(entry["cell"], where=f"{path}: entries: {key[:12]}")
    for key, expected in baseline.entries.items():
        if expected.status is Status.OK and expected.key() is None:
            raise RecordError(f"{path}: entries: {key[:12]}: dataset: no digest; expected that of the data which its numbers are of")
        if expected.key() not in (None, key):
            raise RecordError(f"{path}: entries: {key[:12]}: this key is not that of its settings, its data and its measures' versions")
    return baseline


def as_finite(value: object) -> float | None:
    """``value`` as a finite number, or ``None`` where it is none; JSON has whole numbers of any length."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def held_by(record: Record) -> tuple[Held, ...]:
    """What a record holds beside its numbers and its ledger."""
    there: dict[Held, bool] = {
        "quality": record.quality is not None,
        "cost": record.cost is not None,
        "model": record.model is not None,
        "gap": record.model is not None and record.model.cached_joint_gap is not None,
        "replicates": record.replicates is not None,
        "intervals": any(metric.low is not None for name, metric in record.metrics.items() if name == METRIC),
        "targets": record.dataset is not None and record.dataset.targets is not None,
        "ceiling": record.dataset is not None and record.dataset.ceiling is not None,
        "items": record.dataset is not None and record.dataset.items is not None,
    }
    return tuple(name for name, is_there in there.items() if is_there)


def quality_machine(record: Record) -> str | None:
    """The fingerprint of the machine that a record's quality is of, or of the record where it has no quality.

    Of a model that another machine trained, the fingerprints of both.
    """
    evaluated, trained = (record.quality or record).environment.fingerprint, record.trained_on
    return evaluated if trained in (None, evaluated) or evaluated is None else f"{evaluated} {trained}"


def _own_margin(metric: str) -> Margin:
    measure = MEASURES[metric]
    return Margin(relative=measure.relative_margin, absolute=measure.absolute_margin)


def _entry_to_dict(entry: BaselineEntry) -> dict[str, Any]:
    return {
        "cell": dict(sorted(entry.cell.to_dict().items())),
        "status": entry.status.value,
        "dataset": dataclasses.asdict(entry.dataset),
        "measure_versions": dict(sorted(entry.measure_versions.items())),
        "ledger_rows": entry.ledger_rows,
        **({"holds": list(entry.holds)} if entry.holds else {}),  # so that an older baseline keeps its bytes
        "metrics": dict(sorted(entry.metrics.items())),
    }

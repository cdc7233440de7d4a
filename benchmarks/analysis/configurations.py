"""Configurations: the records of a cell over its seeds, with its quality and its costs."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.analysis.estimates import Estimate, Floats, interval_over
from benchmarks.analysis.origins import holds_a_time
from benchmarks.cell import ELASTIC_FIELDS, EVALUATION_FIELDS, Cell, changed_at_evaluation
from benchmarks.measures import LEDGER_TOLERANCE, MEASURES, counts_agree
from benchmarks.records import LedgerRow, Metric, Parts, Record
from benchmarks.settings import blocks_of
from benchmarks.text import amount, canonical
from persrec import names

QUALITY_METRICS = ("ndcg@10", "recall@10")
FEWEST_USERS = 10  # below it every resample holds the same few users, so an interval would promise too much
DISAGREES = f"its FLOP ledger disagrees by over {LEDGER_TOLERANCE:.0%}"
_KEEPS_ITEMS = Estimate(value=None, reason="what is recomputed keeps the items themselves, whose bytes are not counted")
_LARGEST_COST = 1e30  # what no machine takes; a number beyond it is a mistake
# how a compression was tuned: two configurations that differ in these can still be compared
TUNED = (
    "learning_rate", "warmup_steps", "decays", "temperature", "epochs", "patience", "expert_start", "expert_learning_rate", "expert_weight",
    "distillation", "random_cuts",
)  # fmt: skip
OF_ITS_OWN = frozenset(
    {
        "compression", "history", "recent", "segments", "tokens", "plan", "serving", *EVALUATION_FIELDS, "training", *ELASTIC_FIELDS,
        "seed", "control", "counted_only", "counts", *TUNED,
    }
)  # fmt: skip
_SETTINGS = tuple(setting.name for setting in dataclasses.fields(Cell))
_SHARED = tuple(name for name in _SETTINGS if name not in OF_ITS_OWN)
_OF_A_MODEL = tuple(name for name in _SETTINGS if name not in EVALUATION_FIELDS)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Configuration:
    """A cell without its seed, and the records of its seeds in ascending order.

    Attributes:
        cell: its seed is 0.
        shared: the data and all settings that two configurations must share to be compared: whatever changes what is learnt or how
            much. What a compression is, what it keeps and how it was tuned (rates, epochs, temperature) is its own. Whether the output
            counts items at all is shared; which items it counts is not.
        served_from: the data and all settings of its trained model and its layout; what else it is served from is left out.
        measured: the records that ended well; only their numbers are used.
        machine: fingerprint of the environment whose timings it shows; None is the only one that it was timed in. Quality, FLOPs and
            bytes are those of all environments.
    """

    key: str
    cell: Cell
    dataset_digest: str
    records: tuple[Record, ...]
    machine: str | None = None
    shared: tuple[Any, ...] = field(init=False, repr=False)
    served_from: tuple[Any, ...] = field(init=False, repr=False)
    measured: tuple[Record, ...] = field(init=False, repr=False)
    _qualities: dict[str, Estimate] = field(default_factory=dict, repr=False)  # each metric is resampled once
    _costs: dict[str, Estimate] = field(init=False, default_factory=dict, repr=False)  # of its machine

    def __post_init__(self) -> None:
        counts = self.cell.counts != "none"
        for name, settings in (("shared", _SHARED), ("served_from", _OF_A_MODEL)):
            object.__setattr__(self, name, (self.dataset_digest, counts, *(getattr(self.cell, setting) for setting in settings)))
        object.__setattr__(self, "measured", tuple(record for record in self.records if record.ok))

    @property
    def window(self) -> int:
        """Items a user is known by: ``L``."""
        return self.cell.history + self.cell.recent

    @property
    def parts(self) -> Parts:
        """The declarations of its parts, as its records hold them."""
        return self.records[0].parts

    @property
    def machines(self) -> tuple[str, ...]:
        """Fingerprints of the environments that it was timed in."""
        timed = (record.cost for record in self.measured if record.cost is not None and holds_a_time(record))
        return tuple(sorted({cost.environment.fingerprint or "" for cost in timed}))

    @property
    def statuses(self) -> Counter[str]:
        """How many seeds ended how."""
        return Counter(record.status.value for record in self.records)

    @property
    def is_floor(self) -> bool:
        """Whether it is a baseline that learns nothing."""
        return self.cell.is_floor

    @property
    def is_peer(self) -> bool:
        """Whether it is another library's model, which stands beside ours and is a reference of none."""
        return self.cell.is_peer

    @property
    def trained(self) -> bool:
        """Whether a trained model stands behind it."""
        return self.cell.training != "none"

    @property
    def is_control(self) -> bool:
        """Whether it is the experts' layout with no token in it, and without counts of the history."""
        return self.cell.compression == "experts" and self.cell.tokens == 0 and self.cell.counts != "all"

    @property
    def is_counts_only(self) -> bool:
        """Whether it is the experts' layout with no token in it, and with counts of the history."""
        return self.cell.compression == "experts" and self.cell.tokens == 0 and self.cell.counts == "all"

    @property
    def is_tokens(self) -> bool:
        """Whether it is PerSRec: experts with at least one token."""
        return self.cell.compression == "experts" and self.cell.tokens > 0

    @property
    def changed(self) -> dict[str, Any]:
        """The settings, with their values, that serve its trained model from something else than its own fresh cache as computed."""
        return changed_at_evaluation(self.cell)

    @property
    def is_experiment(self) -> bool:
        """Whether it answers a question on a model and is nothing one would serve: an ablation, or an aged cache."""
        return bool(set(self.changed) - {"cache_dtype"})

    @property
    def offsets(self) -> str | tuple[int, ...]:
        """Where its history segments end: the plan's name, or its offsets without their counts."""
        plan = self.cell.plan
        return plan if plan in names.PLANS else tuple(offset for offset, _ in blocks_of(plan))

    def quality(self, metric: str) -> Estimate:
        """The metric: the mean over seeds, with an interval over users (the records' replicates) or over seeds, the wider."""
        if metric not in self._qualities:
            self._qualities[metric] = _quality(self, metric)
        return self._qualities[metric]

    def cost(self, metric: str) -> Estimate:
        """The median of a cost over the times that it was measured; seeds that share one cost count once.

        The interval is the range of several measurements. Of one measurement it is that of the record: of a timing over its processes, and
        none where there was one process. Timings of different environments are never combined. What is recomputed keeps no cache but the
        user's items, whose bytes are not counted: so it has no cache size, and does not seem to store nothing.
        """
        if metric == "cache_bytes" and self.cell.serving == "recompute":
            return _KEEPS_ITEMS
        if metric not in self._costs:
            self._costs[metric] = _cost(self, metric)
        return self._costs[metric]

    def was_timed_by(self, record: Record) -> bool:
        """Whether a record's timings are of the environment that this shows."""
        return self.machine is None or (record.cost is not None and (record.cost.environment.fingerprint or "") == self.machine)

    def reason(self, metric: str) -> str:
        """Why there is no value of a metric."""
        if not self.measured:
            return ", ".join(status if len(self.records) == 1 else f"{count} {status}" for status, count in sorted(self.statuses.items()))
        entries = [entry for record in self.measured if (entry := record.metrics.get(metric)) is not None]
        reasons = sorted({entry.method for entry in entries if entry.value is None and entry.method})
        wrong = sorted({str(entry.value)[:20] for entry in entries if entry.value is not None and not _in_range(metric, entry.value)})
        if wrong:
            reasons.append(f"recorded as {', '.join(wrong)}, which it cannot be")
        return "; ".join(reasons) if reasons else "not measured"

    def disagreements(self) -> list[LedgerRow]:
        """Rows of its FLOP ledger whose counts differ by more than is allowed."""
        return [row for record in self.measured for row in record.ledger if not ledger_row_agrees(row)]


def configurations(records: Iterable[Record]) -> list[Configuration]:
    """Groups records into configurations, in the order of their settings. Other data are another configuration."""
    records = list(records)
    groups: dict[tuple[Cell, str], list[Record]] = {}
    for record, digest in zip(records, _dataset_digests(records), strict=True):
        groups.setdefault((dataclasses.replace(record.cell, seed=0), digest), []).append(record)
    grouped = [
        Configuration(
            key=_key(cell, digest),
            cell=cell,
            dataset_digest=digest,
            records=_one_a_seed(members),
        )
        for (cell, digest), members in groups.items()
    ]
    return sorted(
        grouped, key=lambda one: (one.cell.dataset, one.cell.backbone, one.window, one.cell.compression, one.cell.tokens, one.key)
    )


def has_processes(record: Record) -> bool:
    """Whether a record's timed costs were taken in several processes."""
    return record.cost is not None and record.cost.processes is not None and record.cost.processes > 1


def _one_a_seed(records: Sequence[Record]) -> tuple[Record, ...]:
    """One record per seed. Where a cell has two keys, as a half is measured another way now, it is the record with both halves."""
    by_seed: dict[int, Record] = {}
    for record in sorted(records, key=lambda one: (one.quality is not None and one.cost is not None, one.provenance.utc, one.cell_key)):
        by_seed[record.cell.seed] = record
    return tuple(by_seed[seed] for seed in sorted(by_seed))


def ledger_row_agrees(row: LedgerRow) -> bool:
    """Whether the ways of counting agree: the row's own verdict, else its counts."""
    return counts_agree(row.formula_flops, (row.torch_flops, row.fvcore_flops)) if row.agrees is None else row.agrees


def _key(cell: Cell, digest: str) -> str:
    settings = {name: value for name, value in dataclasses.asdict(cell).items() if name != "seed"}
    return canonical({"cell": settings, "dataset_digest": digest})


def _quality(one: Configuration, metric: str) -> Estimate:
    entries = [(record, entry) for record in one.measured if (entry := _entry(record, metric)) is not None]
    if not entries:
        return Estimate(value=None, reason=one.reason(metric))
    by_seed = tuple(_value(entry) for _, entry in entries)
    value = float(np.mean(by_seed))
    n = min(entry.n for _, entry in entries)
    estimate = Estimate(value=value, n=n, seeds=tuple(record.cell.seed for record, _ in entries), by_seed=by_seed, fixed=one.is_floor)
    if n < FEWEST_USERS:
        users = amount(n, "user")
        return dataclasses.replace(estimate, reason=f"{users}; an interval takes at least {FEWEST_USERS}")
    rows, sample, reason = _replicates(one, [record for record, _ in entries], metric)
    own_low, own_high = _bounds(entries[0][1], metric) if len(entries) == 1 else (None, None)
    if rows is not None:
        over_users: Floats = rows.mean(axis=0)
        low, high = interval_over(value, by_seed, over_users)
        if low is not None and high is not None:
            if own_low is not None and own_high is not None:  # a share's interval is no narrower than so few users allow
                low, high = min(low, own_low), max(high, own_high)
            return dataclasses.replace(
                estimate, low=max(low, 0.0), high=min(high, 1.0), replicates=over_users, replicates_by_seed=tuple(rows), sample=sample
            )
        reason = "it is the same whichever users are drawn"
    if own_low != own_high:
        return dataclasses.replace(estimate, low=own_low, high=own_high, reason=reason)
    return dataclasses.replace(estimate, reason=reason)


def _cost(one: Configuration, metric: str) -> Estimate:
    timed = metric in MEASURES and not MEASURES[metric].deterministic
    if timed and one.machine is None and len(one.machines) > 1:
        return Estimate(value=None, reason=f"timed in {len(one.machines)} environments, which are shown apart")
    measurements: dict[tuple[str, float], Metric] = {}
    seeds = []
    for record in one.measured:
        entry = _entry(record, metric) if not timed or one.was_timed_by(record) else None
        if entry is not None:
            if not MEASURES[metric].deterministic and not has_processes(record):
                entry = dataclasses.replace(entry, low=None, high=None)
            measurements.setdefault((record.cost.key if record.cost is not None else record.cell_key, _value(entry)), entry)
            seeds.append(record.cell.seed)
    if not measurements:
        elsewhere = timed and not any(one.was_timed_by(record) for record in one.measured)
        return Estimate(value=None, reason="not timed in this environment" if elsewhere and one.measured else one.reason(metric))
    entries = list(measurements.values())
    values = [_value(entry) for entry in entries]
    low, high = _bounds(entries[0], metric) if len(entries) == 1 else _span(entries, metric)
    return Estimate(value=float(np.median(values)), low=low, high=high, n=entries[0].n, seeds=tuple(seeds))


def _span(entries: Sequence[Metric], metric: str) -> tuple[float, float]:
    """From the lowest to the highest end of several measurements: of their intervals, or of the value where one has none."""
    spans = [
        (_value(entry) if low is None else low, _value(entry) if high is None else high)
        for entry in entries
        for low, high in [_bounds(entry, metric)]
    ]
    return min(low for low, _ in spans), max(high for _, high in spans)


def _replicates(one: Configuration, records: Sequence[Record], metric: str) -> tuple[Floats | None, str, str]:
    rows, samples = [], set()
    for record in records:
        means = record.replicates.means.get(metric, ()) if record.replicates is not None else ()
        if record.replicates is None or not means:
            return None, "", "no replicates in the record"
        rows.append(np.asarray(means, dtype=np.float64))
        samples.add((record.replicates.seed, len(means), record.metrics[metric].n))
    if len(samples) > 1:
        return None, "", "its seeds were evaluated on different users"
    if not all(((row >= 0.0) & (row <= 1.0)).all() for row in rows):
        return None, "", "replicates are no shares"
    ((seed, size, n),) = samples
    return np.stack(rows), f"{one.dataset_digest}/{one.cell.split}/{one.cell.protocol}/{seed}/{size}/{n}", ""


def _entry(record: Record, metric: str) -> Metric | None:
    """A metric of a record, if its value is one that this metric can have."""
    entry = record.metrics.get(metric)
    return entry if entry is not None and entry.value is not None and _in_range(metric, entry.value) else None


def _value(entry: Metric) -> float:
    return float(entry.value or 0.0)


def _bounds(entry: Metric, metric: str) -> tuple[float | None, float | None]:
    """The interval in a record, or none where its ends are no interval."""
    low, high = entry.low, entry.high
    holds = low is not None and high is not None and low <= high and _in_range(metric, low) and _in_range(metric, high)
    return (low, high) if holds else (None, None)


def _in_range(metric: str, value: float) -> bool:
    """Whether a number is one that a measure can give; others are mistakes that no page can draw."""
    measure = MEASURES.get(metric)
    return 0 <= value <= (1 if measure is not None and measure.group == "quality" else _LARGEST_COST)


def _dataset_digests(records: Sequence[Record]) -> list[str]:
    """The digest of each record's data. A record that failed before loading them gets the one digest of the run, if there is one alone."""
    digests = [record.dataset.digest if record.dataset is not None else "" for record in records]
    data = [record.cell.data for record in records]
    by_data: dict[tuple[str, str | None, str], set[str]] = {}
    for name, digest in zip(data, digests, strict=True):
        by_data.setdefault(name, set()).update([digest] if digest else [])
    return [digest or _only(by_data[name]) for name, digest in zip(data, digests, strict=True)]


def _only(digests: set[str]) -> str:
    return next(iter(digests)) if len(digests) == 1 else "unknown"

"""Configurations over their seeds: quality with intervals, paired differences, retention and the share recovered.

A record's ``replicates`` are bootstrap means over users, and the users of replicate ``b`` are the same in every cell of one
dataset. A difference taken replicate by replicate is therefore paired: what makes a user easy or hard cancels.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cell import DEFAULTS, EVALUATION_FIELDS, FLOOR_NAMES, PLANS, blocks_of, canonical

Record = Mapping[str, Any]
Floats = NDArray[np.float64]

QUALITY_METRICS = ("ndcg@10", "recall@10")
LEDGER_TOLERANCE = 0.01
_INTERVAL = (2.5, 97.5)
_SEED_OF_DRAWS = 20_260_103
_SAME_MODEL = (  # and what is learnt by it; rates, epochs and temperature may be each compression's own
    "backbone", "dataset", "dataset_size", "layers", "heads", "width", "key_value_heads", "feed_forward", "time_bias", "device", "dtype",
    "copying_start", "recent_weight", "moving_windows", "item_learning_rate",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Estimate:
    """A number with its 95% interval; what is missing is ``None``, with the reason in words.

    ``sample`` names the users and their resampling: estimates of one sample are paired replicate by replicate.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    seeds: tuple[int, ...] = ()
    replicates: Floats | None = None
    sample: str = ""
    reason: str = ""

    @property
    def holds_zero(self) -> bool:
        """Whether 0 lies in the interval; an estimate without an interval cannot tell, so it counts as holding 0."""
        return self.low is None or self.high is None or self.low <= 0.0 <= self.high


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Configuration:
    """A cell without its seed, and the records of its seeds in ascending order."""

    key: str
    settings: Mapping[str, Any]
    dataset_digest: str
    records: tuple[Record, ...]
    _qualities: dict[str, Estimate] = field(default_factory=dict, repr=False)  # each metric is resampled once

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    @property
    def window(self) -> int:
        """Items a user is known by: ``L``."""
        return int(self["history"]) + int(self["recent"])

    @property
    def measured(self) -> tuple[Record, ...]:
        """The records that ended well; only their numbers are used."""
        return tuple(record for record in self.records if record["status"] == "ok")

    @property
    def statuses(self) -> Counter[str]:
        """How many seeds ended how."""
        return Counter(str(record["status"]) for record in self.records)

    @property
    def is_floor(self) -> bool:
        """Whether it is a baseline that learns nothing."""
        return bool(self["compression"] == "none" or self["backbone"] in FLOOR_NAMES)

    @property
    def is_control(self) -> bool:
        """Whether it is the experts' layout with no token in it."""
        return bool(self["compression"] == "experts" and self["tokens"] == 0)

    @property
    def is_tokens(self) -> bool:
        """Whether it is PerSRec: experts with at least one token."""
        return bool(self["compression"] == "experts" and self["tokens"] > 0)

    @property
    def changed(self) -> dict[str, Any]:
        """What its trained model is served from other than its own fresh cache as computed: the settings and their values."""
        return {name: self[name] for name in EVALUATION_FIELDS if self[name] != DEFAULTS[name]}

    @property
    def is_experiment(self) -> bool:
        """Whether it answers a question on a model and is nothing one would serve: an ablation, or an aged cache."""
        return bool(set(self.changed) - {"cache_dtype"})

    @property
    def offsets(self) -> Any:
        """Where its history segments end: the plan's name, or its offsets without their counts."""
        return self["plan"] if self["plan"] in PLANS else tuple(offset for offset, _ in blocks_of(self["plan"]))

    def quality(self, metric: str) -> Estimate:
        """The metric over seeds (outer level, drawn with replacement) and users (the records' replicates)."""
        if metric not in self._qualities:
            self._qualities[metric] = _quality(self, metric)
        return self._qualities[metric]

    def cost(self, metric: str) -> Estimate:
        """The median over seeds of a cost. With several seeds the interval is their range, with one the record's own."""
        found = [(record["cell"]["seed"], entry) for record in self.measured if (entry := _entry(record, metric)) is not None]
        if not found:
            return Estimate(value=None, reason=self.reason(metric))
        values = [float(entry["value"]) for _, entry in found]
        low, high = (min(values), max(values)) if len(values) > 1 else (_number(found[0][1].get("low")), _number(found[0][1].get("high")))
        return Estimate(
            value=float(np.median(values)), low=low, high=high, n=int(found[0][1].get("n") or 0), seeds=tuple(s for s, _ in found)
        )

    def reason(self, metric: str) -> str:
        """Why there is no value of a metric."""
        if not self.measured:
            return ", ".join(status if len(self.records) == 1 else f"{count} {status}" for status, count in sorted(self.statuses.items()))
        entries = [record.get("metrics", {}).get(metric) for record in self.measured]
        stated = sorted({str(entry["method"]) for entry in entries if entry and entry.get("value") is None and entry.get("method")})
        return "; ".join(stated) if stated else "not measured"

    def disagreements(self) -> list[Mapping[str, Any]]:
        """Rows of its FLOP ledger whose counts differ by over 1%."""
        return [row for record in self.measured for row in record.get("ledger") or () if not ledger_row_agrees(row)]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class References:
    """What a configuration is held against; ``None`` where the run has no such cell."""

    full: Configuration | None
    full_cached: Configuration | None
    no_token: Configuration | None
    recent: Configuration | None

    @property
    def full_quality(self) -> Configuration | None:
        """Full attention over the window; how it is served does not change what it ranks."""
        return self.full or self.full_cached


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Comparison:
    """One configuration beside its references, on one metric."""

    configuration: Configuration
    references: References
    metric: str
    quality: Estimate
    over_no_token: Estimate
    over_full: Estimate
    over_recent: Estimate
    full_over_no_token: Estimate
    retention: Estimate
    recovered: Estimate


def configurations(records: Iterable[Record]) -> list[Configuration]:
    """Groups records into configurations, in the order of their settings. Other data are another configuration."""
    records = list(records)
    digests = _dataset_digests(records)
    groups: dict[str, list[Record]] = {}
    for record, dataset_digest in zip(records, digests, strict=True):
        key = canonical({"cell": _settings(record), "dataset_digest": dataset_digest})
        groups.setdefault(key, []).append(record)
    of_key = {key: json.loads(key) for key in groups}
    found = [
        Configuration(
            key=key,
            settings=of_key[key]["cell"],
            dataset_digest=of_key[key]["dataset_digest"],
            records=tuple(sorted(members, key=lambda record: (record["cell"].get("seed", 0), record.get("cell_key", "")))),
        )
        for key, members in groups.items()
    ]
    return sorted(
        found, key=lambda one: (str(one["dataset"]), str(one["backbone"]), one.window, str(one["compression"]), one["tokens"], one.key)
    )


def ledger_row_agrees(row: Mapping[str, Any]) -> bool:
    """Whether the ways of counting agree: the row's own verdict, else its counts within 1% of the largest."""
    if row.get("agrees") is not None:
        return bool(row["agrees"])
    counts = [float(count) for name in ("formula_flops", "torch_flops", "fvcore_flops") if (count := _number(row.get(name))) is not None]
    return not counts or max(counts) - min(counts) <= LEDGER_TOLERANCE * max(counts)


def difference(ours: Estimate, theirs: Estimate) -> Estimate:
    """Ours minus theirs, paired replicate by replicate."""
    return _derived(ours, theirs, lambda a, b: a - b)


def mean_of(estimates: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """A weighted sum, paired replicate by replicate."""
    total = _scaled(estimates[0], weights[0])
    for estimate, weight in zip(estimates[1:], weights[1:], strict=True):
        total = _derived(total, _scaled(estimate, weight), lambda a, b: a + b)
    return total


def retention(ours: Estimate, full: Estimate) -> Estimate:
    """Quality as a share of full history's quality; undefined where that is not above 0."""
    if full.value is not None and (full.value <= 0.0 or (full.low is not None and full.low <= 0.0)):
        return Estimate(value=None, reason=f"undefined: full history's quality, {_plain(full)}, is not above 0")
    return _derived(ours, full, _ratio)


def recovered(ours: Estimate, no_token: Estimate, full: Estimate) -> Estimate:
    """``(ours - no token) / (full - no token)``: the share of the long history's value that the tokens keep.

    Undefined where the denominator's 95% interval holds 0, and where full history is the worse of the two.
    """
    gain, worth = difference(ours, no_token), difference(full, no_token)
    if gain.value is None or worth.value is None:
        return Estimate(value=None, reason=gain.reason or worth.reason)
    if worth.low is None:
        return Estimate(value=None, reason=f"undefined: full minus no token has no interval ({worth.reason})")
    if worth.holds_zero:
        return Estimate(value=None, reason=f"undefined: full minus no token is {_plain(worth, signed=True)}, an interval that holds 0")
    if worth.value < 0.0:
        return Estimate(value=None, reason=f"undefined: full history is worse than the no-token layout, {_plain(worth, signed=True)}")
    return _derived(gain, worth, _ratio)


def comparable(one: Configuration, other: Configuration) -> bool:
    """Whether ``other``, served as it was trained, is of the same model, losses and data: what it keeps of a history may differ."""
    return other.dataset_digest == one.dataset_digest and not other.changed and all(other[name] == one[name] for name in _SAME_MODEL)


def find_references(one: Configuration, among: Sequence[Configuration]) -> References:
    """The cells of the same model, losses and data that a configuration is held against.

    A cell that was measured goes before one that was not, one trained as ``separate`` before others (an untrained one where
    ``one`` itself is untrained), then the one whose other settings differ least.
    """
    same = [other for other in among if comparable(one, other)]
    wanted = "none" if one["training"] == "none" else "separate"

    def nearest(candidates: Iterable[Configuration]) -> Configuration | None:
        return min(candidates, key=lambda c: (not c.measured, c["training"] != wanted, _differing(one, c), c.key), default=None)

    full = [other for other in same if other["compression"] == "full" and other.window == one.window]
    plan = ("history", "recent", "segments")
    return References(
        full=nearest(other for other in full if other["serving"] == "recompute"),
        full_cached=nearest(other for other in full if other["serving"] == "cache"),
        no_token=nearest(
            other for other in same if other.is_control and other.offsets == one.offsets and all(other[name] == one[name] for name in plan)
        ),
        recent=nearest(other for other in same if other["compression"] == "recent" and other["recent"] == one["recent"]),
    )


def untouched(one: Configuration, among: Sequence[Configuration]) -> Configuration | None:
    """The same model served from its own fresh cache as computed; ``None`` where the run has no such cell."""
    as_it_is = {**one.settings, **{name: DEFAULTS[name] for name in EVALUATION_FIELDS}}
    return next((other for other in among if other.dataset_digest == one.dataset_digest and other.settings == as_it_is), None)


def compare(one: Configuration, among: Sequence[Configuration], metric: str) -> Comparison:
    """A configuration beside its references on one metric."""
    references = find_references(one, among)
    ours = one.quality(metric)
    full = reference_quality(references.full_quality, metric, "no full-history cell of this model and window")
    no_token = reference_quality(references.no_token, metric, "no cell of this layout without tokens")
    recent = reference_quality(references.recent, metric, "no cell trained on the recent items alone")
    return Comparison(
        configuration=one,
        references=references,
        metric=metric,
        quality=ours,
        over_no_token=difference(ours, no_token),
        over_full=difference(ours, full),
        over_recent=difference(ours, recent),
        full_over_no_token=difference(full, no_token),
        retention=retention(ours, full),
        recovered=recovered(ours, no_token, full),
    )


def reference_quality(reference: Configuration | None, metric: str, absent: str) -> Estimate:
    """The quality of a reference, or that it is absent and why."""
    return Estimate(value=None, reason=absent) if reference is None else reference.quality(metric)


def _quality(one: Configuration, metric: str) -> Estimate:
    found = [(record, entry) for record in one.measured if (entry := _entry(record, metric)) is not None]
    if not found:
        return Estimate(value=None, reason=one.reason(metric))
    value = float(np.mean([float(entry["value"]) for _, entry in found]))
    seeds = tuple(int(record["cell"].get("seed", 0)) for record, _ in found)
    n = int(found[0][1].get("n") or 0)
    rows, sample, reason = _replicates(one, [record for record, _ in found], metric, n)
    if rows is not None:
        combined = over_seeds(rows)
        low, high = np.percentile(combined, _INTERVAL)
        return Estimate(value=value, low=float(low), high=float(high), n=n, seeds=seeds, replicates=combined, sample=sample)
    if len(found) == 1:
        low, high = _number(found[0][1].get("low")), _number(found[0][1].get("high"))
        return Estimate(value=value, low=low, high=high, n=n, seeds=seeds, reason=reason)
    return Estimate(value=value, n=n, seeds=seeds, reason=reason)


def over_seeds(rows: Floats) -> Floats:
    """One bootstrap over seeds ``[S, B]`` and users: each replicate averages ``S`` seeds drawn with replacement.

    The draws depend on the number of seeds and replicates alone, so configurations with the same seeds stay paired.
    """
    seeds, replicates = rows.shape
    if seeds == 1:
        only: Floats = rows[0]
        return only
    draws = np.random.default_rng([_SEED_OF_DRAWS, seeds]).integers(0, seeds, size=(replicates, seeds))
    mean: Floats = rows[draws, np.arange(replicates)[:, None]].mean(axis=1)
    return mean


def _replicates(one: Configuration, records: Sequence[Record], metric: str, n: int) -> tuple[Floats | None, str, str]:
    stored = [record.get("replicates") or {} for record in records]
    rows = [np.asarray(replicates.get(metric) or (), dtype=np.float64) for replicates in stored]
    if any(row.size == 0 for row in rows):
        return None, "", "no replicates in the record"
    counts = [int(record["metrics"][metric].get("n") or 0) for record in records]
    samples = {(replicates.get("seed"), row.size, count) for replicates, row, count in zip(stored, rows, counts, strict=True)}
    if len(samples) > 1:
        return None, "", "its seeds were evaluated on different users"
    if not all(np.isfinite(row).all() for row in rows):
        return None, "", "replicates are not finite"
    return np.stack(rows), f"{one.dataset_digest}/{stored[0].get('seed')}/{rows[0].size}/{n}", ""


def _derived(ours: Estimate, theirs: Estimate, rule: Any) -> Estimate:
    if ours.value is None or theirs.value is None:
        return Estimate(value=None, reason=ours.reason if ours.value is None else theirs.reason)
    value = float(rule(ours.value, theirs.value))
    seeds = tuple(sorted(set(ours.seeds) & set(theirs.seeds)))
    if ours.replicates is None or theirs.replicates is None:
        return Estimate(value=value, n=ours.n, seeds=seeds, reason=ours.reason or theirs.reason or "no replicates in the record")
    if ours.sample != theirs.sample:
        return Estimate(value=value, n=ours.n, seeds=seeds, reason="not paired: evaluated on different users")
    replicates = np.asarray(rule(ours.replicates, theirs.replicates), dtype=np.float64)
    low, high = np.nanpercentile(replicates, _INTERVAL)
    return Estimate(value=value, low=float(low), high=float(high), n=ours.n, seeds=seeds, replicates=replicates, sample=ours.sample)


def _scaled(estimate: Estimate, weight: float) -> Estimate:
    """An estimate times a number from 0 on."""
    if estimate.value is None:
        return estimate
    low, high = (None if bound is None else weight * bound for bound in (estimate.low, estimate.high))
    replicates = None if estimate.replicates is None else weight * estimate.replicates
    return replace(estimate, value=weight * estimate.value, low=low, high=high, replicates=replicates)


def _ratio(numerator: Any, denominator: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.divide(numerator, denominator)
    return np.where(np.isfinite(ratio), ratio, np.nan)


def _entry(record: Record, metric: str) -> Mapping[str, Any] | None:
    entry = (record.get("metrics") or {}).get(metric)
    return entry if entry and _number(entry.get("value")) is not None else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _settings(record: Record) -> dict[str, Any]:
    """The cell without its seed; a setting that came after the record was written had its default's value then."""
    return {name: value for name, value in (DEFAULTS | record["cell"]).items() if name != "seed"}


def _dataset_digests(records: Sequence[Record]) -> list[str]:
    """The digest of each record's data; one that failed before it loaded them has those of the run, where these are the same for all."""
    stated: list[str | None] = [(record.get("dataset") or {}).get("digest") for record in records]
    names = [(record["cell"].get("dataset"), record["cell"].get("dataset_size")) for record in records]
    known: dict[tuple[Any, Any], set[str]] = {}
    for name, data in zip(names, stated, strict=True):
        known.setdefault(name, set()).update([data] if data else [])
    return [
        str(data or (next(iter(known[name])) if len(known[name]) == 1 else "unknown")) for name, data in zip(names, stated, strict=True)
    ]


def _differing(one: Configuration, other: Configuration) -> int:
    return sum(value != other.settings.get(name) for name, value in one.settings.items())


def _plain(estimate: Estimate, *, signed: bool = False) -> str:
    """The estimate in words, for a reason."""
    form = "+.4f" if signed else ".4f"
    if estimate.value is None:
        return "unknown"
    text = f"{estimate.value:{form}}"
    if estimate.low is not None and estimate.high is not None:
        text += f" ({estimate.low:{form}} to {estimate.high:{form}})"
    return text.replace("-", "\N{MINUS SIGN}")

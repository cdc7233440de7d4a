"""Configurations: the records of a cell over its seeds, with its quality and its costs."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.analysis.estimates import INTERVAL, Estimate, Floats, number, over_seeds
from benchmarks.cell import DEFAULTS, EVALUATION_FIELDS, FLOOR_NAMES, PLANS, blocks_of, canonical

Record = Mapping[str, Any]

QUALITY_METRICS = ("ndcg@10", "recall@10")
LEDGER_TOLERANCE = 0.01


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
        low, high = (min(values), max(values)) if len(values) > 1 else (number(found[0][1].get("low")), number(found[0][1].get("high")))
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
    counts = [float(count) for name in ("formula_flops", "torch_flops", "fvcore_flops") if (count := number(row.get(name))) is not None]
    return not counts or max(counts) - min(counts) <= LEDGER_TOLERANCE * max(counts)


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
        low, high = np.percentile(combined, INTERVAL)
        return Estimate(value=value, low=float(low), high=float(high), n=n, seeds=seeds, replicates=combined, sample=sample)
    if len(found) == 1:
        low, high = number(found[0][1].get("low")), number(found[0][1].get("high"))
        return Estimate(value=value, low=low, high=high, n=n, seeds=seeds, reason=reason)
    return Estimate(value=value, n=n, seeds=seeds, reason=reason)


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


def _entry(record: Record, metric: str) -> Mapping[str, Any] | None:
    entry = (record.get("metrics") or {}).get(metric)
    return entry if entry and number(entry.get("value")) is not None else None


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

"""The measures: what a number is called, its unit, which way is better, and how far it may move before the gate speaks.

Changing how a number is taken is a change of its measure's version: every cell key carries the versions, so a number is
never compared with one that was taken another way.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from persrec.names import CUTOFFS, REPLICATES

Direction = Literal["higher", "lower"]
Group = Literal["quality", "cost"]
Kind = Literal["training", "evaluation", "flops", "memory", "throughput", "latency", "request", "control", "training_cost"]
QUALITY_KINDS: tuple[Kind, ...] = ("training", "evaluation")
COST_KINDS: tuple[Kind, ...] = ("flops", "memory", "throughput", "latency", "request", "control", "training_cost")
PEER_COSTS: tuple[Kind, ...] = ("flops", "latency", "request")  # of a peer: its parameters and its requests, and no count of a pass
REPEATED_KINDS: tuple[Kind, ...] = tuple(kind for kind in COST_KINDS if kind != "flops")  # another number in every process
CLOCKED_KINDS: tuple[Kind, ...] = tuple(kind for kind in REPEATED_KINDS if kind != "memory")  # what a busy machine slows
NOTICEABLE_LOAD = 0.10  # of the processors' time: if other processes use more, a timing's method says so
WIDE_SPREAD = 0.10  # of the median: if the interquartile range is wider, the number's method says so
QUALITY_MARGIN = 0.05  # of a seeded quality on another processor; `benchmarks.noise` checks it with older instructions
RESAMPLED = ("ndcg@10", "recall@10")  # whose bootstrap means over users a record keeps
RESAMPLES, RESAMPLE_SEED = REPLICATES, 0  # of every record: the same users are drawn in each, so that their differences are paired
LEDGER_TOLERANCE = 0.01  # of the formula: how far a way to count FLOPs may be from it
# cosines, by precision: how far scores from a cache may be from the joint pass's (METHOD: an identity, so it is rounding alone)
CACHE_TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One measure, taken by the code of its ``kind``.

    ``deterministic`` numbers are gated, and peaks of memory, which have a margin too: worse than the baseline by more than the
    larger of ``relative_margin`` times the baseline and ``absolute_margin`` is a regression. No number is below 0 or above ``most``.
    A measure ``beside_control`` is taken only in cells with a control, so that no other cell's key holds its version.
    """

    unit: str
    direction: Direction
    group: Group
    kind: Kind
    description: str
    version: int = 1
    deterministic: bool = False
    relative_margin: float = 0.0
    absolute_margin: float = 0.0
    beside_control: bool = False
    most: float = math.inf

    @property
    def is_gated(self) -> bool:
        """Whether the gate compares it with a stored baseline; a timing of another hour it never does."""
        return self.deterministic or self.relative_margin > 0

    def margin(self, baseline: float) -> float:
        """How far a number may be from ``baseline``, in the measure's unit."""
        return margin_around(baseline, relative=self.relative_margin, absolute=self.absolute_margin)


def margin_around(baseline: float, *, relative: float, absolute: float) -> float:
    """The larger of the relative and the absolute margin around ``baseline``."""
    return max(relative * abs(baseline), absolute)


def _quality(description: str, *, relative: float = QUALITY_MARGIN, absolute: float) -> Measure:
    return Measure(
        unit="ratio",
        direction="higher",
        group="quality",
        kind="evaluation",
        description=description,
        deterministic=True,
        relative_margin=relative,
        absolute_margin=absolute,
        most=1.0,
    )


def _count(unit: str, description: str, *, kind: Kind = "flops") -> Measure:
    """A number that is counted, not timed: the same on every machine, so its margin is tight."""
    return Measure(
        unit=unit, direction="lower", group="cost", kind=kind, description=description, deterministic=True, relative_margin=0.001
    )


def _timing(unit: str, direction: Direction, description: str, *, kind: Kind, version: int = 1) -> Measure:
    """A number that a clock or an allocator gave: kept and shown, gated only by an interleaved comparison."""
    return Measure(unit=unit, direction=direction, group="cost", kind=kind, description=description, version=version)


def _peak(description: str, *, kind: Kind, version: int = 1) -> Measure:
    """A peak of memory. It is an allocator's, and moves by MiB for a small shape: half as large again, and by 4 MiB, is a regression."""
    return Measure(
        unit="byte",
        direction="lower",
        group="cost",
        kind=kind,
        description=description,
        version=version,
        relative_margin=0.5,
        absolute_margin=2.0**22,
    )


_PASSES = {
    "full": "the backbone over the whole window with full attention",
    "compress": "what is computed before a request",
    "serve": "what is computed at a request, catalogue scoring apart",
    "score": "scoring the whole catalogue for one user",
    "request": "what is computed at a request and scoring the whole catalogue",
    "train": "one training sequence, forward and backward, with its share of the item vectors that a step computes",
    "item": "the vectors of the whole catalogue, once, where they are computed",
}


def _of_passes(name: str, unit: str, how: str) -> dict[str, Measure]:
    """A count of each pass; training's is taken by the code that trains."""
    return {
        f"{of}_{name}": _count(unit, f"{text}; {how}", kind="training_cost" if of == "train" else "flops") for of, text in _PASSES.items()
    }


_SHARES = {
    "serve": "a request",
    "compress": "what is computed before a request",
    "compress_serve": "a refresh and one request",
    "train": "a training step",
}


def _share(name: str, *, of: str, over: str = "full attention's over the whole window") -> Measure:
    is_counted, how = of == "FLOPs", "executed" if of == "FLOPs" else "timed in turn in one process"
    return Measure(
        unit="ratio",
        direction="lower",
        group="cost",
        kind="training_cost" if name == "train" else "control",
        description=f"{of} of {_SHARES[name]} over {over}, {how}",
        deterministic=is_counted,
        relative_margin=0.001 if is_counted else 0.0,
        beside_control=True,
    )


MEASURES: dict[str, Measure] = {
    # quality; the absolute margins are what a few users' ranks move by between two processors' roundings
    **{f"recall@{k}": _quality(f"users whose next item is among the best {k} of the catalogue", absolute=0.01) for k in CUTOFFS},
    **{f"ndcg@{k}": _quality(f"1 / log2(1 + rank) of the next item, 0 beyond rank {k}", absolute=0.005) for k in CUTOFFS},
    "mrr": _quality("1 / rank of the next item", absolute=0.005),
    "recall@10_repeat": _quality("recall@10 over users whose next item is one they had", relative=2 * QUALITY_MARGIN, absolute=0.02),
    "ndcg@10_repeat": _quality("ndcg@10 over users whose next item is one they had", relative=2 * QUALITY_MARGIN, absolute=0.02),
    "recall@10_novel": _quality("recall@10 over users whose next item is new to them", relative=2 * QUALITY_MARGIN, absolute=0.02),
    "ndcg@10_novel": _quality("ndcg@10 over users whose next item is new to them", relative=2 * QUALITY_MARGIN, absolute=0.02),
    # counted costs
    "parameters": _count("count", "trainable parameters"),
    **_of_passes("flops", "flop", "executed, a multiply-add is 2"),
    **_of_passes("visible_flops", "flop", "visible pairs alone"),
    **_of_passes("macs", "mac", "executed, a multiply-add is 1"),
    **_of_passes("visible_macs", "mac", "visible pairs alone"),
    "cache_bytes": _count("byte", "what is kept of one user between requests, as stored"),
    "padding_share": Measure(
        unit="ratio",
        direction="lower",
        group="cost",
        kind="training",
        description="share of the positions computed that hold padding",
        deterministic=True,
        relative_margin=0.01,
        absolute_margin=0.001,
        most=1.0,
    ),
    # costs that a clock or an allocator gave
    "train_peak_bytes": _peak("peak memory of training above the process's baseline", kind="training_cost"),
    "serve_peak_bytes": _peak(
        "peak memory of serving above the process's baseline, with the caches that it fetches", kind="memory", version=2
    ),
    "compress_peak_bytes": _peak("peak memory of compressing above the process's baseline", kind="memory"),
    "item_peak_bytes": _peak("peak memory of computing item vectors above the process's baseline", kind="memory"),
    "train_reserved_bytes": _timing(
        "byte", "lower", "GPU memory that the allocator holds at the peak of a training step", kind="training_cost"
    ),
    "process_gpu_bytes": _timing(
        "byte", "lower", "GPU memory of the process after a training step, as the driver tells it", kind="training_cost"
    ),
    "train_sequences_per_second": _timing("1/s", "higher", "training throughput, optimiser step included", kind="training_cost"),
    "train_share_of_peak": _timing(
        "ratio",
        "higher",
        "FLOPs a second of a training step over those of a large matrix product in the same process",
        kind="training_cost",
    ),
    "compress_users_per_second": _timing("1/s", "higher", "users compressed a second", kind="throughput"),
    "serve_users_per_second": _timing("1/s", "higher", "requests served a second, in batches", kind="throughput"),
    "item_vectors_per_second": _timing("1/s", "higher", "item vectors computed a second, where they are computed", kind="throughput"),
    "serve_latency_p50_ms": _timing("ms", "lower", "one request alone, median", kind="latency"),
    "serve_latency_p95_ms": _timing("ms", "lower", "one request alone, 95th percentile", kind="latency", version=2),
    "serve_latency_p99_ms": _timing("ms", "lower", "one request alone, 99th percentile", kind="latency", version=2),
    **{
        f"request_latency_p{percentile}_ms": _timing("ms", "lower", f"one whole request alone, {what}", kind="request")
        for percentile, what in ((50, "median"), (95, "95th percentile"), (99, "99th percentile"))
    },
    "requests_per_second": _timing("1/s", "higher", "whole requests a second, in batches", kind="request"),
    "serve_energy_j": _timing("joule", "lower", "energy of 1,000 requests, where the device reports it", kind="latency", version=2),
    # beside full attention, for cells with a control
    **{f"{name}_time_over_full": _share(name, of="time") for name in _SHARES},
    **{f"{name}_flops_over_full": _share(name, of="FLOPs") for name in _SHARES},
    **{
        f"serve_{unit}_over_alike": _share("serve", of=of, over="full attention's, served from a cache in the same way")
        for unit, of in (("time", "time"), ("flops", "FLOPs"))
    },
}


def versions(*, control: bool = False) -> dict[str, int]:
    """The version of every measure that a cell without a control takes, or one with it, for the cell key."""
    return {name: measure.version for name, measure in MEASURES.items() if control or not measure.beside_control}


def is_gated(name: str, *, device: str) -> bool:
    """Whether the gate compares ``name`` for a cell on ``device``: counts and peaks everywhere, quality on the CPU, where it is seeded."""
    measure = MEASURES.get(name)
    return measure is not None and measure.is_gated and (measure.group == "cost" or device == "cpu")


def versions_of(kinds: Iterable[Kind], *, control: bool = False) -> dict[str, int]:
    """The version of every measure of some kinds, for the key of a quality or a cost."""
    kind_set = set(kinds)
    return {name: version for name, version in versions(control=control).items() if MEASURES[name].kind in kind_set}


def counts_agree(formula: float | None, counts: Iterable[float | None]) -> bool:
    """Whether each way to count FLOPs agrees with the formula within `LEDGER_TOLERANCE`; a way without a count is left out."""
    return formula is None or all(abs(count - formula) <= LEDGER_TOLERANCE * max(formula, 1) for count in counts if count is not None)


def of_kinds(kinds: Iterable[Kind]) -> frozenset[str]:
    """The names of the measures of some kinds."""
    kind_set = set(kinds)
    return frozenset(name for name, measure in MEASURES.items() if measure.kind in kind_set)

"""The record of ``benchmarks.noise``: its types, its reader and writer, and what it says in words. Imports no torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.records import Environment, Provenance, read_typed
from benchmarks.text import change, listed, percent
from persrec.commandline import duration

SCHEMA_VERSION = 1
ALLOWED = 0.01  # the false alarms' upper bound
WHAT = "a record of benchmarks.noise"


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseProvenance(Provenance):
    """Which code and command measured it; ``order_seed`` drew the orders and the planted cells."""

    order_seed: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseRule:
    """The rule that each run's comparisons were judged by; ``pairs`` are those of a run."""

    pairs: int
    comparisons: int
    power: float
    margin: float | None = None
    level: float | None = None
    least_pairs: int | None = None
    correction: str = ""
    estimate: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FalseAlarms:
    """A against A: how often a comparison found a change where there is none; ``upper_bound`` is Clopper and Pearson's, one-sided.

    Comparisons of one run share its processes; ``runs_with_alarm`` of the runs, which share nothing, had one at all. None where a
    record is older than this field.
    """

    comparisons: int
    alarms: int
    rate: float
    upper_bound: float
    confidence: float = 0.95
    verdicts: dict[str, int] = field(default_factory=dict)
    runs_with_alarm: int | None = None
    upper_bound_of_runs: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SlowDowns:
    """Slow-downs that were planted, and how many were found; ``effects`` are what was measured of each, as shares."""

    trials: int
    found: int
    lower_bound: float
    planted: str = ""
    verdicts: dict[str, int] = field(default_factory=dict)
    effects: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Planted:
    """A fault that was planted, one place at a time, and how often the gate, or a law of the method, saw it."""

    trials: int
    found: int
    planted: str = ""
    baseline: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairSpread:
    """The standard deviation of the pairs' log ratios, over all comparisons."""

    median: float
    widest: float


@dataclass(frozen=True, kw_only=True, slots=True)
class QualitySpread:
    """How far a quality of the smoke grid moves where the processor's newer instructions are not used.

    Attributes:
        metric: its name.
        numbers: cells and sets of instructions, crossed.
        moved: how many of them are not the same to the bit.
        widest: the widest move.
        widest_share: the widest, as a share of the number.
        beyond_margin: how many moved by more than the measure's margin, each a false alarm of the gate on such a processor.
    """

    metric: str
    numbers: int
    moved: int
    widest: float
    widest_share: float
    beyond_margin: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignShare:
    """The share of the processors that other processes used meanwhile."""

    median: float
    highest: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GateProof:
    """Whether the gates see what they should and nothing else.

    ``comparisons`` and ``slow_downs`` are single comparisons as ``benchmarks.compare`` writes them; ``smallest_effect`` is the
    smallest slow-down that a run finds at the median spread, ``None`` above 100%.
    """

    provenance: NoiseProvenance
    environment: Environment
    processes: int
    seconds: float
    rule: NoiseRule
    false_alarms: FalseAlarms
    slow_down: SlowDowns
    flops: Planted
    spread: PairSpread
    smallest_effect: float | None
    foreign_cpu_share: ForeignShare | None = None
    grid: str = ""
    cells: tuple[dict[str, Any], ...] = ()
    runs: int = 1
    method: str = ""
    comparisons: tuple[dict[str, Any], ...] = ()
    slow_downs: tuple[dict[str, Any], ...] = ()
    plants: tuple[Planted, ...] = ()
    qualities: tuple[QualitySpread, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise ValueError(f"runs: {self.runs}; expected at least 1")

    @property
    def holds(self) -> bool:
        """Whether the gates are proved: fewer alarms than allowed, all that was planted found, no margin too narrow elsewhere."""
        slow_downs, faults = self.slow_down, (self.flops, *self.plants)
        all_found = slow_downs.found == slow_downs.trials > 0 and all(one.found == one.trials > 0 for one in faults)
        return self.false_alarms.upper_bound < ALLOWED and all_found and not any(one.beyond_margin for one in self.qualities)


def load_proof(path: Path) -> GateProof | None:
    """The record, or ``None`` where there is none.

    Raises:
        RecordError: the file is no JSON, of another version, or no such record; the message is one line that names it.
    """
    if not path.exists():
        return None
    return read_typed(path, GateProof, version=SCHEMA_VERSION, what=WHAT, again="run benchmarks.noise")


def to_json(proof: GateProof) -> bytes:
    """The bytes of its file."""
    return json.dumps(msgspec.to_builtins(proof), indent=1, allow_nan=False).encode() + b"\n"


def summary(proof: GateProof) -> list[str]:
    """The result in a few lines."""
    alarms, slow, flops, rule = proof.false_alarms, proof.slow_down, proof.flops, proof.rule
    effect = "nothing below +100%" if proof.smallest_effect is None else change(proof.smallest_effect)
    lines = [
        (
            f"A against A: {alarms.alarms} false alarms in {alarms.comparisons} comparisons, an exact 95% upper bound of "
            f"{alarms.upper_bound:.2%} (allowed: below {ALLOWED:.0%}); verdicts: {_counts(alarms.verdicts)}."
            f"{_of_runs(proof)}"
        ),
        (
            f"A fifth more work planted in serving: found by one round in {slow.found} of {slow.trials} "
            f"(95% lower bound {slow.lower_bound:.0%})."
        ),
        f"5% more FLOPs: found by the gate in {flops.found} of {flops.trials}.",
        *(f"Planted, {one.planted}: seen in {one.found} of {one.trials}." for one in proof.plants),
        (
            f"A pair's spread: median {percent(proof.spread.median)}, widest {percent(proof.spread.widest)}. At the median {rule.pairs} "
            f"pairs find {effect} with power {rule.power:.0%}, with {rule.comparisons} comparisons corrected together."
        ),
        (
            f"{proof.processes} processes in {duration(proof.seconds)}, commit {(proof.provenance.commit or 'unknown')[:12]}"
            f"{' with uncommitted changes' if proof.provenance.dirty else ''}, {proof.environment.cpu or 'unknown processor'}, "
            f"{proof.provenance.utc[:10]}."
        ),
    ]
    lines += [
        f"On this processor without its newer instructions, {one.metric} moves in {one.moved} of {one.numbers}, by {one.widest:.4f} at "
        f"most ({percent(one.widest_share)} of a number at most); {one.beyond_margin} lie beyond the gate's margin."
        for one in proof.qualities
    ]
    if others := proof.foreign_cpu_share:
        lines.append(f"Other processes used {others.median:.0%} of the processors meanwhile (at most {others.highest:.0%}).")
    return lines


def _of_runs(proof: GateProof) -> str:
    """The bound over whole runs, whose processes share nothing."""
    alarms = proof.false_alarms
    if alarms.runs_with_alarm is None or alarms.upper_bound_of_runs is None:
        return ""
    return (
        f" Comparisons of a run share processes; of {proof.runs} independent runs of {proof.processes // proof.runs} processes each, "
        f"{alarms.runs_with_alarm} had a false alarm at all, a 95% upper bound of {alarms.upper_bound_of_runs:.0%}."
    )


def _counts(verdicts: Mapping[str, int]) -> str:
    return listed([f"{count} {verdict}" for verdict, count in verdicts.items()])

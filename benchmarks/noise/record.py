"""What ``benchmarks.noise`` found of the gates, as it lies beside the runs: typed, in words, and read without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.records import Environment, Provenance, check_version, read_json, typed
from persrec.commandline import duration

SCHEMA_VERSION = 1
ALLOWED = 0.01  # the false alarms' upper bound
_WHAT = "a record of benchmarks.noise"


@dataclass(frozen=True, kw_only=True, slots=True)
class FalseAlarms:
    """Alarms where nothing had changed, with an exact 95% upper bound of their rate."""

    comparisons: int
    alarms: int
    upper_bound: float
    verdicts: dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Planted:
    """Changes that were planted, and how many of them were found."""

    trials: int
    found: int
    lower_bound: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PairSpread:
    """How far the two halves of a pair lie apart, as shares."""

    median: float
    widest: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ProofRule:
    """How the comparisons were judged."""

    pairs: int
    comparisons: int
    power: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignShare:
    """What other processes used of the processors meanwhile."""

    median: float
    highest: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GateProof:
    """What the gates do where nothing changed, and where something did."""

    false_alarms: FalseAlarms
    slow_down: Planted
    flops: Planted
    rule: ProofRule
    spread: PairSpread
    smallest_effect: float | None
    processes: int
    seconds: float
    environment: Environment
    provenance: Provenance
    foreign_cpu_share: ForeignShare | None = None

    @property
    def holds(self) -> bool:
        """Whether the gates are proved: fewer alarms than allowed, and all that was planted found."""
        found = self.slow_down.found == self.slow_down.trials and self.flops.found == self.flops.trials > 0
        return self.false_alarms.upper_bound < ALLOWED and found


def load_proof(path: Path) -> GateProof | None:
    """The record, or ``None`` where there is none.

    Raises:
        RecordError: the file is no JSON, of another version, or no such record.
    """
    if not path.exists():
        return None
    values = read_json(path, again="run benchmarks.noise")
    check_version(values, known=SCHEMA_VERSION, where=str(path), what=_WHAT)
    return proof_of(values, where=str(path))


def proof_of(values: Mapping[str, Any], *, where: str) -> GateProof:
    """The record from plain JSON values; fails as `load_proof`."""
    return typed(values, GateProof, where=where, what=_WHAT)


def summary(proof: GateProof) -> list[str]:
    """The result in a few lines."""
    alarms, slow, flops, rule = proof.false_alarms, proof.slow_down, proof.flops, proof.rule
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in alarms.verdicts.items())
    smallest = "nothing below +100%" if proof.smallest_effect is None else f"+{proof.smallest_effect:.1%}"
    certainty = "" if slow.lower_bound is None else f" (95% lower bound {slow.lower_bound:.0%})"
    lines = [
        (
            f"A against A: {alarms.alarms} false alarms in {alarms.comparisons} comparisons, an exact 95% upper bound of "
            f"{alarms.upper_bound:.2%} (allowed: below {ALLOWED:.0%}); verdicts: {verdicts}."
        ),
        f"A fifth more work planted in serving: found in {slow.found} of {slow.trials}{certainty}.",
        f"5% more FLOPs: found by the gate in {flops.found} of {flops.trials}.",
        (
            f"A pair's spread: median {proof.spread.median:.1%}, widest {proof.spread.widest:.1%}. At the median {rule.pairs} pairs find "
            f"{smallest} with power {rule.power:.0%}, with {rule.comparisons} comparisons corrected together."
        ),
        (
            f"{proof.processes} processes in {duration(proof.seconds)}, commit {(proof.provenance.commit or 'unknown')[:12]}"
            f"{' with uncommitted changes' if proof.provenance.dirty else ''}, {proof.environment.cpu or 'unknown processor'}, "
            f"{proof.provenance.utc[:10]}."
        ),
    ]
    if proof.foreign_cpu_share is not None:
        others = proof.foreign_cpu_share
        lines.append(f"Other processes used {others.median:.0%} of the processors meanwhile (at most {others.highest:.0%}).")
    return lines

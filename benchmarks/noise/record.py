"""What ``benchmarks.noise`` found of the gates: the record beside the runs, in words, and as the report shows it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.store import load_beside
from persrec.commandline import duration

SCHEMA_VERSION = 1
ALLOWED = 0.01  # the false alarms' upper bound

Content = Mapping[str, Any]


def load_proof(path: Path) -> Content | None:
    """The record, or ``None`` where there is none; fails as `benchmarks.store.load_beside`."""
    return load_beside(path, program="benchmarks.noise", version=SCHEMA_VERSION, show=summary)


def holds(content: Content) -> bool:
    """Whether the gates are proved: fewer alarms than allowed, and all that was planted found."""
    alarms, slow, flops = content["false_alarms"], content["slow_down"], content["flops"]
    return bool(alarms["upper_bound"] < ALLOWED and slow["found"] == slow["trials"] and flops["found"] == flops["trials"] > 0)


def summary(content: Content) -> list[str]:
    """The result in a few lines."""
    alarms, slow, flops, rule = content["false_alarms"], content["slow_down"], content["flops"], content["rule"]
    smallest, spread, others = content["smallest_effect"], content["spread"], content["foreign_cpu_share"]
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in alarms["verdicts"].items())
    seen = "nothing below +100%" if smallest is None else f"+{smallest:.1%}"
    lines = [
        (
            f"A against A: {alarms['alarms']} false alarms in {alarms['comparisons']} comparisons, an exact 95% upper bound of "
            f"{alarms['upper_bound']:.2%} (allowed: below {ALLOWED:.0%}); verdicts: {verdicts}."
        ),
        f"A fifth more work planted in serving: found in {slow['found']} of {slow['trials']} (95% lower bound {slow['lower_bound']:.0%}).",
        f"5% more FLOPs: found by the gate in {flops['found']} of {flops['trials']}.",
        (
            f"A pair's spread: median {spread['median']:.1%}, widest {spread['widest']:.1%}. At the median {rule['pairs']} pairs find "
            f"{seen} with power {rule['power']:.0%}, with {rule['comparisons']} comparisons corrected together."
        ),
        (
            f"{content['processes']} processes in {duration(content['seconds'])}, commit {str(content['provenance']['commit'])[:12]}"
            f"{' with uncommitted changes' if content['provenance'].get('dirty') else ''}, {content['environment']['cpu']}, "
            f"{content['provenance']['utc'][:10]}."
        ),
    ]
    if others:
        lines.append(f"Other processes used {others['median']:.0%} of the processors meanwhile (at most {others['highest']:.0%}).")
    return lines

"""Lets the gates prove themselves: ``python -m benchmarks.noise`` writes ``results/noise/aa.json``.

Three questions, answered by measuring:

- **A against A.** Runs of ``benchmarks.compare`` of this checkout against itself, as many as hold the wanted number of
  comparisons. Each run has processes of its own and each comparison pairs of its own: a process's timing is used once. The
  rate of false alarms (REGRESSION or IMPROVED) has Clopper and Pearson's exact one-sided 95% upper bound.
- **A planted slow-down.** In cells that a seed draws before anything is measured, serving is also timed with a fifth more
  calls in each sample (``benchmarks/compare/worker.py``): real work, nothing multiplied. Its timing by the head's processes is held
  against the plain timing by the base's, under the rule of its run.
- **Five percent more FLOPs.** Every FLOP number of a reviewed baseline, one at a time 5% higher, through the gate's own
  judgement.

It exits 0 where the bound of the false alarms is below 1% and everything planted was found, 1 where not, 3 where a process
failed.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cell import Cell
from benchmarks.compare.command import add_grid_options, checked_pairs, chosen_cells, in_one_line, plan, progress, rule_as_json, tell
from benchmarks.compare.judge import Compared, compared, comparisons_of, foreign_shares, order_of
from benchmarks.compare.statistics import Rule, lower_bound, smallest_effect, upper_bound
from benchmarks.compare.turns import BASE, HEAD, Pair, Start, run_pairs
from benchmarks.environment import PROJECT, environment, processors, provenance
from benchmarks.gate import baseline as reviewed
from benchmarks.gate.baseline import Baseline, Verdict, load_baseline
from benchmarks.noise.record import SCHEMA_VERSION, proof_of, summary
from persrec.commandline import DONE, INCOMPLETE, REGRESSION, Parser, one_line
from persrec.files import write_atomically

PROGRAM = "benchmarks.noise"
OUT = Path("results") / "noise" / "aa.json"
BASELINE = Path("results/baselines/smoke-cpu.json")
COMPARISONS, PLANTED = 300, 20
MORE_FLOPS = 1.05
ALARMS = (Verdict.REGRESSION, Verdict.IMPROVED)


@dataclass(slots=True)
class Proof:
    """What all runs came to."""

    plain: list[Compared] = field(default_factory=list)
    planted: list[Compared] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    rule: Rule | None = None


def main(argv: Sequence[str] | None = None, *, start: Start | None = None) -> int:
    """The command line; returns the exit code.

    Args:
        argv: the arguments without the program's name; the process's own by default.
        start: starts a process; tests put another in its place.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = parser().parse_args(arguments)
    return in_one_line(PROGRAM, lambda: _prove(options, arguments, start))


def parser() -> Parser:
    """The options."""
    made = Parser(prog=PROGRAM, description="Measures the false alarms and the power of the comparison of timings, and of the gate.")
    add_grid_options(made, default="cheap")
    made.add_argument("--pairs", type=int, metavar="N", help="processes of each side in a run (default: by the power calculation)")
    made.add_argument("--comparisons", type=int, default=COMPARISONS, metavar="N", help=f"A against A, at least (default: {COMPARISONS})")
    made.add_argument("--planted", type=int, default=PLANTED, metavar="N", help=f"slow-downs to find (default: {PLANTED})")
    made.add_argument("--baseline", type=Path, default=BASELINE, metavar="FILE", help=f"whose FLOPs are raised (default: {BASELINE})")
    made.add_argument("--out", type=Path, default=OUT, metavar="FILE", help=f"where the result goes (default: {OUT})")
    made.add_argument("--quiet", action="store_true", help="show no progress")
    return made


def _prove(options: argparse.Namespace, arguments: Sequence[str], start: Start | None) -> int:
    if options.comparisons < 1 or options.planted < 1:
        raise ValueError("--comparisons, --planted: expected at least 1")
    cells, grid = chosen_cells(options)
    expected = Rule(comparisons=sum(map(comparisons_of, cells.values())), margin=options.margin)
    count = checked_pairs(options.pairs, expected)
    gate = load_baseline(options.baseline)
    runs = -(-options.comparisons // expected.comparisons)
    plants = drawn_plants(list(cells), runs=runs, wanted=options.planted, seed=options.order_seed)
    if not options.quiet:
        tell(f"{len(cells)} cells, {runs} runs of {count} pairs; {plan(count, expected)}")
    began, proof = time.monotonic(), Proof()
    told = progress(count * runs, quiet=options.quiet)
    for number, planted in enumerate(plants):
        order = order_of(cells, grid, data_dir=options.data_dir, cache_dir=options.cache_dir, planted=planted)
        seen = run_pairs(
            {BASE: PROJECT, HEAD: PROJECT},
            order,
            pairs=count,
            seed=options.order_seed + number,
            told=_after(len(proof.pairs), told),
            start=start,
        )
        broken = _take_in(proof, seen, cells, planted, margin=options.margin)
        if broken:
            sys.stderr.write(f"{PROGRAM}: {one_line(broken)}\n")
            return INCOMPLETE
    content = _content(options, arguments, proof, gate, cells, runs=runs, count=count, seconds=time.monotonic() - began)
    write_atomically(options.out, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    shown = proof_of(content, where=str(options.out))
    for line in summary(shown):
        tell(line)
    tell(f"wrote {options.out}")
    return DONE if shown.holds else REGRESSION


def _after(done: int, told: Callable[[int], None]) -> Callable[[int], None]:
    """Counts the pairs of one run on from those of the runs before."""
    return lambda pair: told(done + pair)


def drawn_plants(cells: Sequence[str], *, runs: int, wanted: int, seed: int) -> list[list[str]]:
    """The cells to plant a slow-down in, run by run: as many as wanted, spread evenly, each at most once a run.

    Raises:
        ValueError: there are not so many places.
    """
    if wanted > runs * len(cells):
        raise ValueError(f"--planted: {wanted} slow-downs, and {runs} runs of {len(cells)} cells hold {runs * len(cells)} at most")
    draw = random.Random(seed)  # noqa: S311 - an order, not a secret
    shares = [wanted // runs + (number < wanted % runs) for number in range(runs)]
    return [draw.sample(list(cells), share) for share in shares]


def _take_in(proof: Proof, seen: Sequence[Pair], cells: Mapping[str, Cell], planted: Sequence[str], *, margin: float) -> str:
    """Adds a run to the proof; returns what kept a cell from being compared, if anything did."""
    plain, proof.rule = compared(seen, cells, margin=margin)
    with_plants, _ = compared(seen, cells, margin=margin, planted=planted)
    proof.pairs += seen
    proof.plain += plain
    proof.planted += [one for one in with_plants if one.cell_key in planted and one.metric == "serve_batch"]
    return next((f"{one.cell}: {one.reason}" for one in plain if one.effect is None), "")


def raised_flops(gate: Baseline) -> tuple[int, int]:
    """How many of a baseline's FLOP numbers the gate calls a regression once they are 5% higher, one at a time; and how many there are."""
    found = trials = 0
    for key, entry in gate.entries.items():
        for name, value in entry["metrics"].items():
            if not name.endswith("_flops") or not value:
                continue
            metrics = {**entry["metrics"], name: value * MORE_FLOPS}
            record = {
                "cell_key": key,
                "status": entry["status"],
                "cell": entry["cell"],
                "dataset": entry["dataset"],
                "measure_versions": entry["measure_versions"],
                "metrics": {metric: {"value": number} for metric, number in metrics.items()},
                "error": None,
            }
            alone = Baseline(utc=gate.utc, source=gate.source, margins=gate.margins, entries={key: entry})
            verdicts = {(one.metric, one.verdict) for one in reviewed.judge(alone, [record])}
            found += (name, Verdict.REGRESSION) in verdicts
            trials += 1
    return found, trials


def _content(
    options: argparse.Namespace,
    arguments: Sequence[str],
    proof: Proof,
    gate: Baseline,
    cells: Mapping[str, Cell],
    *,
    runs: int,
    count: int,
    seconds: float,
) -> dict[str, Any]:
    alarms = sum(one.verdict in ALARMS for one in proof.plain)
    found = sum(one.verdict is Verdict.REGRESSION for one in proof.planted)
    raised, flops = raised_flops(gate)
    rule = proof.rule or Rule(comparisons=1)
    spreads = [one.effect.spread for one in proof.plain if one.effect is not None]
    middle = float(np.median(spreads))
    shares = foreign_shares(proof.pairs)
    first = next(iter(cells.values()))
    return {
        "schema_version": SCHEMA_VERSION,
        "provenance": {**provenance(argv=["python", "-m", PROGRAM, *arguments]), "order_seed": options.order_seed},
        "environment": environment(device=first.device, threads=first.threads, affinity=processors(0, first.threads)),
        "grid": options.grid,
        "cells": [cell.to_dict() for cell in cells.values()],
        "runs": runs,
        "processes": 2 * len(proof.pairs),
        "seconds": round(seconds, 1),
        "rule": rule_as_json(rule, count),
        "method": "runs of the comparison of this checkout with itself; each run has its own processes, and no timing is used twice",
        "false_alarms": {
            "comparisons": len(proof.plain),
            "alarms": alarms,
            "rate": alarms / len(proof.plain),
            "upper_bound": upper_bound(alarms, len(proof.plain)),
            "confidence": 0.95,
            "verdicts": _verdicts(proof.plain),
        },
        "slow_down": {
            "planted": "a fifth more calls in each sample of serving",
            "trials": len(proof.planted),
            "found": found,
            "lower_bound": lower_bound(found, len(proof.planted)),
            "verdicts": _verdicts(proof.planted),
            "effects": [one.effect.value for one in proof.planted if one.effect is not None],
        },
        "flops": {"planted": "5% more, one number at a time", "baseline": str(options.baseline), "trials": flops, "found": raised},
        "spread": {"median": middle, "widest": max(spreads)},
        "smallest_effect": smallest_effect(spread=middle, pairs=count, rule=rule),
        "foreign_cpu_share": {"median": float(np.median(shares)), "highest": max(shares)} if shares else None,
        "comparisons": [one.to_dict() for one in proof.plain],
        "slow_downs": [one.to_dict() for one in proof.planted],
    }


def _verdicts(found: Sequence[Compared]) -> dict[str, int]:
    return dict(sorted(Counter(one.verdict.value for one in found).items()))

"""Lets the gates prove themselves: ``python -m benchmarks.noise`` writes ``results/noise/aa.json``.

Four questions, answered by measuring:

- **A against A.** Runs of ``benchmarks.compare`` of this checkout against itself, as many as hold the wanted number of
  comparisons. Each run has processes of its own and each comparison pairs of its own: a process's timing is used once. The
  rate of false alarms (REGRESSION or IMPROVED) has Clopper and Pearson's exact one-sided 95% upper bound.
- **A planted slow-down.** In cells that a seed draws before anything is measured, serving is also timed with a fifth more
  calls in each sample (``benchmarks/compare/worker.py``): real work, nothing multiplied. Its timing by the head's processes is
  compared with the plain timing by the base's, under the rule of its run.
- **Planted faults.** Through the gate's own judgement: every FLOP number of a reviewed baseline 5% higher, every peak of memory
  doubled, a recall above 1, the quality of random tokens and of another user's cache in PerSRec's place, each alone
  (`benchmarks/noise/plants.py`). And in each backbone a mask that shows the future, which the law of causality must see
  (`benchmarks/noise/leak.py`).
- **Other processors.** The smoke grid's qualities by older instructions, against the gate's margins (`benchmarks/noise/instructions.py`).

It exits 0 where the bound of the false alarms is below 1%, everything planted was found and no quality left its margin, 1 where not, 3
where a process failed.
"""

import argparse
import dataclasses
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.cell import Cell
from benchmarks.compare.command import add_grid_options, as_given, checked_pairs, chosen_cells, method_of, plan, progress, tell
from benchmarks.compare.judge import Comparison, compare_timings, comparisons_of, foreign_shares, order_of
from benchmarks.compare.statistics import Rule, smallest_effect
from benchmarks.compare.turns import BASE, HEAD, Pair, Start, run_pairs
from benchmarks.compare.worker import SERVE
from benchmarks.environment import PROJECT, environment, processors, provenance
from benchmarks.findings import Verdict
from benchmarks.gate.baseline import Baseline, load_baseline
from benchmarks.noise.instructions import Measured, quality_spreads
from benchmarks.noise.leak import leaks
from benchmarks.noise.plants import other_faults, raised_flops
from benchmarks.noise.rates import lower_bound, upper_bound
from benchmarks.noise.record import (
    FalseAlarms,
    ForeignShare,
    GateProof,
    NoiseProvenance,
    NoiseRule,
    PairSpread,
    QualitySpread,
    SlowDowns,
    summary,
    to_json,
)
from benchmarks.records import Environment, typed
from benchmarks.store import check_file
from persrec.commandline import DONE, INCOMPLETE, REGRESSION, Parser, guarded, one_line, whole
from persrec.files import write_atomically

PROGRAM = "benchmarks.noise"
OUT = Path("results") / "noise" / "aa.json"
BASELINE = Path("results/baselines/smoke-cpu.json")
COMPARISONS, PLANTED = 300, 20
ALARMS = (Verdict.REGRESSION, Verdict.IMPROVED)


@dataclass(slots=True)
class Proof:
    """The results of all runs."""

    plain: list[Comparison] = field(default_factory=list)
    planted: list[Comparison] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    runs_with_alarm: int = 0
    rule: Rule | None = None

    def add(self, pairs: Sequence[Pair], cells: Mapping[str, Cell], planted: Sequence[str], *, margin: float) -> str:
        """Adds a run; returns what kept a cell from being compared, or nothing."""
        plain, self.rule = compare_timings(pairs, cells, margin=margin)
        with_plants, _ = compare_timings(pairs, cells, margin=margin, planted=planted)
        self.pairs += pairs
        self.plain += plain
        self.runs_with_alarm += any(one.verdict in ALARMS for one in plain)
        self.planted += [one for one in with_plants if one.cell_key in planted and one.metric == SERVE]
        return next((f"{one.cell}: {one.reason}" for one in plain if one.effect is None), "")


def main(argv: Sequence[str] | None = None, *, start: Start | None = None, measure: Measured | None = None) -> int:
    """The command line; returns the exit code.

    Args:
        argv: the arguments without the program's name; the process's own by default.
        start: starts a process; tests put another in its place.
        measure: measures qualities under other instructions; as above.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(PROGRAM, lambda: _prove(parser().parse_args(arguments), arguments, start, measure))


def parser() -> Parser:
    """The options."""
    parser = Parser(prog=PROGRAM, description="Measures the false alarms and the power of the comparison of timings, and of the gate.")
    add_grid_options(parser, default="cheap")
    parser.add_argument("--pairs", type=whole(1), metavar="N", help="processes of each side in a run (default: by the power calculation)")
    parser.add_argument(
        "--comparisons", type=whole(1), default=COMPARISONS, metavar="N", help=f"A against A, at least (default: {COMPARISONS})"
    )
    parser.add_argument("--planted", type=whole(1), default=PLANTED, metavar="N", help=f"slow-downs to find (default: {PLANTED})")
    parser.add_argument("--baseline", type=Path, default=BASELINE, metavar="FILE", help=f"whose FLOPs are raised (default: {BASELINE})")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help=f"where the result goes (default: {OUT})")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


def _prove(options: argparse.Namespace, arguments: Sequence[str], start: Start | None, measure: Measured | None) -> int:
    baseline = _checked(options)
    cells, grid = chosen_cells(options)
    expected = Rule(comparisons=sum(map(comparisons_of, cells.values())), margin=options.margin)
    count = checked_pairs(options.pairs, expected)
    runs = -(-options.comparisons // expected.comparisons)
    plants = drawn_plants(list(cells), runs=runs, count=options.planted, seed=options.order_seed)
    if not options.quiet:
        tell(f"{len(cells)} cells, {runs} runs of {count} pairs; {plan(count, expected)}")
    began, proof = time.monotonic(), Proof()
    try:
        qualities = quality_spreads(measure)  # before the long measuring, which a failure here would throw away
    except ValueError as error:
        sys.stderr.write(f"{PROGRAM}: {one_line(str(error))}; nothing was written\n")
        return INCOMPLETE
    on_pair = progress(count * runs, quiet=options.quiet)
    for number, planted in enumerate(plants):
        pairs = run_pairs(
            {BASE: PROJECT, HEAD: PROJECT},
            order_of(cells, grid, data_dir=options.data_dir, cache_dir=options.cache_dir, planted=planted),
            count=count,
            seed=options.order_seed + number,
            on_pair=_after(len(proof.pairs), on_pair),
            start=start,
        )
        fault = proof.add(pairs, cells, planted, margin=options.margin)
        if fault:
            sys.stderr.write(f"{PROGRAM}: {one_line(fault)}; nothing was written\n")
            return INCOMPLETE
    gate_proof = _proof(
        options, arguments, proof, baseline, cells, runs=runs, count=count, qualities=qualities, seconds=time.monotonic() - began
    )
    write_atomically(options.out, to_json(gate_proof))
    for line in summary(gate_proof):
        tell(line)
    tell(f"wrote {options.out}")
    return DONE if gate_proof.holds else REGRESSION


def _checked(options: argparse.Namespace) -> Baseline:
    """The baseline whose FLOPs are raised; refuses, before the long measuring, what would fail after it.

    Raises:
        ValueError: a place that cannot be written, or a baseline without FLOPs.
    """
    check_file("--out", options.out)
    if os.path.realpath(options.out) == os.path.realpath(options.baseline):
        raise ValueError(f"--out: {options.out} is also the file of --baseline; expected a file of its own")
    baseline = load_baseline(options.baseline)
    if not any(name.endswith("_flops") and value for entry in baseline.entries.values() for name, value in entry.metrics.items()):
        raise ValueError(f"--baseline: {options.baseline} holds no FLOPs to raise; expected a baseline of cells with a model")
    return baseline


def _after(done: int, on_pair: Callable[[int], None]) -> Callable[[int], None]:
    """Counts the pairs of a run after those of the runs before."""
    return lambda pair: on_pair(done + pair)


def drawn_plants(cells: Sequence[str], *, runs: int, count: int, seed: int) -> list[list[str]]:
    """The cells to plant a slow-down in, run by run: ``count`` in all, spread evenly, each at most once a run.

    Raises:
        ValueError: there are not so many places.
    """
    if count > runs * len(cells):
        raise ValueError(f"--planted: {count} slow-downs, and {runs} runs of {len(cells)} cells hold {runs * len(cells)} at most")
    draw = random.Random(seed)  # noqa: S311 - an order, not a secret
    shares = [count // runs + (number < count % runs) for number in range(runs)]
    return [draw.sample(list(cells), share) for share in shares]


def _proof(
    options: argparse.Namespace,
    arguments: Sequence[str],
    proof: Proof,
    baseline: Baseline,
    cells: Mapping[str, Cell],
    *,
    runs: int,
    count: int,
    qualities: tuple[QualitySpread, ...],
    seconds: float,
) -> GateProof:
    alarms = sum(one.verdict in ALARMS for one in proof.plain)
    hits = sum(one.verdict is Verdict.REGRESSION for one in proof.planted)
    file_name = as_given(options.baseline)
    rule = proof.rule or Rule(comparisons=1)
    spreads = [one.effect.spread for one in proof.plain if one.effect is not None]
    middle = float(np.median(spreads))
    shares = foreign_shares(proof.pairs)
    first = next(iter(cells.values()))
    machine = environment(device=first.device, threads=first.threads, affinity=processors(0, first.threads))
    source = {**provenance(argv=["python", "-m", PROGRAM, *arguments]), "order_seed": options.order_seed}
    return GateProof(
        provenance=typed(source, NoiseProvenance, where=PROGRAM, what="a provenance"),
        environment=typed(machine, Environment, where=PROGRAM, what="an environment"),
        grid=as_given(options.grid),
        cells=tuple(cell.to_dict() for cell in cells.values()),
        runs=runs,
        processes=2 * len(proof.pairs),
        seconds=round(seconds, 1),
        rule=NoiseRule(**dataclasses.asdict(rule), **method_of(rule), pairs=count),
        method="runs of the comparison of this checkout with itself; each run has its own processes, and no timing is used twice",
        false_alarms=FalseAlarms(
            comparisons=len(proof.plain),
            alarms=alarms,
            rate=alarms / len(proof.plain),
            upper_bound=upper_bound(alarms, len(proof.plain)),
            verdicts=_verdicts(proof.plain),
            runs_with_alarm=proof.runs_with_alarm,
            upper_bound_of_runs=upper_bound(proof.runs_with_alarm, runs),
        ),
        slow_down=SlowDowns(
            planted="a fifth more calls in each sample of serving",
            trials=len(proof.planted),
            found=hits,
            lower_bound=lower_bound(hits, len(proof.planted)),
            verdicts=_verdicts(proof.planted),
            effects=tuple(one.effect.value for one in proof.planted if one.effect is not None),
        ),
        flops=raised_flops(baseline, file_name=file_name),
        plants=(*other_faults(baseline, file_name=file_name), leaks()),
        qualities=qualities,
        spread=PairSpread(median=middle, widest=max(spreads)),
        smallest_effect=smallest_effect(spread=middle, pairs=count, rule=rule),
        foreign_cpu_share=ForeignShare(median=float(np.median(shares)), highest=max(shares)) if shares else None,
        comparisons=tuple(one.to_dict() for one in proof.plain),
        slow_downs=tuple(one.to_dict() for one in proof.planted),
    )


def _verdicts(comparisons: Sequence[Comparison]) -> dict[str, int]:
    return dict(sorted(Counter(one.verdict.value for one in comparisons).items()))

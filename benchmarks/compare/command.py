"""Times two checkouts against each other: ``python -m benchmarks.compare BASE_CHECKOUT --grid NAME --pairs N``.

This checkout is the head. The unit is a pair: a fresh process of each, which measure in short turns on the same processors,
each side first in half of the pairs; its number is the median of the turns' ratios. A slow-down is a regression where it is beyond the
margin and its 99% bound, corrected by Bonferroni over all timings of all cells, is beyond it too; ``benchmarks/compare/statistics.py``
says how.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cell import Cell
from benchmarks.compare.judge import (
    HEADINGS,
    Comparison,
    compare_peaks,
    compare_timings,
    comparisons_of,
    confirmed,
    load_note,
    order_of,
    timed_cells,
)
from benchmarks.compare.statistics import (
    ASSUMED_SPREAD,
    EFFECT,
    MARGIN,
    MOST_PAIRS,
    POWER,
    Rule,
    least_pairs,
    pairs_needed,
    smallest_effect,
)
from benchmarks.compare.turns import BASE, HEAD, Pair, Start, WorkOrder, checked_root, run_pairs
from benchmarks.environment import PROJECT, chosen_device, environment, provenance
from benchmarks.environment.checkout import repository_state
from benchmarks.findings import Outputs, Sheet, Verdict, add_options, exit_code, show
from benchmarks.grids import DataSize, Grid, load_grid, preset_names
from benchmarks.grids.selection import select, terms
from benchmarks.text import change, percent
from persrec.commandline import NOT_COMPARABLE, Parser, duration, guarded, whole

PROGRAM = "benchmarks.compare"
ORDER_SEED = 20_260_105


def main(argv: Sequence[str] | None = None, *, start: Start | None = None) -> int:
    """The command line; returns the exit code.

    Args:
        argv: the arguments without the program's name; the process's own by default.
        start: starts a process; tests put another in its place.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(PROGRAM, lambda: _compare(parser().parse_args(arguments), arguments, start))


def parser() -> Parser:
    """The options."""
    parser = Parser(prog=PROGRAM, description="Times a grid's cells in this checkout and in another, interleaved, untrained.")
    parser.add_argument("base", type=Path, metavar="BASE_CHECKOUT", help="folder of the checkout to compare with; it is only read")
    add_grid_options(parser, default=None)
    parser.add_argument("--pairs", type=whole(1), metavar="N", help="processes of each checkout (default: by the power calculation)")
    add_options(parser)
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


def add_grid_options(parser: Parser, *, default: str | None) -> None:
    """Which cells are timed, on what, and how far they may move."""
    help_text = f"{', '.join(preset_names())}, or a TOML file" + (f" (default: {default})" if default else "")
    parser.add_argument("--grid", required=default is None, default=default, metavar="NAME|FILE.toml", help=help_text)
    parser.add_argument("--select", default="", metavar="EXPR", help="only cells that match, as 'backbone=hstu,tokens=0|4'")
    parser.add_argument("--dataset", metavar="NAME", help="the dataset of every cell (default: the grid's own, else synthetic)")
    parser.add_argument("--data-dir", metavar="DIR", help="where publishers' folders lie; only read (default: $PERSREC_DATA)")
    parser.add_argument("--cache-dir", metavar="DIR", help="where prepared data go (default: $PERSREC_CACHE, then ~/.cache/persrec)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--margin", type=float, default=MARGIN, metavar="SHARE", help=f"a slow-down up to this is none (default: {MARGIN})")
    parser.add_argument("--order-seed", type=whole(), default=ORDER_SEED, metavar="SEED", help="draws who runs first and the cells' order")


def _compare(options: argparse.Namespace, arguments: Sequence[str], start: Start | None) -> int:
    outputs = Outputs.of(options)
    outputs.check({"--grid": Path(options.grid)})
    roots = {BASE: checked_root(options.base), HEAD: PROJECT}
    cells, grid = chosen_cells(options)
    expected = Rule(comparisons=sum(map(comparisons_of, cells.values())), margin=options.margin)
    count = checked_pairs(options.pairs, expected)
    if not options.quiet:
        tell(f"{len(cells)} cells, {count} pairs; {plan(count, expected)}")
    order = order_of(cells, grid, data_dir=options.data_dir, cache_dir=options.cache_dir)
    pairs, comparisons, rule = _round(options, roots, order, cells, count=count, start=start)
    failing = (Verdict.REGRESSION, Verdict.IMPROVED) if options.strict else (Verdict.REGRESSION,)
    suspects = {one.cell_key for one in comparisons if one.verdict in failing}
    again: list[Pair] = []
    second: list[Comparison] = []
    if suspects:
        if not options.quiet:
            look = "slower or faster" if options.strict else "slower"
            tell(f"{len(suspects)} of {len(cells)} cells look {look}: a second, independent round on them alone")
        those = {key: cell for key, cell in cells.items() if key in suspects}
        those_alone = dataclasses.replace(order, cells={key: order.cells[key] for key in those})
        again, second, _ = _round(options, roots, those_alone, those, count=count, start=start, number=1)
        comparisons = confirmed(comparisons, second, failing)
    comparisons = [*comparisons, *compare_peaks(pairs, cells)]
    sheet = Sheet(
        program=PROGRAM,
        subject=f"this checkout beside {as_given(options.base)}, {len(pairs)} pairs of processes",
        headings=HEADINGS,
        lines=[comparison.line() for comparison in comparisons],
        notes=_notes(pairs, comparisons, rule),
        exit_code=_exit_code(comparisons, strict=options.strict),
        strict=options.strict,
        content={
            **_checkouts(options.base, roots),
            "provenance": {**provenance(argv=["python", "-m", PROGRAM, *arguments]), "order_seed": options.order_seed},
            "environment": environment(device=next(iter(cells.values())).device, threads=order.threads, affinity=order.affinity),
            "rule": {**dataclasses.asdict(rule), **method_of(rule), "pairs": count},
            "findings": [comparison.to_dict() for comparison in comparisons],
            "pairs": _as_json(pairs),
            "confirmation": {"pairs": _as_json(again), "findings": [comparison.to_dict() for comparison in second]},
        },
        shows_passes=True,
    )
    show(sheet)
    outputs.write(sheet)
    return sheet.exit_code


def _round(
    options: argparse.Namespace,
    roots: Mapping[str, Path],
    order: WorkOrder,
    cells: Mapping[str, Cell],
    *,
    count: int,
    start: Start | None,
    number: int = 0,
) -> tuple[list[Pair], list[Comparison], Rule]:
    """Times these cells in ``count`` pairs of new processes; the ``number`` of the round draws its orders."""
    pairs = run_pairs(
        roots,
        order,
        count=count,
        seed=options.order_seed + number,
        on_pair=progress(count, quiet=options.quiet),
        start=start,
    )
    comparisons, rule = compare_timings(pairs, cells, margin=options.margin)
    return pairs, comparisons, rule


def _as_json(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    return [{"firsts": pair.firsts, BASE: pair.base, HEAD: pair.head} for pair in pairs]


def _checkouts(base: Path, roots: Mapping[str, Path]) -> dict[str, Any]:
    """Which code was compared; no absolute path is kept."""
    commits = {side: repository_state(root) for side, root in roots.items()}
    return {BASE: {"checkout": as_given(base), **commits[BASE]}, HEAD: commits[HEAD]}


def as_given(path: Path | str) -> str:
    """A path as a record keeps it: as it was given, but of an absolute path the name alone."""
    return Path(path).name if Path(path).is_absolute() else str(path)


def chosen_cells(options: argparse.Namespace) -> tuple[dict[str, Cell], Grid]:
    """The cells to time, with their grid.

    Raises:
        ValueError: no such grid, device or data, or a margin that is none.
    """
    if not 0 <= options.margin < 1:
        raise ValueError(f"--margin: {options.margin:g}; expected a share from 0 to below 1")
    terms(options.select)  # first, as asking for the size of data may prepare them

    def sizes(name: str, size: str | None) -> DataSize:
        from persrec.data import size_of  # noqa: PLC0415 - pandas takes a moment, and a refused call needs none

        interactions, repeats = size_of(name, size, data_dir=options.data_dir, cache_dir=options.cache_dir)
        return DataSize(interactions=interactions, repeats=repeats)

    grid = load_grid(options.grid, device=chosen_device(options.device), dataset=options.dataset, sizes=sizes)
    cells = timed_cells(select(grid.cells, options.select, grid=grid.name))
    from persrec.data import dataset_digest  # noqa: PLC0415 - as above

    for name, size, _ in dict.fromkeys(cell.data for cell in cells.values()):
        dataset_digest(name, size=size, data_dir=options.data_dir)
    return cells, grid


def checked_pairs(pairs: int | None, rule: Rule) -> int:
    """The number of pairs.

    Raises:
        ValueError: too few to carry a bound over so many comparisons, or more than are simulated.
    """
    needed = pairs_needed(EFFECT, spread=ASSUMED_SPREAD, rule=rule)
    if needed is None:
        raise ValueError(f"--margin: {rule.margin:g} leaves a slow-down of {EFFECT:.0%} no room; expected less")
    count = needed if pairs is None else pairs
    least = least_pairs(rule)
    if count < least:
        raise ValueError(
            f"--pairs: {count} cannot carry {rule.comparisons} comparisons: a 99% bound corrected over them takes at least {least} pairs, "
            f"and finding {EFFECT:+.0%} at a spread of {ASSUMED_SPREAD:.0%} takes {needed}; take more pairs, or fewer cells by --select"
        )
    if count > MOST_PAIRS:
        raise ValueError(f"--pairs: {count}; expected at most {MOST_PAIRS}, which are simulated for the power calculation")
    return count


def plan(count: int, rule: Rule) -> str:
    """The power calculation in words, before anything was measured."""
    needed = pairs_needed(EFFECT, spread=ASSUMED_SPREAD, rule=rule)
    return (
        f"up to {rule.comparisons} comparisons take at least {least_pairs(rule)} pairs, and {needed} to find {EFFECT:+.0%} with power "
        f"{POWER:.0%} at an assumed spread of {ASSUMED_SPREAD:.0%}; {count} find {_smallest(count, rule, ASSUMED_SPREAD)}"
    )


def _smallest(count: int, rule: Rule, spread: float) -> str:
    slow_down = smallest_effect(spread=spread, pairs=count, rule=rule)
    return "nothing below +100%" if slow_down is None else change(slow_down)


def _notes(pairs: Sequence[Pair], comparisons: Sequence[Comparison], rule: Rule) -> list[str]:
    notes = [
        f"bounds are one-sided at 99%, corrected over {rule.comparisons} comparisons (Bonferroni); the margin is {rule.margin:.0%}",
    ]
    spreads = sorted(one.effect.spread for one in comparisons if one.effect is not None and one.base_ms is not None)
    if spreads:
        middle, widest = spreads[len(spreads) // 2], spreads[-1]
        needed = pairs_needed(EFFECT, spread=widest, rule=rule)
        notes.append(
            f"observed spread of the log ratios: median {percent(middle)}, widest {percent(widest)}; {len(pairs)} pairs find "
            f"{_smallest(len(pairs), rule, middle)} at the median spread with power {POWER:.0%}; finding {EFFECT:+.0%} at the widest takes "
            f"{f'more than {MOST_PAIRS}' if needed is None else needed} pairs"
        )
    note = load_note(pairs)
    return [*notes, note] if note else notes


def _exit_code(comparisons: Sequence[Comparison], *, strict: bool) -> int:
    verdicts = [comparison.verdict for comparison in comparisons]
    if verdicts and all(verdict is Verdict.NEW for verdict in verdicts):
        return NOT_COMPARABLE
    return exit_code(verdicts, strict=strict)


def method_of(rule: Rule) -> dict[str, Any]:
    """How comparisons were judged, for programs."""
    return {
        "correction": "Bonferroni",
        "estimate": "Hodges-Lehmann, bounds of the exact signed-rank distribution",
        "least_pairs": least_pairs(rule),
        "power": POWER,
    }


def progress(count: int, *, quiet: bool) -> Callable[[int], None]:
    """Tells of each pair, with the time left."""
    start = time.monotonic()

    def on_pair(number: int) -> None:
        seconds = time.monotonic() - start
        if not quiet:
            tell(f"pair {number} of {count}, {duration(seconds)}, about {duration(seconds / number * (count - number))} left")

    return on_pair


def tell(line: str) -> None:
    """One line at once, in a pipe too."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()

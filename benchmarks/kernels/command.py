"""Attention that costs what it sees: ``python -m benchmarks.kernels`` times it against plain forms and itself.

Before any row is timed, the outputs of the computations that the rows time are compared with those of the plain form; where a training
step is timed, so are the gradients. A row that differs ends the run without a record. Then every row is measured once, each in a fresh
process, then every row once more, and so on: a row's processes are spread over the run. In a process the two sides are measured in
turn; its ratio is the median of the ratios of pairs or, where memory is compared, the ratio of two peaks. A row is the median over its
processes, with an interval over them. Absolute times stand beside the ratios and do not travel between machines. What a run has measured
is kept in a file beside its record until the record is written: the same command goes on from it.
"""

import argparse
import dataclasses
import functools
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.analysis.estimates import interval_over_processes
from benchmarks.digests import modules_digest
from benchmarks.environment import chosen_device, environment, processors, provenance
from benchmarks.isolation import Job, preload, run_isolated
from benchmarks.kernels.kept import Keeper, OutputCheck, RunIdentity
from benchmarks.kernels.record import KernelMachine, KernelRow, KernelSettings, KernelTimings, to_json
from benchmarks.records import Environment, Provenance, Status, typed
from benchmarks.text import significant
from persrec.commandline import DONE, INCOMPLETE, Parser, duration, guarded, one_line, whole
from persrec.files import write_atomically

PROGRAM = "benchmarks.kernels"
ROWS = "benchmarks.kernels.rows"
PROCESSES = {"cpu": 3, "cuda": 1}  # of a row; on a GPU a process takes seconds to start


class RowError(Exception):
    """A row was not measured."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(PROGRAM, lambda: _measure(parser().parse_args(arguments), arguments))


def parser() -> Parser:
    """The options."""
    parser = Parser(prog=PROGRAM, description="Times the attention kernels against plain forms, as ratios, and writes a record.")
    parser.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="where kernels/DEVICE.json goes (default: results)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=whole(1), default=2, metavar="N", help="threads to compute with (default: 2)")
    parser.add_argument("--rounds", type=whole(1), default=9, metavar="N", help="measurements a side, over all processes (default: 9)")
    parser.add_argument("--processes", type=whole(1), metavar="N", help="fresh processes of each row (default: 3; on a GPU 1)")
    parser.add_argument("--layers", type=whole(1), default=16, metavar="N", help="layers of the HSTU (default: 16, the paper's)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows whose name holds this; writes nothing")
    return parser


def _measure(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    path: Path = options.out / "kernels" / f"{options.device}.json"
    _check(options, path)
    settings = KernelSettings(device=options.device, threads=options.threads, rounds=options.rounds, layers=options.layers)
    from benchmarks.kernels import rows as probe  # noqa: PLC0415 - torch takes seconds, and a refused call needs none

    all_names = probe.names(options.device)
    names = [name for name in all_names if options.only in name]
    if not names:
        raise ValueError(f"--only: no row's name holds {options.only!r}; known: {', '.join(all_names)}")
    machine = environment(device=options.device, threads=options.threads, affinity=processors(0, options.threads))
    run = RunIdentity(
        settings=settings,
        processes=PROCESSES[options.device] if options.processes is None else options.processes,
        fingerprint=machine["fingerprint"],
        code=modules_digest([ROWS]),
    )
    keeper = Keeper(None if options.only else path.with_suffix(".parts.json"), run)
    try:
        rows = _measure_rows(keeper, names)
    except RowError as error:
        sys.stderr.write(f"{PROGRAM}: {one_line(str(error))}; no record was written\n")
        return INCOMPLETE
    if options.only:
        return DONE
    source = provenance(argv=["python", "-m", PROGRAM, *arguments])
    timings = KernelTimings(
        settings=settings,
        machine=KernelMachine(matrix_product_flops_per_second=probe.matrix_product_peak(settings)),
        rows=rows,
        environment=typed(machine, Environment, where=PROGRAM, what="an environment"),
        provenance=typed(source, Provenance, where=PROGRAM, what="a provenance"),
    )
    write_atomically(path, to_json(timings))
    keeper.done()
    print(path)
    return DONE


def _check(options: argparse.Namespace, path: Path) -> None:
    """Refuses what would fail after the long measuring, before that begins.

    Raises:
        ValueError: more processes than rounds, a device that is not there, or a place that cannot hold the record.
    """
    if options.processes is not None and options.processes > options.rounds:
        raise ValueError(f"--processes: {options.processes}; expected at most the {options.rounds} of --rounds")
    chosen_device(options.device)
    for folder in (options.out, path.parent):
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--out: {folder} is a file; expected a folder")
    if path.is_dir():
        raise ValueError(f"--out: {path} is a folder; expected room for a file")


def _measure_rows(keeper: Keeper, names: Sequence[str]) -> tuple[KernelRow, ...]:
    """Compares each row in one fresh process and measures it in several, and returns the rows; what ``keeper`` has is not done again.

    The processes are fresh since what one row allocates makes the next one's memory cheap, or dear.

    Raises:
        RowError: a row was not measured, or its outputs differ; the end of its log is printed.
    """
    run, kept_count = keeper.parts.run, keeper.parts.count
    preload([ROWS], threads=run.settings.threads)
    process_settings = dataclasses.replace(run.settings, rounds=-(-run.settings.rounds // run.processes))
    total = len(names) * (1 + run.processes)
    time_left = functools.partial(_time_left, start=time.monotonic(), kept_count=kept_count, total=total)
    if kept_count:
        print(f"{kept_count} of {total} processes are kept from a run that was stopped", flush=True)
    comparisons, rows = keeper.parts.comparisons, keeper.parts.rows
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        for position, name in enumerate(names, start=1):
            if name not in comparisons:
                keeper.compared(name, OutputCheck(**_run_in_process("check_row", process_settings, name, log)))
                print(f"{name}: agrees ({position} of {len(names)}){time_left(count=keeper.parts.count)}", flush=True)
        for number, name in itertools.product(range(1, run.processes + 1), names):
            if len(rows.get(name, ())) < number:
                keeper.measured(name, _run_in_process("measure_row", process_settings, name, log))
                line = _progress_line(over_processes(rows[name]), f"process {number} of {run.processes}")
                print(line + time_left(count=keeper.parts.count), flush=True)
    return tuple(dataclasses.replace(over_processes(rows[name]), **dataclasses.asdict(comparisons[name])) for name in names)


def _time_left(*, start: float, kept_count: int, count: int, total: int) -> str:
    """``, about 12 min 5 s left``, by the processes since the command began."""
    return f", about {duration((time.monotonic() - start) / (count - kept_count) * (total - count))} left" if count < total else ""


def over_processes(parts: Sequence[KernelRow]) -> KernelRow:
    """One row from its processes' rows: the median of their ratios, an interval over them, and all samples."""
    ratios = [row.ratio for row in parts]
    low, high = interval(ratios)
    return dataclasses.replace(
        parts[0],
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        ours=tuple(itertools.chain.from_iterable(row.ours for row in parts)),
        other=tuple(itertools.chain.from_iterable(row.other for row in parts)),
        processes=len(parts),
    )


def interval(ratios: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """The 95% interval over processes; none for one process, or where a ratio is 0."""
    return interval_over_processes(ratios) if len(ratios) > 1 and min(ratios) > 0 else (None, None)


def _run_in_process(function: str, settings: KernelSettings, name: str, log: Path) -> Any:
    job = Job(
        function=f"{ROWS}:{function}",
        payload={"settings": settings, "name": name},
        log_path=log,
        threads=settings.threads,
        affinity=processors(0, settings.threads),
    )
    outcome = run_isolated(job)
    if outcome.status is not Status.OK:
        print(outcome.log_tail or "", file=sys.stderr)
        raise RowError(f"{name}: {outcome.status}: {outcome.type}: {outcome.message}")
    return outcome.value


def _progress_line(row: KernelRow, progress: str) -> str:
    bound = "" if row.bound is None else f", asked {'at least' if row.higher_is_better else 'at most'} {significant(row.bound)}"
    return f"{row.name}: {significant(row.ratio)}{bound} ({progress})"

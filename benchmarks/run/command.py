"""Trains and profiles every cell of a grid, and renders the report: ``python -m benchmarks.run --grid smoke``."""

import argparse
import contextlib
import hashlib
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.analysis.configurations import ledger_row_agrees
from benchmarks.cell import Cell
from benchmarks.environment import environment
from benchmarks.environment.portable import portable_argv, shell_line
from benchmarks.grids import ORDER_SEED, shuffled
from benchmarks.grids.selection import Selecting
from benchmarks.keys import Catalogue
from benchmarks.lock import Holder, locked
from benchmarks.records import FINDINGS, Origin, Record, RecordError, load_records, read_record
from benchmarks.report.page import MARK
from benchmarks.run.call import Call, validated
from benchmarks.run.jobs import SweepSettings, Work
from benchmarks.run.listing import list_before_first_run, list_of_plan
from benchmarks.run.local import Executor, LocalExecutor
from benchmarks.run.options import PROGRAM, parser
from benchmarks.run.plan import Data, Plan, Planner, Reason, other_records
from benchmarks.run.progress import display
from benchmarks.run.signals import Interrupted, ending_on_signals
from benchmarks.run.slurm import ClusterExecutor, end_jobs_of_earlier_run
from benchmarks.run.sweep import Sweep
from benchmarks.store import (
    record_path,
    records_digest,
    remove_costs,
    remove_jobs,
    remove_leftovers,
    remove_records,
    report_path,
    write_csv,
)
from persrec.commandline import DONE, INCOMPLETE, guarded, one_line

EXECUTE = Work()
REASONS: dict[Reason, str] = {
    "stale": "measured by other code before, so again now",
    "failed": "failed before, so again now",
    "superseded": "measured before with other data or measures of another version, so again now in place of those",
    "unreadable": "with a record that cannot be read, so again now",
    "asked": "measured again as asked",
    "done": "done already",
}


def main(argv: Sequence[str] | None = None, *, work: Work = EXECUTE) -> int:
    """The command line; returns the exit code.

    Args:
        argv: the arguments without the program's name; the process's own by default.
        work: the functions that train and measure.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = parser().parse_args(arguments)
    try:
        with ending_on_signals():
            return guarded(PROGRAM, lambda: _command(options, arguments, work))
    except Interrupted as interruption:
        sys.stderr.write(
            f"{PROGRAM}: ended by {signal.Signals(interruption.number).name}; what is recorded stays, the same command goes on from there\n"
        )
        return 128 + interruption.number


def _command(options: argparse.Namespace, arguments: Sequence[str], work: Work) -> int:
    call = validated(options)
    if options.list:
        sys.stdout.write(list_of_plan(call, _plan(call, _catalogues(call))) if call.out.is_dir() else list_before_first_run(call))
        return DONE
    with contextlib.ExitStack() as stack:
        # a refused call creates nothing: a new folder is made once the data are known to be good
        is_there = call.out.is_dir()
        dead = stack.enter_context(locked(call.out)) if is_there else None
        catalogues = _catalogues(call)
        dead = dead if is_there else stack.enter_context(locked(call.out))
        end_jobs_of_earlier_run(call.out)  # before leftovers are removed: what jobs still write is not left over
        remove_leftovers(call.out)
        return _run(call, _plan(call, catalogues), arguments, work, dead)


def _run(call: Call, plan: Plan, arguments: Sequence[str], work: Work, dead: Holder | None) -> int:
    options, out = call.options, call.out
    to_do, before = plan.to_do(), _costs_named(_there(out, plan))
    progress = display(total=len(to_do), workers=0 if call.on_cluster else call.workers, quiet=options.quiet)
    settings = SweepSettings(
        out=out,
        data_dir=options.data_dir,
        cache_dir=options.cache_dir,
        dataset_file=call.dataset_file,
        workers=call.workers,
        limits=call.grid.limits,
        argv=["python", "-m", PROGRAM, *arguments],
        order_seed=ORDER_SEED,
        labels=call.labels,
        work=work,
        seconds_per_model=call.grid.estimate.seconds_per_model,
        seconds_per_cell=call.grid.estimate.seconds_per_cell,
    )
    try:
        if dead is not None:
            progress.note(f"{out}: took over from {dead}, which ended without a word")
        for line in [*_reason_lines(plan, options.only), *_strange_lines(call, plan)]:
            progress.note(line)
        working_on = {planned.key for planned in to_do}
        for planned in plan.cells:
            if planned.known is not None and planned.key not in working_on:  # a run ended between a new record and the old one's removal
                remove_records(out, planned.supersedes)
        Sweep(plan, settings, progress, _executor(call, settings)).run()
    finally:
        progress.close()
    records = load_records(out)
    remove_costs(out, before - _costs_named(records))  # costs that no record names yet stay: a stopped run may need them
    if records:
        write_csv(out, records)
    if records and not options.no_report:
        _report(out)
    keys = {planned.key for planned in plan.cells}
    return _verdict([record for record in records if record.cell_key in keys], call)


def _there(out: Path, plan: Plan) -> Iterator[Record]:
    """The records that a plan knows and those that it replaces, as far as they can be read."""
    for planned in plan.cells:
        if planned.known is not None:
            yield planned.known
        for key in planned.supersedes:
            with contextlib.suppress(RecordError):
                yield read_record(record_path(out, key))


def _costs_named(records: Iterable[Record]) -> set[str]:
    """The keys of the costs that records hold."""
    return {record.cost.key for record in records if record.cost is not None}


def _executor(call: Call, settings: SweepSettings) -> Executor:
    """Where the tasks run."""
    if call.on_cluster:
        return ClusterExecutor(settings, call.grid.cluster, places=call.workers, anew=call.options.resume == "always")
    remove_jobs(call.out)
    return LocalExecutor(settings, places=call.workers, threads=call.threads)


def _plan(call: Call, catalogues: Mapping[Data, Catalogue]) -> Plan:
    """Every cell in the order of measurement, with its keys, and why it is measured or that it is done."""
    options = call.options
    fingerprint = None if call.on_cluster else str(environment(device=call.device, threads=1, affinity=())["fingerprint"])
    selecting = Selecting(call.grid.cells)
    planner = Planner(
        out=call.out,
        resume=options.resume,
        only=options.only,
        digests=call.digests,
        catalogues=catalogues,
        fingerprint=fingerprint,
        processes=call.grid.limits.processes,
        briefly=not call.grid.limits.costs_alone,
    )
    plan = planner.plan(shuffled(call.cells))
    return replace(plan, cells=tuple(replace(planned, rerun=_rerun(call, planned.cell, selecting)) for planned in plan.cells))


def _catalogues(call: Call) -> dict[Data, Catalogue]:
    """What costs depend on in each dataset; a dataset that is not prepared yet is prepared.

    Raises:
        ValueError: the data have no user to evaluate, where a cell has a quality, or none to train on.
    """
    from persrec.data import load_dataset  # noqa: PLC0415 - pandas takes a moment, and a refused call needs none
    from persrec.data.splits import split_of  # noqa: PLC0415 - as above

    catalogues = {}
    for (name, size, protocol), digest in call.digests.items():
        source = call.dataset_file or name
        where = {"data_dir": call.options.data_dir, "cache_dir": call.options.cache_dir}
        log = load_dataset(source, size=size, digest=digest, protocol=protocol, **where)
        cells = [cell for cell in call.cells if cell.data == (name, size, protocol)]
        for split in dict.fromkeys(cell.split for cell in cells if cell.has_quality and call.options.only != "cost"):
            data = split_of(log, split)
            data.check_evaluated()
            if any(cell.training != "none" and cell.split == split for cell in cells):
                data.check_trained()
            if len(set(data.test.users.tolist())) < 2 and any(cell.ablation == "other_user" for cell in cells):
                raise ValueError(f"ablation: 'other_user' on dataset {name}, which has one user to evaluate; expected two or more")
        texts = None if log.item_texts is None else hashlib.sha256("\0".join(log.item_texts).encode()).hexdigest()
        categories = None if log.item_categories is None else hashlib.sha256(log.item_categories.tobytes()).hexdigest()
        catalogues[name, size, protocol] = Catalogue(items=log.num_items, texts=texts, categories=categories)
    return catalogues


def _reason_lines(plan: Plan, only: str | None) -> list[str]:
    """A line for each reason, with its number of cells."""
    to_do, total = plan.to_do(), len(plan.cells)
    working_on = {planned.key for planned in to_do}
    without = sum(planned.known is None and planned.key not in working_on for planned in plan.cells)
    reasons = [plan.reason(planned) for planned in plan.cells if planned.known is not None or planned.key in working_on]
    counts = {reason: reasons.count(reason) for reason in REASONS}
    lines = [f"{count} of {total} cells {REASONS[reason]}" for reason, count in counts.items() if count]
    lines += [f"{without} of {total} cells have no {only}, so nothing of them is measured"] if without else []
    renewed = {kind for cost in plan.costs_to_measure() if cost.reason == "stale" for kind in cost.kinds}
    costs_alone = sum(not planned.measures_quality for planned in to_do if plan.reason(planned) == "stale")
    if costs_alone:
        lines.append(f"of {costs_alone} of these the costs alone ({', '.join(sorted(renewed))}); nothing is trained")
    return lines


def _strange_lines(call: Call, plan: Plan) -> list[str]:
    """A line on records whose settings are not, or no longer, in the grid: they stay, and are shown beside the grid's."""
    grid_cells = {replace(cell, seed=0) for cell in call.grid.cells}
    keys = {key for planned in plan.cells for key in (planned.key, *planned.supersedes)}
    strange = sum(replace(record.cell, seed=0) not in grid_cells for record in other_records(call.out, keys))
    return [f"records here of settings that the grid does not hold: {strange}; they stay"] if strange else []


def _rerun(call: Call, cell: Cell, selecting: Selecting) -> str:
    """The command that measures this cell, and no other, again."""
    options = call.options
    words = ["python", "-m", PROGRAM, "--grid", options.grid, "--dataset", call.dataset_file or cell.dataset, "--device", call.device]
    for option, value in (("--data-dir", options.data_dir), ("--cache-dir", options.cache_dir), ("--out", options.out)):
        words += [option, str(value)] if value else []
    words += [word for option in ("split", "protocol") if (text := getattr(options, option)) for word in (f"--{option}", text)]
    words += ["--seeds", str(cell.seed)] if options.seeds else []
    expression = selecting.alone(cell)
    words += ["--select", expression] if expression else []
    return shell_line(portable_argv([*words, "--resume", "always"]))


def _report(out: Path) -> None:
    """Renders the report, unless the present one shows exactly these records."""
    path = report_path(out)
    if not _shows(path, records_digest(out)):
        from benchmarks.report.page import render_report  # noqa: PLC0415 - plotting takes seconds to import

        render_report(out, path)
    sys.stdout.write(f"report: {path}\n")
    sys.stdout.flush()


def _shows(path: Path, digest: str) -> bool:
    try:
        return f'{MARK}{digest}">' in path.read_text(errors="replace")
    except OSError:
        return False


def _verdict(records: Sequence[Record], call: Call) -> int:
    """The exit code for the requested half; prints a line on each that failed, or whose FLOPs are in doubt."""
    halves = [(record, half) for record in records if (half := _half(record, call.options.only)) is not None]
    failures = [(record, half) for record, half in halves if half.status not in FINDINGS]
    if not halves:
        sys.stderr.write(f"{PROGRAM}: nothing was measured\n")
    if failures and not call.options.quiet:
        sys.stderr.write(f"{PROGRAM}: {len(failures)} of {len(halves)} cells have no measurement; --resume failed tries them again:\n")
        for record, half in failures:
            phase, message = (half.error.phase, half.error.message) if half.error else (None, None)
            sys.stderr.write(f"  {half.status}: {call.labels(record.cell)}: in {phase}: {one_line(str(message))[:200]}\n")
    apart = [record for record in records if not all(ledger_row_agrees(row) for row in record.ledger)]
    if apart and call.options.only != "quality" and not call.options.quiet:
        sys.stderr.write(
            f"{PROGRAM}: the counts of FLOPs of {len(apart)} of {len(records)} cells disagree, so no frontier takes any of these:\n"
        )
        sys.stderr.writelines(f"  {call.labels(record.cell)}\n" for record in apart)
    return INCOMPLETE if failures or not halves else DONE


def _half(record: Record, only: str | None) -> Record | Origin | None:
    return {"quality": record.quality, "cost": record.cost, None: record}[only]

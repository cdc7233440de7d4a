"""Trains and profiles every cell of a grid, and renders the report: ``python -m benchmarks.run --grid smoke``."""

import argparse
import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks.cell import Cell, cell_key, model_key, needs_model
from benchmarks.environment import chosen_device, code_digest
from benchmarks.grids import ORDER_SEED, Durations, Grid, label, load_grid, preset_names, select, selecting, shuffled
from benchmarks.measures import versions
from benchmarks.run.progress import display
from benchmarks.run.sweep import Planned, Reason, Settings, Sweep, Work
from benchmarks.store import (
    FINDINGS,
    SCHEMA_VERSION,
    Record,
    StoreError,
    load_record,
    load_records,
    locked,
    model_dir,
    record_files,
    record_path,
    records_digest,
    remove_leftovers,
    remove_records,
    report_path,
    write_csv,
)
from persrec.commandline import DONE, INCOMPLETE, Parser, duration, one_line, refuse

PROGRAM = "benchmarks.run"
EXECUTE = Work()
REASONS_TOLD: dict[Reason, str] = {
    "stale": "measured by other code before, so again now",
    "failed": "failed before, so again now",
    "superseded": "measured before with other data or measures of another version, so again now in place of those",
    "unreadable": "with a record that cannot be read, so again now",
    "asked": "measured again as asked",
    "done": "done already",
}


class Interrupted(BaseException):
    """A signal asks the run to end."""

    def __init__(self, number: int) -> None:
        """The signal's number."""
        super().__init__(number)
        self.number = number


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A validated call: nothing was created yet."""

    options: argparse.Namespace
    grid: Grid
    cells: tuple[Cell, ...]
    device: str
    out: Path
    digests: dict[tuple[str, str | None], str]


def main(argv: Sequence[str] | None = None, *, work: Work = EXECUTE) -> int:
    """The command line; returns the exit code.

    Args:
        argv: the arguments without the program's name; the process's own by default.
        work: the functions that train and measure.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = parser().parse_args(arguments)
    try:
        with _ending_on_signals():
            request = _validated(options)
            if options.list:
                return _list(request)
            with locked(request.out) as dead:
                remove_leftovers(request.out)
                return _run(request, arguments, work, dead)
    except ValueError as error:
        return refuse(PROGRAM, error)
    except Interrupted as interruption:
        sys.stderr.write(
            f"{PROGRAM}: ended by {signal.Signals(interruption.number).name}; what is recorded stays, the same command goes on from there\n"
        )
        return 128 + interruption.number


def parser() -> Parser:
    """The options."""
    made = Parser(prog=PROGRAM, description="Trains and profiles every cell of a grid, writes a record each, and renders the report.")
    made.add_argument("--grid", required=True, metavar="NAME|FILE.toml", help=f"{', '.join(preset_names())}, or a TOML file of one's own")
    made.add_argument("--dataset", metavar="NAME", help="the dataset of every cell (default: the grid's own, else synthetic)")
    made.add_argument("--data-dir", metavar="DIR", help="where publishers' folders lie; only read (default: $PERSREC_DATA)")
    made.add_argument("--cache-dir", metavar="DIR", help="where prepared data go (default: $PERSREC_CACHE, then ~/.cache/persrec)")
    made.add_argument("--select", default="", metavar="EXPR", help="only cells that match, as 'backbone=hstu,tokens=0|4'")
    made.add_argument("--seeds", type=_seeds, default=(), metavar="1,2,3", help="every cell once per seed")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    made.add_argument("--out", type=Path, metavar="DIR", help="where records go (default: results/GRID-DATASET-DEVICE)")
    made.add_argument(
        "--resume",
        choices=("missing", "failed", "always"),
        default="missing",
        help="what to measure: cells without a record, also those that failed, or all (default: missing)",
    )
    made.add_argument(
        "--workers",
        type=_at_least_one,
        metavar="N",
        help="models trained side by side; cells are measured one at a time (default: as many as the processors carry, 1 on a GPU)",
    )
    made.add_argument("--list", action="store_true", help="print the cells and an estimate; run nothing")
    made.add_argument("--no-report", action="store_true", help="render no report")
    made.add_argument("--quiet", action="store_true", help="print nothing but the report's path")
    return made


def _validated(options: argparse.Namespace) -> Request:
    device = chosen_device(options.device)
    grid = load_grid(options.grid, device=device, dataset=options.dataset, seeds=options.seeds)
    cells = select(grid.cells, options.select, grid=grid.name)
    from persrec.data import dataset_digest  # noqa: PLC0415 - pandas takes a moment, and a refused call needs none

    pairs = dict.fromkeys((cell.dataset, cell.dataset_size) for cell in cells)
    digests = {(name, size): dataset_digest(name, size=size, data_dir=options.data_dir) for name, size in pairs}
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    out = options.out or Path("results") / f"{grid.name}-{datasets[0] if len(datasets) == 1 else 'mixed'}-{device}"
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: {out} is a file; expected a folder")
    return Request(options=options, grid=grid, cells=cells, device=device, out=out, digests=digests)


def _run(request: Request, arguments: Sequence[str], work: Work, dead: int | None) -> int:
    options, out = request.options, request.out
    plan = _plan(request)
    to_measure = [planned for planned in plan if planned.reason != "done"]
    workers = _workers(request)
    shown = display(total=len(to_measure), workers=workers, quiet=options.quiet)
    settings = Settings(
        out=out,
        data_dir=options.data_dir,
        cache_dir=options.cache_dir,
        workers=workers,
        limits=request.grid.limits,
        code_digest=code_digest(),
        argv=["python", "-m", PROGRAM, *arguments],
        order_seed=ORDER_SEED,
        work=work,
        seconds_per_model=request.grid.estimate.seconds_per_model,
        seconds_per_cell=request.grid.estimate.seconds_per_cell,
    )
    try:
        if dead is not None:
            shown.note(f"{out}: took over from process {dead}, which ended without a word")
        for line in [*_told(plan), *_told_of_others(request, plan)]:
            shown.note(line)
        for planned in plan:
            if planned.reason == "done":  # a run was ended between the new record and the removal of the old
                remove_records(out, planned.supersedes)
        Sweep(to_measure, settings, shown).run()
    finally:
        shown.close()
    records = load_records(out)
    if to_measure or not (out / "results.csv").is_file():
        write_csv(out, records)
    if not options.no_report:
        _report(out)
    keys = {planned.key for planned in plan}
    return _verdict([record for record in records if record["cell_key"] in keys], options)


def _workers(request: Request) -> int:
    """How many models are trained side by side."""
    if request.options.workers is not None:
        return int(request.options.workers)
    threads = max(cell.threads for cell in request.cells)
    return 1 if request.device == "cuda" else max(1, len(os.sched_getaffinity(0)) // threads)


def _plan(request: Request) -> list[Planned]:
    """Every cell in the order to measure in, with its keys and why it is measured, or that it is done."""
    code = code_digest()
    plan = []
    for cell in shuffled(request.cells):
        dataset_digest = request.digests[cell.dataset, cell.dataset_size]
        key = cell_key(cell, dataset_digest=dataset_digest, versions=versions(control=cell.control))
        plan.append(
            Planned(
                cell=cell,
                key=key,
                model_key=model_key(cell, dataset_digest=dataset_digest, code_digest=code) if needs_model(cell) else None,
                dataset_digest=dataset_digest,
                reason=_reason(record_path(request.out, key), resume=request.options.resume, code=code),
                rerun=_rerun(request, cell),
            )
        )
    others = _others(request.out, {planned.key for planned in plan})
    return [_superseding(planned, others) for planned in plan]


def _reason(path: Path, *, resume: str, code: str) -> Reason:
    if not path.is_file():
        return "missing"
    try:
        record = load_record(path)
    except StoreError:
        if _is_newer(path):
            raise
        return "unreadable"
    if resume == "always":
        return "asked"
    if record.get("code_digest") != code:
        return "stale"
    return "failed" if resume == "failed" and record["status"] != "ok" else "done"


def _is_newer(path: Path) -> bool:
    """Whether a record that does not load is a later program's: that one is not ours to replace."""
    try:
        record = json.loads(path.read_bytes())
    except ValueError:
        return False
    version = record.get("schema_version") if isinstance(record, dict) else None
    return isinstance(version, int) and version > SCHEMA_VERSION


def _others(out: Path, keys: set[str]) -> list[Record]:
    """Records of cells outside this call: they stay as they are, and have to be whole, as the table and the report need them."""
    return [load_record(path) for path in record_files(out) if path.stem not in keys]


def _superseding(planned: Planned, others: Sequence[Record]) -> Planned:
    """The plan with the records of the same settings under another key: the data or a measure's version were others."""
    old = tuple(record["cell_key"] for record in others if _settings_of(record) == planned.cell)
    if not old:
        return planned
    return replace(planned, supersedes=old, reason="superseded" if planned.reason == "missing" else planned.reason)


def _settings_of(record: Record) -> Cell | None:
    try:
        return Cell.from_dict(record["cell"])
    except (ValueError, TypeError):  # of settings that are no more
        return None


def _told(plan: Sequence[Planned]) -> list[str]:
    """A line for each reason there is, with its number of cells."""
    lines = []
    for reason, text in REASONS_TOLD.items():
        count = sum(planned.reason == reason for planned in plan)
        if count:
            lines.append(f"{count} of {len(plan)} cells {text}")
    return lines


def _told_of_others(request: Request, plan: Sequence[Planned]) -> list[str]:
    """A line on records of settings that the grid does not hold, or not any more: they stay, and are shown beside the grid's."""
    known = {replace(cell, seed=0) for cell in request.grid.cells}
    keys = {key for planned in plan for key in (planned.key, *planned.supersedes)}
    found = [_settings_of(record) for record in _others(request.out, keys)]
    strange = sum(cell is None or replace(cell, seed=0) not in known for cell in found)
    return [f"records here of settings that the grid does not hold: {strange}; they stay"] if strange else []


def _rerun(request: Request, cell: Cell) -> str:
    """The command that measures this cell, and no other, again."""
    options = request.options
    words = ["python", "-m", PROGRAM, "--grid", options.grid, "--dataset", cell.dataset, "--device", request.device]
    for option, value in (("--data-dir", options.data_dir), ("--cache-dir", options.cache_dir), ("--out", options.out)):
        words += [option, str(value)] if value else []
    words += ["--seeds", str(cell.seed)] if options.seeds else []
    expression = selecting(cell, request.grid.cells)
    words += ["--select", expression] if expression else []
    return shlex.join([*words, "--resume", "always"])


def _report(out: Path) -> None:
    """Renders the report, unless the one that is there shows these very records."""
    path = report_path(out)
    if not _shows(path, records_digest(out)):
        from benchmarks.report.page import render_report  # noqa: PLC0415 - plotting takes seconds to import

        render_report(out, path)
    sys.stdout.write(f"report: {path}\n")
    sys.stdout.flush()


def _shows(path: Path, digest: str) -> bool:
    try:
        return f'<meta name="records-digest" content="{digest}">' in path.read_text(errors="replace")
    except OSError:
        return False


def _verdict(records: Sequence[Record], options: argparse.Namespace) -> int:
    """The exit code, and a line on what is not there."""
    lost = [record for record in records if record["status"] not in FINDINGS]
    if not records:
        sys.stderr.write(f"{PROGRAM}: nothing was measured\n")
    if lost and not options.quiet:
        sys.stderr.write(f"{PROGRAM}: {len(lost)} of {len(records)} cells have no measurement; --resume failed tries them again:\n")
        for record in lost:
            error = record["error"] or {}
            name = label(Cell.from_dict(record["cell"]))
            sys.stderr.write(f"  {record['status']}: {name}: in {error.get('phase')}: {one_line(str(error.get('message')))[:200]}\n")
    return INCOMPLETE if lost or not records else DONE


def _list(request: Request) -> int:
    """Prints the cells, what is done of them, and how long the rest may take."""
    plan = _plan(request)
    to_measure = [planned for planned in plan if planned.reason != "done"]
    keys = {planned.model_key for planned in to_measure if planned.model_key}
    models = [key for key in keys if not (model_dir(request.out, key) / "model.json").is_file()]
    estimate, source = _estimate(request, [planned for planned in plan if planned.reason == "done"])
    seconds = len(models) * estimate.seconds_per_model / _workers(request) + len(to_measure) * estimate.seconds_per_cell
    lines = [f"{planned.reason:10} {label(planned.cell)}" for planned in plan]
    summary = f"{len(plan)} cells, {len(to_measure)} to measure, {len(models)} models to train"
    lines.append(f"{summary}; about {duration(seconds)} {source}")
    sys.stdout.write("\n".join(lines) + "\n")
    return DONE


def _estimate(request: Request, done: Sequence[Planned]) -> tuple[Durations, str]:
    """Seconds of a model and of a cell: as the cells that are done took, else as the grid guesses."""
    records = [load_record(record_path(request.out, planned.key)) for planned in done]
    cells = [
        sum(value for name, value in seconds.items() if name != "training" and value)
        for record in records
        if (seconds := record.get("seconds"))
    ]
    models = {model["key"]: model["train_seconds"] for record in records if (model := record.get("model")) and model.get("train_seconds")}
    guess = request.grid.estimate
    if not cells:
        return guess, "by the grid's own estimate"
    per_model = sum(models.values()) / len(models) if models else guess.seconds_per_model
    return Durations(seconds_per_model=per_model, seconds_per_cell=sum(cells) / len(cells)), "as the cells that are done took"


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        seeds = (-1,)
    if min(seeds) < 0:
        raise argparse.ArgumentTypeError(f"{text!r}; expected whole numbers from 0, as 1,2,3")
    return seeds


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number from 1")
    return int(text)


@contextlib.contextmanager
def _ending_on_signals() -> Iterator[None]:
    """An interrupt or a termination becomes an exception, once: the cleaning up that follows is not interrupted."""

    def end(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the signature of a handler
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]  # started by nohup: to outlive its terminal is what was asked for
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

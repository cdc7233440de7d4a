"""How long the preparation of a large log takes, and how much memory: ``python -m benchmarks.scale --rows 100000000``.

Rows are generated, the same each time; then each engine prepares them in a process of its own, which is timed and at its end tells the
most memory that it held. What an engine cannot do is an entry with the reason. With ``--csv`` the rows are one file, and what is timed are
the commands that lead from it to a report of the floors.
"""

import argparse
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.environment import environment, provenance
from benchmarks.store import check_file
from benchmarks.text import nbytes
from persrec.commandline import DONE, Parser, duration, guarded, one_line, whole
from persrec.data.base import MEMORY, Bounds
from persrec.files import write_atomically

PROGRAM = "benchmarks.scale"
MOST_ROWS = 10**12
THREADS = 2
ENGINES = ("duckdb", "polars", "pyarrow")
SCHEMA_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """One engine's preparation; seconds and peak bytes of its process, or None and why not."""

    engine: str
    version: str
    rows: int
    seconds: float | None
    peak_bytes: int | None
    out_bytes: int | None
    reason: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(PROGRAM, lambda: _run(_parser().parse_args(arguments), arguments))


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="Measures time and peak memory of preparing a large generated log.")
    parser.add_argument("--rows", type=whole(1, MOST_ROWS), default=100_000_000, metavar="N", help="events (default: 100,000,000)")
    parser.add_argument("--csv", action="store_true", help="time the commands that lead from a CSV to a report of the floors")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="one or more (default: duckdb, the project's own)")
    parser.add_argument("--memory", metavar="SIZE", help=f"of buffers, where an engine takes a bound (default: {MEMORY})")
    parser.add_argument("--threads", type=whole(1), metavar="N", help=f"of the engine (default: {THREADS})")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where rows and results lie meanwhile (default: the system's)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the record DIR/scale/NAME.json")
    parser.add_argument("--name", help="of the record (default: prepare, or csv)")
    return parser


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    if options.name is not None and not _NAME.fullmatch(options.name):
        raise ValueError(f"--name: {options.name!r}; expected letters, digits, '-', '_' and '.', the first a letter or a digit")
    if options.out is not None:
        check_file("--out", options.out / "scale" / f"{options.name or 'prepare'}.json")
    if options.csv:
        beside = [f"--{name}" for name in ("engine", "memory", "threads") if getattr(options, name) is not None]
        if beside:
            raise ValueError(f"--csv: times our own commands as they are, so there is no {beside[0]} beside it")
        return _from_csv(options, arguments)
    bounds = Bounds(memory=MEMORY if options.memory is None else options.memory, threads=options.threads or THREADS)
    from benchmarks.scale.rows import write_rows  # noqa: PLC0415 - a refused call needs none

    with tempfile.TemporaryDirectory(dir=options.work, prefix="persrec-scale-") as folder:
        rows = Path(folder) / "rows"
        write_rows(rows, options.rows)
        print(f"{options.rows:,} rows, {nbytes(_size(rows))} of Parquet")
        entries = [_measure(engine, rows, Path(folder) / engine, options.rows, bounds) for engine in options.engine or ENGINES[:1]]
    for entry in entries:
        print(_line(entry))
    facts = {"memory": bounds.memory, "threads": bounds.threads, "entries": [dataclasses.asdict(entry) for entry in entries]}
    _write(options, options.name or "prepare", facts, arguments)
    return DONE


def _from_csv(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    from benchmarks.scale.rows import write_csv  # noqa: PLC0415 - as above
    from benchmarks.scale.steps import walk  # noqa: PLC0415 - as above

    with tempfile.TemporaryDirectory(dir=options.work, prefix="persrec-scale-") as folder:
        path = Path(folder) / "events.csv"
        write_csv(path, options.rows)
        size = path.stat().st_size
        print(f"{options.rows:,} rows, {nbytes(size)} of CSV")
        steps = walk(Path(folder))
    for step in steps:
        print(f"{step.seconds:.1f} s: {step.command}")
    facts = {"bytes": size, "seconds": round(sum(step.seconds for step in steps), 1), "steps": [dataclasses.asdict(step) for step in steps]}
    _write(options, options.name or "csv", facts, arguments)
    return DONE


def _write(options: argparse.Namespace, name: str, facts: dict[str, Any], arguments: Sequence[str]) -> None:
    if options.out is not None:
        path = options.out / "scale" / f"{name}.json"
        write_atomically(path, _record(options, facts, arguments))
        print(path)


def _measure(engine: str, rows: Path, out: Path, count: int, bounds: Bounds) -> Taken:
    try:
        version = metadata.version(engine)
    except metadata.PackageNotFoundError:
        return Taken(engine=engine, version="", rows=count, seconds=None, peak_bytes=None, out_bytes=None, reason="is not installed")
    words = [sys.executable, "-m", "benchmarks.scale.engines", engine, str(rows), str(out), bounds.memory, str(bounds.threads)]
    started = time.monotonic()
    environ = {**os.environ, "POLARS_MAX_THREADS": str(bounds.threads), "OMP_NUM_THREADS": str(bounds.threads)}
    process = subprocess.run(words, capture_output=True, text=True, errors="replace", env=environ, check=False)
    seconds = time.monotonic() - started
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        reason = f"ended with {process.returncode}: {one_line(lines[-1]) if lines else ''}"
        return Taken(engine=engine, version=version, rows=count, seconds=None, peak_bytes=None, out_bytes=None, reason=reason)
    told, size = process.stdout.strip().splitlines()[-1:], _size(out)
    peak = int(told[0]) if told else None
    shutil.rmtree(out)
    return Taken(engine=engine, version=version, rows=count, seconds=round(seconds, 2), peak_bytes=peak, out_bytes=size)


def _line(entry: Taken) -> str:
    peak = "" if entry.peak_bytes is None else f", peak memory {nbytes(entry.peak_bytes)}"
    if entry.seconds is None or entry.out_bytes is None:
        return f"{entry.engine} {entry.version}: {entry.reason}{peak}"
    return f"{entry.engine} {entry.version}: {duration(entry.seconds)}{peak}, {nbytes(entry.out_bytes)} written"


def _record(options: argparse.Namespace, facts: dict[str, Any], arguments: Sequence[str]) -> bytes:
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "rows": options.rows,
        **facts,
        "environment": environment(device="cpu", threads=options.threads or THREADS, affinity=()),
        "provenance": provenance(argv=["python", "-m", PROGRAM, *arguments]),
    }
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

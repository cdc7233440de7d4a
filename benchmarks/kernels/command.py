"""Attention that costs what it sees: ``python -m benchmarks.kernels`` times it against the naive dense form and itself.

Every row is a ratio of two medians, taken in one process of its own with the two sides in turn, and where the row compares the
kernels themselves, of two peaks of memory. Absolute times stand beside them and do not travel between machines.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.environment import chosen_device, environment, provenance
from benchmarks.isolation import Job, preload, run_isolated
from benchmarks.kernels.record import SCHEMA_VERSION
from benchmarks.store import kernels_paths
from persrec.commandline import DONE, INCOMPLETE, Parser, refuse
from persrec.files import write_atomically

if TYPE_CHECKING:
    from benchmarks.kernels.rows import Settings

PROGRAM = "benchmarks.kernels"
PROBE = "benchmarks.kernels.rows"


class RowError(Exception):
    """A row was not measured."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(prog=PROGRAM, description="Times the attention kernels against their naive form, as ratios, and writes a record.")
    parser.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="where kernels/DEVICE.json goes (default: results)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads to compute with (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="measurements of each side (default: 5)")
    parser.add_argument("--layers", type=int, default=16, metavar="N", help="layers of the HSTU (default: 16, the paper's)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows whose name holds this; writes nothing")
    options = parser.parse_args(arguments)
    for name in ("threads", "rounds", "layers"):
        if getattr(options, name) < 1:
            return refuse(PROGRAM, f"--{name}: {getattr(options, name)}; expected at least 1")
    try:
        chosen_device(options.device)
        from benchmarks.kernels import rows as probe  # noqa: PLC0415 - torch takes seconds, and a refused call needs none

        settings = probe.Settings(device=options.device, threads=options.threads, rounds=options.rounds, layers=options.layers)
        known = probe.names(options.device)
        names = [name for name in known if options.only in name]
        if not names:
            return refuse(PROGRAM, f"--only: no row's name holds {options.only!r}; known: {', '.join(known)}")
        rows = []
        for row in _measured(settings, names):
            rows.append(row)
            print(_told(row), flush=True)
        if options.only:
            return DONE
        record = {
            "schema_version": SCHEMA_VERSION,
            "settings": settings.to_dict(),
            "machine": probe.machine(settings),
            "rows": rows,
            "environment": environment(device=options.device, threads=options.threads, affinity=sorted(os.sched_getaffinity(0))),
            "provenance": provenance(argv=["python", "-m", PROGRAM, *arguments]),
        }
        path = kernels_paths(options.out / "any")[options.device]
        write_atomically(path, json.dumps(record, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n")
        print(path)
    except ValueError as error:
        return refuse(PROGRAM, error)
    except RowError as error:
        refuse(PROGRAM, error)
        return INCOMPLETE
    return DONE


def _measured(settings: "Settings", names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows as they are measured, each in a fresh process: what one has allocated makes the next one's memory cheap, or dear.

    Raises:
        RowError: a row was not measured; the end of its log is printed.
    """
    preload([PROBE], threads=settings.threads)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            payload = {"settings": settings, "name": name}
            job = Job(function=f"{PROBE}:measure_row", payload=payload, log_path=Path(folder) / "log", threads=settings.threads)
            outcome = run_isolated(job)
            if outcome.status != "ok":
                print(outcome.log_tail or "", file=sys.stderr)
                raise RowError(f"{name}: {outcome.status}: {outcome.type}: {outcome.message}")
            yield outcome.value


def _told(row: dict[str, object]) -> str:
    bound = row["bound"]
    wanted = "" if bound is None else f", asked {'at least' if row['higher_is_better'] else 'at most'} {bound:.3g}"
    return f"{row['name']}: {row['ratio']:.3g}{wanted}"

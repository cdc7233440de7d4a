"""Renders the page of a run: ``python -m benchmarks.report results/NAME``."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks import store
from benchmarks.records import load_records
from benchmarks.report.page import NothingMeasuredError, render_report
from persrec.commandline import DONE, INCOMPLETE, Parser, refuse

_PROGRAM = "python -m benchmarks.report"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    parser = Parser(prog=_PROGRAM, description="Renders the records of a run as one HTML page, with tables and pictures beside it.")
    parser.add_argument("results", type=Path, help="the run's folder, results/NAME")
    parser.add_argument(
        "--out",
        type=Path,
        help="the page to write (default: reports/NAME.html for a run under results/, else report.html in the run's folder)",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="EXPR",
        help="print two configurations' paired difference, each found as by 'backbone=hstu,tokens=4'; render nothing",
    )
    options = parser.parse_args(arguments)
    if options.compare is not None:
        return _compare(options.results, *options.compare)
    out = options.out or store.report_path(options.results)
    try:
        page = render_report(options.results, out)
    except NothingMeasuredError as error:
        refuse(_PROGRAM, error)
        return INCOMPLETE
    except (ValueError, OSError) as error:
        return refuse(_PROGRAM, error)
    print(page)
    return DONE if any(record["status"] == "ok" for record in load_records(options.results)) else INCOMPLETE


def _compare(results_dir: Path, first: str, second: str) -> int:
    from benchmarks.report.tables import markdown  # noqa: PLC0415 - with the report's own parts
    from benchmarks.report.tables.versus import versus_table  # noqa: PLC0415

    try:
        print(markdown(versus_table(load_records(results_dir), first, second, name=str(results_dir))), end="")
    except ValueError as error:
        return refuse(_PROGRAM, error)
    return DONE

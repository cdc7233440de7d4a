"""Renders the page of a run: ``python -m benchmarks.report results/NAME``."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks import store
from benchmarks.records import FINDINGS, load_records
from benchmarks.report.page import NothingMeasuredError, render_report
from persrec.commandline import DONE, INCOMPLETE, Parser, guarded, refuse
from persrec.files import write_atomically

_PROGRAM = "python -m benchmarks.report"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return guarded(_PROGRAM, lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(prog=_PROGRAM, description="Renders the records of a run as one HTML page, with a summary and a picture beside it.")
    parser.add_argument("results", type=Path, help="the run's folder, results/NAME")
    parser.add_argument("other", type=Path, nargs="?", help="another run: print what moved from the first to it, and why; render nothing")
    parser.add_argument(
        "--out",
        type=Path,
        help="the page to write (default: reports/NAME.html for a run under results/, else report.html in the run's folder); "
        "of two runs the Markdown",
    )
    parser.add_argument("--tables", action="store_true", help="also write every measurement as tables.csv beside the page")
    parser.add_argument("--pictures", action="store_true", help="also write the answer and every frontier as PNG beside the page")
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="EXPR",
        help="print the paired difference of two configurations, each chosen as by 'backbone=hstu,tokens=4'; render nothing",
    )
    options = parser.parse_args(arguments)
    if not options.results.is_dir():
        raise ValueError(f"{options.results}: no such folder of results")
    if options.other is not None:
        if options.compare is not None:
            raise ValueError("--compare: compares two configurations of one run; expected one folder with it")
        if options.out is not None:
            store.check_file("--out", options.out)
        return _between(options.results, options.other, options.out)
    if options.compare is not None:
        _compare(options.results, *options.compare)
        return DONE
    try:
        out = options.out or store.report_path(options.results)
        page = render_report(options.results, out, tables=options.tables, pictures=options.pictures)
    except NothingMeasuredError as error:
        refuse(_PROGRAM, error)
        return INCOMPLETE
    print(page)
    return DONE if any(record.status in FINDINGS for record in load_records(options.results)) else INCOMPLETE


def _compare(results_dir: Path, first: str, second: str) -> None:
    from benchmarks.report.tables.versus import versus_table  # noqa: PLC0415 - with the report's own parts
    from benchmarks.report.tabular import markdown  # noqa: PLC0415

    print(markdown(versus_table(load_records(results_dir), first, second, name=str(results_dir))), end="")


def _between(first: Path, second: Path, out: Path | None) -> int:
    from benchmarks.report.tables.between import between_markdown  # noqa: PLC0415 - with the report's own parts

    runs = load_records(first), load_records(second)
    for path, records in zip((first, second), runs, strict=True):
        if not records:
            refuse(_PROGRAM, f"{path / 'cells'}: no record, so there is nothing to compare")
            return INCOMPLETE
    markdown = between_markdown(*runs, names=(str(first), str(second)))
    if out is not None:
        write_atomically(out, markdown.encode())
    print(markdown, end="")
    return DONE

"""All runs of a folder as a static site: ``python -m benchmarks.site results/ --out DIR``. It opens from disk and makes no request."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.records import load_records, record_files
from benchmarks.report.page import beside_a_page, is_page
from persrec.commandline import DONE, INCOMPLETE, Parser, guarded, refuse
from persrec.files import atomic_folder, is_leftover

_PROGRAM = "python -m benchmarks.site"
_INDEX, PAGES = "index.html", "runs"  # the first page, and the folder of the reports
_MARK = '<meta name="generator" content="benchmarks.site">'  # tells a site of ours from a folder of somebody else's
_TEMPLATES = Path(__file__).parent / "templates"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return guarded(_PROGRAM, lambda: _main(_parser().parse_args(arguments)))


def _parser() -> Parser:
    parser = Parser(prog=_PROGRAM, description="Renders all runs of a folder as a static site: an index, a summary, a report each.")
    parser.add_argument("results", type=Path, metavar="results/", help="the folder of runs' folders")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the site's folder; an earlier site there is replaced")
    return parser


def _main(options: argparse.Namespace) -> int:
    if not options.results.is_dir():
        raise ValueError(f"{options.results}: no such folder of results")
    _check_out(options.out)
    runs = [path for path in sorted(options.results.iterdir()) if path.is_dir() and not is_leftover(path) and record_files(path)]
    if not runs:
        refuse(_PROGRAM, f"{options.results}: no run in it, so there is nothing to show")
        return INCOMPLETE
    from benchmarks.report.page import render_report  # noqa: PLC0415 - matplotlib is loaded only where a page is drawn

    with atomic_folder(options.out) as part:
        (part / PAGES).mkdir()
        for path in runs:
            render_report(path, part / PAGES / f"{path.name}.html")
        (part / _INDEX).write_text(index(runs), encoding="utf-8")
    print(options.out / _INDEX)
    return DONE


def index(runs: Sequence[Path]) -> str:
    """The site's first page; every text of a record is escaped, and nothing is loaded or run."""
    import jinja2  # noqa: PLC0415 - loaded only where a page is written

    from benchmarks.site.summary import METRIC_NAME, run_line, worth_lines  # noqa: PLC0415 - as above

    records = {path.name: load_records(path) for path in runs}
    worths = [line for name, of_run in records.items() for line in worth_lines(name, of_run)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(_INDEX).render(
        metric=METRIC_NAME,
        runs=[run_line(name, of_run) for name, of_run in records.items()],
        worths=sorted(worths, key=lambda line: (line.data, line.backbone, line.name)),
    )


def _check_out(out: Path) -> None:
    """Refuses to replace what is no site of ours, or a site with other files in it.

    Raises:
        ValueError: it would replace something else.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ValueError(f"--out: {out}: is no folder; expected a new one, an empty one or an earlier site")
    if out.is_dir() and any(out.iterdir()):
        first = out / _INDEX
        if not first.is_file() or _MARK not in first.read_text(encoding="utf-8", errors="replace")[:2000]:
            raise ValueError(f"--out: {out}: holds other things than a site; expected a new folder, an empty one or an earlier site")
        strange = next(_strange(out), None)
        if strange is not None:
            raise ValueError(f"--out: {strange}: is not of the site, and would be lost with the one that is replaced; put it elsewhere")


def _strange(site: Path) -> Iterator[Path]:
    """The paths that are no part of a site: not its first page, a run's page, or a file of that page in the folder beside it."""
    yield from (path for path in sorted(site.iterdir()) if path.name not in (_INDEX, PAGES))
    for path in sorted((site / PAGES).glob("*")):
        if path.is_dir() and path.with_name(f"{path.name}.html").is_file():
            ours = beside_a_page(path)
            yield from (inner for inner in sorted(path.iterdir()) if inner.name not in ours)
        elif path.suffix != ".html" or not is_page(path):
            yield path

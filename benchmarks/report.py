"""``python -m benchmarks.report results/NAME``: one page that opens offline, and its tables and pictures beside it."""

import base64
import csv
import hashlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import store
from benchmarks.commandline import DONE, INCOMPLETE, Parser, refuse
from benchmarks.kernel_record import load_kernels
from benchmarks.proof import load_proof

if TYPE_CHECKING:
    from benchmarks.sections import Content

TEMPLATES = Path(__file__).parent / "templates"
_PROGRAM = "python -m benchmarks.report"


class NothingMeasuredError(store.StoreError):
    """The folder holds no record, so there is nothing to report."""


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
    return DONE if any(record["status"] == "ok" for record in store.load_records(options.results)) else INCOMPLETE


def _compare(results_dir: Path, first: str, second: str) -> int:
    from benchmarks.tables import markdown  # noqa: PLC0415 - with the report's own parts
    from benchmarks.versus import versus_table  # noqa: PLC0415

    try:
        print(markdown(versus_table(store.load_records(results_dir), first, second, name=str(results_dir))), end="")
    except ValueError as error:
        return refuse(_PROGRAM, error)
    return DONE


def render_report(results_dir: Path, out: Path) -> Path:
    """Writes the page of a run to ``out``; CSV, Markdown and PNG go to the folder of the same name beside it.

    The same records give the same bytes. The page's ``records-digest`` says which records it shows.

    Raises:
        StoreError: the folder is not there, or a record in it does not hold up.
        NothingMeasuredError: the folder holds no record.
        ValueError: ``out`` is a folder, or has no suffix to tell it from the folder beside it.
    """
    if out.is_dir() or not out.suffix:
        raise ValueError(
            f"--out: {out} is {'a folder' if out.is_dir() else 'without a suffix'}; expected the path of a page such as reports/NAME.html"
        )
    records = store.load_records(results_dir)
    if not records:
        raise NothingMeasuredError(f"{results_dir / 'cells'}: no record, so there is nothing to report")
    proof = load_proof(store.proof_path(results_dir))
    kernels = [found for path in store.kernels_paths(results_dir).values() if (found := load_kernels(path)) is not None]
    from benchmarks.sections import content_of  # noqa: PLC0415 - matplotlib is loaded only where a page is drawn

    content = content_of(records, name=results_dir.resolve().name, proof=proof, kernels=kernels)
    page = render_page(content, digest=store.records_digest(results_dir))
    beside = out.with_suffix("")
    for old in beside.glob("frontier-*.png"):
        old.unlink()
    for drawing in content.frontiers:
        store.write_atomically(beside / f"{drawing.key}.png", drawing.image.png)
    store.write_atomically(beside / "tables.csv", _csv(content).encode())
    store.write_atomically(beside / "summary.md", _markdown(content).encode())
    store.write_atomically(out, page.encode())
    return out


def render_page(content: "Content", *, digest: str) -> str:
    """The page; every text of a record is escaped, and its policy lets nothing be loaded and no other script run."""
    import jinja2  # noqa: PLC0415 - loaded only where a page is written
    import markupsafe  # noqa: PLC0415

    from benchmarks.canvas import themes  # noqa: PLC0415
    from benchmarks.families import FAMILIES, GLYPHS  # noqa: PLC0415

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = (TEMPLATES / "report.js").read_text()
    light, dark = themes()
    glyphs = {family.key: GLYPHS[family.marker] for family in FAMILIES.values()}
    return environment.get_template("report.html").render(
        content=content,
        digest=digest,
        light=light,
        dark=dark,
        glyphs=glyphs,
        script=markupsafe.Markup(script),  # noqa: S704 - our own file; its hash in the page's policy is of this very text
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _csv(content: "Content") -> str:
    buffer = io.StringIO()
    columns = list(dict.fromkeys(name for row in content.measurements for name in row))
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(content.measurements)
    return buffer.getvalue()


def _markdown(content: "Content") -> str:
    from benchmarks.tables import literal, markdown  # noqa: PLC0415 - only where a page is written

    found = content.verdict
    lines = [f"# {literal(content.name)}", "", f"**{found.word}**: {literal(found.summary)}", ""]
    lines += [f"- {name}: {literal(value)}" for name, value in found.facts]
    lines += ["", *(f"- {literal(text)}" for text in (*found.warnings, *found.findings)), ""]
    lines += [markdown(table) for table in content.ranked]
    for section in content.sections:
        if section.key in ("comparisons", "ablations", "staleness", "precision", "feasibility", "limits"):
            lines += [f"## {section.title}", ""]
            for group in section.groups:
                lines += [*(f"- {literal(text)}" for text in (*group.texts, *group.points)), ""]
                lines += [markdown(table) for table in group.tables]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())

"""One page that opens offline, and its tables and pictures beside it."""

import base64
import csv
import hashlib
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import store
from benchmarks.kernels.record import load_kernels
from benchmarks.noise.record import load_proof
from benchmarks.records import load_records
from benchmarks.text import literal
from persrec.files import write_atomically

if TYPE_CHECKING:
    from benchmarks.report.content import Report

TEMPLATES = Path(__file__).parent / "templates"
_PICTURES = re.compile(r"pictures of this page: ([a-z0-9., -]*)\n")  # the last line of summary.md
_PICTURE = re.compile(r"frontier-[a-z0-9-]+\.png")


class NothingMeasuredError(ValueError):
    """The folder holds no record, so there is nothing to report."""


def render_report(results_dir: Path, out: Path) -> Path:
    """Writes the page of a run to ``out``; CSV, Markdown and PNG go to the folder of the same name beside it.

    The same records give the same bytes. The page's ``records-digest`` says which records it shows.

    Raises:
        RecordError: the folder is not there, or a record in it does not hold up.
        NothingMeasuredError: the folder holds no record.
        ValueError: ``out`` is a folder, or has no suffix to tell it from the folder beside it.
        WriteError: the page or what lies beside it cannot be written.
    """
    _check_place(out)
    records = load_records(results_dir)
    if not records:
        raise NothingMeasuredError(f"{results_dir / 'cells'}: no record, so there is nothing to report")
    proof = load_proof(store.proof_path(results_dir))
    kernels = [timings for path in store.kernels_paths(results_dir).values() if (timings := load_kernels(path)) is not None]
    from benchmarks.report.content import report_of  # noqa: PLC0415 - matplotlib is loaded only where a page is drawn

    report = report_of(records, name=results_dir.resolve().name, proof=proof, kernels=kernels)
    page = render_page(report, digest=store.records_digest(results_dir))
    beside = out.with_suffix("")
    pictures = {f"{drawing.key}.png": drawing.image.png for drawing in report.frontiers}
    earlier = _earlier_pictures(beside / "summary.md")
    for name, picture in pictures.items():
        write_atomically(beside / name, picture)
    write_atomically(beside / "tables.csv", _csv(report).encode())
    write_atomically(beside / "summary.md", _markdown(report, pictures).encode())
    write_atomically(out, page.encode())
    for name in earlier.difference(pictures):
        (beside / name).unlink(missing_ok=True)
    return out


def _check_place(out: Path) -> None:
    """Refuses a place for the page before anything is read or written."""
    try:
        problem = "is a folder" if out.is_dir() else "has no suffix" if not out.suffix else ""
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise ValueError(f"--out: {out}: {problem}; expected the path of a page such as reports/NAME.html")


def _earlier_pictures(summary: Path) -> set[str]:
    """The pictures that an earlier page left beside it, as its own summary lists them: whatever else lies there is the user's."""
    try:
        last = summary.read_text(encoding="utf-8").rpartition("\n\n")[2]
    except (OSError, UnicodeDecodeError):
        return set()
    listed = _PICTURES.fullmatch(last)
    return {name for name in listed.group(1).split(", ") if _PICTURE.fullmatch(name)} if listed else set()


def render_page(report: "Report", *, digest: str) -> str:
    """The page; every text of a record is escaped, and its policy lets nothing be loaded and no other script run."""
    import jinja2  # noqa: PLC0415 - loaded only where a page is written
    import markupsafe  # noqa: PLC0415

    from benchmarks.report.figures.canvas import themes  # noqa: PLC0415

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = (TEMPLATES / "report.js").read_text()
    light, dark = themes(report.families)
    return environment.get_template("report.html").render(
        content=report,
        digest=digest,
        light=light,
        dark=dark,
        glyphs={kind.key: kind.glyph for kind in report.families},
        script=markupsafe.Markup(script),  # noqa: S704 - our own file; its hash in the page's policy is of this very text
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _csv(report: "Report") -> str:
    buffer = io.StringIO()
    columns = list(dict.fromkeys(name for row in report.measurements for name in row))
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(report.measurements)
    return buffer.getvalue()


def _markdown(report: "Report", pictures: Iterable[str]) -> str:
    from benchmarks.report.tabular import markdown  # noqa: PLC0415 - only where a page is written

    banner = report.banner
    lines = [f"# {literal(report.name)}", "", *(line for sentence in banner.first for line in (literal(sentence), ""))]
    lines += [f"**{banner.word}**: {literal(banner.summary)}", ""]
    lines += [f"- {name}: {literal(value)}" for name, value in banner.facts]
    lines += ["", *(f"- {literal(text)}" for text in (*banner.warnings, *banner.findings)), ""]
    lines += [markdown(table) for table in report.ranked]
    for section in report.sections:
        if section.key in ("comparisons", "ablations", "staleness", "precision", "feasibility", "limits"):
            lines += [f"## {section.title}", ""]
            for group in section.groups:
                lines += [*(f"- {literal(text)}" for text in (*group.texts, *group.points)), ""]
                lines += [markdown(table) for table in group.tables]
    return "\n".join(lines).rstrip() + f"\n\npictures of this page: {', '.join(sorted(pictures))}\n"

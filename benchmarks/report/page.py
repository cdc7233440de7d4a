"""One page that opens offline, and its tables and pictures beside it."""

import base64
import csv
import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import store
from benchmarks.kernels.record import load_kernels
from benchmarks.noise.record import load_proof
from benchmarks.records import load_records
from benchmarks.text import literal
from persrec.files import write_atomically

if TYPE_CHECKING:
    from benchmarks.report.content import Content

TEMPLATES = Path(__file__).parent / "templates"


class NothingMeasuredError(ValueError):
    """The folder holds no record, so there is nothing to report."""


def render_report(results_dir: Path, out: Path) -> Path:
    """Writes the page of a run to ``out``; CSV, Markdown and PNG go to the folder of the same name beside it.

    The same records give the same bytes. The page's ``records-digest`` says which records it shows.

    Raises:
        RecordError: the folder is not there, or a record in it does not hold up.
        NothingMeasuredError: the folder holds no record.
        ValueError: ``out`` is a folder, or has no suffix to tell it from the folder beside it.
    """
    if out.is_dir() or not out.suffix:
        raise ValueError(
            f"--out: {out} is {'a folder' if out.is_dir() else 'without a suffix'}; expected the path of a page such as reports/NAME.html"
        )
    records = load_records(results_dir)
    if not records:
        raise NothingMeasuredError(f"{results_dir / 'cells'}: no record, so there is nothing to report")
    proof = load_proof(store.proof_path(results_dir))
    kernels = [found for path in store.kernels_paths(results_dir).values() if (found := load_kernels(path)) is not None]
    from benchmarks.report.content import content_of  # noqa: PLC0415 - matplotlib is loaded only where a page is drawn

    content = content_of(records, name=results_dir.resolve().name, proof=proof, kernels=kernels)
    page = render_page(content, digest=store.records_digest(results_dir))
    beside = out.with_suffix("")
    for old in beside.glob("frontier-*.png"):
        old.unlink()
    for drawing in content.frontiers:
        write_atomically(beside / f"{drawing.key}.png", drawing.image.png)
    write_atomically(beside / "tables.csv", _csv(content).encode())
    write_atomically(beside / "summary.md", _markdown(content).encode())
    write_atomically(out, page.encode())
    return out


def render_page(content: "Content", *, digest: str) -> str:
    """The page; every text of a record is escaped, and its policy lets nothing be loaded and no other script run."""
    import jinja2  # noqa: PLC0415 - loaded only where a page is written
    import markupsafe  # noqa: PLC0415

    from benchmarks.report.figures.canvas import themes  # noqa: PLC0415
    from benchmarks.report.names import FAMILIES, GLYPHS  # noqa: PLC0415

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
    from benchmarks.report.tables import markdown  # noqa: PLC0415 - only where a page is written

    found = content.banner
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

"""One page that opens offline, a summary and a picture beside it, and on demand every measurement and every picture."""

import base64
import csv
import hashlib
import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import store
from benchmarks.kernels.record import load_kernels
from benchmarks.noise.record import load_proof
from benchmarks.records import load_records
from persrec.files import write_atomically

if TYPE_CHECKING:
    from benchmarks.report.content import Report

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("page.js", "tables.js", "details.js", "explorer.js", "budget.js", "start.js")  # one script, in this order
MARK = '<meta name="records-digest" content="'
_BESIDE = re.compile(r"(?:beside this page|pictures of this page): ([a-z0-9., -]*)\n")  # the last line of summary.md
_SUMMARY = "summary.md"
_OURS = re.compile(r"(?:frontier|answer)-[a-z0-9-]+\.png|tables\.csv")


class NothingMeasuredError(ValueError):
    """The folder holds no record, so there is nothing to report."""


def render_report(results_dir: Path, out: Path, *, tables: bool = False, pictures: bool = False) -> Path:
    """Writes the page of a run to ``out``, and a summary and a picture of the frontier to the folder of the same name beside it.

    The same records give the same bytes. The page's ``records-digest`` says which records it shows.

    Args:
        results_dir: the run's folder.
        out: the page.
        tables: whether to write every measurement beside it as ``tables.csv``.
        pictures: whether to write the answer and every frontier as PNG, and not only the first frontier.

    Raises:
        RecordError: the folder is not there, or a record in it does not hold up.
        NothingMeasuredError: the folder holds no record.
        ValueError: ``out`` is a folder, has no suffix to tell it from the folder beside it, or it or a file beside it is no report's.
        WriteError: the page or a file beside it cannot be written.
    """
    check_place(out)
    digest = store.records_digest(results_dir)  # before the records are read: the next page then shows what is written meanwhile
    records = load_records(results_dir)
    if not records:
        raise NothingMeasuredError(f"{results_dir / 'cells'}: no record, so there is nothing to report")
    proof = load_proof(store.proof_path(results_dir))
    kernels = [timings for path in store.kernels_paths(results_dir).values() if (timings := load_kernels(path)) is not None]
    from benchmarks.report.content import report_of  # noqa: PLC0415 - matplotlib is loaded only where a page is drawn
    from benchmarks.report.summary import summary_of  # noqa: PLC0415

    report = report_of(records, name=results_dir.resolve().name, proof=proof, kernels=kernels, every_picture=pictures)
    page = render_page(report, digest=digest, cells=_way_to_cells(results_dir, out))
    beside = out.with_suffix("")
    files = {f"{drawing.key}.png": drawing.image.png for drawing in report.pictures}
    if tables:
        files["tables.csv"] = _csv(report).encode()
    earlier = _earlier_files(beside / _SUMMARY)
    for strange in (beside / name for name in files if name not in earlier and (beside / name).exists() and not is_page(out)):
        raise ValueError(f"--out: {strange} was not written by a report, which would replace it; choose another place")
    for name, content in files.items():
        write_atomically(beside / name, content)
    write_atomically(beside / _SUMMARY, summary_of(report, beside=list(files)).encode())
    write_atomically(out, page.encode())
    for name in earlier.difference(files):
        (beside / name).unlink(missing_ok=True)
    return out


def is_page(path: Path) -> bool:
    """Whether a file is a page that a report wrote."""
    return path.is_file() and MARK in path.read_text(encoding="utf-8", errors="replace")


def beside_a_page(folder: Path) -> set[str]:
    """The names of the files that a report wrote into the folder beside its page, its summary among them."""
    return {_SUMMARY, *_earlier_files(folder / _SUMMARY)}


def check_place(out: Path) -> None:
    """Refuses an unfit place for the page, before anything is read or written.

    Raises:
        ValueError: the page has no suffix, or it or the summary beside it cannot be written or holds what no report wrote.
    """
    if not out.suffix and not out.is_dir():
        raise ValueError(f"--out: {out}: has no suffix; expected the path of a page such as reports/NAME.html")
    summary = out.with_suffix("") / _SUMMARY
    for path in (out, summary):
        store.check_file("--out", path)
    ours = is_page(out)
    for path, is_ours in ((out, ours), (summary, ours or _files_line(summary) is not None)):
        if path.is_file() and not is_ours:
            raise ValueError(f"--out: {path} was not written by a report, which would replace it; choose another place")


def _way_to_cells(results_dir: Path, out: Path) -> str:
    """The relative link from the page to the records; empty where they do not lie side by side, so that it shows no path of a machine."""
    cells, page = (Path(os.path.normpath(path.absolute())) for path in (results_dir / "cells", out.parent))
    near = cells.is_relative_to(page.parent) and page.parent != Path(page.anchor)
    return Path(os.path.relpath(cells, page)).as_posix() + "/" if near else ""


def _files_line(summary: Path) -> re.Match[str] | None:
    """The last line of a summary that a page wrote, which lists files; None where there is another file, or none."""
    try:
        last = summary.read_text(encoding="utf-8").rpartition("\n\n")[2]
    except (OSError, UnicodeDecodeError):
        return None
    return _BESIDE.fullmatch(last)


def _earlier_files(summary: Path) -> set[str]:
    """The files of an earlier page that lie beside it, as its own summary lists them. Any other file there is the user's."""
    line = _files_line(summary)
    return {name for name in line.group(1).split(", ") if _OURS.fullmatch(name)} if line else set()


def render_page(report: "Report", *, digest: str, cells: str = "") -> str:
    """The page. Every text of a record is escaped. The page's policy lets nothing be loaded and no other script run.

    Args:
        report: what the page shows.
        digest: of the records.
        cells: the relative path from the page to the folder of the records.
    """
    import jinja2  # noqa: PLC0415 - loaded only where a page is written
    import markupsafe  # noqa: PLC0415

    from benchmarks.report.compact import compact, embedded  # noqa: PLC0415
    from benchmarks.report.figures.canvas import themes  # noqa: PLC0415
    from benchmarks.report.packing import Packing  # noqa: PLC0415
    from benchmarks.report.rivals import HOW  # noqa: PLC0415
    from benchmarks.report.texts import RESUME_ALWAYS  # noqa: PLC0415

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    table = compact(report.shown, report.families, cells=cells)
    packing = Packing.of(report.tables(), table["columns"].get("label", ()))
    environment.filters["packed"] = lambda of: embedded(packing.rows(of))
    script = '"use strict";\n{\n' + "".join((TEMPLATES / name).read_text() for name in SCRIPTS) + "}\n"
    light, dark = themes(report.families)
    return environment.get_template("report.html").render(
        content=report,
        digest=digest,
        cells=cells,
        how_rivals=HOW,
        resume=RESUME_ALWAYS,
        light=light,
        dark=dark,
        glyphs={kind.key: kind.glyph for kind in report.families},
        compact=embedded(table | {"words": packing.words}),
        script=markupsafe.Markup(script),  # noqa: S704 - our own files; their hash in the page's policy is of this very text
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _csv(report: "Report") -> str:
    from benchmarks.report.measurements import measurements  # noqa: PLC0415 - only for tables.csv

    rows = [row for group in report.shown for row in measurements(group.peers, group.frontiers, report.names)]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(name for row in rows for name in row)), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()

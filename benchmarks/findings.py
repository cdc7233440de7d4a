"""Findings as a table on the terminal, as untruncated Markdown, as JUnit and as JSON: what the gate and the comparison of timings share."""

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.gate.baseline import Verdict
from benchmarks.text import literal
from persrec.commandline import DONE, INCOMPLETE, NOT_COMPARABLE, REGRESSION, Parser, one_line
from persrec.files import write_atomically

UNMEASURED = (Verdict.MISSING, Verdict.INVALID, Verdict.INCOMPARABLE)
WORDS = {DONE: "PASS", REGRESSION: "REGRESSION", INCOMPLETE: "INCOMPLETE", NOT_COMPARABLE: "NOT COMPARABLE"}
COLOURS = {Verdict.PASS: "green", Verdict.IMPROVED: "cyan", Verdict.NEW: "cyan", Verdict.AMBIGUOUS: "yellow"}
PIPE_WIDTH = 240
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One finding: ``values`` are its numbers as people read them, in the order of the sheet's headings."""

    verdict: Verdict
    cell_key: str
    cell: str
    metric: str | None
    values: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """Everything that the outputs show.

    ``subject`` is what was judged, beside what; ``shows_passes`` lists a plain PASS too; ``content`` is what the JSON holds
    beside verdicts and notes.
    """

    program: str
    subject: str
    headings: tuple[str, ...]
    lines: Sequence[Line]
    notes: Sequence[str]
    exit_code: int
    strict: bool
    content: Mapping[str, Any]
    shows_passes: bool = False

    def counts(self) -> dict[str, int]:
        """How many findings there are of each verdict, the worst first."""
        return counted(line.verdict for line in self.lines)

    def headline(self) -> str:
        """The outcome in one line."""
        word = WORDS[self.exit_code]
        if self.exit_code == REGRESSION and not any(line.verdict is Verdict.REGRESSION for line in self.lines):
            word = "CHANGED (strict)"
        counts = ", ".join(f"{count} {verdict}" for verdict, count in self.counts().items())
        return f"{word}: {self.subject}: {counts or 'nothing was measured'}"

    def shown(self) -> list[Line]:
        """The lines of the tables."""
        return [line for line in self.lines if self.shows_passes or line.verdict is not Verdict.PASS]


def counted(verdicts: Any) -> dict[str, int]:
    """How often each verdict comes, the worst first."""
    counter = Counter(verdicts)
    return {verdict.value: counter[verdict] for verdict in Verdict if counter[verdict]}


def exit_code(verdicts: Sequence[Verdict], *, strict: bool) -> int:
    """The exit code of the contract for verdicts that could be reached."""
    found = set(verdicts)
    if not found:
        return INCOMPLETE
    if Verdict.REGRESSION in found:
        return REGRESSION
    if found.intersection(UNMEASURED):
        return INCOMPLETE
    return REGRESSION if strict and found & {Verdict.NEW, Verdict.IMPROVED} else DONE


def add_options(made: Parser) -> None:
    """The options for what is written, and for how strictly."""
    made.add_argument("--junit", type=Path, metavar="FILE", help="write the findings as JUnit XML")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write them untruncated as Markdown")
    made.add_argument("--json", type=Path, metavar="FILE", help="write them as JSON")
    made.add_argument("--strict", action="store_true", help="NEW and IMPROVED fail too: what is compared with is out of date")


def write(sheet: Sheet, *, junit_to: Path | None, markdown_to: Path | None, json_to: Path | None) -> None:
    """Writes the files that were asked for.

    Raises:
        WriteError: one cannot be written.
    """
    for path, rendered in ((junit_to, junit), (markdown_to, markdown), (json_to, as_json)):
        if path is not None:
            write_atomically(path, rendered(sheet).encode())


def show(sheet: Sheet) -> None:
    """Prints the table, the notes and the headline; nothing is cut off in a pipe."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPE_WIDTH)
    if sheet.shown():
        table = Table(show_edge=False, pad_edge=False)
        for heading in ("verdict", "metric", *sheet.headings, "cell", "why"):
            table.add_column(heading, overflow="fold", no_wrap=heading in ("verdict", "metric"))
        for line in sheet.shown():
            verdict, *rest = _row(line)
            table.add_row(f"[{COLOURS.get(line.verdict, 'red')}]{verdict}[/]", *map(escape, rest))
        console.print(table)
    for note in sheet.notes:
        console.print(escape(f"note: {note}"), soft_wrap=True)
    console.print(escape(sheet.headline()), soft_wrap=True)


def _row(line: Line) -> list[str]:
    return [line.verdict.value, line.metric or "", *line.values, line.cell, one_line(line.reason)]


def markdown(sheet: Sheet) -> str:
    """All that is shown in full, and a line per cell."""
    lines = [f"# {literal(sheet.headline())}", ""]
    lines += [f"- {literal(note)}" for note in sheet.notes] + [""] * bool(sheet.notes)
    if sheet.shown():
        lines += [
            "| " + " | ".join(("verdict", "metric", *sheet.headings, "cell", "why")) + " |",
            "| " + " | ".join(("---", "---", *(["---:"] * len(sheet.headings)), "---", "---")) + " |",
        ]
        lines += ["| " + " | ".join(map(literal, _row(line))) + " |" for line in sheet.shown()] + [""]
    lines += ["| cell | findings |", "| --- | --- |"]
    cells: dict[tuple[str, str], list[Verdict]] = {}
    for line in sheet.lines:
        cells.setdefault((line.cell, line.cell_key), []).append(line.verdict)
    for (name, key), verdicts in sorted(cells.items()):
        found = ", ".join(f"{count} {verdict}" for verdict, count in counted(verdicts).items())
        lines.append(f"| {literal(name)} ({key[:12]}) | {found} |")
    return "\n".join(lines) + "\n"


def junit(sheet: Sheet) -> str:
    """A test case per finding: a regression is a failure, what could not be compared an error."""
    suite = ET.Element("testsuite", name=sheet.program)
    counts = {"failure": 0, "error": 0}
    for line in sheet.lines:
        case = ET.SubElement(suite, "testcase", classname=_xml(line.cell), name=_xml(line.metric or f"cell {line.cell_key[:12]}"))
        kind = _junit_kind(line.verdict, strict=sheet.strict)
        text = _xml("; ".join(f"{name} {value}" for name, value in zip(sheet.headings, line.values, strict=True) if value))
        message = f"{line.verdict.value}: {line.reason}" if line.reason else line.verdict.value
        if kind is not None:
            counts[kind] += 1
            ET.SubElement(case, kind, type=line.verdict.value, message=_xml(one_line(message))).text = text
        elif line.verdict is not Verdict.PASS:
            ET.SubElement(case, "system-out").text = _xml(f"{message} {text}")
    if not sheet.lines:
        case = ET.SubElement(suite, "testcase", classname=_xml(sheet.subject), name="records")
        ET.SubElement(case, "error", type="MISSING", message="nothing was measured")
        counts["error"] += 1
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(counts["failure"]))
    suite.set("errors", str(counts["error"]))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _junit_kind(verdict: Verdict, *, strict: bool) -> str | None:
    if verdict is Verdict.REGRESSION or (strict and verdict in (Verdict.NEW, Verdict.IMPROVED)):
        return "failure"
    return "error" if verdict in UNMEASURED else None


def _xml(text: str) -> str:
    """``text`` without the characters that XML has no way to write."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def as_json(sheet: Sheet) -> str:
    """Everything, for programs."""
    content = {
        "schema_version": 1,
        "exit_code": sheet.exit_code,
        "headline": sheet.headline(),
        "strict": sheet.strict,
        "counts": sheet.counts(),
        "notes": list(sheet.notes),
        **sheet.content,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"

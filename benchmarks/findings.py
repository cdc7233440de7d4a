"""Findings as a table on the terminal, as untruncated Markdown, as JUnit and as JSON: what the gate and the comparison of timings share."""

import argparse
import json
import os
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.store import check_file
from benchmarks.text import literal
from persrec.commandline import BAD_INPUT, DONE, INCOMPLETE, NOT_COMPARABLE, REGRESSION, Parser, one_line
from persrec.files import write_atomically

SCHEMA_VERSION = 1  # of the JSON output
PIPE_WIDTH = 240
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Verdict(StrEnum):
    """How a number stands beside the one that it is compared with, the worst first."""

    REGRESSION = "REGRESSION"
    INVALID = "INVALID"
    MISSING = "MISSING"
    INCOMPARABLE = "INCOMPARABLE"
    AMBIGUOUS = "AMBIGUOUS"
    IMPROVED = "IMPROVED"
    NEW = "NEW"
    PASS = "PASS"  # noqa: S105 - no password

    @property
    def rank(self) -> int:
        """0 is the worst."""
        return list(Verdict).index(self)


UNMEASURED = (Verdict.MISSING, Verdict.INVALID, Verdict.INCOMPARABLE)
OUT_OF_DATE = (Verdict.NEW, Verdict.IMPROVED)  # what is compared with should be written anew; --strict fails on them
WORDS = {
    DONE: "PASS", REGRESSION: "REGRESSION", INCOMPLETE: "INCOMPLETE", NOT_COMPARABLE: "NOT COMPARABLE", BAD_INPUT: "NOT WRITTEN",
}  # fmt: skip
COLOURS = {Verdict.PASS: "green", Verdict.IMPROVED: "cyan", Verdict.NEW: "cyan", Verdict.AMBIGUOUS: "yellow"}


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

    Attributes:
        program: whose findings these are.
        subject: what was compared with what.
        headings: what the ``values`` of the lines are called.
        lines: the findings.
        notes: sentences above the table.
        exit_code: of the program.
        strict: whether NEW and IMPROVED fail.
        content: what the JSON holds beside verdicts and notes.
        shows_passes: whether the tables list a plain PASS, too.
        accepted: whether the findings have just become the new baseline, so that none of them fails.
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
    accepted: bool = False

    def counts(self) -> dict[str, int]:
        """How many findings there are of each verdict, the worst first."""
        return counted(line.verdict for line in self.lines)

    def headline(self) -> str:
        """The outcome in one line."""
        counts = ", ".join(f"{count} {verdict}" for verdict, count in self.counts().items())
        return f"{self._outcome()}: {self.subject}: {counts or 'nothing was measured'}"

    def shown(self) -> list[Line]:
        """The lines of the tables."""
        return [line for line in self.lines if self.shows_passes or line.verdict is not Verdict.PASS]

    def _outcome(self) -> str:
        if self.accepted:
            return "BASELINE WRITTEN"
        if self.exit_code == REGRESSION and not any(line.verdict is Verdict.REGRESSION for line in self.lines):
            return "CHANGED (strict)"
        return WORDS[self.exit_code]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """The files that findings are written to; ``None`` where none is asked for."""

    junit: Path | None = None
    markdown: Path | None = None
    json: Path | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """Those of `add_options`."""
        return cls(junit=options.junit, markdown=options.markdown, json=options.json)

    def check(self, inputs: Mapping[str, Path] = MappingProxyType({})) -> None:
        """Refuses places that cannot be right, before anything is measured.

        Args:
            inputs: files that are read, by their options; none of them may be written over.

        Raises:
            ValueError: a place is a folder, an input, a run's own or another output's place, or cannot be written.
        """
        option_of = {os.path.realpath(path): option for option, path in inputs.items()}
        for name in ("junit", "markdown", "json"):
            path: Path | None = getattr(self, name)
            if path is None:
                continue
            check_file(f"--{name}", path)
            if (place := os.path.realpath(path)) in option_of:
                raise ValueError(f"--{name}: {path} is also the file of {option_of[place]}; expected a file of its own")
            option_of[place] = f"--{name}"

    def write(self, sheet: Sheet) -> None:
        """Writes those that were asked for.

        Raises:
            WriteError: one cannot be written.
        """
        for path, rendered in ((self.junit, junit), (self.markdown, markdown), (self.json, as_json)):
            if path is not None:
                write_atomically(path, rendered(sheet).encode())


def add_options(parser: Parser) -> None:
    """The options for what is written, and for how strictly it is judged."""
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the findings as JUnit XML")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write them untruncated as Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write them as JSON")
    parser.add_argument("--strict", action="store_true", help="NEW and IMPROVED fail too: what is compared with is out of date")


def counted(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How often each verdict comes, the worst first."""
    counter = Counter(verdicts)
    return {verdict.value: counter[verdict] for verdict in Verdict if counter[verdict]}


def exit_code(verdicts: Iterable[Verdict], *, strict: bool) -> int:
    """The exit code for verdicts of which at least one compares numbers."""
    kinds = set(verdicts)
    if not kinds:
        return INCOMPLETE
    if Verdict.REGRESSION in kinds:
        return REGRESSION
    if kinds.intersection(UNMEASURED):
        return INCOMPLETE
    return REGRESSION if strict and kinds.intersection(OUT_OF_DATE) else DONE


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
        console.print(escape(one_line(f"note: {note}")), soft_wrap=True)
    console.print(escape(one_line(sheet.headline())), soft_wrap=True)


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
        counts = ", ".join(f"{count} {verdict}" for verdict, count in counted(verdicts).items())
        lines.append(f"| {literal(name)} ({key[:12]}) | {counts} |")
    return "\n".join(lines) + "\n"


def junit(sheet: Sheet) -> str:
    """A test case per finding: a regression is a failure, what could not be compared an error. No finding is a failure once accepted."""
    suite = ET.Element("testsuite", name=sheet.program)
    counts = {"failure": 0, "error": 0}
    for line in sheet.lines:
        case = ET.SubElement(suite, "testcase", classname=_xml(line.cell), name=_xml(line.metric or f"cell {line.cell_key[:12]}"))
        kind = _junit_kind(line.verdict, sheet)
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


def as_json(sheet: Sheet) -> str:
    """Everything, for programs."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "exit_code": sheet.exit_code,
        "headline": sheet.headline(),
        "strict": sheet.strict,
        "accepted": sheet.accepted,
        "counts": sheet.counts(),
        "notes": list(sheet.notes),
        **sheet.content,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _row(line: Line) -> list[str]:
    return [line.verdict.value, one_line(line.metric or ""), *line.values, one_line(line.cell), one_line(line.reason)]


def _junit_kind(verdict: Verdict, sheet: Sheet) -> str | None:
    if sheet.accepted:
        return None
    if verdict is Verdict.REGRESSION or (sheet.strict and verdict in OUT_OF_DATE):
        return "failure"
    return "error" if verdict in UNMEASURED else None


def _xml(text: str) -> str:
    """``text`` without the characters that XML has no way to write."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)

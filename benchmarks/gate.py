"""Compares a run's deterministic numbers with a reviewed baseline: ``python -m benchmarks.gate results/NAME --baseline FILE``."""

import argparse
import json
import math
import re
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.baseline import Baseline, Finding, Verdict, judge, load_baseline, make_baseline
from benchmarks.commandline import DONE, INCOMPLETE, NOT_COMPARABLE, REGRESSION, Parser, one_line, refuse
from benchmarks.store import FINDINGS, Record, load_records, write_atomically

PROGRAM = "benchmarks.gate"
UNMEASURED = (Verdict.MISSING, Verdict.INVALID, Verdict.INCOMPARABLE)
COLOURS = {Verdict.PASS: "green", Verdict.IMPROVED: "cyan", Verdict.NEW: "cyan", Verdict.AMBIGUOUS: "yellow"}
PIPE_WIDTH = 240
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """Everything the outputs show."""

    results: Path
    baseline_path: Path
    baseline: Baseline | None
    findings: Sequence[Finding]
    notes: Sequence[str]
    strict: bool

    def counts(self) -> dict[str, int]:
        """How many findings there are of each verdict, the worst first."""
        counter = Counter(finding.verdict for finding in self.findings)
        return {verdict.value: counter[verdict] for verdict in Verdict if counter[verdict]}

    def exit_code(self) -> int:
        """The exit code of the contract."""
        verdicts = {finding.verdict for finding in self.findings}
        if not self.findings:
            return INCOMPLETE
        if not self.compared():
            return NOT_COMPARABLE
        if Verdict.REGRESSION in verdicts:
            return REGRESSION
        if verdicts.intersection(UNMEASURED):
            return INCOMPLETE
        return REGRESSION if self.strict and verdicts & {Verdict.NEW, Verdict.IMPROVED} else DONE

    def compared(self) -> set[str]:
        """The cells that both the results and the baseline know."""
        entries = self.baseline.entries if self.baseline is not None else {}
        absent = {
            finding.cell_key
            for finding in self.findings
            if finding.metric is None and finding.verdict in (Verdict.MISSING, Verdict.INCOMPARABLE)
        }
        return set(entries) - absent

    def headline(self) -> str:
        """The outcome in one line."""
        word = {DONE: "PASS", REGRESSION: "REGRESSION", INCOMPLETE: "INCOMPLETE", NOT_COMPARABLE: "NOT COMPARABLE"}[self.exit_code()]
        if self.exit_code() == REGRESSION and Verdict.REGRESSION not in {finding.verdict for finding in self.findings}:
            word = "CHANGED (strict)"
        counts = ", ".join(f"{count} {verdict}" for verdict, count in self.counts().items())
        return f"{word}: {self.results} beside {self.baseline_path}{self._age()}: {counts or 'nothing was measured'}"

    def _age(self) -> str:
        if self.baseline is None:
            return ""
        days, commits = self.baseline.age_days(), self.baseline.source.get("commits") or []
        return f" ({days} day{'s' * (days != 1)} old{', commit ' + str(commits[0])[:10] if commits else ''})"

    def remarkable(self) -> list[Finding]:
        """What is not a plain PASS."""
        return [finding for finding in self.findings if finding.verdict is not Verdict.PASS]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = parser().parse_args(argv)
    try:
        return _gate(options)
    except ValueError as error:
        return refuse(PROGRAM, error)


def parser() -> Parser:
    """The options."""
    made = Parser(prog=PROGRAM, description="Compares a run's deterministic numbers with a reviewed baseline, each within its margin.")
    made.add_argument("results", type=Path, metavar="results/NAME")
    made.add_argument("--baseline", type=Path, required=True, metavar="FILE", help="results/baselines/NAME.json")
    made.add_argument("--junit", type=Path, metavar="FILE", help="write the findings as JUnit XML")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write them untruncated as Markdown")
    made.add_argument("--json", type=Path, metavar="FILE", help="write them as JSON")
    made.add_argument("--strict", action="store_true", help="NEW and IMPROVED fail too: the baseline is out of date")
    made.add_argument("--update", action="store_true", help="write the baseline anew from these results, to be reviewed")
    return made


def _gate(options: argparse.Namespace) -> int:
    records = load_records(options.results)
    creating = options.update and not options.baseline.exists()
    baseline = None if creating else load_baseline(options.baseline)
    judgement = Judgement(
        results=options.results,
        baseline_path=options.baseline,
        baseline=baseline,
        findings=judge(baseline, records) if baseline is not None and records else [],
        notes=_notes(baseline, records),
        strict=options.strict,
    )
    for path, rendered in ((options.junit, junit), (options.markdown, markdown), (options.json, as_json)):
        if path is not None:
            write_atomically(path, rendered(judgement).encode())
    if not creating:
        _print(judgement)
    if options.update:
        return _update(options, baseline, records)
    return judgement.exit_code()


def _notes(baseline: Baseline | None, records: Sequence[Record]) -> list[str]:
    notes = []
    if baseline is not None:
        known = baseline.source.get("fingerprints") or []
        if any(str(record["environment"].get("fingerprint")) not in known for record in records):
            notes.append(
                "the baseline is from another machine or other package versions: counts must agree all the same, quality within its margin"
            )
    if len({record.get("code_digest") for record in records}) > 1:
        notes.append("these results were measured by more than one version of the code")
    if any(record["cell"].get("device") != "cpu" for record in records):
        notes.append("quality on a GPU is not deterministic and is not compared; counts are")
    return notes


def _update(options: argparse.Namespace, baseline: Baseline | None, records: Sequence[Record]) -> int:
    """Writes the replacement; what was not measured cannot become what is expected."""
    lost = [record for record in records if record["status"] not in FINDINGS]
    if lost or not records:
        what = (
            f"{len(lost)} of {len(records)} cells have no measurement, the first of them {lost[0]['cell_key']}"
            if lost
            else "nothing was measured"
        )
        sys.stderr.write(f"{PROGRAM}: {options.baseline} is left as it is: {what}\n")
        return INCOMPLETE
    content = make_baseline(records, margins=baseline.margins if baseline is not None else {})
    write_atomically(options.baseline, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    sys.stdout.write(f"wrote {options.baseline}: {len(records)} cells; review the change before it is committed\n")
    return DONE


def _print(judgement: Judgement) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPE_WIDTH)
    if judgement.remarkable():
        table = Table(show_edge=False, pad_edge=False)
        for heading in ("verdict", "metric", "baseline", "now", "change", "margin", "cell", "why"):
            table.add_column(heading, overflow="fold", no_wrap=heading in ("verdict", "metric"))
        for finding in judgement.remarkable():
            colour = COLOURS.get(finding.verdict, "red")
            verdict, *rest = _row(finding)
            table.add_row(f"[{colour}]{verdict}[/]", *map(escape, rest))
        console.print(table)
    for note in judgement.notes:
        console.print(escape(f"note: {note}"), soft_wrap=True)
    console.print(escape(judgement.headline()), soft_wrap=True)


def _row(finding: Finding) -> list[str]:
    change = finding.change()
    return [
        finding.verdict.value,
        finding.metric or "",
        _number(finding.baseline),
        _number(finding.current),
        "" if change is None else f"{change:+.2%}",
        _number(finding.margin),
        finding.cell,
        one_line(finding.reason),
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if math.isfinite(value) and value == int(value) else f"{value:.6g}"


def markdown(judgement: Judgement) -> str:
    """All that is not a plain PASS in full, and a line per cell."""
    lines = [f"# {_cell_of_table(judgement.headline())}", ""]
    lines += [f"- {_cell_of_table(note)}" for note in judgement.notes] + [""] * bool(judgement.notes)
    if judgement.remarkable():
        lines += [
            "| verdict | metric | baseline | now | change | margin | cell | why |",
            "| --- | --- | ---: | ---: | ---: | ---: | --- | --- |",
        ]
        lines += ["| " + " | ".join(map(_cell_of_table, _row(finding))) + " |" for finding in judgement.remarkable()] + [""]
    lines += ["| cell | findings |", "| --- | --- |"]
    cells: dict[tuple[str, str], Counter[str]] = {}
    for finding in judgement.findings:
        cells.setdefault((finding.cell, finding.cell_key), Counter())[finding.verdict.value] += 1
    for (name, key), counter in sorted(cells.items()):
        lines.append(f"| {_cell_of_table(name)} ({key[:12]}) | {', '.join(f'{count} {verdict}' for verdict, count in counter.items())} |")
    return "\n".join(lines) + "\n"


def _cell_of_table(text: str) -> str:
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", one_line(text))


def junit(judgement: Judgement) -> str:
    """A test case per number: a regression is a failure, what could not be compared an error."""
    suite = ET.Element("testsuite", name=PROGRAM)
    counts = {"failure": 0, "error": 0}
    for finding in judgement.findings:
        case = ET.SubElement(suite, "testcase", classname=_xml(finding.cell), name=_xml(finding.metric or f"cell {finding.cell_key[:12]}"))
        kind = _junit_kind(finding.verdict, strict=judgement.strict)
        text = _xml(
            "; ".join(
                f"{name} {value}"
                for name, value in zip(("", "", "baseline", "now", "change", "margin", "", ""), _row(finding), strict=True)
                if name and value
            )
        )
        message = f"{finding.verdict.value}: {finding.reason}" if finding.reason else finding.verdict.value
        if kind is not None:
            counts[kind] += 1
            ET.SubElement(case, kind, type=finding.verdict.value, message=_xml(one_line(message))).text = text
        elif finding.verdict is not Verdict.PASS:
            ET.SubElement(case, "system-out").text = _xml(f"{message} {text}")
    if not judgement.findings:
        case = ET.SubElement(suite, "testcase", classname=_xml(str(judgement.results)), name="records")
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


def as_json(judgement: Judgement) -> str:
    """Everything, for programs."""
    baseline = judgement.baseline
    content: dict[str, Any] = {
        "schema_version": 1,
        "exit_code": judgement.exit_code(),
        "headline": judgement.headline(),
        "results": str(judgement.results),
        "baseline": {
            "path": str(judgement.baseline_path),
            "utc": baseline.utc if baseline else None,
            "age_days": baseline.age_days() if baseline else None,
            "source": dict(baseline.source) if baseline else None,
        },
        "strict": judgement.strict,
        "counts": judgement.counts(),
        "notes": list(judgement.notes),
        "findings": [_finding_as_json(finding) for finding in judgement.findings],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "verdict": finding.verdict.value,
        "cell_key": finding.cell_key,
        "cell": finding.cell,
        "metric": finding.metric,
        "baseline": finding.baseline,
        "current": finding.current,
        "change": finding.change(),
        "margin": finding.margin,
        "reason": finding.reason,
    }


if __name__ == "__main__":
    sys.exit(main())

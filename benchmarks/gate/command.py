"""Compares a run's deterministic numbers with a reviewed baseline: ``python -m benchmarks.gate results/NAME --baseline FILE``."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.analysis.origins import older_code, sources
from benchmarks.environment import utc_now
from benchmarks.findings import Line, Outputs, Sheet, add_options, exit_code, show
from benchmarks.gate.baseline import Baseline, load_baseline, quality_machine
from benchmarks.gate.judge import Finding, judge
from benchmarks.gate.validity import faults
from benchmarks.records import FINDINGS, Record, load_records
from benchmarks.store import check_file
from benchmarks.text import amount, change, exact
from persrec.commandline import BAD_INPUT, DONE, INCOMPLETE, NOT_COMPARABLE, REGRESSION, Parser, guarded
from persrec.files import WriteError, write_atomically

PROGRAM = "benchmarks.gate"
HEADINGS = ("baseline", "now", "change", "margin")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return guarded(PROGRAM, lambda: _gate(parser().parse_args(argv)))


def parser() -> Parser:
    """The options."""
    parser = Parser(prog=PROGRAM, description="Compares a run's deterministic numbers with a reviewed baseline, each within its margin.")
    parser.add_argument("results", type=Path, metavar="results/NAME")
    parser.add_argument("--baseline", type=Path, required=True, metavar="FILE", help="results/baselines/NAME.json")
    add_options(parser)
    parser.add_argument("--update", action="store_true", help="write the baseline anew from these results, to be reviewed")
    return parser


def _gate(options: argparse.Namespace) -> int:
    outputs = Outputs.of(options)
    outputs.check({"--baseline": options.baseline})
    if options.update:
        check_file("--baseline", options.baseline)
    records = load_records(options.results)
    is_new = options.update and not os.path.lexists(options.baseline)
    baseline = Baseline(utc=utc_now(), entries={}) if is_new else load_baseline(options.baseline)
    findings = judge(baseline, records) if records else []
    unmeasured = _unmeasured(records, baseline) if options.update else ""
    accepted = options.update and not unmeasured
    code = _exit_code(baseline, records, findings, strict=options.strict)
    judgement = Judgement(
        results=options.results,
        baseline_path=options.baseline,
        baseline=None if is_new else baseline,
        findings=findings,
        notes=_notes(None if is_new else baseline, records),
        strict=options.strict,
        exit_code=DONE if accepted else _code_of_refusal(code) if unmeasured else code,
        accepted=accepted,
    )
    outputs.write(judgement.sheet())
    if accepted:  # last, so that no other file that cannot be written leaves a baseline replaced
        try:
            write_atomically(options.baseline, Baseline.of(records, margins=baseline.margins).to_json())
        except WriteError:
            outputs.write(dataclasses.replace(judgement, accepted=False, exit_code=BAD_INPUT).sheet())
            raise
        sys.stdout.write(f"wrote {options.baseline}: {len(records)} cells; review the change before it is committed\n")
    show(judgement.sheet())
    if unmeasured:
        sys.stderr.write(f"{PROGRAM}: {options.baseline} is left as it is: {unmeasured}\n")
    return judgement.exit_code


def _code_of_refusal(code: int) -> int:
    """The exit code where no baseline is written: a regression stays one, even where something is missing."""
    return code if code == REGRESSION else INCOMPLETE


def _unmeasured(records: Sequence[Record], baseline: Baseline) -> str:
    """Why records cannot become a baseline: something was not measured, or cannot be true. Empty where they can.

    If the run lacks cells of the baseline, its sweep may have been cut. To write a smaller baseline, begin without a file.
    """
    lost = [record for record in records if record.status not in FINDINGS]
    if lost:
        return f"{len(lost)} of {len(records)} cells have no measurement, the first of them {lost[0].cell_key}"
    wrong = [(record, fault) for record in records for fault in faults(record)[:1]]
    if wrong:
        record, fault = wrong[0]
        return f"{len(wrong)} of {len(records)} records cannot be true, the first of them {record.cell_key}: {fault.reason}"
    if not records:
        return "nothing was measured"
    there = {record.cell for record in records}  # by cell: other data or versions of measures give other keys
    absent = [key for key, entry in baseline.entries.items() if entry.cell not in there]
    if absent:
        return f"{len(absent)} of its cells are not among these results, the first of them {absent[0]}; to leave them out, remove it first"
    return ""


def _exit_code(baseline: Baseline, records: Sequence[Record], findings: Sequence[Finding], *, strict: bool) -> int:
    """The gate's exit code: that of the verdicts, unless the results and the baseline share no cell."""
    if findings and baseline.entries.keys().isdisjoint(record.cell_key for record in records):
        return NOT_COMPARABLE
    return exit_code([finding.verdict for finding in findings], strict=strict)


def _notes(baseline: Baseline | None, records: Sequence[Record]) -> list[str]:
    notes = []
    if baseline is not None and any(str(quality_machine(record)) not in baseline.source.fingerprints for record in records):
        notes.append(
            "the baseline is from another machine or other package versions: counts must agree all the same, quality within its margin"
        )
    if older_code(sources(records)):
        notes.append("these results were measured by more than one version of the code")
    if any(record.cell.device != "cpu" for record in records):
        notes.append("quality on a GPU is not deterministic and is not compared; counts are")
    return notes


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """Everything that the outputs show. ``baseline`` is ``None`` where there was none before."""

    results: Path
    baseline_path: Path
    baseline: Baseline | None
    findings: Sequence[Finding]
    notes: Sequence[str]
    strict: bool
    exit_code: int
    accepted: bool

    def sheet(self) -> Sheet:
        """The findings for the outputs."""
        return Sheet(
            program=PROGRAM,
            subject=f"{self.results} beside {self.baseline_path} ({self._age()})",
            headings=HEADINGS,
            lines=[_line(finding) for finding in self.findings],
            notes=self.notes,
            exit_code=self.exit_code,
            strict=self.strict,
            content={
                "results": str(self.results),
                "baseline": {"path": str(self.baseline_path), **self._baseline_as_json()},
                "findings": [_finding_as_json(finding) for finding in self.findings],
            },
            accepted=self.accepted,
        )

    def _age(self) -> str:
        if self.baseline is None:
            return "new"
        days, commits = self.baseline.age_days(), self.baseline.source.commits
        return f"{amount(days, 'day')} old{f', commit {commits[0][:10]}' if commits else ''}"

    def _baseline_as_json(self) -> dict[str, Any]:
        if self.baseline is None:
            return {"utc": None, "age_days": None, "source": None}
        return {"utc": self.baseline.utc, "age_days": self.baseline.age_days(), "source": dataclasses.asdict(self.baseline.source)}


def _line(finding: Finding) -> Line:
    numbers = (finding.baseline, finding.current, finding.margin)
    baseline, current, margin = ("" if number is None else exact(number) for number in numbers)
    share = finding.change()
    return Line(
        verdict=finding.verdict,
        cell_key=finding.cell_key,
        cell=finding.cell,
        metric=finding.metric,
        values=(baseline, current, "" if share is None else change(share), margin),
        reason=finding.reason,
    )


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    return {**dataclasses.asdict(finding), "verdict": finding.verdict.value, "change": finding.change()}

"""Compares a run's deterministic numbers with a reviewed baseline: ``python -m benchmarks.gate results/NAME --baseline FILE``."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.findings import Line, Sheet, add_options, exit_code, show, write
from benchmarks.gate.baseline import Baseline, Finding, Verdict, judge, load_baseline, make_baseline
from benchmarks.records import FINDINGS, Record, load_records
from persrec.commandline import DONE, INCOMPLETE, NOT_COMPARABLE, Parser, refuse
from persrec.files import write_atomically

PROGRAM = "benchmarks.gate"
HEADINGS = ("baseline", "now", "change", "margin")


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """Everything the outputs show."""

    results: Path
    baseline_path: Path
    baseline: Baseline | None
    findings: Sequence[Finding]
    notes: Sequence[str]
    strict: bool

    def exit_code(self) -> int:
        """The exit code of the contract."""
        if self.findings and not self.compared():
            return NOT_COMPARABLE
        return exit_code([finding.verdict for finding in self.findings], strict=self.strict)

    def compared(self) -> set[str]:
        """The cells that both the results and the baseline know."""
        entries = self.baseline.entries if self.baseline is not None else {}
        absent = {
            finding.cell_key
            for finding in self.findings
            if finding.metric is None and finding.verdict in (Verdict.MISSING, Verdict.INCOMPARABLE)
        }
        return set(entries) - absent

    def sheet(self) -> Sheet:
        """The findings for the outputs."""
        baseline = self.baseline
        return Sheet(
            program=PROGRAM,
            subject=f"{self.results} beside {self.baseline_path}{self._age()}",
            headings=HEADINGS,
            lines=[_line(finding) for finding in self.findings],
            notes=self.notes,
            exit_code=self.exit_code(),
            strict=self.strict,
            content={
                "results": str(self.results),
                "baseline": {
                    "path": str(self.baseline_path),
                    "utc": baseline.utc if baseline else None,
                    "age_days": baseline.age_days() if baseline else None,
                    "source": dict(baseline.source) if baseline else None,
                },
                "findings": [_finding_as_json(finding) for finding in self.findings],
            },
        )

    def _age(self) -> str:
        if self.baseline is None:
            return ""
        days, commits = self.baseline.age_days(), self.baseline.source.get("commits") or []
        return f" ({days} day{'s' * (days != 1)} old{', commit ' + str(commits[0])[:10] if commits else ''})"


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
    add_options(made)
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
    write(judgement.sheet(), junit_to=options.junit, markdown_to=options.markdown, json_to=options.json)
    if not creating:
        show(judgement.sheet())
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


def _line(finding: Finding) -> Line:
    change = finding.change()
    numbers = (_number(finding.baseline), _number(finding.current), "" if change is None else f"{change:+.2%}", _number(finding.margin))
    return Line(
        verdict=finding.verdict,
        cell_key=finding.cell_key,
        cell=finding.cell,
        metric=finding.metric,
        values=numbers,
        reason=finding.reason,
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if math.isfinite(value) and value == int(value) else f"{value:.6g}"


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

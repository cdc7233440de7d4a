"""What a number is beside its baseline, where no file says it: records that a program made."""

from dataclasses import replace

import pytest
from gated_run import record

from benchmarks.findings import Verdict
from benchmarks.gate.baseline import Baseline
from benchmarks.gate.judge import Finding, judge
from benchmarks.records import Failure, Metric, Record, Status, record_of


def run() -> list[Record]:
    return [record_of(record(tokens)) for tokens in (0, 4)]


def worst(records: list[Record]) -> Finding:
    """The first finding beside the baseline of the unchanged run."""
    return judge(Baseline.of(run(), margins={}), records)[0]


@pytest.mark.parametrize("value", [10**400, float("nan"), float("-inf")])
def test_a_value_that_no_number_holds_is_invalid(value: float) -> None:
    first, second = run()
    changed = replace(second, metrics=second.metrics | {"serve_flops": Metric(value=value)})
    finding = worst([first, changed])
    assert (finding.verdict, finding.metric, finding.current) == (Verdict.INVALID, "serve_flops", None)


def test_a_change_is_a_share_of_the_baseline() -> None:
    first, second = run()
    changed = replace(second, metrics=second.metrics | {"serve_flops": Metric(value=1_050_000)})
    finding = worst([first, changed])
    assert (finding.verdict, finding.baseline, finding.current, finding.margin) == (Verdict.REGRESSION, 1_000_000, 1_050_000, 1_000)
    assert finding.change() == pytest.approx(0.05)
    assert replace(finding, baseline=0).change() is None
    assert replace(finding, baseline=1e-300, current=1e300).change() is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, "ok in the baseline, now crash"),
        (Failure(), "ok in the baseline, now crash"),
        (Failure(phase="flops", type="ValueError", message="no price"), "ok in the baseline, now crash in flops: ValueError: no price"),
        (Failure(message="ended"), "ok in the baseline, now crash: ended"),
    ],
)
def test_a_failure_says_what_its_record_knows_and_no_more(error: Failure | None, reason: str) -> None:
    first, second = run()
    finding = worst([first, replace(second, status=Status.CRASH, error=error, metrics={})])
    assert (finding.verdict, finding.reason) == (Verdict.INVALID, reason)


def test_the_only_cell_with_a_control_is_missing_and_was_not_measured_in_another_way() -> None:
    first, second = run()
    control = replace(second, cell=replace(second.cell, control=True), measure_versions=second.measure_versions | {"of_a_control": 1})
    (finding,) = [one for one in judge(Baseline.of([first, control], margins={}), [first]) if one.verdict is not Verdict.PASS]
    assert finding.verdict is Verdict.MISSING


def test_a_measure_that_came_or_went_since_is_named() -> None:
    measures = record(0)["measure_versions"]
    now = {name: version for name, version in measures.items() if name != "mrr"} | {"ndcg@5": 2, "a_new_one": 1}
    finding = worst([record_of(record(tokens, measures=now)) for tokens in (0, 4)])
    assert finding.verdict is Verdict.INCOMPARABLE
    assert finding.reason == "measured in another way since: a_new_one is new, mrr is gone, ndcg@5 version 1 then, 2 now"

"""A comparison of a checkout with itself, as it was recorded, judged again: no timing is taken here, so nothing can flake."""

import json
import math

import pytest

from benchmarks.compare.statistics import Rule, effect, judge
from benchmarks.environment import PROJECT
from benchmarks.findings import Verdict

RECORD = json.loads((PROJECT / "results" / "compare" / "aa.json").read_text())
RULE = Rule(comparisons=RECORD["rule"]["comparisons"], margin=RECORD["rule"]["margin"], level=RECORD["rule"]["level"])
TIMINGS = [one for one in RECORD["findings"] if one["base_ms"] is not None]


def judged(ratios: list[float]) -> Verdict:
    return judge(effect([math.log(ratio) for ratio in ratios], RULE), RULE)[0]


def test_both_sides_are_the_same_code() -> None:
    assert RECORD["base"]["commit"] == RECORD["head"]["commit"]
    assert RECORD["exit_code"] == 0


def test_a_against_a_raises_no_alarm_and_every_verdict_is_that_of_its_samples() -> None:
    assert len(TIMINGS) == RULE.comparisons
    verdicts = [judged(one["ratios"]) for one in TIMINGS]
    assert verdicts == [Verdict(one["verdict"]) for one in TIMINGS]
    assert set(verdicts) <= {Verdict.PASS, Verdict.AMBIGUOUS}


@pytest.mark.parametrize("factor", [1.5, 2, 10])
def test_the_same_samples_made_slower_raise_the_alarm(factor: float) -> None:
    assert {judged([ratio * factor for ratio in one["ratios"]]) for one in TIMINGS} == {Verdict.REGRESSION}

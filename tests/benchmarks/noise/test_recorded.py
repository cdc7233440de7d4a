"""The samples of the committed A/A record, judged again: no timing is taken here, so nothing can flake."""

import math

import pytest

from benchmarks.compare.statistics import Rule, effect, judge
from benchmarks.environment import PROJECT
from benchmarks.findings import Verdict
from benchmarks.noise.command import ALARMS
from benchmarks.noise.record import load_proof

RECORD = load_proof(PROJECT / "results" / "noise" / "aa.json")
assert RECORD is not None
RULE = Rule(comparisons=RECORD.rule.comparisons, margin=RECORD.rule.margin or 0.0, level=RECORD.rule.level or 0.0)


def judged(ratios: list[float]) -> Verdict:
    return judge(effect([math.log(ratio) for ratio in ratios], RULE), RULE)[0]


def test_a_against_a_raises_no_alarm_and_every_verdict_is_that_of_its_samples() -> None:
    verdicts = [judged(one["ratios"]) for one in RECORD.comparisons]
    assert verdicts == [Verdict(one["verdict"]) for one in RECORD.comparisons]
    assert len(verdicts) == RECORD.false_alarms.comparisons
    assert not set(verdicts) & set(ALARMS)


def test_every_planted_slow_down_is_found_in_its_samples() -> None:
    assert RECORD.slow_downs
    assert {judged(one["ratios"]) for one in RECORD.slow_downs} == {Verdict.REGRESSION}


@pytest.mark.parametrize("factor", [1.5, 2, 10])
def test_the_same_samples_made_slower_raise_the_alarm(factor: float) -> None:
    verdicts = [judged([ratio * factor for ratio in one["ratios"]]) for one in RECORD.comparisons]
    assert set(verdicts) == {Verdict.REGRESSION}

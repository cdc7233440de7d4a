"""A quality that no users can give is seen, whatever stands beside it."""

import copy
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from fabricated_records import fabricate
from gated_run import INCOMPLETE, PASS, GatedRun, record

from benchmarks.cell import Cell
from benchmarks.findings import Verdict
from benchmarks.gate.baseline import Baseline, Held
from benchmarks.gate.judge import HELD, judge
from benchmarks.gate.qualities import faults_of_quality
from benchmarks.records import Record, record_of
from persrec.evaluation.metrics import bootstrap_means, summarise

USERS = 200
FOUND = np.arange(USERS) % 5 == 0  # 40 of 200 users at rank 2
GAINS = FOUND / np.log2(3)


def quality(values: np.ndarray, *, share: bool) -> tuple[dict[str, Any], list[float]]:
    means = bootstrap_means(values, seed=0)
    told = summarise(values, share=share, replicates=means)
    return {"value": told.value, "low": told.low, "high": told.high, "n": told.n, "method": "full catalogue"}, [
        float(mean) for mean in means
    ]


@pytest.fixture
def measured() -> dict[str, Any]:
    """Of a hand-made evaluation of 200 users."""
    values = fabricate(Cell(backbone="hstu", compression="experts", tokens=4))
    for name in [name for name in values["metrics"] if "@" in name or name == "mrr"]:
        del values["metrics"][name]
    values["replicates"]["means"] = {}
    for name, of_users, share in (("recall@10", FOUND.astype(float), True), ("ndcg@10", GAINS, False)):
        values["metrics"][name], values["replicates"]["means"][name] = quality(of_users, share=share)
    of_group, _ = quality(FOUND[:50].astype(float), share=True)
    values["groups"] = [{"least": 1, "below": 20, "metrics": {"recall@10": of_group}}]
    values["protocols"] = [
        {
            "name": "rectools",
            "items": 100,
            "request_time": True,
            "asks_request_time": True,
            "metrics": {"ndcg@10": {"value": 0.1, "n": USERS}},
        }
    ]
    values["dataset"] |= {"split": "leave-one-out", "targets": USERS, "ceiling": {"whole_past": {"ndcg@10": 0.2}}}
    return values


def read(values: dict[str, Any]) -> Record:
    return record_of(values)


def test_a_sound_quality_has_no_fault(measured: dict[str, Any]) -> None:
    assert list(faults_of_quality(read(measured))) == []


@pytest.mark.parametrize("metric", ["ndcg@10", "recall@10"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda metric, means: metric.update(n=USERS - 30), "it is over 170 users; the test has 200"),
        (lambda metric, means: means.__setitem__(slice(None), [mean + 0.1 for mean in means]), "its resamples' mean is"),
        (lambda metric, means: means.__setitem__(0, 1.5), "its resamples leave 0 to 1"),
        (lambda metric, means: metric.update(low=metric["value"] - 1e-3, high=metric["value"] + 1e-3), "its resamples lie in"),
        (lambda metric, means: metric.update(low=metric["value"] + 0.01), "lies outside of its interval"),
    ],
)
def test_a_changed_number_is_seen_by_those_beside_it(measured: dict[str, Any], metric: str, change: Any, said: str) -> None:
    change(measured["metrics"][metric], measured["replicates"]["means"][metric])
    faults = list(faults_of_quality(read(measured)))
    assert any(said in fault.reason and fault.metric == metric for fault in faults), faults


@pytest.mark.parametrize("metric", ["ndcg@10", "recall@10"])
@pytest.mark.parametrize("left", [0, 7])
def test_resamples_are_as_many_as_of_every_record(measured: dict[str, Any], metric: str, left: int) -> None:
    del measured["replicates"]["means"][metric][left:]
    faults = list(faults_of_quality(read(measured)))
    assert [(fault.metric, fault.reason) for fault in faults] == [(metric, f"it has {left} resamples; expected 500, as every record has")]


def test_resamples_are_of_the_users_that_every_record_draws(measured: dict[str, Any]) -> None:
    measured["replicates"]["seed"] = 999
    assert [fault.reason for fault in faults_of_quality(read(measured))] == [
        "its resamples are of seed 999; expected 0, as of every record"
    ]


def test_a_part_of_a_user_is_not_found(measured: dict[str, Any]) -> None:
    measured["metrics"]["recall@10"]["value"] += 0.5 / USERS
    assert any("is no whole number of them" in fault.reason for fault in faults_of_quality(read(measured)))


def test_what_surely_knows_more_than_the_past_has_seen_the_future(measured: dict[str, Any]) -> None:
    measured["dataset"]["ceiling"]["whole_past"]["ndcg@10"] = measured["metrics"]["ndcg@10"]["low"] - 1e-3
    assert any("the most that the past of these data tells" in fault.reason for fault in faults_of_quality(read(measured)))


@pytest.mark.parametrize(
    ("part", "metric", "where"), [("groups", "recall@10", "of users with 1 events"), ("protocols", "ndcg@10", "rectools")]
)
def test_numbers_of_groups_and_of_protocols_are_held_to_their_range(measured: dict[str, Any], part: str, metric: str, where: str) -> None:
    changed = copy.deepcopy(measured)
    changed[part][0]["metrics"][metric]["value"] = 1.7
    faults = list(faults_of_quality(read(changed)))
    assert any(where in fault.reason and "out of range" in fault.reason for fault in faults), faults


def test_resamples_that_are_gone_are_missed(tmp_path: Path) -> None:
    """And a run that lacks a part of a cell, and no cell, may become the baseline."""
    place = GatedRun(folder=tmp_path / "run", baseline=tmp_path / "run.json")
    means = {name: np.random.default_rng(1).normal(mean, 0.01, 500).tolist() for name, mean in (("ndcg@10", 0.2), ("recall@10", 0.4))}
    place.add(record(4) | {"replicates": {"seed": 0, "means": means}})
    assert place.gate("--update") == PASS
    place.change(4, lambda values: values.update(replicates=None))
    assert place.findings() == (INCOMPLETE, [("MISSING", 4, None)])
    assert place.gate("--update") == PASS
    assert place.findings() == (PASS, [])
    assert set(HELD) == set(get_args(Held))


@pytest.mark.parametrize(
    ("fact", "said"), [("targets", "the number of its data's targets"), ("ceiling", "the ceiling of its data"), ("items", "data's items")]
)
def test_a_fact_of_the_data_that_a_check_needs_is_missed_where_it_is_gone(measured: dict[str, Any], fact: str, said: str) -> None:
    changed = copy.deepcopy(measured)
    changed["dataset"][fact] = None
    findings = judge(Baseline.of([read(measured)], margins={}), [read(changed)])
    (missing,) = [one.reason for one in findings if one.verdict is Verdict.MISSING]
    assert said in missing


def test_an_interval_that_is_gone_is_missed(measured: dict[str, Any]) -> None:
    changed = copy.deepcopy(measured)
    changed["metrics"]["ndcg@10"] |= {"low": None, "high": None}
    findings = judge(Baseline.of([read(measured)], margins={}), [read(changed)])
    assert [one.reason for one in findings if one.verdict is Verdict.MISSING] == [
        "the interval of its ndcg@10 is gone; the baseline's record has it"
    ]


def test_a_recall_beyond_all_bounds_is_one_more_fault(measured: dict[str, Any]) -> None:
    measured["metrics"]["recall@10"]["value"] = 1e308
    assert list(faults_of_quality(read(measured)))


@pytest.mark.parametrize("split", ["leave-one-out", "temporal"])
def test_the_ceiling_holds_on_every_split(measured: dict[str, Any], split: str) -> None:
    measured["dataset"] |= {"split": split, "ceiling": {"whole_past": {"ndcg@10": 0.01}}}
    measured["cell"]["split"] = split
    [fault] = faults_of_quality(read(measured))
    assert "above 0.01, the most that the past of these data tells" in fault.reason

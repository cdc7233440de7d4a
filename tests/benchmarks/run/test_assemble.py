"""What of a process's answer a record holds."""

import pytest

from benchmarks.records import GroupQuality, ProtocolQuality
from benchmarks.run.assemble import _with_metrics

OTHERS = {
    GroupQuality: {"least": 1, "below": 10},
    ProtocolQuality: {"name": "5-core", "items": 9, "request_time": True, "asks_request_time": False},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_part_with_metrics_of_its_own_says_their_unit_and_direction(kind) -> None:
    answer = {"value": 0.5, "n": 9, "method": "full catalogue"}
    part = _with_metrics({**OTHERS[kind], "metrics": {"ndcg@10": answer, "recall@10": answer}}, kind, "a part")
    assert {name: getattr(part, name) for name in OTHERS[kind]} == OTHERS[kind]
    assert {(metric.direction, metric.unit) for metric in part.metrics.values()} == {("higher", "ratio")}

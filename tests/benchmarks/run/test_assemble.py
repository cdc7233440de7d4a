"""What of a process's answer a record holds."""

from benchmarks.run.assemble import _group


def test_a_groups_qualities_say_their_unit_and_direction() -> None:
    answer = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "method": "full catalogue"}
    group = _group({"least": 1, "below": 10, "metrics": {"ndcg@10": answer, "recall@10": answer}})
    assert (group.least, group.below) == (1, 10)
    assert {(metric.direction, metric.unit) for metric in group.metrics.values()} == {("higher", "ratio")}

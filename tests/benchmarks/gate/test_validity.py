"""Numbers of one record that contradict each other, each pair by itself."""

import pytest

from benchmarks.gate import validity


@pytest.mark.parametrize(
    ("numbers", "metric"),
    [
        ({"serve_flops": 10, "score_flops": 5, "request_flops": 16}, "request_flops"),
        ({"serve_latency_p50_ms": 2.0, "serve_latency_p95_ms": 1.0}, "serve_latency_p50_ms"),
        ({"request_latency_p95_ms": 2.0, "request_latency_p99_ms": 1.0}, "request_latency_p95_ms"),
        ({"serve_visible_flops": 12, "serve_flops": 10}, "serve_visible_flops"),
        ({"train_visible_flops": 12, "train_flops": 10}, "train_visible_flops"),
        ({"ndcg@10": 0.5, "recall@10": 0.4}, "ndcg@10"),
        ({"ndcg@10": 0.1, "recall@10": 0.4}, "ndcg@10"),  # less than every found item at the last rank gives
        ({"ndcg@10_novel": 0.5, "recall@10_novel": 0.4}, "ndcg@10_novel"),
        ({"ndcg@5": 0.5, "ndcg@10": 0.4}, "ndcg@5"),
        ({"serve_flops": 10, "serve_macs": 6}, "serve_flops"),
    ],
)
def test_numbers_that_contradict_each_other_are_named(numbers: dict[str, float], metric: str) -> None:
    assert [fault.metric for fault in validity._of_order(numbers)] == [metric]
    sound = {"request_flops": 15, "serve_flops": 12, "ndcg@10": 0.3}.get(metric, 0.1)
    assert list(validity._of_order(numbers | {metric: sound})) == []

"""Numbers of one record that contradict each other, each pair by itself."""

import dataclasses

import pytest
from fabricated_records import DIGEST, fabricate

from benchmarks.cell import Cell
from benchmarks.gate import validity
from benchmarks.keys import cell_key
from benchmarks.measures import versions
from benchmarks.records import Record, record_of

OTHER_COST = "its cost is of another key than its settings and its data's number of items make"


def costly(*, measured: dict[str, int], items: int | None = 3001, **settings: object) -> Record:
    """A record of 3,001 items whose measures have these versions, and whose own keys are right."""
    cell = Cell(history=24, recent=8, **settings)
    key = cell_key(cell, dataset_digest=DIGEST, versions=measured)
    values = fabricate(cell, cell_key=key, measure_versions=measured, model=None)
    return record_of(values | {"dataset": values["dataset"] | {"items": items}})


def other_cost(record: Record) -> list[str]:
    assert record.cost is not None
    swapped = dataclasses.replace(record, cost=dataclasses.replace(record.cost, key="f" * 64))
    assert list(validity._of_keys(record)) == []
    return [fault.reason for fault in validity._of_keys(swapped)]


def test_a_costs_key_is_made_anew_from_the_cells_shape() -> None:
    tokens = {"backbone": "hstu", "compression": "experts", "tokens": 4}
    assert other_cost(costly(measured=versions(), **tokens)) == [OTHER_COST]
    assert other_cost(costly(measured=versions(control=True), control=True, **tokens)) == [OTHER_COST]


def test_a_costs_key_is_left_where_its_record_cannot_tell_it() -> None:
    """Of an older measure, of texts and of categories, whose digests are in the cost's file alone, and of data of unknown size."""
    tokens = {"backbone": "hstu", "compression": "experts", "tokens": 4}
    assert other_cost(costly(measured=versions() | {"serve_peak_bytes": 1}, **tokens)) == []
    assert other_cost(costly(measured=versions(), **tokens | {"backbone": "hllm"})) == []
    assert other_cost(costly(measured=versions(), **tokens | {"compression": "category"})) == []
    assert other_cost(costly(measured=versions(), items=None, **tokens)) == []


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

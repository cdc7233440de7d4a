import dataclasses

import pytest
from fabricated_records import CODE, DIGEST, USERS, configured, fabricate

from benchmarks.analysis.configurations import configurations, ledger_row_agrees
from benchmarks.analysis.references import compare
from benchmarks.cell import Cell
from benchmarks.records import LedgerRow, record_of


def cell(**settings: object) -> Cell:
    return Cell(**({"backbone": "hstu", "compression": "experts", "tokens": 4} | settings))  # type: ignore[arg-type]


def test_a_configuration_is_a_cell_without_its_seed():
    records = [fabricate(cell(seed=seed)) for seed in (2, 1, 3)] + [fabricate(cell(tokens=8))]
    four, eight = configured(records)
    assert [record.cell.seed for record in four.records] == [1, 2, 3]
    assert (four.cell.tokens, eight.cell.tokens) == (4, 8)
    values = [record.value("ndcg@10") for record in four.records]
    quality = four.quality("ndcg@10")
    assert quality.value == pytest.approx(sum(values) / 3)
    assert quality.seeds == (1, 2, 3)
    assert quality.n == USERS
    assert quality.low < quality.value < quality.high


def test_other_data_are_another_configuration():
    found = configured([fabricate(cell()), fabricate(cell(), dataset_digest="e" * 64)])
    assert [one.dataset_digest for one in found] == [DIGEST, "e" * 64]
    comparison = compare(found[0], found, "ndcg@10")
    assert comparison.references.full is None


def test_a_cell_that_failed_before_its_data_belongs_to_the_configuration_of_its_seeds():
    (one,) = configured([fabricate(cell(seed=1)), fabricate(cell(seed=2), status="crash")])
    assert dict(one.statuses) == {"ok": 1, "crash": 1}
    assert one.quality("ndcg@10").seeds == (1,)


def test_what_failed_has_no_quality_and_says_why():
    (one,) = configured([fabricate(cell(), status="oom")])
    quality = one.quality("ndcg@10")
    assert quality.value is None
    assert quality.reason == "oom"


def test_null_metrics_say_their_reason():
    record = fabricate(cell())
    (one,) = configured([record])
    cost = one.cost("serve_energy_j")
    assert cost.value is None
    assert cost.reason == record["metrics"]["serve_energy_j"]["method"]
    assert one.cost("no_such_metric").reason == "not measured"


def test_a_cost_over_seeds_is_the_median_and_its_range():
    records = [fabricate(cell(seed=seed)) for seed in (1, 2, 3)]
    for record, value in zip(records, (5.0, 1.0, 3.0), strict=True):
        record["metrics"]["serve_latency_p50_ms"] |= {"value": value, "low": None, "high": None}
    (one,) = configured(records)
    found = one.cost("serve_latency_p50_ms")
    assert (found.value, found.low, found.high) == (3.0, 1.0, 5.0)


def test_replicates_that_are_missing_leave_the_records_own_interval():
    record = fabricate(cell(), replicates=None)
    (one,) = configured([record])
    quality = one.quality("ndcg@10")
    assert (quality.low, quality.high) == (record["metrics"]["ndcg@10"]["low"], record["metrics"]["ndcg@10"]["high"])
    assert quality.replicates is None
    assert "no replicates" in quality.reason


def test_seeds_over_different_users_have_no_interval():
    records = [fabricate(cell(seed=1)), fabricate(cell(seed=2))]
    records[1]["replicates"]["seed"] = 5
    (one,) = configured(records)
    quality = one.quality("ndcg@10")
    assert quality.value is not None
    assert quality.low is None
    assert "different users" in quality.reason


def test_a_record_from_before_a_setting_has_its_defaults():
    old = fabricate(cell())
    old["cell"] = {name: value for name, value in old["cell"].items() if name not in ("plan", "cache_dtype", "ablation", "staleness")}
    (one,) = configured([old])
    assert one.changed == {}
    assert one.cell.plan == "equal"
    assert len(configured([old, fabricate(cell(seed=2))])) == 1


@pytest.mark.parametrize(
    ("row", "agrees"),
    [
        ({"agrees": True, "formula_flops": 1, "torch_flops": 9}, True),
        ({"agrees": False, "formula_flops": 1, "torch_flops": 1}, False),
        ({"formula_flops": 1000, "torch_flops": 991, "fvcore_flops": None}, True),
        ({"formula_flops": 1000, "torch_flops": 989, "fvcore_flops": 1000}, False),
        ({"formula_flops": 0, "torch_flops": 0}, True),
        ({}, True),
    ],
)
def test_a_ledger_row_agrees_within_one_percent(row, agrees):
    assert ledger_row_agrees(LedgerRow(phase="serve", part="total", **row)) is agrees


def test_a_disagreeing_ledger_is_seen():
    (one,) = configured([fabricate(cell(), agrees=False, code=CODE)])
    assert {row.phase for row in one.disagreements()} == {"serve"}


def test_several_measurements_span_their_intervals():
    records = [fabricate(cell(seed=seed)) for seed in (1, 2)]
    for record, (value, low, high) in zip(records, ((5.0, 4.0, 7.0), (5.2, 4.9, 5.5)), strict=True):
        record["metrics"]["serve_latency_p50_ms"] |= {"value": value, "low": low, "high": high}
    found = configured(records)[0].cost("serve_latency_p50_ms")
    assert (found.value, found.low, found.high) == (5.1, 4.0, 7.0)  # and not from 5.0 to 5.2


def test_seeds_that_share_a_cost_measured_it_once():
    records = [fabricate(cell(seed=seed)) for seed in (1, 2, 3)]
    for record in records:
        record["metrics"]["serve_latency_p50_ms"] |= {"value": 5.0, "low": 4.0, "high": 7.0}
    (one,) = configured(records)
    found = one.cost("serve_latency_p50_ms")
    assert (found.value, found.low, found.high, found.seeds) == (5.0, 4.0, 7.0, (1, 2, 3))  # and no range from 5 to 5


@pytest.mark.parametrize(
    ("metric", "value"), [("ndcg@10", 1.7), ("ndcg@10", -0.1), ("cache_bytes", -5), ("serve_flops", -1.0), ("serve_flops", 1e300)]
)
def test_a_number_that_cannot_be_is_not_used_and_said(metric, value):
    record = fabricate(cell())
    record["metrics"][metric]["value"] = value
    (one,) = configured([record])
    found = one.quality(metric) if metric == "ndcg@10" else one.cost(metric)
    assert found.value is None
    assert found.reason == f"recorded as {value}, which it cannot be"


def test_a_seed_with_two_records_counts_once_by_the_whole_one():
    cell = Cell(backbone="hstu", compression="experts", tokens=4)
    whole = record_of(fabricate(cell))
    half = dataclasses.replace(whole, cell_key="f" * 64, cost=None, metrics={"ndcg@10": whole.metrics["ndcg@10"]})
    for records in ([whole, half], [half, whole]):
        (one,) = configurations(records)
        assert one.records == (whole,)
        assert one.quality("ndcg@10").seeds == (1,)


def test_environments_share_quality_and_counts_and_never_a_timing():
    here, there = fabricate(cell(seed=1)), fabricate(cell(seed=2))
    there["cost"]["environment"]["fingerprint"] = "f" * 64
    there["cost"]["key"] = "another"
    there["metrics"]["serve_latency_p50_ms"]["value"] = 1e4
    (one,) = configured([here, there])
    assert one.machines == ("e" * 64, "f" * 64)
    assert one.quality("ndcg@10").seeds == (1, 2)
    assert one.cost("serve_flops").value == here["metrics"]["serve_flops"]["value"]
    assert one.cost("serve_latency_p50_ms").value is None
    assert "2 environments" in one.cost("serve_latency_p50_ms").reason
    of_there = dataclasses.replace(one, machine="f" * 64)
    assert of_there.cost("serve_latency_p50_ms").value == 1e4
    assert of_there.quality("ndcg@10").seeds == (1, 2)
    of_neither = dataclasses.replace(one, machine="0" * 64)
    assert of_neither.cost("serve_latency_p50_ms").reason == "not timed in this environment"
    assert of_neither.cost("serve_flops").value == one.cost("serve_flops").value

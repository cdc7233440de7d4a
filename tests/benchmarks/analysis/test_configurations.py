import numpy as np
import pytest
from fabricated_records import CODE, DIGEST, USERS, fabricate, grid_cells
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.analysis.configurations import configurations, ledger_row_agrees
from benchmarks.analysis.estimates import Estimate, difference, over_seeds, recovered, retention
from benchmarks.analysis.references import compare, find_references, untouched
from benchmarks.cell import Cell


def estimate(value: float, replicates: list[float], *, sample: str = "same") -> Estimate:
    low, high = np.percentile(replicates, (2.5, 97.5))
    return Estimate(value=value, low=float(low), high=float(high), n=10, seeds=(1,), replicates=np.array(replicates), sample=sample)


def cell(**settings: object) -> Cell:
    return Cell(**({"backbone": "hstu", "compression": "experts", "tokens": 4} | settings))  # type: ignore[arg-type]


def test_one_seed_keeps_its_replicates():
    rows = np.array([[0.1, 0.2, 0.3]])
    assert over_seeds(rows).tolist() == [0.1, 0.2, 0.3]


def test_seeds_are_drawn_with_replacement_inside_a_replicate():
    rows = np.array([[1.0] * 4000, [0.0] * 4000])
    combined = over_seeds(rows)
    # two of two seeds with replacement: both first 1/4, one of each 1/2, both second 1/4
    shares = [float((combined == value).mean()) for value in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert (over_seeds(rows) == combined).all()


@given(st.integers(1, 5), st.integers(2, 30))
def test_a_replicate_never_leaves_the_range_of_its_seeds(seeds, replicates):
    rows = np.random.default_rng(3).random((seeds, replicates))
    combined = over_seeds(rows)
    assert ((combined >= rows.min(axis=0) - 1e-12) & (combined <= rows.max(axis=0) + 1e-12)).all()


def test_a_difference_is_taken_replicate_by_replicate():
    ours, theirs = estimate(0.30, [0.2, 0.3, 0.4]), estimate(0.20, [0.1, 0.2, 0.3])
    found = difference(ours, theirs)
    assert found.value == pytest.approx(0.1)
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.1))  # unpaired it would reach from -0.1 to 0.3
    assert not found.holds_zero


def test_other_users_are_not_paired():
    found = difference(estimate(0.3, [0.2, 0.4]), estimate(0.2, [0.1, 0.3], sample="other"))
    assert found.value == pytest.approx(0.1)
    assert found.low is None
    assert "different users" in found.reason
    assert found.holds_zero


def test_retention_is_the_share_of_full_quality():
    found = retention(estimate(0.18, [0.16, 0.20]), estimate(0.20, [0.20, 0.20]))
    assert found.value == pytest.approx(0.9)
    assert found.low == pytest.approx(0.8 + 0.2 * 0.025)
    assert found.high == pytest.approx(1.0 - 0.2 * 0.025)


def test_retention_of_nothing_is_undefined():
    found = retention(estimate(0.18, [0.16, 0.20]), estimate(0.0, [0.0, 0.01]))
    assert found.value is None
    assert found.reason.startswith("undefined")


def test_recovered_is_the_share_of_the_long_historys_value():
    no_token, full = estimate(0.10, [0.10, 0.11]), estimate(0.20, [0.20, 0.21])
    found = recovered(estimate(0.175, [0.170, 0.190]), no_token, full)
    assert found.value == pytest.approx(0.75)  # 0.075 of 0.1
    assert (found.low, found.high) == (pytest.approx(0.7 + 0.1 * 0.025), pytest.approx(0.8 - 0.1 * 0.025))


@pytest.mark.parametrize(
    ("full", "said"),
    [
        (estimate(0.11, [0.09, 0.13]), "holds 0"),
        (estimate(0.05, [0.04, 0.06]), "worse than the no-token layout"),
        (Estimate(value=0.2, reason="no replicates"), "no interval"),
        (Estimate(value=None, reason="no full-history cell"), "no full-history cell"),
    ],
)
def test_recovered_is_undefined_where_the_denominator_says_nothing(full, said):
    found = recovered(estimate(0.15, [0.15, 0.16]), estimate(0.10, [0.10, 0.10]), full)
    assert found.value is None
    assert said in found.reason


def test_a_configuration_is_a_cell_without_its_seed():
    records = [fabricate(cell(seed=seed)) for seed in (2, 1, 3)] + [fabricate(cell(tokens=8))]
    four, eight = configurations(records)
    assert [record["cell"]["seed"] for record in four.records] == [1, 2, 3]
    assert (four["tokens"], eight["tokens"]) == (4, 8)
    values = [record["metrics"]["ndcg@10"]["value"] for record in four.records]
    quality = four.quality("ndcg@10")
    assert quality.value == pytest.approx(sum(values) / 3)
    assert quality.seeds == (1, 2, 3)
    assert quality.n == USERS
    assert quality.low < quality.value < quality.high


def test_other_data_are_another_configuration():
    found = configurations([fabricate(cell()), fabricate(cell(), dataset_digest="e" * 64)])
    assert [one.dataset_digest for one in found] == [DIGEST, "e" * 64]
    comparison = compare(found[0], found, "ndcg@10")
    assert comparison.references.full is None


def test_a_cell_that_failed_before_its_data_belongs_to_the_configuration_of_its_seeds():
    (one,) = configurations([fabricate(cell(seed=1)), fabricate(cell(seed=2), status="crash")])
    assert dict(one.statuses) == {"ok": 1, "crash": 1}
    assert one.quality("ndcg@10").seeds == (1,)


def test_what_failed_has_no_quality_and_says_why():
    (one,) = configurations([fabricate(cell(), status="oom")])
    quality = one.quality("ndcg@10")
    assert quality.value is None
    assert quality.reason == "oom"


def test_null_metrics_say_their_reason():
    record = fabricate(cell())
    (one,) = configurations([record])
    cost = one.cost("serve_energy_j")
    assert cost.value is None
    assert cost.reason == record["metrics"]["serve_energy_j"]["method"]
    assert one.cost("no_such_metric").reason == "not measured"


def test_a_cost_over_seeds_is_the_median_and_its_range():
    records = [fabricate(cell(seed=seed)) for seed in (1, 2, 3)]
    for record, value in zip(records, (5.0, 1.0, 3.0), strict=True):
        record["metrics"]["serve_latency_p50_ms"]["value"] = value
    (one,) = configurations(records)
    found = one.cost("serve_latency_p50_ms")
    assert (found.value, found.low, found.high) == (3.0, 1.0, 5.0)


def test_replicates_that_are_missing_leave_the_records_own_interval():
    record = fabricate(cell(), replicates={})
    (one,) = configurations([record])
    quality = one.quality("ndcg@10")
    assert (quality.low, quality.high) == (record["metrics"]["ndcg@10"]["low"], record["metrics"]["ndcg@10"]["high"])
    assert quality.replicates is None
    assert "no replicates" in quality.reason


def test_seeds_over_different_users_have_no_interval():
    records = [fabricate(cell(seed=1)), fabricate(cell(seed=2))]
    records[1]["replicates"]["seed"] = 5
    (one,) = configurations(records)
    quality = one.quality("ndcg@10")
    assert quality.value is not None
    assert quality.low is None
    assert "different users" in quality.reason


def test_references_are_of_the_same_model_data_and_window():
    found = configurations([fabricate(one) for one in grid_cells()])
    ours = next(one for one in found if one["backbone"] == "sasrec" and one["history"] == 128 and one.is_tokens and one["tokens"] == 8)
    references = find_references(ours, found)
    assert references.full is not None
    assert (references.full["backbone"], references.full.window, references.full["serving"]) == ("sasrec", 160, "recompute")
    assert references.full_cached is not None
    assert references.full_cached["serving"] == "cache"
    assert references.no_token is not None
    assert (references.no_token["tokens"], references.no_token["history"]) == (0, 128)
    assert references.recent is not None
    assert references.recent["recent"] == 32


@pytest.mark.parametrize("other", [{"copying_start": True}, {"recent_weight": 3.0}, {"moving_windows": True}, {"item_learning_rate": 1e-5}])
def test_no_reference_is_trained_by_another_recipe(other):
    full = {"compression": "full", "tokens": 0}
    found = configurations([fabricate(one) for one in (cell(**other), cell(**full))])
    ours = next(one for one in found if one.is_tokens)
    assert find_references(ours, found).full_quality is None
    found = configurations([fabricate(one) for one in (cell(**other), cell(**full, **other))])
    assert find_references(next(one for one in found if one.is_tokens), found).full_quality is not None


def test_no_reference_is_an_ablation_or_served_from_anything_but_its_own_fresh_cache():
    full = {"compression": "full", "tokens": 0}
    changed = [cell(**full, staleness=8), cell(**full, cache_dtype="int8"), cell(cache_dtype="int8"), cell(ablation="other_user")]
    own = cell(cache_dtype="int8")
    found = configurations([fabricate(one) for one in changed])
    assert find_references(next(one for one in found if one.settings["cache_dtype"] == own.cache_dtype), found).full_quality is None
    found = configurations([fabricate(one) for one in [*changed, cell(**full)]])
    for one in found:
        assert find_references(one, found).full_quality.changed == {}
    assert [one.is_experiment for one in found].count(True) == 2


def test_a_control_has_the_places_of_the_tokens():
    plans = [
        {"plan": "100:2+224:2"},
        {"plan": "100:0+224:0", "tokens": 0},
        {"tokens": 0},
        {"plan": "growing", "tokens": 0},
        {"plan": "growing"},
    ]
    found = configurations([fabricate(cell(segments=2, **plan)) for plan in plans])
    plan_of_control = {one["plan"]: find_references(one, found).no_token["plan"] for one in found if one.is_tokens}
    assert plan_of_control == {"100:2+224:2": "100:0+224:0", "growing": "growing"}


def test_the_untouched_cell_of_a_changed_one_is_the_same_model():
    cells = [cell(), cell(tokens=8), cell(staleness=4, cache_dtype="int8"), cell(tokens=2, ablation="other_user")]
    found = configurations([fabricate(one) for one in cells])
    own = {one["tokens"]: untouched(one, found) for one in found if one.changed}
    assert own[4] is next(one for one in found if one["tokens"] == 4 and not one.changed)
    assert own[2] is None


def test_a_record_from_before_a_setting_has_its_defaults():
    old = fabricate(cell())
    old["cell"] = {name: value for name, value in old["cell"].items() if name not in ("plan", "cache_dtype", "ablation", "staleness")}
    (one,) = configurations([old])
    assert one.changed == {}
    assert one["plan"] == "equal"
    assert len(configurations([old, fabricate(cell(seed=2))])) == 1


def test_a_control_of_its_own_training_is_preferred_and_a_failed_one_is_not():
    separate, elastic = cell(tokens=0), cell(tokens=0, training="elastic", elastic_tokens=(0, 4))
    ours = cell(training="elastic", elastic_tokens=(0, 4))

    def control(**statuses: str) -> str:
        records = [fabricate(ours), fabricate(separate, status=statuses.get("separate", "ok")), fabricate(elastic)]
        found = configurations(records)
        return str(find_references(next(one for one in found if one.is_tokens), found).no_token["training"])

    assert control() == "separate"
    assert control(separate="oom") == "elastic"


def test_full_history_from_its_cache_stands_in_where_it_alone_was_measured():
    found = configurations([fabricate(cell()), fabricate(cell(compression="full", tokens=0, serving="cache"))])
    ours = next(one for one in found if one.is_tokens)
    references = find_references(ours, found)
    assert references.full is None
    assert references.full_quality is references.full_cached
    assert compare(ours, found, "ndcg@10").retention.value is not None


def test_a_comparison_adds_up():
    found = configurations([fabricate(one) for one in grid_cells(histories=(224,))])
    ours = next(one for one in found if one.is_tokens and one["tokens"] == 16)
    got = compare(ours, found, "ndcg@10")
    full, control = got.references.full.quality("ndcg@10").value, got.references.no_token.quality("ndcg@10").value
    assert got.over_no_token.value == pytest.approx(got.quality.value - control)
    assert got.recovered.value == pytest.approx((got.quality.value - control) / (full - control))
    assert got.retention.value == pytest.approx(got.quality.value / full)
    wide = got.quality.high - got.quality.low
    assert got.over_no_token.high - got.over_no_token.low < wide  # what the pairing is for


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
    assert ledger_row_agrees(row) is agrees


def test_a_disagreeing_ledger_is_seen():
    (one,) = configurations([fabricate(cell(), agrees=False, code=CODE)])
    assert {row["phase"] for row in one.disagreements()} == {"serve"}

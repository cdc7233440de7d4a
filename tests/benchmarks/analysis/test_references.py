import dataclasses

import pytest
from fabricated_records import configured, fabricate, grid_cells
from fabricated_records import metric as metric_of

from benchmarks.analysis.configurations import OF_ITS_OWN
from benchmarks.analysis.frontier import frontier
from benchmarks.analysis.references import backbone_time_share, compare, find_references, timed_share, untouched
from benchmarks.cell import Cell


def cell(**settings: object) -> Cell:
    return Cell(**({"backbone": "hstu", "compression": "experts", "tokens": 4} | settings))  # type: ignore[arg-type]


def test_references_are_of_the_same_model_data_and_window():
    found = configured([fabricate(one) for one in grid_cells()])
    ours = next(
        one for one in found if one.cell.backbone == "sasrec" and one.cell.history == 128 and one.is_tokens and one.cell.tokens == 8
    )
    references = find_references(ours, found)
    assert references.full is not None
    assert (references.full.cell.backbone, references.full.window, references.full.cell.serving) == ("sasrec", 160, "recompute")
    assert references.full_cached is not None
    assert references.full_cached.cell.serving == "cache"
    assert references.no_token is not None
    assert (references.no_token.cell.tokens, references.no_token.cell.history) == (0, 128)
    assert references.recent is not None
    assert (references.recent.cell.recent, references.recent.window) == (32, ours.window)


@pytest.mark.parametrize(
    "other",
    [
        {"copying_start": True}, {"recent_weight": 3.0}, {"moving_windows": True}, {"item_learning_rate": 1e-5},
        {"negatives": 64}, {"dropout": 0.1}, {"batch_size": 64}, {"weight_decay": 0.1}, {"threads": 2}, {"item_layers": 2},
    ],
)  # fmt: skip
def test_no_reference_is_trained_by_another_recipe(other):
    full = {"compression": "full", "tokens": 0}
    found = configured([fabricate(one) for one in (cell(**other), cell(**full))])
    ours = next(one for one in found if one.is_tokens)
    assert find_references(ours, found).full_quality is None
    found = configured([fabricate(one) for one in (cell(**other), cell(**full, **other))])
    assert find_references(next(one for one in found if one.is_tokens), found).full_quality is not None


def test_no_reference_is_an_ablation_or_served_from_anything_but_its_own_fresh_cache():
    full = {"compression": "full", "tokens": 0}
    changed = [cell(**full, staleness=8), cell(**full, cache_dtype="int8"), cell(cache_dtype="int8"), cell(ablation="other_user")]
    own = cell(cache_dtype="int8")
    found = configured([fabricate(one) for one in changed])
    assert find_references(next(one for one in found if one.cell.cache_dtype == own.cache_dtype), found).full_quality is None
    found = configured([fabricate(one) for one in [*changed, cell(**full)]])
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
    found = configured([fabricate(cell(segments=2, **plan)) for plan in plans])
    plan_of_control = {one.cell.plan: find_references(one, found).no_token.cell.plan for one in found if one.is_tokens}
    assert plan_of_control == {"100:2+224:2": "100:0+224:0", "growing": "growing"}


def test_the_untouched_cell_of_a_changed_one_is_the_same_model():
    cells = [cell(), cell(tokens=8), cell(staleness=4, cache_dtype="int8"), cell(tokens=2, ablation="other_user")]
    found = configured([fabricate(one) for one in cells])
    own = {one.cell.tokens: untouched(one, found) for one in found if one.changed}
    assert own[4] is next(one for one in found if one.cell.tokens == 4 and not one.changed)
    assert own[2] is None


def test_a_control_that_failed_is_no_reference():
    separate, elastic = cell(tokens=0), cell(tokens=0, training="elastic", elastic_tokens=(0, 4))
    ours = cell(training="elastic", elastic_tokens=(0, 4))

    def control(**statuses: str) -> str:
        records = [fabricate(ours), fabricate(separate, status=statuses.get("separate", "ok")), with_validation(elastic, 0.01)]
        found = configured(records)
        return str(find_references(next(one for one in found if one.is_tokens), found).no_token.cell.training)

    assert control() == "separate"
    assert control(separate="oom") == "elastic"


def test_full_history_from_its_cache_stands_in_where_it_alone_was_measured():
    found = configured([fabricate(cell()), fabricate(cell(compression="full", tokens=0, serving="cache"))])
    ours = next(one for one in found if one.is_tokens)
    references = find_references(ours, found)
    assert references.full is None
    assert references.full_quality is references.full_cached
    assert compare(ours, found, "ndcg@10").retention.value is not None


@pytest.mark.parametrize("serving", ["recompute", "cache", "append"])
def test_full_history_is_served_alike_where_its_serving_is_the_same(serving):
    full = [cell(compression="full", tokens=0, serving=one) for one in ("recompute", "cache", "append")]
    found = configured([fabricate(one) for one in (cell(serving=serving), *full)])
    ours = next(one for one in found if one.is_tokens)
    assert find_references(ours, found).full_alike.cell.serving == serving
    others = [one for one in found if one.is_tokens or one.cell.serving != serving]
    assert find_references(ours, others).full_alike is None


def test_the_share_of_a_time_has_the_interval_of_both_sides():
    records = [fabricate(cell()), fabricate(cell(compression="full", tokens=0))]
    for record, (value, low, high) in zip(records, ((3.0, 2.0, 4.0), (6.0, 6.0, 6.0)), strict=True):
        record["metrics"]["serve_latency_p50_ms"] |= {"value": value, "low": low, "high": high}
    ours, full = sorted(configured(records), key=lambda one: not one.is_tokens)
    share = timed_share("serve_latency_p50_ms", ours, full)
    assert (share.value, share.low, share.high) == pytest.approx((1 / 2, 1 / 3, 2 / 3))  # a side that is sure adds nothing
    back = timed_share("serve_latency_p50_ms", full, ours)
    assert (back.value, back.low, back.high) == pytest.approx((2, 3 / 2, 3))
    for processes in (1, None):
        records[1]["cost"]["processes"] = processes
        ours, full = sorted(configured(records), key=lambda one: not one.is_tokens)
        assert timed_share("serve_latency_p50_ms", ours, full).reason == "not timed in several processes on both sides"


def test_a_comparison_adds_up():
    found = configured([fabricate(one) for one in grid_cells(histories=(224,))])
    ours = next(one for one in found if one.is_tokens and one.cell.tokens == 16)
    got = compare(ours, found, "ndcg@10")
    full, control = got.references.full.quality("ndcg@10").value, got.references.no_token.quality("ndcg@10").value
    assert got.over_no_token.value == pytest.approx(got.quality.value - control)
    assert got.recovered.value is None  # its denominator is not above five half-widths
    assert "the smallest detectable difference is" in got.recovered.reason
    assert got.retention.value == pytest.approx(got.quality.value / full)
    wide = got.quality.high - got.quality.low
    assert got.over_no_token.high - got.over_no_token.low < wide  # what the pairing is for


@pytest.mark.parametrize(
    "own", [{"learning_rate": 0.1}, {"epochs": 9}, {"patience": 3}, {"temperature": 0.2}, {"warmup_steps": 5}, {"decays": False}]
)
def test_what_a_compression_is_tuned_by_may_be_its_own(own):
    found = configured([fabricate(cell()), fabricate(cell(compression="full", tokens=0, **own))])
    assert find_references(next(one for one in found if one.is_tokens), found).full_quality is not None


def test_a_setting_is_a_compressions_own_where_it_says_what_is_kept_or_how_that_was_tuned():
    """Whatever else differs, as the size of the model, makes another model that is a reference of none."""
    assert {
        "compression", "history", "recent", "segments", "tokens", "plan", "serving", "cache_dtype", "ablation", "staleness", "training",
        "elastic_tokens", "elastic_history", "learning_rate", "warmup_steps", "decays", "temperature", "epochs", "patience", "seed",
        "control", "counted_only", "counts", "expert_start", "expert_learning_rate", "expert_weight", "distillation", "random_cuts",
    } == OF_ITS_OWN  # fmt: skip
    assert {field.name for field in dataclasses.fields(Cell)} > OF_ITS_OWN


@pytest.mark.parametrize("other", [{"layers": 3}, {"width": 96}, {"time_bias": False}, {"divisor": 7}, {"heads": 2}, {"split": "temporal"}])
def test_no_reference_is_a_model_of_another_size_or_kind(other):
    found = configured([fabricate(one) for one in (cell(), cell(compression="full", tokens=0, **other))])
    assert find_references(next(one for one in found if one.is_tokens), found).full_quality is None


def few_users(users: int, qualities: dict[int, float]):
    """A control, PerSRec and full history by tokens (-1 is full), each the mean over few users, all of whose resamples are alike."""
    records = []
    for tokens, quality in qualities.items():
        one = cell(tokens=tokens) if tokens >= 0 else cell(compression="full", tokens=0)
        record = fabricate(one)
        record["metrics"]["ndcg@10"] |= {"value": quality, "n": users, "low": quality, "high": quality}
        record["replicates"]["means"]["ndcg@10"] = [quality] * 500
        records.append(record)
    found = configured(records)
    return compare(next(one for one in found if one.is_tokens), found, "ndcg@10")


@pytest.mark.parametrize("users", [1, 9])
def test_few_users_prove_nothing(users):
    found = few_users(users, {0: 0.43, 4: 0.22, -1: 0.485})  # recovered would be -382% (-382% to -382%)
    assert (found.quality.value, found.quality.low, found.quality.high) == (0.22, None, None)
    assert found.quality.reason == f"{users} user{'s' * (users > 1)}; an interval takes at least 10"
    assert found.retention.value == pytest.approx(0.22 / 0.485)
    assert (found.retention.low, found.retention.reason) == (None, found.quality.reason)
    assert found.recovered.value is None
    assert found.recovered.reason.startswith("undefined: full minus no token has no interval")
    assert found.over_no_token.holds_zero


def test_users_who_are_all_alike_prove_nothing():
    found = few_users(60, {0: 0.0, 4: 0.2, -1: 0.4})
    assert (found.quality.low, found.over_no_token.low, found.retention.low, found.recovered.value) == (None, None, None, None)
    assert "whichever users are drawn" in found.quality.reason


def test_few_users_are_on_no_frontier_with_certainty():
    record = fabricate(cell())
    record["metrics"]["ndcg@10"]["n"] = 3
    found = configured([record, fabricate(cell(tokens=8))])
    few, many = sorted(frontier(found, cost="serve_flops", metric="ndcg@10").standings, key=lambda s: s.configuration.cell.tokens)
    assert (few.probability, few.dominated_by) == (None, None)
    assert many.probability is not None


def chosen(records: list[dict], which: str) -> Cell:
    found = configured(records)
    return getattr(find_references(next(one for one in found if one.is_tokens), found), which).cell


def with_validation(of: Cell, validation: float) -> dict:
    record = fabricate(of)
    record["model"]["validation"] = validation
    return record


ELASTIC = {"training": "elastic", "elastic_tokens": (0, 4)}


@pytest.mark.parametrize("best", ["elastic", "separate", "recent"])
def test_no_token_is_the_best_on_validation_of_all_that_carry_none(best):
    cells = {
        "elastic": cell(tokens=0, **ELASTIC),
        "separate": cell(tokens=0),
        "recent": cell(compression="recent", tokens=0),
    }
    records = [with_validation(one, 0.2 if name == best else 0.1) for name, one in cells.items()]
    assert chosen([fabricate(cell()), *records], "no_token") == dataclasses.replace(cells[best], seed=0)


@pytest.mark.parametrize("best", ["elastic", "separate"])
def test_full_history_is_the_better_on_validation_however_it_was_trained(best):
    full = {"compression": "full", "tokens": 0}
    cells = {"separate": cell(**full), "elastic": cell(**full, epochs=2)}  # stands for an elastic one, which is as free in its epochs
    records = [with_validation(one, 0.2 if name == best else 0.1) for name, one in cells.items()]
    assert chosen([fabricate(cell()), *records], "full_quality") == dataclasses.replace(cells[best], seed=0)


def test_test_quality_chooses_no_reference():
    flattered, chosen_one = with_validation(cell(tokens=0), 0.1), with_validation(cell(tokens=0, **ELASTIC), 0.2)
    flattered["metrics"]["ndcg@10"]["value"] = 0.9
    assert chosen([fabricate(cell()), flattered, chosen_one], "no_token").training == "elastic"


def test_a_model_that_counts_is_held_against_models_that_count():
    """Full attention counts all items, no token the recent ones; counts only stands apart and is no control."""
    full = {"compression": "full", "tokens": 0}
    cells = {
        "ours": cell(counts="all"), "full": cell(**full, counts="all"), "no token": cell(tokens=0, counts="recent"),
        "counts only": cell(tokens=0, counts="all"),
    }  # fmt: skip
    others = [cell(), cell(tokens=0), cell(**full), cell(**full, counts="recent")]
    found = configured([fabricate(one) for one in (*cells.values(), *others)])
    ours = next(one for one in found if one.is_tokens and one.cell.counts == "all")
    references = find_references(ours, found)
    assert references.full_quality.cell == dataclasses.replace(cells["full"], seed=0)
    assert references.no_token.cell == dataclasses.replace(cells["no token"], seed=0)
    assert references.counts_only.cell == dataclasses.replace(cells["counts only"], seed=0)
    contrast = compare(ours, found, "ndcg@10")
    assert contrast.over_counts_only.value == pytest.approx(ours.quality("ndcg@10").value - references.counts_only.quality("ndcg@10").value)
    plain = find_references(next(one for one in found if one.is_tokens and one.cell.counts == "none"), found)
    assert {plain.full_quality.cell.counts, plain.no_token.cell.counts} == {"none"}
    assert plain.counts_only is None


def test_what_was_not_trained_is_named():
    found = configured([fabricate(one) for one in (cell(), cell(tokens=0), cell(compression="full", tokens=0))])
    references = find_references(next(one for one in found if one.is_tokens), found)
    assert references.not_trained == ("no token (elastic)", "full history (elastic)", "recent items alone")


def test_no_share_is_quoted_of_what_is_worth_nothing():
    found = few_users(600, {0: 0.4, 4: 0.41, -1: 0.4})
    assert found.retention.value is not None  # without an interval nothing is known of its worth
    records = [fabricate(one) for one in (cell(), cell(tokens=0), cell(compression="full", tokens=0))]
    for metric, shift in (("ndcg@10", 0.0), ("recall@10", 0.0)):
        records[2]["metrics"][metric]["value"] = records[1]["metrics"][metric]["value"] + shift
        draws = records[1]["replicates"]["means"][metric]
        records[2]["replicates"]["means"][metric] = [value + (0.001 if place % 2 else -0.001) for place, value in enumerate(draws)]
    found = configured(records)
    got = compare(next(one for one in found if one.is_tokens), found, "ndcg@10")
    assert got.full_over_no_token.holds_zero
    assert (got.retention.value, got.recovered.value) == (None, None)
    assert got.retention.reason == "undefined: the long history is worth nothing that could be measured here"


def test_a_share_of_time_is_that_of_two_that_ran_in_turn_where_full_attention_of_the_same_sizes_did():
    ours = cell(training="none", control=True, batch_size=1)
    cached = dataclasses.replace(ours, compression="full", tokens=0, control=False)
    paired = fabricate(ours, replicates=None)
    paired["metrics"]["serve_time_over_alike"] = metric_of(0.6, "ratio", low=0.5, high=0.7, n=9)
    longer = dataclasses.replace(cached, history=2 * ours.history)
    found = configured([paired, fabricate(cached, replicates=None), fabricate(longer, replicates=None)])
    tokens, alike, other_window = sorted(found, key=lambda one: (one.cell.compression != "experts", one.cell.history))
    for other in (None, alike):
        share = backbone_time_share(tokens, other)
        assert (share.value, share.low, share.high) == (0.6, 0.5, 0.7)
    # full attention of another window did not run beside it
    apart, expected = backbone_time_share(tokens, other_window), timed_share("serve_latency_p50_ms", tokens, other_window)
    assert (apart.value, apart.low, apart.high) == (expected.value, expected.low, expected.high)
    assert expected.value != 0.6
    assert backbone_time_share(alike, None).reason == "no full attention served the same way"
    batches = fabricate(cell(training="none", control=True, batch_size=32), replicates=None)
    batches["metrics"]["serve_time_over_alike"] = metric_of(0.6, "ratio", low=0.5, high=0.7, n=9)
    [of_batches] = configured([batches])
    assert backbone_time_share(of_batches, None).value is None  # what is timed in batches is no time of one request

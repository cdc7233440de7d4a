"""Two runs beside each other: pairs, what moved, and what differs that may be why."""

import dataclasses

import pytest
from fabricated_records import environment, fabricate, records_of

from benchmarks.analysis.between import between
from benchmarks.cell import Cell

TOKENS = Cell(backbone="hstu", compression="experts", tokens=4)
FULL = Cell(backbone="hstu", compression="full")


def scaled(cell: Cell, factor: float = 1.0) -> dict:
    """A record whose NDCG@10, and each replicate of it, is so many times as high."""
    record = fabricate(cell)
    record["metrics"]["ndcg@10"]["value"] *= factor
    record["replicates"]["means"]["ndcg@10"] = [mean * factor for mean in record["replicates"]["means"]["ndcg@10"]]
    return record


def seeds(cell: Cell, *numbers: int) -> list[Cell]:
    return [dataclasses.replace(cell, seed=seed) for seed in numbers]


def of(first: list[dict], second: list[dict]):
    return between(records_of(*first), records_of(*second))


def test_a_run_beside_itself_moved_nowhere():
    (pair, other) = of([fabricate(FULL), fabricate(TOKENS)], [fabricate(TOKENS), fabricate(FULL)]).pairs
    for one in (pair, other):
        assert one.is_same("ndcg@10")
        assert one.difference("ndcg@10").value == 0
        assert one.count("serve_flops") is None
        assert one.causes("quality") == one.causes("cost") == ()


def test_a_difference_is_paired_over_users_and_seeds():
    first = [scaled(cell) for cell in seeds(TOKENS, 1, 2, 3)]
    second = [scaled(cell, 1.05) for cell in seeds(TOKENS, 1, 2, 3)]
    (pair,) = of(first, second).pairs
    moved = pair.difference("ndcg@10")
    assert moved.value == pytest.approx(0.05 * pair.first.quality("ndcg@10").value)
    assert moved.sign == 1
    assert moved.half_width < pair.first.quality("ndcg@10").half_width / 10  # users are hard or easy in both


def test_seeds_that_one_run_alone_has_take_no_part():
    first = [scaled(cell) for cell in seeds(TOKENS, 1, 2)]
    second = [scaled(cell) for cell in seeds(TOKENS, 2, 3)]
    (pair,) = of(first, second).pairs
    assert (pair.seeds, pair.is_same("ndcg@10")) == ((2,), True)
    failed = [*map(scaled, seeds(TOKENS, 1)), *(fabricate(cell, status="crash") for cell in seeds(TOKENS, 2))]
    (pair,) = of(failed, [scaled(cell, factor) for cell, factor in zip(seeds(TOKENS, 1, 2), (1.0, 1.5), strict=True)]).pairs
    assert (pair.seeds, pair.is_same("ndcg@10"), pair.difference("ndcg@10").value) == ((1,), True, 0.0)
    (apart,) = of(first[:1], second[1:]).pairs
    assert (apart.seeds, apart.is_same("ndcg@10"), apart.difference("ndcg@10").sign) == ((), False, 0)


def test_a_setting_that_is_another_for_a_whole_run_is_a_cause_and_parts_no_pair():
    longer = [dataclasses.replace(cell, epochs=9) for cell in (TOKENS, FULL)]
    runs = of([fabricate(TOKENS), fabricate(FULL)], [fabricate(cell) for cell in longer])
    assert (len(runs.pairs), runs.only_first, runs.only_second, runs.settings) == (2, (), (), {"epochs": ("1", "9")})
    mixed = of([fabricate(TOKENS), fabricate(longer[1])], [fabricate(dataclasses.replace(cell, epochs=5)) for cell in (TOKENS, FULL)])
    assert (mixed.pairs, mixed.disjoint, len(mixed.only_first), len(mixed.only_second)) == ((), ("epochs",), 2, 2)


def test_other_data_and_another_split_are_not_paired_over_users():
    elsewhere = of([fabricate(TOKENS)], [fabricate(TOKENS, dataset_digest="9" * 64)])
    assert "data" in elsewhere.settings
    (pair,) = elsewhere.pairs
    assert pair.causes("quality") == ()
    assert (pair.difference("ndcg@10").low, pair.difference("ndcg@10").reason) == (None, "not paired: evaluated on different users")
    (split,) = of([fabricate(TOKENS)], [fabricate(dataclasses.replace(TOKENS, split="temporal"))]).pairs
    assert split.difference("ndcg@10").low is None  # as many users, and other targets


def test_code_and_machine_are_causes_of_the_half_that_they_made():
    other = fabricate(TOKENS)
    other["quality"]["code"]["training"] = "f" * 64
    packages = {**environment()["packages"], "torch": "2.14.0"}
    other["cost"]["environment"] = environment() | {"fingerprint": "0" * 64, "packages": packages}
    (pair,) = of([fabricate(TOKENS)], [other]).pairs
    assert pair.causes("quality") == ("code of training",)
    assert pair.causes("cost") == ("torch 2.13.0 to 2.14.0",)


def test_causes_are_those_of_every_seed_and_machines_those_of_every_cost():
    cells = [dataclasses.replace(TOKENS, seed=seed) for seed in (1, 2, 3)]
    others = [fabricate(cell) for cell in cells]
    others[2]["quality"]["code"]["training"] = "f" * 64
    others[1]["cost"]["environment"] = environment() | {
        "fingerprint": "0" * 64,
        "packages": {**environment()["packages"], "torch": "2.14.0"},
    }
    (pair,) = of([fabricate(cell) for cell in cells], others).pairs
    assert pair.causes("quality") == ("code of training",)
    assert pair.causes("cost") == ("torch 2.13.0 to 2.14.0",)
    assert not pair.on_one_machine


def test_counts_move_beyond_their_margin():
    other = fabricate(TOKENS)
    value = other["metrics"]["serve_flops"]["value"]
    other["metrics"]["serve_flops"]["value"] = value * 1.5
    other["metrics"]["parameters"]["value"] *= 1.0001
    (pair,) = of([fabricate(TOKENS)], [other]).pairs
    assert pair.count("serve_flops") == (value, 1.5 * value)
    assert pair.count("parameters") is None


def test_times_are_compared_on_one_machine_alone():
    slower = fabricate(TOKENS)
    for bound in ("value", "low", "high"):
        slower["metrics"]["serve_latency_p50_ms"][bound] *= 3
    (pair,) = of([fabricate(TOKENS)], [slower]).pairs
    share = pair.time("serve_latency_p50_ms")
    assert share.value == pytest.approx(3)
    assert share.low > 1
    slower["cost"]["environment"]["fingerprint"] = "0" * 64
    (elsewhere,) = of([fabricate(TOKENS)], [slower]).pairs
    assert elsewhere.time("serve_latency_p50_ms").value is None

import math

import pytest

from benchmarks.cell import Cell
from benchmarks.keys import cell_key
from benchmarks.measures import MEASURES, Measure, counts_agree, is_gated, versions


def test_the_names_that_others_rely_on_are_there() -> None:
    cutoffs = (5, 10, 50, 200)
    names = {f"{kind}@{cutoff}" for kind in ("recall", "ndcg") for cutoff in cutoffs} | {
        "mrr",
        "parameters",
        "cache_bytes",
        "padding_share",
        "process_gpu_bytes",
    }
    names |= {
        f"{phase}{kind}"
        for phase in ("full", "compress", "serve", "score", "request", "train", "item")
        for kind in ("_flops", "_visible_flops", "_macs", "_visible_macs")
    }
    names |= {"train_reserved_bytes"}
    names |= {"train_peak_bytes", "serve_peak_bytes", "compress_peak_bytes", "item_peak_bytes", "serve_energy_j"}
    names |= {
        "train_share_of_peak",
        "train_sequences_per_second",
        "compress_users_per_second",
        "serve_users_per_second",
        "item_vectors_per_second",
    }
    names |= {f"{kind}_latency_p{percent}_ms" for kind in ("serve", "request") for percent in (50, 95, 99)} | {"requests_per_second"}
    names |= {f"{kind}@10_{part}" for kind in ("recall", "ndcg") for part in ("repeat", "novel")}
    names |= {f"{kind}_{of}_over_full" for kind in ("serve", "compress", "compress_serve", "train") for of in ("time", "flops")}
    names |= {f"serve_{of}_over_alike" for of in ("time", "flops")}
    assert set(MEASURES) == names


def test_quality_is_better_higher_and_costs_say_which_way() -> None:
    assert {measure.direction for measure in MEASURES.values() if measure.group == "quality"} == {"higher"}
    assert [name for name, measure in MEASURES.items() if measure.group == "cost" and measure.direction == "higher"] == [
        "train_sequences_per_second",
        "train_share_of_peak",
        "compress_users_per_second",
        "serve_users_per_second",
        "item_vectors_per_second",
        "requests_per_second",
    ]


def test_only_what_repeats_is_gated() -> None:
    assert is_gated("serve_flops", device="cpu")
    assert is_gated("serve_flops", device="cuda")
    assert is_gated("ndcg@10", device="cpu")
    assert not is_gated("ndcg@10", device="cuda")
    assert not is_gated("serve_latency_p50_ms", device="cpu")
    assert is_gated("serve_peak_bytes", device="cpu")
    assert is_gated("train_peak_bytes", device="cuda")
    assert not is_gated("unheard_of", device="cpu")
    assert is_gated("serve_flops_over_full", device="cuda")
    assert not is_gated("serve_time_over_full", device="cuda")


def test_the_larger_margin_holds() -> None:
    measure = Measure(
        unit="ratio", direction="higher", group="quality", kind="evaluation", description="", relative_margin=0.1, absolute_margin=0.01
    )
    assert math.isclose(measure.margin(0.5), 0.05)
    assert measure.margin(0.05) == 0.01
    assert math.isclose(measure.margin(-0.5), 0.05)


def test_five_percent_more_flops_is_beyond_the_margin() -> None:
    assert MEASURES["serve_flops"].margin(1000.0) < 50


def test_a_new_version_is_a_new_cell_key() -> None:
    cell = Cell(backbone="hstu", compression="full")
    now = versions()
    assert cell_key(cell, dataset_digest="d", versions=now) != cell_key(cell, dataset_digest="d", versions=now | {"mrr": 2})


@pytest.mark.parametrize(
    ("formula", "counts", "agree"),
    [
        (None, (), True),
        (None, (None, 5), True),
        (1000, (990, 1010), True),
        (1000, (989, None), False),
        (1000, (1011,), False),
        (0, (0, 1), False),
    ],
)
def test_counts_agree_within_one_percent_of_the_formula(formula, counts, agree):
    assert counts_agree(formula, counts) is agree

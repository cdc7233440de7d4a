"""One tiny cell of every kind, from its payload to its answers: what a record needs is there, finite, and adds up."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from tiny_cells import BY_NOVELTY, CELLS, COMPUTED_ITEMS, COUNTED, ITEMS, LOG, QUALITY, SIZES, TIMED, measured, payload, trained

from benchmarks import execute
from benchmarks.cell import Cell, InvalidMeasurementError
from benchmarks.keys import cell_of_shape
from benchmarks.measures import COST_KINDS, CUTOFFS, MEASURES
from benchmarks.probes import brief, nvml, quality
from persrec import names
from persrec.checkpoints import CheckpointError
from persrec.data.splits import leave_one_out
from persrec.evaluation.served import Serving, served_states
from persrec.serving import CacheStore

pytestmark = pytest.mark.usefixtures("measuring")


@pytest.mark.parametrize("name", CELLS)
def test_every_metric_is_there_and_is_a_number_or_says_why_not(answer_of, name):
    answer, phases = answer_of(name)
    metrics = answer["metrics"]
    assert set(QUALITY + BY_NOVELTY + COUNTED + TIMED) <= set(metrics) <= set(MEASURES)
    for key, metric in metrics.items():
        assert set(metric) <= {"value", "low", "high", "n", "method", "samples"}, key
        assert metric["method"], key
        if metric["value"] is None:
            assert metric["n"] == 0, key
        else:
            assert math.isfinite(metric["value"]), key
            assert metric["value"] >= 0, key
            assert metric["n"] > 0, key
    for key in [*QUALITY, "padding_share"]:
        assert metrics[key]["value"] <= 1, key
    missing = {key for key in metrics if metrics[key]["value"] is None}
    nothing_before = {"compress_peak_bytes", "compress_users_per_second"}
    compresses = name not in ("full recomputed", "recent", "no token", "retrieval")
    of_items = set() if name in COMPUTED_ITEMS else {key for key in metrics if key.startswith("item_")}
    assert missing - {"serve_energy_j", "process_gpu_bytes", "train_reserved_bytes"} == (set() if compresses else nothing_before) | of_items
    assert phases["quality"] == ["load", "load", "quality"]
    assert phases["cost"] == ["load", *kinds_without_control()]
    for half in ("quality", "cost"):
        assert phases[f"{half} seconds"] == set(phases[half])
    assert set(answer["load"]) == {"memory", "throughput", "latency", "request", "training_cost"}  # what others used meanwhile


def kinds_without_control():
    return [kind for kind in COST_KINDS if kind != "control"]


@pytest.mark.parametrize("name", CELLS)
def test_the_ledger_of_a_cell_agrees(answer_of, name):
    ledger = answer_of(name)[0]["ledger"]
    totals = [row["phase"] for row in ledger if row["part"] == "total"]
    assert totals == ["full", "compress", "serve", "score", *(["item"] if name in COMPUTED_ITEMS else []), "train"]
    assert all(row["agrees"] for row in ledger)


@pytest.mark.parametrize("name", CELLS)
def test_scores_from_the_cache_are_those_of_the_joint_pass(answer_of, name):
    gap = answer_of(name)[0]["model"]["cached_joint_gap"]
    if name in ("full recomputed", "recent", "retrieval"):
        assert gap is None  # there is no cache
    else:
        assert gap <= 1e-5


@pytest.mark.parametrize("name", CELLS)
def test_quality_is_that_of_the_ranks_kept(answer_of, name):
    answer, _ = answer_of(name)
    ranks, metrics = answer["raw"]["ranks"], answer["metrics"]
    users = int((LOG.lengths >= 3).sum())
    assert ranks.shape == (users,)
    assert ranks.min() >= 1
    assert ranks.max() <= ITEMS
    for cutoff in CUTOFFS:
        assert metrics[f"recall@{cutoff}"]["value"] == pytest.approx((ranks <= cutoff).mean())
        assert metrics[f"ndcg@{cutoff}"]["value"] == pytest.approx(np.where(ranks <= cutoff, 1 / np.log2(1 + ranks), 0).mean())
        assert metrics[f"recall@{cutoff}"]["low"] <= metrics[f"recall@{cutoff}"]["value"] <= metrics[f"recall@{cutoff}"]["high"]
    assert metrics["mrr"]["value"] == pytest.approx((1 / ranks).mean())
    assert metrics["recall@10_repeat"]["n"] + metrics["recall@10_novel"]["n"] == metrics["recall@10"]["n"] == users
    weighed = sum(metrics[f"recall@10_{kind}"]["value"] * metrics[f"recall@10_{kind}"]["n"] for kind in ("repeat", "novel"))
    assert weighed / users == pytest.approx(metrics["recall@10"]["value"])
    assert {key: len(values) for key, values in answer["replicates"]["means"].items()} == {"ndcg@10": 500, "recall@10": 500}


@pytest.mark.parametrize("name", CELLS)
def test_the_facts_of_model_and_data_are_there(answer_of, name):
    answer, _ = answer_of(name)
    model, dataset = answer["model"], answer["dataset"]
    assert model["key"] == "key"
    assert model["epochs"] == len(model["curve"]) == CELLS[name].epochs + 1  # the decay has one
    assert (model["converged"], model["diverged_at"]) == (False, None)
    steps = [epoch["steps"] for epoch in model["curve"]]
    assert (model["steps"], model["decay_steps"]) == (steps[-1], steps[-1] - steps[-2])
    assert model["best_step"] == steps[model["best_epoch"] - 1]
    assert model["targets"] > 0
    assert model["seconds_per_million_targets"] > 0
    assert model["learning_rate_at_best"] == model["curve"][model["best_epoch"] - 1]["learning_rate"]
    assert model["best_validation"] == max(epoch["validation"] for epoch in model["curve"])
    assert {"epoch", "loss", "validation"} <= set(model["curve"][0])
    assert answer["metrics"]["padding_share"]["value"] == model["curve"][-1]["padding_share"]
    assert (dataset["users"], dataset["items"], dataset["interactions"]) == (24, ITEMS, len(LOG))
    assert dataset["ceiling"]["whole_past"]["recall@10"] >= dataset["ceiling"]["last_recent"]["recall@10"] > 0


def test_cells_over_the_same_users_have_paired_replicates(answer_of):
    for name in ("ndcg@10", "recall@10"):
        differences = [np.array(answer_of(cell)[0]["replicates"]["means"][name]) for cell in ("full", "recent")]
        assert differences[0].shape == differences[1].shape == (500,)
    assert answer_of("full")[0]["replicates"]["seed"] == answer_of("recent")[0]["replicates"]["seed"]


def test_training_and_measuring_again_gives_the_same_quality_and_counts(answer_of, tmp_path):
    again, _ = measured(CELLS["experts"], tmp_path / "key")
    first, _ = answer_of("experts")
    for key in (*QUALITY, *COUNTED):
        assert again["metrics"][key]["value"] == first["metrics"][key]["value"], key
    assert np.array_equal(again["raw"]["ranks"], first["raw"]["ranks"])


def test_one_elastic_model_serves_every_count(answer_of, model_dirs):
    cell = CELLS["elastic"]
    found = {cell.tokens: answer_of("elastic")[0]}
    for tokens in (0, 4):
        found[tokens], _ = measured(dataclasses.replace(cell, tokens=tokens), model_dirs["elastic"])
    layer_bytes = 2 * 8 * 4  # keys and values of one layer, float32
    assert [found[tokens]["metrics"]["cache_bytes"]["value"] for tokens in (0, 2, 4)] == [0, 2 * layer_bytes, 4 * layer_bytes]
    assert len({answer["metrics"]["parameters"]["value"] for answer in found.values()}) == 1
    flops = [found[tokens]["metrics"]["serve_visible_flops"]["value"] for tokens in (0, 2, 4)]
    assert flops[1] - flops[0] == flops[2] - flops[1] == 2 * (4 * 2) * 2 * 8  # 4 recent items see 2 more tokens, 2 D a pair
    assert all(row["agrees"] for answer in found.values() for row in answer["ledger"])
    # training watched the middle count: there both figures are of the same ranks, elsewhere each cell has its own
    models = {tokens: answer["model"] for tokens, answer in found.items()}
    assert models[2]["validation"] == models[2]["best_validation"]
    assert all(0 <= model["validation"] <= 1 for model in models.values())


@pytest.mark.parametrize("name", ["experts", "int8"])
def test_a_model_of_one_cell_has_the_validation_of_its_training_and_what_is_changed_has_none(answer_of, name):
    model = answer_of(name)[0]["model"]
    assert model["validation"] == (None if name == "int8" else model["best_validation"])


def test_one_elastic_model_serves_every_length_of_the_history(answer_of, model_dirs):
    cell = CELLS["elastic in history"]
    long, _ = answer_of("elastic in history")
    before = (model_dirs["elastic in history"] / "weights.safetensors").stat()
    short, _ = measured(dataclasses.replace(cell, history=3), model_dirs["elastic in history"])
    assert (model_dirs["elastic in history"] / "weights.safetensors").stat() == before
    assert short["model"]["key"] == long["model"]["key"]
    assert short["model"]["curve"] == long["model"]["curve"]
    assert short["model"]["cached_joint_gap"] < 1e-5
    # the cost is that of a model of the shorter history, which holds the largest token count
    own, _ = measured(dataclasses.replace(cell, history=3, elastic_history=(), training="none", elastic_tokens=()))
    assert short["metrics"]["serve_visible_flops"]["value"] == own["metrics"]["serve_visible_flops"]["value"]
    assert short["metrics"]["compress_visible_flops"]["value"] == own["metrics"]["compress_visible_flops"]["value"]


def test_quality_is_of_the_cells_history_however_it_is_served(answer_of, model_dirs):
    """A cache in float32 under no change gives the joint pass's ranks; what changes a cache changes the short history's."""
    answer_of("elastic in history")
    short = dataclasses.replace(CELLS["elastic in history"], history=3)
    model = quality.trained_subject(short, LOG, model_dirs["elastic in history"]).model
    data = leave_one_out(LOG)
    serving = Serving(new_caches=lambda: CacheStore(layout=model.layout, dtype="float32"), history=3)
    joint = quality.states_before_target(short, model, data)
    torch.testing.assert_close(served_states(model, data, "test", serving=serving, time_bias=True), joint, rtol=0, atol=1e-5)
    for changes in ({"staleness": 2}, {"ablation": "other_user"}, {"cache_dtype": "int8"}):
        changed = dataclasses.replace(short, **changes)
        whole = dataclasses.replace(changed, history=12)
        states = [quality.states_before_target(cell, model, data) for cell in (short, changed, whole)]
        assert not torch.equal(states[0], states[1]), changes
        assert not torch.equal(states[1], states[2]), changes  # the same inputs give the same bits


def test_cost_alone_needs_no_model():
    answer, phases = measured(dataclasses.replace(CELLS["experts in 2 segments"], training="none"))
    assert "model" not in answer
    assert "replicates" not in answer
    assert phases["cost"] == ["load", *kinds_without_control()]
    assert set(COUNTED + TIMED) - {"padding_share"} <= set(answer["metrics"])
    assert not set(QUALITY) & set(answer["metrics"])


def test_a_disturbed_gpu_makes_a_cell_invalid(monkeypatch):
    """The watch of a CUDA cell around the probes of one on a CPU."""
    monkeypatch.setattr(nvml, "_state", lambda: {"throttle_reasons": 0x40})
    monkeypatch.setattr(execute, "GpuWatch", lambda device: nvml.GpuWatch("cuda"))
    with pytest.raises(InvalidMeasurementError, match="clocks held back"):
        measured(dataclasses.replace(CELLS["recent"], training="none"))


@pytest.mark.parametrize("backbone", names.floors())
def test_a_floor_has_quality_and_no_cost(backbone):
    cell = Cell(backbone=backbone, compression="none", training="none", **SIZES)
    answer, phases = measured(cell)
    assert phases["quality"] == ["load", "quality"]
    assert set(answer["metrics"]) == set(QUALITY + BY_NOVELTY)
    assert "ledger" not in answer
    assert answer["model"] is None


def test_a_model_of_another_cell_is_refused(tmp_path):
    trained(CELLS["experts"], tmp_path / "key")
    other = dataclasses.replace(CELLS["experts"], width=16)
    with pytest.raises(CheckpointError, match=r"does not fit the model: state: misshapen: .*expected"):
        execute.measure_cell_quality(payload(other, tmp_path / "key"), lambda phase: None)


@pytest.mark.parametrize("kinds", [["latency"], ["flops", "training_cost"], ["memory"]])
def test_the_kinds_of_cost_that_are_asked_for_are_measured_and_no_other(kinds):
    phases = []
    answer = execute.measure_cost(payload(cell_of_shape(CELLS["experts"])) | {"kinds": kinds}, phases.append)
    assert phases == ["load", *kinds]
    assert {MEASURES[name].kind for name in answer["metrics"]} == set(kinds)
    by_ledger = {"training_cost" if row["phase"] == "train" else "flops" for row in answer["ledger"]}
    assert by_ledger == set(kinds) & {"flops", "training_cost"}


def test_a_grid_that_needs_no_timings_times_a_few_calls_of_each_kind():
    kinds = ["throughput", "latency", "request", "training_cost"]
    asked = payload(cell_of_shape(CELLS["experts"])) | {"kinds": kinds}
    counts = [
        {len(samples) for samples in execute.measure_cost(one, lambda phase: None)["raw"].values()}
        for one in (asked, asked | {"briefly": True})
    ]
    assert counts[0] != counts[1] == {brief.CALLS}


@pytest.mark.parametrize("function", [execute.train_model, execute.measure_cell_quality, execute.measure_cost])
def test_data_that_changed_since_they_were_planned_are_invalid(function, tmp_path):
    changed = payload(CELLS["experts"], tmp_path / "key") | {"dataset_digest": "0" * 64}
    with pytest.raises(InvalidMeasurementError, match=rf"^dataset synthetic: planned with digest 000000000000, loaded {LOG.digest[:12]}: "):
        function(changed, lambda phase: None)
    assert not (tmp_path / "key").exists()

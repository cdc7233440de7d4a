"""One tiny cell of every kind, from its payload to its answer: what a record needs is there, finite, and adds up."""

import dataclasses
import gc
import math

import numpy as np
import pytest
import torch

from benchmarks import execute
from benchmarks.cell import FLOOR_NAMES, Cell, InvalidMeasurementError, UnsupportedError
from benchmarks.measures import CUTOFFS, MEASURES
from benchmarks.probes import control, latency, nvml, throughput
from benchmarks.probes.quality import states_before_target
from benchmarks.probes.subject import Subject
from persrec.checkpoints import load_facts
from persrec.data.splits import leave_one_out
from persrec.data.synthetic import SyntheticSettings, generate
from persrec.evaluation.ranks import target_ranks
from persrec.evaluation.states import user_states
from persrec.nn import attention
from persrec.training import Recipe

pytestmark = pytest.mark.usefixtures("one_thread", "tiny_log", "short_timings", "global_settings_as_before")

LOG = generate(SyntheticSettings(users=24, shortest=6, longest=40, categories=4, items_per_category=5))
ITEMS = LOG.num_items - 1
SIZES = {"history": 12, "recent": 4, "width": 8, "heads": 2, "layers": 1, "negatives": 16, "batch_size": 4, "dataset_size": "tiny"}
CELLS = {
    "full": Cell(backbone="hstu", compression="full", **SIZES),
    "full recomputed": Cell(backbone="sasrec", compression="full", serving="recompute", **SIZES),
    "recent": Cell(backbone="sasrec", compression="recent", **SIZES),
    "no token": Cell(backbone="hstu", compression="experts", **SIZES),
    "experts": Cell(backbone="sasrec", compression="experts", tokens=2, time_bias=False, **SIZES),
    "experts in 2 segments": Cell(backbone="hstu", compression="experts", segments=2, tokens=4, epochs=2, patience=2, **SIZES),
    "elastic": Cell(backbone="hstu", compression="experts", segments=2, tokens=2, training="elastic", elastic_tokens=(0, 2, 4), **SIZES),
    "pooling": Cell(backbone="hstu", compression="pooling", tokens=3, **SIZES),
    "mapped ids": Cell(backbone="llama", compression="experts", tokens=2, **SIZES),
    "texts": Cell(backbone="hllm", compression="experts", tokens=2, **SIZES),
    # two layers: the first layer's keys and values of a token are the same for all users
    "growing": Cell(backbone="sasrec", compression="experts", segments=2, tokens=4, plan="growing", **(SIZES | {"layers": 2})),
    "own plan": Cell(backbone="hstu", compression="experts", segments=2, tokens=3, plan="5:1+12:2", **SIZES),
    "int8": Cell(backbone="hstu", compression="experts", tokens=2, cache_dtype="int8", **SIZES),
    "stale": Cell(backbone="hstu", compression="full", staleness=3, **SIZES),
    "category": Cell(backbone="sasrec", compression="category", tokens=3, **SIZES),
    "retrieval": Cell(backbone="hstu", compression="retrieval", serving="recompute", tokens=3, **SIZES),
    "memory in 2 segments": Cell(backbone="hstu", compression="memory", segments=2, tokens=3, **SIZES),
    "strided": Cell(backbone="hstu", compression="strided", tokens=3, **SIZES),
    "random": Cell(backbone="sasrec", compression="random", tokens=3, **SIZES),
}
COMPUTED_ITEMS = ("mapped ids", "texts")
QUALITY = [f"{name}@{cutoff}" for name in ("recall", "ndcg") for cutoff in CUTOFFS] + ["mrr"]
BY_NOVELTY = [f"{name}@10_{kind}" for name in ("recall", "ndcg") for kind in ("repeat", "novel")]
COUNTED = [
    f"{phase}_{twin}{unit}"
    for phase in ("full", "compress", "serve", "score", "train", "item")
    for twin in ("", "visible_")
    for unit in ("flops", "macs")
] + ["parameters", "cache_bytes", "padding_share"]
TIMED = [
    "train_peak_bytes",
    "serve_peak_bytes",
    "compress_peak_bytes",
    "train_sequences_per_second",
    "compress_users_per_second",
    "item_peak_bytes",
    "item_vectors_per_second",
    "serve_users_per_second",
    "serve_latency_p50_ms",
    "serve_latency_p95_ms",
    "serve_latency_p99_ms",
    "serve_energy_j",
]


@pytest.fixture(scope="module", autouse=True)
def small_heap():
    """The memory probe collects garbage; what the tests before have left would take it longer than all else."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def tiny_log(monkeypatch):
    monkeypatch.setattr(execute, "load_dataset", lambda name, **where: LOG)


@pytest.fixture
def short_timings(monkeypatch):
    for probe in (throughput, latency, control):
        monkeypatch.setattr(probe, "SECONDS", 0.0)
        monkeypatch.setattr(probe, "LEAST", 3)


@pytest.fixture
def global_settings_as_before():
    """A cell has a process of its own and sets these for good."""
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(deterministic)
    torch.set_num_threads(threads)


def payload(cell, folder):
    return {"cell": cell.to_dict(), "model_dir": None if folder is None else str(folder), "data_dir": None, "cache_dir": None}


def measured(cell, folder):
    phases = []
    if folder is not None and not folder.exists():
        execute.train_model(payload(cell, folder), lambda phase: None)
    return execute.measure_cell(payload(cell, folder), phases.append), phases


@pytest.fixture(scope="module")
def model_dirs(tmp_path_factory):
    return {name: tmp_path_factory.mktemp("models") / "key" for name in CELLS}


@pytest.fixture(scope="module")
def answers():
    return {}


@pytest.fixture
def answer_of(answers, model_dirs):
    """A cell's answer and phases; each is trained and measured once for all tests of this file."""

    def get(name):
        if name not in answers:
            answers[name] = measured(CELLS[name], model_dirs[name])
        return answers[name]

    return get


@pytest.mark.parametrize("name", CELLS)
def test_every_metric_is_there_and_is_a_number_or_says_why_not(answer_of, name):
    answer, phases = answer_of(name)
    metrics = answer["metrics"]
    assert set(QUALITY + BY_NOVELTY + COUNTED + TIMED) <= set(metrics) <= set(MEASURES)
    for key, metric in metrics.items():
        assert set(metric) <= {"value", "low", "high", "n", "method"}, key
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
    assert missing - {"serve_energy_j", "process_gpu_bytes"} == (set() if compresses else nothing_before) | of_items
    assert phases == ["load", "load", "quality", "flops", "memory", "throughput", "latency"]
    assert set(answer["seconds"]) == set(phases)
    assert set(answer["load"]) == {"memory", "throughput", "latency"}  # what others used meanwhile


@pytest.mark.parametrize("name", CELLS)
def test_the_ledger_of_a_cell_agrees(answer_of, name):
    ledger = answer_of(name)[0]["ledger"]
    totals = [row["phase"] for row in ledger if row["part"] == "total"]
    assert totals == ["full", "compress", "serve", "train", "score", *(["item"] if name in COMPUTED_ITEMS else [])]
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
    assert {key: len(values) for key, values in answer["replicates"].items() if key != "seed"} == {"ndcg@10": 500, "recall@10": 500}


@pytest.mark.parametrize("name", CELLS)
def test_the_facts_of_model_and_data_are_there(answer_of, name):
    answer, _ = answer_of(name)
    model, dataset = answer["model"], answer["dataset"]
    assert model["key"] == "key"
    assert model["epochs"] == len(model["curve"]) == CELLS[name].epochs
    assert model["best_validation_ndcg@10"] == max(epoch["validation_ndcg@10"] for epoch in model["curve"])
    assert {"epoch", "loss", "validation_ndcg@10"} <= set(model["curve"][0])
    assert answer["metrics"]["padding_share"]["value"] == model["curve"][-1]["padding_share"]
    assert (dataset["users"], dataset["items"], dataset["interactions"]) == (24, ITEMS, len(LOG))
    assert dataset["ceiling"]["whole_past"]["recall@10"] >= dataset["ceiling"]["last_recent"]["recall@10"] > 0


def test_cells_over_the_same_users_have_paired_replicates(answer_of):
    for name in ("ndcg@10", "recall@10"):
        differences = [np.array(answer_of(cell)[0]["replicates"][name]) for cell in ("full", "recent")]
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


def test_elastic_goes_with_experts_alone(tmp_path):
    cell = Cell(backbone="hstu", compression="full", training="elastic", elastic_tokens=(0,), **SIZES)
    with pytest.raises(UnsupportedError, match="elastic"):
        execute.train_model(payload(cell, tmp_path / "key"), lambda phase: None)
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"cache_dtype": "bfloat16"},
        {"ablation": "random_tokens"},
        {"ablation": "shuffled_history"},
        {"ablation": "other_user"},
        {"staleness": 4},
    ],
)
def test_what_a_trained_model_is_served_from_changes_its_states_and_none_of_its_flops(answer_of, model_dirs, changes):
    own, _ = answer_of("growing")
    cell = dataclasses.replace(CELLS["growing"], **changes)
    answer, _ = measured(cell, model_dirs["growing"])
    assert answer["model"] == own["model"]
    model = execute.build_model(cell, LOG.num_items)
    execute.load_weights(model_dirs["growing"], model)
    data = leave_one_out(LOG)
    ranks = target_ranks(states_before_target(cell, model.eval(), data), model.item_features().detach(), data.targets("test"))
    assert np.array_equal(ranks, answer["raw"]["ranks"])
    with torch.no_grad():  # so little training leaves the history without a say
        for weight in model.parameters():
            weight.normal_(std=0.5)
    states, again = (states_before_target(cell, model, data) for _ in range(2))
    assert torch.equal(states, again)
    assert (states - states_before_target(CELLS["growing"], model, data)).abs().max() > (1e-4 if "cache_dtype" not in changes else 1e-6)
    size = {"bfloat16": 0.5}.get(changes.get("cache_dtype"), 1.0)
    for name in COUNTED:
        before = own["metrics"][name]["value"]
        assert answer["metrics"][name]["value"] == (before * size if name == "cache_bytes" else before), name


def test_the_bytes_of_an_int8_cache_hold_its_scales(answer_of):
    answer, _ = answer_of("int8")
    numbers, vectors = 2 * 1 * 2 * 8, 2 * 1 * 2 * 2  # 2 tokens, 1 layer, keys and values, width 8 in 2 heads
    assert answer["metrics"]["cache_bytes"]["value"] == numbers + 4 * vectors
    assert "scale" in answer["metrics"]["cache_bytes"]["method"]


OTHER_SETTINGS = {
    "learning_rate": 0.5, "warmup_steps": 7, "decays": False, "weight_decay": 0.5, "temperature": 0.5, "negatives": 7, "epochs": 7,
    "patience": 7, "time_bias": False, "recent_weight": 0.5, "moving_windows": True, "item_learning_rate": 0.5, "seed": 7,
}  # fmt: skip


def test_every_setting_of_training_reaches_the_recipe():
    plain = Cell(backbone="hstu", compression="experts", tokens=2, **SIZES)
    shared = {field.name for field in dataclasses.fields(Cell)} & {field.name for field in dataclasses.fields(Recipe)}
    assert shared == set(OTHER_SETTINGS)
    for name, value in OTHER_SETTINGS.items():
        changed = execute.recipe(dataclasses.replace(plain, **{name: value}))
        assert changed == dataclasses.replace(execute.recipe(plain), **{name: value}) != execute.recipe(plain)


def test_a_copying_start_is_that_of_backbone_and_item_reader():
    cell = Cell(backbone="hllm", compression="experts", tokens=2, copying_start=True, **(SIZES | {"key_value_heads": 2}))
    model = execute.build_model(cell, ITEMS + 1, LOG.item_texts)
    for llama in (model.backbone, model.items.decoder):
        assert torch.equal(llama.layers[0].self_attn.o_proj.weight, torch.eye(8))


def test_a_plan_of_ones_own_is_the_layout_of_the_model():
    own = execute.build_model(CELLS["own plan"], ITEMS + 1).layout
    assert own.offsets == (5, 12)
    assert [segment.experts for segment in own.segments] == [1, 2]
    assert execute.build_model(CELLS["growing"], ITEMS + 1).layout.offsets == (8, 12)


def test_pooling_by_category_needs_categories(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "load_dataset", lambda name, **where: dataclasses.replace(LOG, item_categories=None))
    with pytest.raises(UnsupportedError, match=r"^compression: category needs item categories, and the dataset synthetic has none$"):
        execute.train_model(payload(CELLS["category"], tmp_path / "key"), lambda phase: None)
    assert not (tmp_path / "key").exists()


def test_cost_alone_needs_no_model():
    answer, phases = measured(dataclasses.replace(CELLS["experts in 2 segments"], training="none"), None)
    assert answer["model"] is None
    assert answer["replicates"] == {}
    assert phases == ["load", "load", "flops", "memory", "throughput", "latency"]
    assert set(COUNTED + TIMED) - {"padding_share"} <= set(answer["metrics"])
    assert not set(QUALITY) & set(answer["metrics"])


def test_a_disturbed_gpu_makes_a_cell_invalid(monkeypatch):
    """The watch of a CUDA cell around the probes of one on a CPU."""
    monkeypatch.setattr(nvml, "_state", lambda: {"throttle_reasons": 0x40})
    monkeypatch.setattr(execute, "GpuWatch", lambda device: nvml.GpuWatch("cuda"))
    with pytest.raises(InvalidMeasurementError, match="clocks held back"):
        measured(dataclasses.replace(CELLS["recent"], training="none"), None)


OF_CONTROL = ("serve", "compress", "compress_serve", "train")


@pytest.mark.parametrize("name", ["experts in 2 segments", "recent", "pooling", "full", "memory in 2 segments", "texts"])
def test_a_control_is_full_attention_in_the_same_process(name):
    cell = dataclasses.replace(CELLS[name], training="none", control=True)
    answer, phases = measured(cell, None)
    metrics, raw = answer["metrics"], answer["raw"]
    assert phases[-2:] == ["latency", "control"]
    full, _ = measured(dataclasses.replace(CELLS["full recomputed"], backbone=cell.backbone, training="none"), None)
    whole = {phase: full["metrics"][f"{phase}_flops"]["value"] for phase in ("serve", "train")}
    own = {phase: metrics[f"{phase}_flops"]["value"] for phase in ("serve", "compress", "train")}
    own["compress_serve"] = own["compress"] + own["serve"]
    for phase in OF_CONTROL:
        share = own[phase] / whole["train" if phase == "train" else "serve"]
        assert metrics[f"{phase}_flops_over_full"]["value"] == pytest.approx(share, rel=1e-12), phase
    for ours, whole_time in (("serve", "full"), ("train", "full_train")):
        found = metrics[f"{ours}_time_over_full"]
        assert found["value"] == pytest.approx(np.median(raw[f"control_{ours}_seconds"] / raw[f"control_{whole_time}_seconds"]))
        assert found["low"] <= found["value"] <= found["high"]
    assert (metrics["compress_time_over_full"]["value"] is None) == (own["compress"] == 0)
    assert metrics["compress_serve_time_over_full"]["value"] >= metrics["serve_time_over_full"]["value"]
    assert all(metrics[f"{phase}_time_over_full"]["method"] for phase in OF_CONTROL)


def test_the_control_has_the_cells_sizes_and_item_vectors():
    cell = dataclasses.replace(CELLS["texts"], training="none", control=True, key_value_heads=1, feed_forward=40, layers=2)
    model = execute.build_model(cell, LOG.num_items, LOG.item_texts)
    subject = Subject(cell=cell, model=model, recipe=execute.recipe(cell), data=leave_one_out(LOG))
    full = execute.build_control(subject)
    assert full.model.items is model.items
    assert full.model.backbone.config.to_dict() | {"max_position_embeddings": 0} == model.backbone.config.to_dict() | {
        "max_position_embeddings": 0
    }
    assert (model.backbone.config.num_key_value_heads, model.backbone.config.intermediate_size) == (1, 40)
    assert (model.items.decoder.config.num_key_value_heads, model.items.decoder.config.intermediate_size) == (1, 40)
    assert full.layout.visible_pairs(0) + full.layout.visible_pairs(1) == 16 * 17 // 2  # everything is seen
    assert not full.from_cache


@pytest.mark.parametrize("name", ["texts", "experts in 2 segments", "no token", "full", "recent"])
def test_what_is_counted_without_running_is_what_is_counted_of_a_run(name):
    cell = dataclasses.replace(CELLS[name], training="none", control=True)
    cell = cell if name == "texts" else dataclasses.replace(cell, backbone="llama")
    ran, _ = measured(cell, None)
    counted, phases = measured(dataclasses.replace(cell, counted_only=True), None)
    assert phases == ["load", "load", "flops", "control"]
    assert counted["ledger"] == ran["ledger"]
    for key, metric in counted["metrics"].items():
        if MEASURES[key].deterministic:
            assert metric["value"] == ran["metrics"][key]["value"], key
            assert metric["value"] is None or "meta" in metric["method"] or key.endswith("_over_full"), key
        else:
            assert metric["value"] is None, key
            assert metric["method"] == "counted on the meta device alone: the model was not run", key
    assert set(counted["metrics"]) == set(ran["metrics"])
    assert counted["raw"] == {}


@pytest.mark.parametrize("backbone", FLOOR_NAMES)
def test_a_floor_has_quality_and_no_cost(backbone):
    cell = Cell(backbone=backbone, compression="none", training="none", **SIZES)
    answer, phases = measured(cell, None)
    assert phases == ["load", "quality"]
    assert set(answer["metrics"]) == set(QUALITY + BY_NOVELTY)
    assert answer["ledger"] == []
    assert answer["model"] is None


def test_repeat_last_ranks_the_last_item_first():
    answer, _ = measured(Cell(backbone="repeat_last", compression="none", training="none", **SIZES), None)
    data = leave_one_out(LOG)
    last = np.array([items[-1] for items, _ in data.past("test")])
    assert np.array_equal(answer["raw"]["ranks"] == 1, last == data.targets("test"))


def test_training_tells_its_phases_and_writes_the_whole_model(tmp_path):
    phases = []
    told = execute.train_model(payload(CELLS["experts in 2 segments"], tmp_path / "key"), phases.append)
    assert told == {"epochs": 2}
    assert phases[:2] == ["load", "training"]
    assert [phase.split(",")[0] for phase in phases[2:]] == ["epoch 1 of at most 2", "epoch 2 of at most 2"]
    assert sorted(file.name for file in (tmp_path / "key").iterdir()) == ["model.json", "weights.safetensors"]


class Killed(BaseException):
    """Stands in for a kill."""


def stopped_training(cell, folder, monkeypatch, *, steps):
    """Trains a cell's model, keeping the state of every epoch, until so many steps are done."""
    with monkeypatch.context() as patches:
        own, done = execute.Trainer.step, []

        def step(self, batch):
            if len(done) == steps:
                raise Killed
            done.append(1)
            return own(self, batch)

        patches.setattr(execute.Trainer, "step", step)
        patches.setattr("persrec.training.state.MOST_SHARE", 1e9)  # a state is always due
        with pytest.raises(Killed):
            execute.train_model(payload(cell, folder), lambda phase: None)


def weights_and_curve(folder):
    facts = load_facts(folder)
    curve = [{**epoch, "seconds": None} for epoch in facts["curve"]]
    return (folder / "weights.safetensors").read_bytes(), curve, facts["resumes"]


def test_a_training_that_was_stopped_goes_on_to_the_same_model(tmp_path, monkeypatch):
    cell = dataclasses.replace(CELLS["elastic"], epochs=3, patience=3)
    execute.train_model(payload(cell, tmp_path / "whole" / "key"), lambda phase: None)
    for steps in (14, 2, 19):  # of 10 an epoch
        stopped_training(cell, tmp_path / "stopped" / "key", monkeypatch, steps=steps)
    assert [file.name for file in (tmp_path / "stopped" / "key").iterdir()] == ["state.safetensors"]
    execute.train_model(payload(cell, tmp_path / "stopped" / "key"), lambda phase: None)
    assert sorted(file.name for file in (tmp_path / "stopped" / "key").iterdir()) == ["model.json", "weights.safetensors"]
    (weights, curve, resumes), whole = (weights_and_curve(tmp_path / name / "key") for name in ("stopped", "whole"))
    assert (weights, curve) == whole[:2]
    assert (resumes, whole[2]) == (2, 0)  # the second stop came before a state was kept: the third training began where it did


def test_a_state_that_cannot_be_read_is_told_and_training_begins_anew(tmp_path):
    cell, phases = CELLS["experts"], []
    execute.train_model(payload(cell, tmp_path / "whole"), lambda phase: None)
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "state.safetensors").write_bytes(b"half")
    execute.train_model(payload(cell, tmp_path / "key"), phases.append)
    assert any(phase.startswith("training anew, state: ") and "cannot be read" in phase for phase in phases)
    assert weights_and_curve(tmp_path / "key") == weights_and_curve(tmp_path / "whole")


def test_a_model_of_another_cell_is_refused(tmp_path):
    execute.train_model(payload(CELLS["experts"], tmp_path / "key"), lambda phase: None)
    other = dataclasses.replace(CELLS["experts"], width=16)
    with pytest.raises(ValueError, match=r"state: misshapen: .*expected"):
        execute.measure_cell(payload(other, tmp_path / "key"), lambda phase: None)


def test_a_cache_that_strays_from_the_joint_pass_makes_a_cell_invalid(monkeypatch):
    cell = CELLS["experts"]
    model = execute.build_model(cell, LOG.num_items).eval()
    subject = Subject(cell=cell, model=model, recipe=execute.recipe(cell), data=leave_one_out(LOG))
    assert subject.check_cache(tolerance=1e-5) <= 1e-5
    own = model.compress

    def stray(history, times=None):
        cache = own(history, times)
        return dataclasses.replace(cache, layers=tuple((keys, values + 1.0) for keys, values in cache.layers))

    monkeypatch.setattr(model, "compress", stray)
    with pytest.raises(InvalidMeasurementError, match="scores from the cache differ from the joint pass by .*, above 1e-05"):
        subject.check_cache(tolerance=1e-5)


@pytest.mark.parametrize("name", ["experts", "elastic"])
def test_probes_leave_the_weights_as_they_were_and_measure_the_count_of_the_cell(name):
    cell = CELLS[name]
    model = execute.build_model(cell, LOG.num_items).eval()
    model.compression.use(cell.tokens)
    counts = []
    model.backbone.register_forward_hook(lambda *_: counts.append(model.layout.tokens))
    subject = Subject(cell=cell, model=model, recipe=execute.recipe(cell), data=leave_one_out(LOG))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for probe in (execute.measure_memory, execute.measure_throughput, execute.measure_latency):
        probe(subject)
        assert set(counts) == {cell.tokens}
        assert not model.training
        assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("probe", ["measure_memory", "measure_throughput", "measure_latency"])
@pytest.mark.parametrize("name", ["experts in 2 segments", "full", "pooling", "no token", "full recomputed", "recent"])
def test_a_timed_request_takes_the_path_that_the_cell_serves_by(name, probe, monkeypatch):
    cell = CELLS[name]
    model = execute.build_model(cell, LOG.num_items, LOG.item_texts).eval()
    subject = Subject(cell=cell, model=model, recipe=execute.recipe(cell), data=leave_one_out(LOG))
    requests, compressed = [], []
    own_states, own_compress = model.user_states, model.compress

    def user_states(items, times=None, query_time=None, *, cache=None):
        requests.append((items.shape[1], None if cache is None else cache.segments))
        return own_states(items, times, query_time, cache=cache)

    def compress(history, times=None):
        compressed.append(history.shape[1])
        return own_compress(history, times)

    monkeypatch.setattr(model, "user_states", user_states)
    monkeypatch.setattr(model, "compress", compress)
    getattr(execute, probe)(subject)
    if name in ("full recomputed", "recent"):  # every request runs the whole window, and nothing runs before
        assert set(requests) == {(model.layout.window, None)}
        assert compressed == []
    else:  # every request runs the recent items alone, against the cache of all the history
        assert set(requests) == {(4, len(model.layout.segments))}
        assert set(compressed) == {12}
        # compressing is timed apart: were it part of a request, there would be one for each
        assert probe != "measure_latency" or len(compressed) == 1 < len(requests)


# One layer by hand, D = 8 in 2 heads: history 12 with 2 tokens behind, 4 recent items, full attention over 16.
# Multiply-adds a position, from the layers as they are written down, of the maps from and to the residual stream and of the feed-forward:
HAND = {
    "hstu": (8 * 32 + 8 * 8, 0),  # x @ W_uvqk, 8 to u, v, q and k of 8 each, and W_o; no feed-forward
    "sasrec": (4 * 8 * 8, 2 * 8 * 8),  # q, k, v and the output map; a feed-forward of two layers, as wide as the model
    "llama": (2 * 8 * 8 + 2 * 8 * 4, 3 * 8 * 24),  # q and o; k and v of one head of 4, for both; SwiGLU's three maps, 24 wide
}
HAND["hllm"] = HAND["llama"]
PAIR = 2 * 8  # multiply-adds a pair: 8 for the score, 8 for the sum of values
VISIBLE = {"full": 16 * 17 // 2, "compress": 14 * 15 // 2, "serve": 4 * 5 // 2 + 4 * 2}
EXECUTED = {"full": 16 * 16, "compress": 14 * 14, "serve": 4 * (2 + 4)}  # fewer than 64 rows are one block, so dense in either kernel
POSITIONS = {"full": 16, "compress": 14, "serve": 4}


def subject_by_hand(backbone):
    cell = dataclasses.replace(CELLS["experts"], backbone=backbone, training="none")
    model = execute.build_model(cell, LOG.num_items, LOG.item_texts).eval()
    return Subject(cell=cell, model=model, recipe=execute.recipe(cell), data=leave_one_out(LOG))


def flops_by_part(ledger, count="formula_flops"):
    return {(row["phase"], row["part"]): row[count] for row in ledger if row["part"] != "total"}


def nonzero(parts):
    return {part: flops for part, flops in parts.items() if flops}


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("backbone", HAND)
def test_the_flops_of_one_layer_are_those_counted_by_hand(backbone, gpu, monkeypatch):
    monkeypatch.setattr(attention, "on_gpu", lambda tensor: gpu)  # a GPU's kernels are none that a counter sees into
    subject = subject_by_hand(backbone)
    metrics, ledger = execute.count_flops(subject)
    assert subject.model.backbone.kernel == "segmented"
    projections, feed_forward = HAND[backbone]
    expected = {}
    for phase, positions in POSITIONS.items():  # a multiply-add is 2 FLOPs
        expected[phase, "projections"] = 2 * positions * projections
        expected[phase, "attention"] = 2 * EXECUTED[phase] * PAIR
        expected[phase, "feed_forward"] = 2 * positions * feed_forward
        maps = positions * (projections + feed_forward)
        assert metrics[f"{phase}_flops"]["value"] == 2 * (maps + EXECUTED[phase] * PAIR)
        assert metrics[f"{phase}_visible_flops"]["value"] == 2 * (maps + VISIBLE[phase] * PAIR)
    # backward: each map twice its forward; attention has 5 products, of 2 forward: four gradients, and the scores again
    expected["train", "projections"] = 3 * 2 * (14 + 4) * projections
    expected["train", "feed_forward"] = 3 * 2 * (14 + 4) * feed_forward
    expected["train", "attention"] = 7 * 2 * (14 * 14 + 4 * 6) * 8
    expected["train", "scoring"] = 3 * 2 * 16 * 16 * 8  # 16 positions predict, against 16 negatives
    expected["score", "scoring"] = metrics["score_flops"]["value"] = 2 * LOG.num_items * 8
    for count in ("formula_flops", "torch_flops", "fvcore_flops"):
        counted = {key: flops for key, flops in flops_by_part(ledger, count).items() if key[1] != "item_encoder"}
        assert counted == {key: None if (key[0], count) == ("train", "fvcore_flops") else flops for key, flops in nonzero(expected).items()}
    assert metrics["cache_bytes"]["value"] == 2 * (4 if HAND[backbone] is HAND["llama"] else 8) * 2 * 4  # K and V, 2 tokens, float32


def test_mapped_item_vectors_are_those_counted_by_hand():
    metrics, ledger = execute.count_flops(subject_by_hand("llama"))
    assert metrics["item_flops"]["value"] == metrics["item_visible_flops"]["value"] == 2 * LOG.num_items * 8 * 8
    looked_up = 4 * 16 + 4 * 16 + 16  # a step of 4 windows: their items, their targets, and the negatives
    assert flops_by_part(ledger)["train", "item_encoder"] == 3 * 2 * looked_up * 8 * 8 / 4


def test_encoded_texts_are_those_counted_by_hand():
    subject = subject_by_hand("hllm")
    metrics, ledger = execute.count_flops(subject)
    tokens = subject.model.items.lengths.tolist()
    maps = sum(HAND["llama"])

    def read(items):
        """Rows as long as the longest text."""
        longest = max(tokens[item] for item in items)
        return 2 * len(items) * (longest * maps + longest**2 * PAIR)

    assert metrics["item_flops"]["value"] == read(range(LOG.num_items))
    assert metrics["item_visible_flops"]["value"] == sum(2 * (t * maps + t * (t + 1) // 2 * PAIR) for t in tokens)
    # a step of 4 windows reads each of its items once: nearly all of these 20
    shares = [3 * read(range(1, 1 + count)) / 4 for count in range(15, LOG.num_items)]
    assert flops_by_part(ledger)["train", "item_encoder"] in shares


@pytest.mark.parametrize("backbone", ["hstu", "sasrec"])
def test_vectors_that_are_parameters_cost_nothing_and_the_reason_is_told(backbone):
    metrics, _ = execute.count_flops(subject_by_hand(backbone))
    for name in ("item_flops", "item_visible_flops", "item_macs", "item_visible_macs"):
        assert metrics[name] == {"value": None, "method": "item vectors are parameters, nothing is computed", "n": 0}


# Texts


def test_serving_reads_no_text(monkeypatch):
    subject = subject_by_hand("hllm")
    subject.keep_item_vectors()
    monkeypatch.setattr(subject.model.items, "encode", lambda *given: pytest.fail("a text was read"))
    with torch.no_grad():
        request = subject.request(2)
        subject.server(request)()
        subject.compress(request)
        user_states(subject.model, subject.data, "test", time_bias=True, batch_size=3)


def test_validation_reads_the_catalogue_once(monkeypatch):
    subject = subject_by_hand("hllm")
    reads = []
    encode = subject.model.items.encode
    monkeypatch.setattr(subject.model.items, "encode", lambda *given: reads.append(len(given[0])) or encode(*given))
    execute.validation_figure(subject.model, subject.data, time_bias=True, tokens=None)()
    assert reads == [LOG.num_items]


def test_a_dataset_without_texts_is_unsupported(monkeypatch, tmp_path):
    monkeypatch.setattr(execute, "load_dataset", lambda name, **where: dataclasses.replace(LOG, item_texts=None))
    cell = CELLS["texts"]
    for call in (execute.train_model, execute.measure_cell):
        with pytest.raises(UnsupportedError, match="hllm reads item texts, and the dataset synthetic has none"):
            call(payload(cell, tmp_path / "key"), lambda phase: None)
    assert not (tmp_path / "key").exists()

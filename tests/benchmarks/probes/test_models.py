"""The model of a cell and the control beside it: sizes, layouts, and what a model cannot be built of."""

import dataclasses

import pytest
import torch
from tiny_cells import CELLS, ITEMS, LOG, SIZES, payload

from benchmarks import execute
from benchmarks.cell import Cell, InvalidMeasurementError, UnsupportedError
from benchmarks.keys import cell_of_shape
from benchmarks.probes import models
from benchmarks.probes.models import build_control, build_model, use_tokens
from benchmarks.probes.subject import Subject
from benchmarks.probes.training_cost import TrainingSubject
from persrec.items import ItemSettings

pytestmark = pytest.mark.usefixtures("measuring")

# another value of each setting of a model, and a backbone that takes it; the plain cell has 2 segments with 4 tokens
OTHER_SIZES = {
    "width": ("hstu", 16), "layers": ("hstu", 3), "heads": ("hstu", 4), "dropout": ("hstu", 0.5), "divisor": ("hstu", 0),
    "copying_start": ("hllm", True), "request_time": ("hstu", False), "key_value_heads": ("hllm", 2), "feed_forward": ("hllm", 40),
    "item_layers": ("hllm", 2), "history": ("hstu", 8), "recent": ("hstu", 3), "segments": ("hstu", 1), "tokens": ("hstu", 2),
    "plan": ("hstu", "growing"), "expert_start": ("hstu", "pooled"),
}  # fmt: skip


def remembering(build, given):
    """The function, which also keeps the settings that it is given, by their class."""

    def built(which, settings):
        given[type(settings)] = settings
        return build(which, settings)

    return built


def settings_built_of(cell, monkeypatch):
    """The settings that each part of a cell's model is built with, by the name of the cell's setting."""
    given = {}
    with monkeypatch.context() as patches:
        for name in ("build_compression", "build_backbone", "build_items"):
            patches.setattr(models, name, remembering(getattr(models, name), given))
        build_model(cell, ITEMS + 1, LOG.item_texts)
    named = {(part, name): getattr(settings, name) for part, settings in given.items() for name in part.__dataclass_fields__}
    of_items = {"layers": "item_layers"}  # an item reader's own
    return {(part, of_items.get(name, name) if part is ItemSettings else name): value for (part, name), value in named.items()}


def test_every_setting_of_a_model_reaches_the_parts_that_have_it_and_changes_nothing_else(monkeypatch):
    cell_settings = {field.name for field in dataclasses.fields(Cell)}
    reached = set()
    for name, (backbone, value) in OTHER_SIZES.items():
        plain = Cell(backbone=backbone, compression="experts", segments=2, tokens=4, **SIZES)
        before, after = (settings_built_of(one, monkeypatch) for one in (plain, dataclasses.replace(plain, **{name: value})))
        reached |= {setting for _, setting in before}
        concerned = {key for key in before if key[1] == name}
        assert concerned, name
        assert {after[key] for key in concerned} == {value} != {before[key] for key in concerned}, name
        others = {key for key in before if before[key] != after[key] and key not in concerned}
        assert {setting for _, setting in others} <= {"length"}, name  # the slots of the layout
    assert reached & cell_settings == set(OTHER_SIZES)


def test_another_seed_starts_from_other_weights_and_the_same_one_from_the_same():
    cell = dataclasses.replace(CELLS["experts"], training="none")
    one, again, other = (build_model(dataclasses.replace(cell, seed=seed), ITEMS + 1).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    for part in ("items.", "backbone.", "compression."):
        assert any(not torch.equal(one[name], other[name]) for name in one if name.startswith(part)), part


@pytest.mark.parametrize("threads", [1, 2])
def test_a_process_computes_with_the_cells_threads_and_the_same_numbers_every_time(threads):
    cell = cell_of_shape(dataclasses.replace(CELLS["experts"], threads=threads))
    torch.use_deterministic_algorithms(mode=False)
    execute.measure_cost(payload(cell) | {"kinds": ["flops"]}, lambda phase: None)
    assert torch.get_num_threads() == threads
    assert torch.are_deterministic_algorithms_enabled()
    models.set_up(dataclasses.replace(cell, device="cuda"))
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_copying_start_is_that_of_backbone_and_item_reader():
    cell = Cell(backbone="hllm", compression="experts", tokens=2, copying_start=True, **(SIZES | {"key_value_heads": 2}))
    model = build_model(cell, ITEMS + 1, LOG.item_texts)
    for llama in (model.backbone, model.items.decoder):
        assert torch.equal(llama.layers[0].self_attn.o_proj.weight, torch.eye(8))


def test_a_plan_of_ones_own_is_the_layout_of_the_model():
    own = build_model(CELLS["own plan"], ITEMS + 1).layout
    assert own.offsets == (5, 12)
    assert [segment.experts for segment in own.segments] == [1, 2]
    assert build_model(CELLS["growing"], ITEMS + 1).layout.offsets == (8, 12)


@pytest.mark.parametrize(("name", "changed"), [("recent", {"recent": 8}), ("history", {"history": 16}), ("kept", {"tokens": 4})])
def test_a_layout_is_that_of_the_cell(name, changed, monkeypatch):
    cell = dataclasses.replace(CELLS["experts"], training="none")
    own = models.build_compression
    monkeypatch.setattr(models, "build_compression", lambda which, settings: own(which, dataclasses.replace(settings, **changed)))
    said = rf"^compression experts: its layout has {name} \d+; the cell asks for {getattr(cell, 'tokens' if name == 'kept' else name)}$"
    with pytest.raises(InvalidMeasurementError, match=said):
        build_model(cell, ITEMS + 1)


def test_pooling_by_category_needs_categories(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "load_dataset", lambda name, **where: dataclasses.replace(LOG, item_categories=None))
    with pytest.raises(UnsupportedError, match=r"^compression: category needs item categories, and the dataset synthetic has none$"):
        execute.train_model(payload(CELLS["category"], tmp_path / "key"), lambda phase: None)
    assert not (tmp_path / "key").exists()


def test_the_control_has_the_cells_sizes_and_item_vectors():
    cell = dataclasses.replace(CELLS["texts"], training="none", control=True, key_value_heads=1, feed_forward=40, layers=2)
    model = build_model(cell, LOG.num_items, LOG.item_texts)
    control, full_model = build_control(cell, model.items)
    full = Subject(cell=control, model=full_model)
    assert full.model.items is model.items
    assert full.model.backbone.config.to_dict() | {"max_position_embeddings": 0} == model.backbone.config.to_dict() | {
        "max_position_embeddings": 0
    }
    assert (model.backbone.config.num_key_value_heads, model.backbone.config.intermediate_size) == (1, 40)
    assert (model.items.decoder.config.num_key_value_heads, model.items.decoder.config.intermediate_size) == (1, 40)
    assert full.layout.visible_pairs(0) + full.layout.visible_pairs(1) == 16 * 17 // 2  # everything is seen
    assert not full.from_cache


def test_the_control_of_taught_and_pooled_experts_has_nothing_of_experts():
    cell = Cell(
        backbone="hstu", compression="experts", tokens=2, control=True, **(SIZES | {"training": "none"}),
        expert_start="pooled", expert_weight=1.0, distillation=1.0, random_cuts=False,
    )  # fmt: skip
    answer = execute.measure_cost(payload(cell) | {"kinds": ["flops", "control", "training_cost"]}, lambda phase: None)
    for name in ("serve_time_over_full", "train_time_over_full"):
        assert answer["metrics"][name]["value"] > 0


@pytest.mark.parametrize("changes", [{"accumulation": 2}, {"autocast": True}])
def test_the_cost_of_a_training_step_is_that_of_the_cells_own_step(changes):
    cell = dataclasses.replace(CELLS["experts"], **changes)
    answer = execute.measure_cost(payload(cell_of_shape(cell)) | {"kinds": ["training_cost"]}, lambda phase: None)
    own = TrainingSubject(cell=cell_of_shape(cell), model=build_model(cell, ITEMS + 1)).trainer().recipe
    assert {name: getattr(own, name) for name in changes} == changes
    assert answer["metrics"]["train_sequences_per_second"]["value"] > 0
    assert (answer["metrics"]["train_share_of_peak"]["value"] is None) == cell.autocast  # the peak is one of float32
    assert all(row["agrees"] for row in answer["ledger"])


def test_a_dataset_without_texts_is_unsupported(monkeypatch, tmp_path):
    monkeypatch.setattr(execute, "load_dataset", lambda name, **where: dataclasses.replace(LOG, item_texts=None))
    cell = CELLS["texts"]
    for call in (execute.train_model, execute.measure_cost):
        with pytest.raises(UnsupportedError, match="hllm reads item texts, and the dataset synthetic has none"):
            call(payload(cell, tmp_path / "key"), lambda phase: None)
    assert not (tmp_path / "key").exists()


def test_elastic_goes_with_experts_alone():
    model = build_model(CELLS["full"], ITEMS + 1)
    with pytest.raises(UnsupportedError, match="elastic"):
        use_tokens(model, 2)

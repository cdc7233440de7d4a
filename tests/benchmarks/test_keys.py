"""Three things, three keys: what is in the key of a model, of a quality and of a cost, and what is not."""

import dataclasses
import json

import pytest
from test_cell import CELL, OTHER

from benchmarks.cell import EVALUATION_FIELDS, Cell
from benchmarks.environment import PROJECT
from benchmarks.keys import MODEL_FIELDS, SHAPE_FIELDS, Catalogue, cell_key, cell_of_shape, cost_key, cost_shape, model_key, quality_key
from benchmarks.measures import COST_KINDS, MEASURES, QUALITY_KINDS

CATALOGUE = Catalogue(items=100, texts="t", categories="c")
COMMITTED = sorted((PROJECT / "results").glob("*/cells/*.json"))


def model(cell: Cell, data: str = "data") -> str:
    return model_key(cell, dataset_digest=data)


def quality(cell: Cell, data: str = "data") -> str:
    return quality_key(cell, dataset_digest=data)


def cost(cell: Cell, catalogue: Catalogue = CATALOGUE) -> str:
    return cost_key(cost_shape(cell, catalogue))


def test_a_model_is_keyed_by_every_setting_but_what_measuring_alone_reads() -> None:
    assert {field.name for field in dataclasses.fields(Cell)} - set(MODEL_FIELDS) == {
        "serving",
        "control",
        "counted_only",
        "catalogue",
        *EVALUATION_FIELDS,
    }
    assert model(dataclasses.replace(CELL, serving="recompute")) == model(CELL)
    assert len({model(CELL), model(CELL, data="other"), model(dataclasses.replace(CELL, tokens=8))}) == 3
    elastic = dataclasses.replace(CELL, training="elastic", elastic_tokens=(4, 8))
    assert model(dataclasses.replace(elastic, tokens=8)) == model(elastic) != model(CELL)


ELASTIC = dataclasses.replace(CELL, segments=1, training="elastic", elastic_tokens=(0, 4), elastic_history=(64, 128, 224))


def test_the_cells_of_a_model_that_is_elastic_in_history_share_it_and_no_quality() -> None:
    points = [dataclasses.replace(ELASTIC, history=length, tokens=tokens) for length in (64, 128, 224) for tokens in (0, 4)]
    assert len({model(cell) for cell in points}) == 1
    assert len({quality(cell) for cell in points}) == len(points)
    other = [{"elastic_history": (64, 224)}, {"elastic_history": (224, 256)}, {"elastic_history": ()}, {"elastic_tokens": (4, 8)}]
    assert len({model(ELASTIC), *(model(dataclasses.replace(ELASTIC, **changes)) for changes in other)}) == 5


def test_a_model_that_is_elastic_in_history_alone_has_its_own_token_count() -> None:
    alone = dataclasses.replace(ELASTIC, elastic_tokens=())
    assert model(dataclasses.replace(alone, history=64)) == model(alone) != model(dataclasses.replace(alone, tokens=0))


def test_a_length_costs_what_a_model_of_its_own_costs() -> None:
    for length in ELASTIC.elastic_history:
        served, of_tokens = (dataclasses.replace(ELASTIC, history=length, **changes) for changes in ({}, {"elastic_history": ()}))
        assert cost(served) == cost(of_tokens)
        alone = dataclasses.replace(served, elastic_tokens=())
        own = dataclasses.replace(alone, training="separate", elastic_history=())
        assert cost(alone) == cost(own)
        assert cell_of_shape(alone) == cell_of_shape(own)
        assert cell_of_shape(served).elastic_history == ()
    assert len({cost(dataclasses.replace(ELASTIC, history=length)) for length in ELASTIC.elastic_history}) == 3


def test_a_quality_is_a_model_and_what_it_is_served_from() -> None:
    elastic = dataclasses.replace(CELL, training="elastic", elastic_tokens=(4, 8))
    served = [{"serving": "recompute"}, {"cache_dtype": "int8"}, {"ablation": "other_user"}, {"staleness": 2}]
    cells = [CELL, elastic, dataclasses.replace(elastic, tokens=8), *(dataclasses.replace(CELL, **changes) for changes in served)]
    assert len({*map(quality, cells), quality(CELL, data="other")}) == len(cells) + 1
    assert quality(dataclasses.replace(CELL, control=True)) == quality(CELL)


def test_a_floor_is_keyed_by_its_data_alone() -> None:
    floor = Cell(backbone="popularity", compression="none", training="none")
    assert quality(dataclasses.replace(floor, seed=2, batch_size=64)) == quality(floor)
    others = [
        dataclasses.replace(floor, **changes) for changes in ({"backbone": "frequency"}, {"split": "temporal"}, {"protocol": "5-core"})
    ]
    assert len({quality(floor), quality(floor, data="other"), *map(quality, others)}) == 5


OF_NO_SHAPE = {
    "dataset", "dataset_size", "ablation", "staleness", "training", "elastic_tokens", "learning_rate", "warmup_steps", "decays",
    "weight_decay", "temperature", "epochs", "patience", "seed", "copying_start", "moving_windows",
    "item_learning_rate", "elastic_history", "targets_per_step", "recent_weight_steps", "split",
    "expert_learning_rate", "world_size", "protocol", "random_cuts",
}  # fmt: skip


def test_a_cost_knows_no_interactions_no_seed_and_nothing_of_training() -> None:
    assert {field.name for field in dataclasses.fields(Cell)} - set(SHAPE_FIELDS) == OF_NO_SHAPE
    for name in OF_NO_SHAPE - {"training", "elastic_tokens"}:
        changed = dataclasses.replace(CELL, **{name: OTHER[name]})
        assert cost(changed) == cost(CELL), name
        data = {"dataset": "synthetic", "dataset_size": None, "protocol": "own"}
        own, other = (dataclasses.replace(cell_of_shape(cell), **data) for cell in (CELL, changed))
        assert own == other, name
    assert cost(dataclasses.replace(CELL, training="none")) == cost(CELL)
    assert cost(dataclasses.replace(CELL, elastic_tokens=(4,))) == cost(CELL)  # which only an elastic model has


@pytest.mark.parametrize(
    "changes", [{"width": 64}, {"tokens": 8}, {"history": 225, "segments": 1}, {"recent": 33}, {"serving": "recompute"}, {"device": "cuda"}]
)
def test_another_shape_is_another_cost(changes: dict[str, object]) -> None:
    assert cost(dataclasses.replace(CELL, **changes)) != cost(CELL)


def test_an_elastic_model_holds_the_largest_of_its_counts_whatever_their_order() -> None:
    costs = {cost(dataclasses.replace(CELL, training="elastic", elastic_tokens=counts)) for counts in ((4, 8), (8, 4), (4, 16), (0, 4, 8))}
    assert len({cost(CELL), *costs}) == 4


def test_of_the_data_a_cost_knows_the_catalogue_as_far_as_it_is_read() -> None:
    read = {"items": {"hstu", "hllm", "category"}, "texts": {"hllm"}, "categories": {"category"}}
    cells = {
        "hstu": CELL,
        "hllm": dataclasses.replace(CELL, backbone="hllm"),
        "category": dataclasses.replace(CELL, compression="category", segments=1),
    }
    for name, readers in read.items():
        other = dataclasses.replace(CATALOGUE, **{name: 101 if name == "items" else "other"})
        assert {reader for reader, cell in cells.items() if cost(cell, other) != cost(cell)} == readers


def test_keys_hold_the_versions_of_their_own_measures_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, measure in MEASURES.items():
        before = quality(CELL), cost(CELL), model(CELL)
        with monkeypatch.context() as patches:
            patches.setitem(MEASURES, name, dataclasses.replace(measure, version=measure.version + 1))
            after = quality(CELL), cost(CELL), model(CELL)
        changed = [one != other for one, other in zip(before, after, strict=True)]
        assert changed == [measure.kind in QUALITY_KINDS, measure.kind in COST_KINDS and not measure.beside_control, False], name


def test_the_keys_of_committed_records_are_those_of_their_cells() -> None:
    assert COMMITTED
    for path in COMMITTED:
        record = json.loads(path.read_text())
        cell = Cell.from_dict(record["cell"])
        key = cell_key(cell, dataset_digest=record["dataset"]["digest"], versions=record["measure_versions"])
        assert key == record["cell_key"] == path.stem, path


def test_a_catalogue_of_its_own_takes_the_place_of_the_datas() -> None:
    cell = dataclasses.replace(CELL, training="none")
    own = dataclasses.replace(cell, catalogue=CATALOGUE.items - 1)  # padding is one more
    assert cost(own) == cost(cell) != cost(dataclasses.replace(cell, catalogue=10))
    assert cell_of_shape(own).catalogue == own.catalogue

"""A cell's identity: two cells that differ anywhere never share a key, and the same cell always has the same one."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks.cell import DEFAULTS, Cell
from benchmarks.environment import PROJECT
from benchmarks.keys import cell_key
from benchmarks.measures import MEASURES, versions
from benchmarks.settings import LATER_FIELDS
from benchmarks.text import canonical, digest

CELL = Cell(backbone="hstu", compression="experts", history=224, tokens=4, segments=2, dropout=0.2)
OTHER = {
    "backbone": "sasrec", "compression": "pooling", "dataset": "ml-1m", "dataset_size": "tiny", "history": 225, "recent": 33,
    "segments": 4, "tokens": 8, "serving": "recompute", "training": "none", "elastic_tokens": (4,), "layers": 3, "heads": 2,
    "width": 64, "dropout": 0.20000000000000004, "time_bias": False, "learning_rate": 1.0000000000000002e-3, "warmup_steps": 201,
    "decays": False, "weight_decay": 5e-324, "temperature": 0.05000000000000001, "negatives": 257, "epochs": 2, "patience": 2,
    "batch_size": 33, "seed": 2, "device": "cuda", "dtype": "bfloat16", "threads": 2,
    "item_layers": 3, "plan": "growing", "cache_dtype": "int8", "ablation": "other_user", "staleness": 16,
    "key_value_heads": 1, "feed_forward": 96, "control": True, "counted_only": True,
    "copying_start": True, "recent_weight": 5e-324, "moving_windows": True, "item_learning_rate": 1e-4, "elastic_history": (224,),
    "targets_per_step": 7, "recent_weight_steps": 7, "split": "temporal", "catalogue": 50,
    "counts": "all", "request_time": False, "expert_start": "pooled", "expert_learning_rate": 1e-4,
    "world_size": 2, "accumulation": 2, "autocast": True, "protocol": "5-core",
    "expert_weight": 5e-324, "distillation": 5e-324, "random_cuts": True, "divisor": 0,
}  # fmt: skip
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def key(cell: Cell, data: str = "data", measures: dict[str, int] | None = None) -> str:
    return cell_key(cell, dataset_digest=data, versions=versions() if measures is None else measures)


def exactly(value: object) -> object:
    """``value`` so that equality is sameness: 1, 1.0 and True are three things, as 0.0 and -0.0 are two."""
    if isinstance(value, dict):
        return ("table", tuple(sorted((name, exactly(part)) for name, part in value.items())))
    if isinstance(value, list):
        return ("list", tuple(map(exactly, value)))
    return (type(value).__name__, value.hex() if isinstance(value, float) else value)


@given(one=VALUES, other=VALUES)
def test_canonical_texts_are_equal_for_the_same_values_alone(one: object, other: object) -> None:
    assert (canonical({"value": one}) == canonical({"value": other})) == (exactly(one) == exactly(other))


@given(value=st.floats(allow_nan=False, allow_infinity=False), ulps=st.integers(1, 4), back=st.booleans())
def test_a_sign_or_the_last_decimal_makes_another_key(value: float, ulps: int, back: bool) -> None:
    near = value
    for _ in range(ulps):
        near = math.nextafter(near, -math.inf if back else math.inf)
    assume(math.isfinite(near))
    keys = {digest({"x": number}) for number in (value, near, -value)}
    assert len(keys) == len({number.hex() for number in (value, near, -value)})
    assert json.loads(canonical({"x": value}))["x"].hex() == value.hex()


@given(rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False), decay=st.floats(min_value=0, allow_infinity=False))
def test_a_cell_that_differs_by_one_step_of_a_float_is_another_cell(rate: float, decay: float) -> None:
    cell = dataclasses.replace(CELL, learning_rate=rate, weight_decay=decay)
    for name in ("learning_rate", "weight_decay"):
        near = math.nextafter(getattr(cell, name), math.inf)
        if math.isfinite(near):
            assert key(dataclasses.replace(cell, **{name: near})) != key(cell)
    assert key(Cell.from_dict(json.loads(json.dumps(cell.to_dict())))) == key(cell)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Cell)])
def test_every_setting_is_part_of_the_key(name: str) -> None:
    if name not in OTHER:
        pytest.fail(f"this test knows no other value of {name}: give it one in OTHER")
    cell = {
        "item_layers": dataclasses.replace(CELL, backbone="hllm", item_layers=2),
        "compression": dataclasses.replace(CELL, segments=1),  # means are of the history as a whole
        "key_value_heads": dataclasses.replace(CELL, backbone="llama"),
        "feed_forward": dataclasses.replace(CELL, backbone="sasrec"),
        "counted_only": dataclasses.replace(CELL, backbone="llama", training="none"),
        "catalogue": dataclasses.replace(CELL, training="none"),
    }.get(name, CELL)
    assert key(dataclasses.replace(cell, **{name: OTHER[name]})) != key(cell)


def test_data_and_each_measures_version_are_part_of_the_key() -> None:
    keys = {key(CELL), key(CELL, data="other")}
    keys |= {key(CELL, measures=versions() | {name: version + 1}) for name, version in versions().items()}
    assert len(keys) == 2 + len(versions())


def test_settings_that_came_later_leave_the_keys_before_them_as_they_were() -> None:
    baseline = json.loads((PROJECT / "results/baselines/smoke-cpu.json").read_text())["entries"]
    assert set(LATER_FIELDS) & set(CELL.to_dict()) == set()
    for known, entry in baseline.items():
        cell = Cell.from_dict(entry["cell"])
        assert not [name for name in LATER_FIELDS if name in entry["cell"] and getattr(cell, name) == DEFAULTS[name]]
        assert key(cell, data=entry["dataset"]["digest"], measures=entry["measure_versions"]) == known
    later = dataclasses.replace(CELL, control=True)
    assert Cell.from_dict(later.to_dict()) == later


THEN = {
    "key_value_heads": None, "feed_forward": None, "control": False, "counted_only": False, "copying_start": False,
    "recent_weight": 0.0, "moving_windows": False, "item_learning_rate": None, "elastic_history": (),
    "targets_per_step": None, "recent_weight_steps": 1000, "split": "leave-one-out", "catalogue": None,
    "counts": "none", "request_time": True, "expert_start": "learnt", "expert_learning_rate": None,
    "world_size": 1, "accumulation": 1, "autocast": False, "protocol": "own", "expert_weight": 0.0, "distillation": 0.0,
    "random_cuts": False, "divisor": None,
}  # fmt: skip


@pytest.mark.parametrize("name", list(THEN))
def test_a_later_setting_is_left_out_as_it_was_before_it_came_and_is_read_so(name: str) -> None:
    """Whatever its default is by now: what a record's key stands for never changes."""
    assert dict(LATER_FIELDS) == THEN
    backbone = {"counted_only": "llama", "key_value_heads": "llama", "request_time": "hstu", "divisor": "hstu"}.get(name, "sasrec")
    training = "none" if name in ("counted_only", "catalogue") else "separate"
    cell = dataclasses.replace(CELL, backbone=backbone, training=training, **{name: OTHER[name]})
    assert cell.to_dict()[name] == json.loads(json.dumps(OTHER[name]))
    then = dataclasses.replace(cell, **{name: THEN[name]})
    assert name not in then.to_dict()
    assert Cell.from_dict(then.to_dict()) == then
    assert getattr(Cell.from_dict(then.to_dict()), name) == THEN[name]


def test_a_later_setting_with_another_default_is_still_read_as_it_was_then() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
    class CellOfTomorrow(Cell):
        copying_start: bool = True

    old = {name: value for name, value in CELL.to_dict().items() if name != "copying_start"}
    assert not CellOfTomorrow.from_dict(old).copying_start
    assert CellOfTomorrow(backbone="hstu", compression="full").to_dict()["copying_start"] is True


@pytest.mark.parametrize(
    ("name", "whole"),
    [("learning_rate", 1), ("item_learning_rate", 1), ("temperature", 1), ("weight_decay", 0), ("recent_weight", 2), ("dropout", 0)],
)
def test_a_whole_number_and_the_same_as_a_float_are_one_setting(name: str, whole: int) -> None:
    cells = [dataclasses.replace(CELL, **{name: value}) for value in (whole, float(whole))]
    assert key(cells[0]) == key(cells[1])
    assert isinstance(getattr(cells[0], name), float)


def test_the_order_of_lengths_is_no_setting() -> None:
    one = Cell(backbone="hstu", compression="full", training="elastic", elastic_history=(224, 64))
    assert one == dataclasses.replace(one, elastic_history=(64, 224)) == Cell.from_dict(json.loads(canonical(one.to_dict())))
    assert one.to_dict()["elastic_history"] == [64, 224]


def test_the_order_of_elastic_tokens_is_no_setting() -> None:
    counts = ((0, 2, 4), (4, 2, 0), (2, 4, 0))
    assert len({key(dataclasses.replace(CELL, training="elastic", elastic_tokens=each)) for each in counts}) == 1


def test_what_is_measured_beside_a_control_is_in_the_key_of_a_cell_with_one_alone() -> None:
    beside = {name for name, measure in MEASURES.items() if measure.beside_control}
    assert {name for name in MEASURES if name.endswith(("_over_full", "_over_alike"))} == beside
    assert set(versions()) == set(MEASURES) - beside
    assert set(versions(control=True)) == set(MEASURES)


def test_no_number_without_a_json_word_gets_a_key() -> None:
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical({"x": value})


def test_a_key_is_the_same_in_every_process() -> None:
    cell = "Cell(backbone='hstu', compression='full', elastic_tokens=(1, 2))"
    code = f"from benchmarks.cell import *; from benchmarks.text import *; print(digest({cell}.to_dict()))"
    places = [{"PYTHONHASHSEED": seed, "PYTHONPATH": str(PROJECT)} for seed in ("1", "2")]
    found = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=place).stdout.strip()
        for place in places
    }
    assert found == {digest(Cell(backbone="hstu", compression="full", elastic_tokens=(1, 2)).to_dict())}


def test_a_memory_is_served_from_its_own_fresh_states_alone() -> None:
    with pytest.raises(ValueError, match="^staleness: 4 with compression 'memory'"):
        Cell(backbone="hstu", compression="memory", tokens=2, staleness=4)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan])
def test_a_learning_rate_of_items_is_above_zero(rate: float) -> None:
    with pytest.raises(ValueError, match=r"^item_learning_rate: .*; expected a finite number above 0$"):
        dataclasses.replace(CELL, item_learning_rate=rate)

"""A control is full attention of the same shape in the same process."""

import dataclasses

import numpy as np
import pytest
from tiny_cells import CELLS, COUNTED_KINDS, measured

pytestmark = pytest.mark.usefixtures("measuring")

OF_CONTROL = ("serve", "compress", "compress_serve", "train")


@pytest.mark.parametrize("name", ["experts in 2 segments", "recent", "pooling", "full", "memory in 2 segments", "texts"])
def test_a_control_is_full_attention_in_the_same_process(name):
    cell = dataclasses.replace(CELLS[name], training="none", control=True)
    answer, phases = measured(cell)
    metrics, raw = answer["metrics"], answer["raw"]
    assert phases["cost"][-4:] == ["latency", "request", "control", "training_cost"]
    plain = dataclasses.replace(CELLS["full recomputed"], backbone=cell.backbone, training="none")
    full, _ = measured(plain, kinds=COUNTED_KINDS)
    whole = {phase: full["metrics"][f"{phase}_flops"]["value"] for phase in ("serve", "train")}
    own = {phase: metrics[f"{phase}_flops"]["value"] for phase in ("serve", "compress", "train")}
    own["compress_serve"] = own["compress"] + own["serve"]
    for phase in OF_CONTROL:
        share = own[phase] / whole["train" if phase == "train" else "serve"]
        assert metrics[f"{phase}_flops_over_full"]["value"] == pytest.approx(share, rel=1e-12), phase
    for kind, ours, whole_time in (("control", "serve", "full"), ("training_cost", "train", "full_train")):
        found, samples = metrics[f"{ours}_time_over_full"], f"{kind}/control"
        assert found["value"] == pytest.approx(np.median(raw[f"{samples}_{ours}_seconds"] / raw[f"{samples}_{whole_time}_seconds"]))
        assert found["low"] <= found["value"] <= found["high"]
    assert (metrics["compress_time_over_full"]["value"] is None) == (own["compress"] == 0)
    assert metrics["compress_serve_time_over_full"]["value"] >= metrics["serve_time_over_full"]["value"]
    assert all(metrics[f"{phase}_time_over_full"]["method"] for phase in OF_CONTROL)
    if name == "full":
        assert metrics["serve_time_over_alike"]["value"] is metrics["serve_flops_over_alike"]["value"] is None


SERVED = [(name, serving) for name in ("experts in 2 segments", "memory in 2 segments", "pooling") for serving in ("cache", "append")]


@pytest.mark.parametrize(("name", "serving"), [*SERVED, ("int8", "cache")])
def test_like_is_held_against_like_in_one_process(name, serving):
    cell = dataclasses.replace(CELLS[name], training="none", control=True, serving=serving)
    answer, _ = measured(cell, kinds=("flops", "control"))
    full, _ = measured(dataclasses.replace(CELLS["full"], backbone=cell.backbone, training="none", serving=serving), kinds=("flops",))
    metrics, raw = answer["metrics"], answer["raw"]
    share = metrics["serve_flops"]["value"] / full["metrics"]["serve_flops"]["value"]
    assert metrics["serve_flops_over_alike"]["value"] == pytest.approx(share, rel=1e-12)
    ratios = raw["control/control_serve_seconds"] / raw["control/control_alike_seconds"]
    assert metrics["serve_time_over_alike"]["value"] == pytest.approx(np.median(ratios))

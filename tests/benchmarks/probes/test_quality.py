"""Quality: from what a cell is served from, from a cache that must not stray, and from vectors that are read once."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from tiny_cells import CELLS, COUNTED, COUNTED_KINDS, LOG, SIZES, measured, subject_of

from benchmarks.cell import Cell, InvalidMeasurementError
from benchmarks.probes.models import build_model
from benchmarks.probes.quality import check_cache, quality_of_ranks, states_before_target
from benchmarks.probes.validation import validation_figure
from persrec.checkpoints import load_weights
from persrec.data.splits import leave_one_out, temporal
from persrec.data.synthetic import generate, settings_of
from persrec.evaluation.metrics import LEAST_USERS
from persrec.evaluation.ranks import target_ranks
from persrec.evaluation.states import user_states

pytestmark = pytest.mark.usefixtures("measuring")


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
    answer, _ = measured(cell, model_dirs["growing"], kinds=COUNTED_KINDS)
    assert answer["model"] == own["model"] | {"validation": None}  # such a cell answers a question and is not chosen
    model = build_model(cell, LOG.num_items)
    load_weights(model_dirs["growing"], model)
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


def test_repeat_last_ranks_the_last_item_first():
    answer, _ = measured(Cell(backbone="repeat_last", compression="none", training="none", **SIZES))
    data = leave_one_out(LOG)
    last = np.array([items[-1] for items, _ in data.past("test")])
    assert np.array_equal(answer["raw"]["ranks"] == 1, last == data.targets("test"))


def test_random_tokens_are_those_of_the_cells_seed():
    cell, data = dataclasses.replace(CELLS["growing"], ablation="random_tokens"), leave_one_out(LOG)
    model = build_model(CELLS["growing"], LOG.num_items).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.5)
    one, other = (states_before_target(dataclasses.replace(cell, seed=seed), model, data) for seed in (1, 2))
    assert (one - other).abs().max() > 1e-4


@pytest.mark.parametrize("serving", ["cache", "append"])
def test_a_cache_that_strays_from_the_joint_pass_makes_a_cell_invalid(monkeypatch, serving):
    subject, data = subject_of(dataclasses.replace(CELLS["experts"], serving=serving)), leave_one_out(LOG)
    model = subject.model
    assert check_cache(subject, data) <= 1e-5
    own, size = model.compress, 1.0

    def stray(history, times=None):
        cache = own(history, times)
        return dataclasses.replace(cache, layers=tuple((keys, values + size) for keys, values in cache.layers))

    monkeypatch.setattr(model, "compress", stray)
    with pytest.raises(InvalidMeasurementError, match="scores from the cache differ from the joint pass by .*, above 1e-05"):
        check_cache(subject, data)
    size = 1e-3
    with pytest.raises(InvalidMeasurementError) as error:
        check_cache(subject, data)
    gap = float(re.search(r"by ([^,]+),", str(error.value))[1])
    size *= 5e-6 / gap  # half of what is allowed
    assert check_cache(subject, data) == pytest.approx(5e-6, rel=0.2)
    size *= 4
    with pytest.raises(InvalidMeasurementError):
        check_cache(subject, data)


@pytest.mark.parametrize("serving", ["cache", "append"])
def test_a_cache_that_keeps_other_items_than_are_counted_makes_a_cell_invalid(monkeypatch, serving):
    subject, data = subject_of(dataclasses.replace(CELLS["experts"], counts="all", serving=serving)), leave_one_out(LOG)
    with torch.no_grad():
        subject.model.counting.weights.weight.normal_()
    assert check_cache(subject, data) <= 1e-5
    own = subject.model.compress

    def stray(history, times=None):
        cache = own(history, times)
        return dataclasses.replace(cache, items=cache.items.roll(1, dims=0))

    monkeypatch.setattr(subject.model, "compress", stray)
    with pytest.raises(InvalidMeasurementError, match="scores from the cache differ from the joint pass"):
        check_cache(subject, data)


def test_serving_reads_no_text(monkeypatch):
    subject = subject_of(dataclasses.replace(CELLS["texts"], training="none"))
    subject.keep_item_vectors()
    monkeypatch.setattr(subject.model.items, "encode", lambda *given: pytest.fail("a text was read"))
    with torch.no_grad():
        request = subject.request(2)
        subject.server(request)()
        subject.compress(request)
        user_states(subject.model, leave_one_out(LOG), "test", time_bias=True, batch_size=3)


def test_validation_reads_the_catalogue_once(monkeypatch):
    subject = subject_of(dataclasses.replace(CELLS["texts"], training="none"))
    reads = []
    encode = subject.model.items.encode
    monkeypatch.setattr(subject.model.items, "encode", lambda *given: reads.append(len(given[0])) or encode(*given))
    validation_figure(subject.model, leave_one_out(LOG), time_bias=True)()
    assert reads == [LOG.num_items]


def test_a_users_several_targets_count_as_their_mean_and_groups_part_the_targets():
    data = temporal(generate(dataclasses.replace(settings_of(LOG.notes), users=80)))
    assert len(data.test) > len(np.unique(data.test.users)) > LEAST_USERS
    random = np.random.default_rng(0)
    ranks = random.integers(1, 30, len(data.test))
    quality = quality_of_ranks(ranks, data)
    metric = quality["metrics"]["recall@10"]
    by_hand = [np.mean(ranks[data.test.users == user] <= 10) for user in np.unique(data.test.users)]
    assert metric["value"] == pytest.approx(np.mean(by_hand))
    assert metric["n"] == len(by_hand)
    assert metric["low"] <= metric["value"] <= metric["high"]
    edges = [(group["least"], group["below"]) for group in quality["groups"]]
    assert edges == sorted(edges)
    for group in quality["groups"]:
        rows = (data.test.positions >= group["least"]) & (data.test.positions < (group["below"] or np.inf))
        users = data.test.users[rows]
        by_hand = [np.mean(ranks[rows][users == user] <= 10) for user in np.unique(users)]
        assert group["metrics"]["recall@10"]["value"] == pytest.approx(np.mean(by_hand))
    places = data.test.positions
    assert sum(np.count_nonzero((places >= least) & (places < (below or np.inf))) for least, below in edges) == len(places)


def test_a_floor_is_measured_on_the_temporal_split():
    answer, _ = measured(Cell(backbone="popularity", compression="none", training="none", split="temporal", **SIZES))
    facts = answer["dataset"]
    assert (facts["split"], len(facts["days"])) == ("temporal", 2)
    assert facts["targets"] == len(answer["raw"]["ranks"]) == len(temporal(LOG).test)
    assert answer["metrics"]["ndcg@10"]["n"] == len(np.unique(temporal(LOG).test.users))

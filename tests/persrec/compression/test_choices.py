"""What each compression takes of a history: by hand, and against the rule written out item by item."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from persrec.compression import CompressionSettings, build_compression
from persrec.compression.base import ItemSlots
from persrec.compression.random import Random, draw
from persrec.compression.retrieval import Retrieval

V, D, TOKENS = 30, 6, 3
VECTORS = torch.randn(V, D, generator=torch.Generator().manual_seed(0))
CATEGORIES = np.array([0, *(item % 4 for item in range(1, V))])  # 0 for items without one too
CHOOSING = ("category", "strided", "random")


def slots(ids, times=None):
    ids = torch.tensor(ids)
    return ItemSlots(ids=ids, vectors=VECTORS[ids], times=None if times is None else torch.tensor(times))


def build(name, *, history=9, recent=4, tokens=TOKENS):
    sizes = {"history": history, "recent": recent, "segments": 1, "tokens": tokens, "width": D}
    return build_compression(name, CompressionSettings(**sizes, categories=CATEGORIES))


def taken(name, ids, *, tokens=TOKENS):
    """Items of each vector that stands for one user's history, oldest first, by the rule; [] where nothing stands."""
    held = [item for item in ids if item]
    if name == "strided":
        chosen = sorted({math.ceil(number * max(len(held), tokens) / tokens) for number in range(tokens)})
        groups = [[held[len(held) - 1 - back]] for back in reversed(chosen) if back < len(held)]
    elif name == "random":
        back = torch.arange(len(held) - 1, -1, -1)
        hashes = draw(torch.tensor(held, dtype=torch.int64), back).tolist()
        drawn = sorted(range(len(held)), key=lambda place: hashes[place])[-tokens:]
        groups = [[held[place]] for place in sorted(drawn)]
    else:
        latest = {int(CATEGORIES[item]): place for place, item in enumerate(held)}
        counts = Counter(int(CATEGORIES[item]) for item in held)
        kept = sorted(counts, key=lambda kind: (counts[kind], latest[kind]))[-tokens:]
        groups = [[item for item in held if CATEGORIES[item] == kind] for kind in sorted(kept, key=latest.get)]
    return [[]] * (tokens - len(groups)) + groups


@pytest.mark.parametrize("name", CHOOSING)
@settings(max_examples=40)
@given(data=st.data())
def test_each_takes_what_its_rule_says(name, data):
    width, tokens = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
    rows = data.draw(st.lists(st.lists(st.integers(0, 9), min_size=width, max_size=width), min_size=1, max_size=3))
    chunk = build(name, history=width, tokens=tokens).history_chunk(0, slots(rows))
    assert (chunk.kept, chunk.items, chunk.positions.tolist()) == (tokens, 0, list(range(tokens)))
    for row, ids in enumerate(rows):
        expected = taken(name, ids, tokens=tokens)
        assert chunk.valid[row].tolist() == [bool(group) for group in expected]
        for place, group in enumerate(expected):
            mean = VECTORS[group].mean(0) if group else torch.zeros(D)
            torch.testing.assert_close(chunk.inputs[row, place], mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CHOOSING)
def test_a_summary_takes_the_time_of_its_latest_item(name):
    ids, times = [4, 8, 1, 5, 2, 12, 9, 3, 6], [10, 20, 30, 40, 50, 60, 70, 80, 90]
    chunk = build(name).history_chunk(0, slots([ids], [times]))
    latest = [times[ids.index(group[-1])] for group in taken(name, ids)]
    assert chunk.key_times.tolist() == chunk.query_times.tolist() == [latest]


def test_by_hand():
    ids = [0, 1, 5, 2, 9, 6, 2, 3]  # of the categories 1 1 2 1 2 2 3
    assert taken("category", ids, tokens=2) == [[1, 5, 9], [2, 6, 2]]
    assert taken("category", ids, tokens=4) == [[], [1, 5, 9], [2, 6, 2], [3]]
    assert taken("strided", ids, tokens=1) == [[3]]
    assert taken("strided", ids, tokens=3) == [[5], [9], [3]]  # 5, 3 and 0 items back
    assert taken("strided", [7, 0, 4], tokens=3) == [[], [7], [4]]


def test_of_categories_alike_in_number_the_one_taken_later_goes_first():
    chunk = build("category", tokens=1).history_chunk(0, slots([[1, 2, 1, 2], [2, 1, 2, 1]]))
    torch.testing.assert_close(chunk.inputs[:, 0], VECTORS[[2, 1]])


def test_a_dataset_without_categories_is_refused():
    with pytest.raises(ValueError, match=r"^categories: None for the compression 'category'; expected the category of each item$"):
        build_compression("category", CompressionSettings(history=9, recent=4, segments=1, tokens=2, width=D))


def test_a_random_sample_is_spread_evenly_and_is_of_the_history_at_hand():
    random = Random(history=10, recent=1, tokens=3)
    ids = torch.from_numpy(np.random.default_rng(0).integers(1, 10**6, (4000, 10)))
    chosen = random.history_chunk(0, ItemSlots(ids=ids, vectors=torch.eye(10)[None].expand(4000, -1, -1), times=None))
    share = chosen.inputs.sum(1).mean(0)  # of the users whose item at each place is in the sample
    assert (share - 0.3).abs().max() < 0.03  # four standard deviations
    again = random.history_chunk(0, ItemSlots(ids=ids, vectors=torch.eye(10)[None].expand(4000, -1, -1), times=None))
    assert torch.equal(again.inputs, chosen.inputs)


# Retrieval: cosines in double precision, one by one


def cosines(ids, asking):
    question = sum((VECTORS[item].double() / VECTORS[item].double().norm() for item in asking if item), torch.zeros(D).double())
    return {item: float(question @ VECTORS[item].double() / VECTORS[item].double().norm()) for item in ids if item}


def nearest(ids, asking, *, tokens):
    cosine = cosines(ids, asking)
    places = sorted((place for place, item in enumerate(ids) if item), key=lambda place: (cosine[ids[place]], place))
    return [ids[place] for place in sorted(places[-tokens:])]


@settings(max_examples=40)
@given(data=st.data())
def test_the_nearest_items_are_taken_in_time_order(data):
    history, recent = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
    ids = data.draw(st.lists(st.integers(0, V - 1), min_size=history, max_size=history))
    asking = data.draw(st.lists(st.integers(0, V - 1), min_size=1, max_size=recent))
    retrieval = Retrieval(history=history, recent=recent, tokens=TOKENS)
    found = retrieval.chosen(slots([ids]), slots([asking]))
    expected, taken = nearest(ids, asking, tokens=TOKENS), found.ids[0].tolist()
    kept = taken[TOKENS - len(expected) :]
    assert taken == [0] * (TOKENS - len(expected)) + kept
    later = iter(ids)
    assert all(item in later for item in kept)  # in the order of time
    cosine = cosines(ids, asking)  # two items that both ask are equally near, and rounding decides between them
    assert sorted(cosine[item] for item in kept) == pytest.approx(sorted(cosine[item] for item in expected), abs=1e-5)


def test_the_first_half_of_the_recent_slots_asks():
    assert [Retrieval(history=4, recent=recent, tokens=1).layout.query_items for recent in (1, 2, 3, 8)] == [1, 1, 2, 4]
    assert Retrieval(history=4, recent=8, tokens=1).layout.predicting_columns.tolist() == [7, 8, 9, 10, 11]


def test_the_choice_carries_no_gradient_and_what_is_chosen_does():
    vectors = VECTORS.clone().requires_grad_()
    retrieval = Retrieval(history=4, recent=2, tokens=2)
    ids, asking = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[5]])
    chosen = retrieval.chosen(
        ItemSlots(ids=ids, vectors=vectors[ids], times=None), ItemSlots(ids=asking, vectors=vectors[asking], times=None)
    )
    retrieval.history_chunk(0, chosen).inputs.sum().backward()
    moved = vectors.grad.abs().sum(1) > 0
    assert set(moved.nonzero().flatten().tolist()) == set(chosen.ids[0].tolist())

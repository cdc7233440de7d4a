"""Cached, extended and joint are the same numbers: every backbone, every compression, any plan and padding."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import (
    BACKBONE_NAMES,
    CACHED,
    CACHED_FAMILIES,
    CASES,
    FAMILIES,
    PART_OF,
    TOLERANCE,
    WIDTH,
    build,
    random_features,
    random_windows,
)

from persrec.compression.base import item_chunk
from persrec.compression.experts import Experts
from persrec.layout import Segment, SegmentLayout
from persrec.recommender import SequentialRecommender
from persrec.schedule import joint_runs

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.parametrize("backbone", BACKBONE_NAMES)]


def cut_off(tensor, width):
    """The window with nothing behind column ``width``."""
    cut = tensor.clone()
    cut[:, width:] = 0
    return cut


def extended_step_by_step(model, items, times, *, from_segment=1):
    """The cache of the first segments, extended by one segment after the other."""
    offsets = model.layout.offsets
    edge = offsets[from_segment - 1]
    cache = model.compress(items[:, :edge], None if times is None else times[:, :edge])
    for start, stop in itertools.pairwise(offsets[from_segment - 1 :]):
        cache = model.extend(cache, items[:, start:stop], None if times is None else times[:, start:stop])
    return cache


def assert_same_cache(found, expected):
    assert (found.segments, found.layout, found.length) == (expected.segments, expected.layout, expected.length)
    assert torch.equal(found.positions, expected.positions)
    assert torch.equal(found.valid, expected.valid)
    assert (found.times is None) == (expected.times is None)
    assert found.times is None or torch.equal(found.times, expected.times)
    for ours, theirs in zip(found.tensors, expected.tensors, strict=True):
        # what is kept is no cosine: a memory's vectors hold numbers of 2 and 3, and float32 rounds those that much more coarsely
        largest = max(1.0, float(theirs.abs().max())) if theirs.numel() else 1.0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE["atol"] * largest)


def served_rows(model, cache, rows, *request):
    """Scores of some rows of a request, from their part of the cache."""
    asked = (None if part is None else part[rows] for part in request)
    return model.score(*asked, cache=cache.of_users(rows.nonzero().flatten()))


@torch.no_grad()
def assert_one_model(model: SequentialRecommender, items, times, query_time, *, recent):
    """Scores of the joint pass, cut off behind ``recent`` recent items, come out of every cache of the history.

    A user without any recent item is left out: the joint pass answers from the last item of the history, which no cache
    holds, so that such a request is refused.
    """
    history = model.layout.history
    kept = None if times is None else times[:, :history]
    shown = None if times is None else times[:, history : history + recent]
    width = history + recent
    asks = (items[:, history:width] != 0).any(1)
    joint = model.score(cut_off(items, width), None if times is None else cut_off(times, width), query_time)
    at_once = model.compress(items[:, :history], kept)
    caches = [at_once]
    for first in range(1, len(model.layout.segments) + 1):
        caches.append(extended_step_by_step(model, items, times, from_segment=first))
        assert_same_cache(caches[-1], at_once)
    for cache in caches:
        served = served_rows(model, cache, asks, items[:, history:width], shown, query_time)
        torch.testing.assert_close(served, joint[asks], **TOLERANCE)
    assert asks.any()
    assert joint.isfinite().all()


@pytest.mark.parametrize("family", CACHED_FAMILIES)
@settings(max_examples=12)
@given(data=st.data())
def test_any_plan_any_padding_any_number_of_recent_items(backbone, family, data):
    compression = data.draw(FAMILIES[family])
    seed = data.draw(st.integers(0, 9999))
    items, times, query_time = random_windows(compression.layout, seed=seed)
    timed = data.draw(st.sampled_from(["no times", "times", "times and a request"]))
    recent = data.draw(st.integers(1, compression.layout.recent))
    assert_one_model(
        build(backbone, compression, seed=seed),
        items,
        None if timed == "no times" else times,
        query_time if timed == "times and a request" else None,
        recent=recent,
    )


class TokensThenItems(Experts):
    """A segment of which its tokens are kept, and one that stays visible, which runs at once with the recent items behind them."""

    def __init__(self):
        super().__init__(layout=SegmentLayout.from_plan([(4, 2)], window=8), width=WIDTH)
        self.layout = SegmentLayout(segments=(Segment(items=4, experts=2), Segment(items=3, stays_visible=True)), recent=4)

    def history_chunk(self, segment, items):
        return super().history_chunk(segment, items) if segment == 0 else item_chunk(self.layout, segment, items, kept=items.ids.shape[1])


def test_segments_that_run_at_once_behind_kept_tokens(backbone):
    compression = TokensThenItems()
    assert joint_runs(compression.layout, "segmented") == ((0,), (1, 2))
    model = build(backbone, compression)
    for seed in range(4):
        items, times, query_time = random_windows(compression.layout, seed=seed)
        assert_one_model(model, items, times, query_time, recent=4)


@pytest.mark.parametrize("case", CACHED)
def test_each_kind_of_plan_full_and_not_full(backbone, case):
    model = build(backbone, CASES[case]())
    items, times, query_time = random_windows(model.layout, seed=5)
    assert_one_model(model, items, times, query_time, recent=1)
    assert_one_model(model, items, None, None, recent=model.layout.recent)


@pytest.mark.parametrize("case", ["full", "3 segments", "pooling", "memory of 3 segments"])
def test_the_naive_kernel_serves_alike(backbone, case):
    model = build(backbone, CASES[case]())
    model.use_kernel("naive")
    items, times, query_time = random_windows(model.layout, seed=5)
    assert_one_model(model, items, times, query_time, recent=2)


@pytest.mark.parametrize("case", ["3 segments", "a segment without experts", "full in 2 segments", "elastic", "memory of 3 segments"])
@torch.no_grad()
def test_a_history_that_ends_at_an_earlier_offset_is_the_joint_pass_with_the_later_segments_empty(backbone, case):
    model = build(backbone, CASES[case]())
    items, times, query_time = random_windows(model.layout, seed=6)
    history = model.layout.history
    for offset in model.layout.offsets:
        items[:, offset:history], times[:, offset:history] = 0, 0
        cache = model.compress(items[:, :offset], times[:, :offset])
        asks = (items[:, history:] != 0).any(1)
        served = served_rows(model, cache, asks, items[:, history:], times[:, history:], query_time)
        torch.testing.assert_close(served, model.score(items, times, query_time)[asks], **TOLERANCE)
        items, times, query_time = random_windows(model.layout, seed=7 + offset)


@torch.no_grad()
def test_shown_experts_of_later_empty_segments_are_seen_from_the_cache_as_in_the_joint_pass(backbone):
    model = build(backbone, CASES["shown empty experts"]())
    items, _, _ = random_windows(model.layout, seed=6, holes=False)
    first, history = model.layout.offsets
    items[:, first:history] = 0
    served = model.score(items[:, history:], cache=model.compress(items[:, :first]))
    torch.testing.assert_close(served, model.score(items), **TOLERANCE)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_both_kernels_are_one_model(backbone, case):
    model = build(backbone, CASES[case]())
    items, times, query_time = random_windows(model.layout, seed=8)
    segmented = model.score(items, times, query_time)
    model.use_kernel("naive")
    torch.testing.assert_close(model.score(items, times, query_time), segmented, **TOLERANCE)


@pytest.mark.parametrize("case", CACHED)
@torch.no_grad()
def test_raw_vectors_in_place_of_the_models_own_serve_alike(backbone, case):
    model = build(backbone, CASES[case]())
    items, times, query_time = random_windows(model.layout, seed=9)
    history, features = model.layout.history, random_features()
    joint = model.score(items, times, query_time, item_features=features)
    cache = model.compress(items[:, :history], times[:, :history], item_features=features)
    served = model.score(items[:, history:], times[:, history:], query_time, cache=cache, item_features=features)
    torch.testing.assert_close(served, joint, **TOLERANCE)
    assert (joint - model.score(items, times, query_time)).abs().max() > 1e-2


@pytest.mark.parametrize("case", CACHED)
@torch.no_grad()
def test_a_cache_holds_what_the_formula_says_and_no_byte_more(backbone, case):
    model = build(backbone, CASES[case]())
    layout = model.layout
    items, _, _ = random_windows(layout)
    cache = model.compress(items[:, : layout.history])
    # a memory is what its last segment wrote, one vector of the model's width each; keys and values are kept of every segment
    memory = PART_OF[case].keeps == "vectors"
    kept = 2 if memory else sum(segment.kept for segment in layout.segments)
    assert cache.length == kept == layout.kept
    assert cache.nbytes_per_user == kept * (WIDTH if memory else model.backbone.cache_width()) * 4
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in cache.tensors}
    # a view would keep the keys and values of all that was compressed in memory
    assert sum(storages.values()) == len(items) * cache.nbytes_per_user


@pytest.mark.parametrize("case", CACHED)
@torch.no_grad()
def test_serving_and_extending_leave_a_cache_as_it_was(backbone, case):
    model = build(backbone, CASES[case]())
    items, times, _ = random_windows(model.layout)
    history, first = model.layout.history, model.layout.offsets[0]
    cache = model.compress(items[:, :first], times[:, :first])
    before = [tensor.clone() for tensor in cache.tensors]
    if len(model.layout.segments) > 1:
        model.extend(cache, items[:, first : model.layout.offsets[1]], times[:, first : model.layout.offsets[1]])
    answers = [model.score(items[:, history:], times[:, history:], cache=cache) for _ in range(2)]
    assert torch.equal(*answers)
    assert cache.segments == 1
    assert all(torch.equal(was, tensor) for was, tensor in zip(before, cache.tensors, strict=True))

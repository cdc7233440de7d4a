"""Requests one after the other, each from what the one before kept, give the joint pass's numbers: every backbone, compression, plan."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import BACKBONE_NAMES, BACKBONES_TIMED, CACHED, CACHED_FAMILIES, CASES, FAMILIES, ITEMS, TOLERANCE, build, random_windows

pytestmark = pytest.mark.usefixtures("one_thread")
every_backbone = pytest.mark.parametrize("backbone", BACKBONE_NAMES)
timed_or_not = pytest.mark.parametrize(("backbone", "timed"), BACKBONES_TIMED)


def requests(model, cache, recent, times, *, at_once=1):
    """States of each request as the recent items come, ``at_once`` new ones a request; and the cache behind the last."""
    states, known = [], 0
    for stop in range(at_once, recent.shape[1] + 1, at_once):
        known = cache.recent
        own_times = None if times is None else times[:, known:stop]
        query_time = None if times is None else times[:, stop - 1] + 60
        state, cache = model.append(recent[:, known:stop], own_times, query_time, cache=cache)
        states.append(state)
    return torch.stack(states, dim=1), cache


def joint(model, items, times, stop):
    """The joint pass's states where the window has so many recent items."""
    width = model.layout.history + stop
    cut = torch.where(torch.arange(items.shape[1]) < width, items, 0)
    cut_times = None if times is None else torch.where(torch.arange(items.shape[1]) < width, times, 0)
    return model.user_states(cut, cut_times, None if times is None else times[:, width - 1] + 60)


def full_recent(layout, *, seed=0):
    """Windows whose recent items are all there; the history has holes."""
    items, times, _ = random_windows(layout, seed=seed, holes=True)
    generator = torch.Generator().manual_seed(seed)
    recent = items[:, layout.history :]
    items[:, layout.history :] = torch.where(recent == 0, torch.randint(1, ITEMS, recent.shape, generator=generator), recent)
    times[:, layout.history :] = times.max() + 1000 * torch.arange(1, layout.recent + 1)
    return items, times


def assert_every_request_is_the_joint_pass(model, items, times, *, at_once=1, room=False):
    history = model.layout.history
    cache = model.compress(items[:, :history], None if times is None else times[:, :history])
    if room:
        cache = model.with_room(cache)
    recent_times = None if times is None else times[:, history:]
    states, kept = requests(model, cache, items[:, history:], recent_times, at_once=at_once)
    for number in range(states.shape[1]):
        expected = joint(model, items, times, (number + 1) * at_once)
        torch.testing.assert_close(states[:, number], expected, **TOLERANCE)
    served = model.layout.recent // at_once * at_once
    assert kept.recent == served - (times is not None and model.backbone.reads_next_times)
    assert kept.length == cache.length + kept.recent


@timed_or_not
@pytest.mark.parametrize("room", [False, True])
@pytest.mark.parametrize("case", CACHED)
@torch.no_grad()
def test_every_request_is_the_joint_pass(backbone, case, room, timed):
    model = build(backbone, CASES[case]())
    items, times = full_recent(model.layout)
    assert_every_request_is_the_joint_pass(model, items, times if timed else None, room=room)


@timed_or_not
@pytest.mark.parametrize("case", ["full", "3 segments", "memory"])
def test_a_room_is_left_alone_where_there_are_gradients(backbone, case, timed):
    model = build(backbone, CASES[case]())
    items, times = full_recent(model.layout)
    assert_every_request_is_the_joint_pass(model, items, times if timed else None, room=True)


@timed_or_not
@torch.no_grad()
def test_several_new_items_may_come_at_once(backbone, timed):
    model = build(backbone, CASES["3 segments"]())
    items, times = full_recent(model.layout)
    assert_every_request_is_the_joint_pass(model, items, times if timed else None, at_once=2)


@every_backbone
@settings(max_examples=15)
@given(data=st.data(), compression=st.one_of(*(FAMILIES[name] for name in CACHED_FAMILIES)), seed=st.integers(0, 9999))
@torch.no_grad()
def test_on_any_plan(backbone, data, compression, seed):
    model = build(backbone, compression, seed=seed)
    items, times = full_recent(model.layout, seed=seed)
    timed, room = data.draw(st.booleans()), data.draw(st.booleans())
    assert_every_request_is_the_joint_pass(model, items, times if timed else None, room=room)


@every_backbone
@torch.no_grad()
def test_a_request_from_a_room_is_that_from_a_cache_and_leaves_the_history_as_it_was(backbone):
    model = build(backbone, CASES["3 segments"]())
    items, times = full_recent(model.layout)
    history = model.layout.history
    cache = model.compress(items[:, :history], times[:, :history])
    room, before = model.with_room(cache), [tensor.clone() for tensor in cache.tensors]
    for stop in (model.layout.recent, 1, model.layout.recent):  # each request writes over the one before
        recent = (items[:, history : history + stop], times[:, history : history + stop], times[:, history + stop - 1] + 60)
        torch.testing.assert_close(model.user_states(*recent, cache=room), model.user_states(*recent, cache=cache), **TOLERANCE)
    assert all(torch.equal(now, then) for now, then in zip(room.tensors, before, strict=True))
    assert room.nbytes_per_user == cache.nbytes_per_user


@every_backbone
@pytest.mark.parametrize("case", ["3 segments", "shown empty experts"])
@torch.no_grad()
def test_a_cache_with_room_is_extended_as_one_without(backbone, case):
    model = build(backbone, CASES[case]())
    items, times = full_recent(model.layout)
    first, history = model.layout.offsets[0], model.layout.history
    cache = model.compress(items[:, :first], times[:, :first])
    recent = (items[:, history:], times[:, history:])
    room = model.with_room(cache)
    torch.testing.assert_close(model.user_states(*recent, cache=room), model.user_states(*recent, cache=cache), **TOLERANCE)
    second = model.layout.offsets[1]
    behind = (items[:, first:second], times[:, first:second])
    extended, plain = model.extend(room, *behind), model.extend(cache, *behind)
    torch.testing.assert_close(model.user_states(*recent, cache=extended), model.user_states(*recent, cache=plain), **TOLERANCE)


@every_backbone
@torch.no_grad()
def test_what_does_not_fit_is_refused(backbone):
    model = build(backbone, CASES["3 segments"]())
    layout = model.layout
    items, _ = full_recent(layout)
    cache = model.compress(items[:, : layout.history])
    recent = items[:, layout.history :]
    with pytest.raises(
        ValueError, match=rf"^items: {layout.recent + 1} behind 0 recent ones; expected {layout.recent} in all at most, then a refresh$"
    ):
        model.append(torch.cat([recent, recent[:, :1]], dim=1), cache=cache)
    with pytest.raises(ValueError, match="^items: padding among them; expected as many recent items of every user$"):
        model.append(torch.zeros_like(recent[:, :1]), cache=cache)
    _, kept = model.append(recent[:, :2], cache=cache)
    with pytest.raises(ValueError, match="^cache: holds 2 recent items; expected one of the history alone, or a call of append$"):
        model.score(recent[:, :1], cache=kept)
    with pytest.raises(ValueError, match="^cache: holds "):
        model.extend(kept, items[:, : layout.segments[0].items])
    with pytest.raises(ValueError, match=r"^query_time: torch.float32 of shape \[1\]; expected int64 \["):
        model.append(recent[:, :1], query_time=torch.ones(1), cache=cache)


@every_backbone
@torch.no_grad()
def test_a_memory_whose_states_alone_are_keyed_is_no_history_any_more(backbone):
    model = build(backbone, CASES["memory"]())
    items, times = full_recent(model.layout)
    history = model.layout.history
    cache = model.compress(items[:, :history], times[:, :history])
    new, new_times = items[:, history : history + 1], times[:, history : history + 1]
    _, kept = model.append(new, new_times, cache=cache)
    with pytest.raises(ValueError, match="^cache: holds [01] recent items; expected one of the history alone, or a call of append$"):
        model.score(new, new_times, cache=kept)

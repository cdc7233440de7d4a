"""Alike segments that run side by side are the same segments one after the other, which is how the naive kernel runs them."""

import pytest
import torch
from small_models import BACKBONES_TIMED, WIDTH, build, random_windows

from persrec.compression.experts import Experts
from persrec.layout import Segment, SegmentLayout
from persrec.nn.cache import Chunk, empty_cache
from persrec.nn.context import Context

pytestmark = pytest.mark.usefixtures("one_thread")

EXACT = {"rtol": 0, "atol": 1e-9}
SEGMENT = Segment(items=8, experts=1)


def alike(segment=SEGMENT, *, behind=(), hide_empty_experts=True):
    """Three segments that are alike, any others, and four recent items."""
    layout = SegmentLayout(segments=(segment,) * 3 + behind, recent=4, hide_empty_experts=hide_empty_experts)
    return Experts(layout=layout, width=WIDTH)


def elastic():
    """One token in use of two that each segment has."""
    compression = alike(Segment(items=8, experts=2))
    compression.use(3)
    return compression


PLANS = {
    "a token each": alike,
    "no token": lambda: alike(Segment(items=8)),
    "reserved slots": lambda: alike(Segment(items=8, experts=1, expert_slots=3)),
    "two tokens each, shown where empty": lambda: alike(Segment(items=16, experts=2), hide_empty_experts=False),
    "elastic": elastic,
    "another segment behind": lambda: alike(behind=(Segment(items=3, experts=2),)),
}


def left_out(count):
    def windows(layout):
        items, times, query_time = random_windows(layout, seed=count, holes=False)
        return items[:, count:], times[:, count:], query_time

    return windows


def emptied(*segments):
    def windows(layout):
        items, times, query_time = random_windows(layout, seed=7)
        for segment in segments:
            columns = slice(layout.offsets[segment] - layout.segments[segment].items, layout.offsets[segment])
            items[:, columns], times[:, columns] = 0, 0
        return items, times, query_time

    return windows


WINDOWS = {
    "any padding": lambda layout: random_windows(layout, seed=5),
    "items left out": left_out(2),
    "the first segment empty": emptied(0),
    "the second empty": emptied(1),
    "the third empty": emptied(2),
    "one alone": emptied(0, 2),
}


def states_and_gradients(model, kernel, items, times, query_time):
    """The states of all items ``[B, L, D]``, 0 at padding, all weights' gradients, and how many segments each call of the backbone had."""
    model.use_kernel(kernel)
    model.zero_grad(set_to_none=True)
    calls = []
    hook = model.backbone.register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0].segments))
    states, columns = model.hidden_states(items, times, query_time)
    hook.remove()
    of_items = torch.zeros(*items.shape, WIDTH, dtype=states.dtype).index_copy(1, columns, states) * (items != 0)[..., None]
    weights = torch.randn(of_items.shape, generator=torch.Generator().manual_seed(3), dtype=states.dtype)
    (of_items * weights).sum().backward()
    gradients = {name: torch.zeros_like(weight) if weight.grad is None else weight.grad for name, weight in model.named_parameters()}
    return of_items.detach(), gradients, calls


@pytest.mark.parametrize(("backbone", "timed"), BACKBONES_TIMED)
@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("plan", PLANS)
def test_states_and_gradients_are_those_of_one_segment_after_the_other(backbone, plan, windows, timed):
    model = build(backbone, PLANS[plan](), seed=2).double()
    items, times, query_time = WINDOWS[windows](model.layout)
    asked = (items, times, query_time) if timed else (items, None, None)
    states, gradients, calls = states_and_gradients(model, "segmented", *asked)
    expected, of_naive, one_by_one = states_and_gradients(model, "naive", *asked)
    assert set(one_by_one) == {1}
    apart = windows in ("the second empty", "one alone") and model.layout.hide_empty_experts
    assert max(calls) == 1 if apart else max(calls) > 1
    torch.testing.assert_close(states, expected, **EXACT)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, of_naive[name], **EXACT, msg=lambda told, name=name: f"{name}: {told}")


@pytest.mark.parametrize(("count", "calls"), [(0, [3, 1]), (2, [3, 1]), (3, [1, 1, 1, 1])])
def test_a_first_segment_of_which_much_is_left_out_does_not_run_beside_others(count, calls):
    model = build("hstu", alike())
    items, times, query_time = left_out(count)(model.layout)
    assert states_and_gradients(model, "segmented", items, times, query_time)[2] == calls


def test_segments_side_by_side_stand_behind_nothing():
    one = Chunk(
        inputs=torch.zeros(1, 3, 1), positions=torch.arange(3), valid=torch.ones(1, 3, dtype=torch.bool), key_times=None, query_times=None,
        kept=1, items=2,
    )  # fmt: skip
    cache = empty_cache(users=1, layout="", timed=False, device=torch.device("cpu")).append(one, ())
    with pytest.raises(ValueError, match=r"^cache: 1 positions before 2 segments side by side; expected none$"):
        Context(Chunk.side_by_side([one, one]), cache)


def test_every_segment_sees_the_nearest_kept_positions_last():
    model = build("hstu", alike())
    items, times, _ = random_windows(model.layout, holes=False)
    chunks = []
    hook = model.backbone.register_forward_pre_hook(lambda _, inputs: chunks.append(inputs[0]))
    model.hidden_states(items, times)
    hook.remove()
    context = Context(chunks[0], empty_cache(users=4, layout="", timed=True, device=torch.device("cpu")))
    # three segments of 8 items and a token, each behind the room for the tokens of two others
    assert (context.prefix, tuple(context.valid.shape)) == (2, (12, 11))
    assert context.valid[:3, :2].tolist() == [[False, False], [False, True], [True, True]]
    assert (context.query_positions[0] - context.key_positions).tolist() == [10, 1, *range(0, -9, -1)]
    assert context.key_times[2, :2].tolist() == [times[0, 7], times[0, 15]]

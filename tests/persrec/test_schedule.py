"""Which segments run at once, and what attention computes for them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_layouts import layouts

from persrec.layout import Segment, SegmentLayout
from persrec.schedule import is_side_by_side, joint_calls, joint_runs, single_calls


def alike(segments, *, items=16, experts=1):
    return SegmentLayout(segments=(Segment(items=items, experts=experts),) * segments, recent=3)


@given(layout=layouts, kernel=st.sampled_from(["segmented", "blocks", "naive"]))
def test_what_runs_as_one_row_is_a_triangle_behind_positions_that_all_of_it_sees(layout, kernel):
    visible, last = layout.visibility(), len(layout.segments)
    calls = joint_calls(layout, kernel)
    assert [segment for call in calls for segment in call.segments] == list(range(last + 1))
    for call in calls:
        own, earlier = np.isin(layout.joint_segment, call.segments), layout.joint_segment < call.segments[0]
        assert call.visible_pairs == visible[own].sum()
        if call.rows > 1:
            continue
        assert call.queries == own.sum()
        assert (visible[np.ix_(own, own)] == np.tril(np.ones((own.sum(), own.sum()), dtype=bool))).all()
        assert (visible[np.ix_(own, earlier)].sum(1) == call.prefix).all()
    before = calls[-1].segments[0] - 1
    assert before < 0 or layout.segments[before].kept < layout.segments[before].length  # as many as can


@given(layout=layouts)
def test_segments_side_by_side_are_the_first_ones_alike_and_as_far_apart(layout):
    visible = layout.visibility()
    for call in joint_calls(layout, "segmented"):
        assert is_side_by_side(layout, call.segments) == (call.rows > 1)
        if call.rows == 1:
            continue
        assert call.segments == tuple(range(call.rows))
        for segment in call.segments:
            assert layout.segments[segment] == layout.segments[0]
            assert (layout.positions(segment) - layout.positions(0) == segment * layout.starts[1]).all()
            mask = visible[layout.joint_segment == segment]
            assert len(mask) == call.queries
            assert mask[:, layout.joint_segment < segment].any(axis=0).sum() <= call.prefix
        computed = call.rows * (call.queries * (call.queries + 1) // 2 + call.queries * call.prefix)
        assert call.visible_pairs >= Fraction(4, 5) * computed


@given(layout=layouts)
def test_the_naive_kernel_and_a_cache_run_one_segment_after_the_other(layout):
    singles = single_calls(layout)
    assert [call.segments for call in singles] == [(segment,) for segment in range(len(layout.segments) + 1)]
    assert all(call.rows == 1 for call in singles)
    naive = joint_calls(layout, "naive")
    assert naive[:-1] == singles[: len(naive) - 1]


@pytest.mark.parametrize(
    ("segments", "runs"),
    [
        ([(16, 1)] * 4, [(0, 1, 2, 3), (4,)]),
        ([(16, 1)] * 3 + [(15, 1)], [(0, 1, 2), (3,), (4,)]),
        ([(15, 1)] + [(16, 1)] * 3, [(0,), (1,), (2,), (3,), (4,)]),
        ([(2, 2)] * 4, [(0,), (1,), (2,), (3,), (4,)]),  # two of them alone need 20 + 8 pairs, and would compute 20 + 16
        ([(16, 0)] * 2, [(0, 1), (2,)]),
        ([(16, 4)], [(0,), (1,)]),
        ([(16, 1)] * 8, [(0, 1, 2, 3, 4, 5, 6), (7,), (8,)]),  # three times the room for six is at most 17 + 1
    ],
)
def test_which_segments_run_at_once_by_hand(segments, runs):
    layout = SegmentLayout(segments=tuple(Segment(items=items, experts=experts) for items, experts in segments), recent=3)
    assert list(joint_runs(layout, "segmented")) == runs


@pytest.mark.parametrize(
    ("left_out", "empty", "runs"),
    [
        (4, (), [(0, 1, 2), (3,)]),  # a quarter of 16 items
        (5, (), [(0,), (1,), (2,), (3,)]),
        (5, (0,), [(1, 2), (3,)]),  # what is left out of a segment that does not run is no matter
        (0, (1,), [(0,), (2,), (3,)]),
        (0, (2,), [(0, 1), (3,)]),
        (0, (0, 1, 2), [(3,)]),
    ],
)
def test_what_a_batch_leaves_out_or_has_no_item_in(left_out, empty, runs):
    assert list(joint_runs(alike(3), "segmented", left_out=left_out, empty=empty)) == runs


def test_an_empty_segment_that_the_recent_one_sees_whole_is_left_out_of_its_call():
    layout = SegmentLayout(segments=(Segment(items=2, stays_visible=True),) * 3, recent=3)
    assert joint_runs(layout, "segmented") == ((0, 1, 2, 3),)
    assert joint_runs(layout, "naive", empty=(1,)) == ((0, 2, 3),)

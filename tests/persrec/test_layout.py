import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_layouts import layouts

from persrec.layout import Segment, SegmentLayout, layout_id


def slots(layout):
    """Every computed position as (segment, what stands there, number among its kind, slot), written out one by one."""
    listed, slot = [], 0
    for index, segment in enumerate(layout.segments):
        what, count = ("item", segment.items) if segment.summaries is None else ("summary", segment.summaries)
        listed += [(index, what, number, slot + number) for number in range(count)]
        slot += count
        listed += [(index, "expert", number, slot + number) for number in range(segment.experts)]
        slot += segment.experts if segment.expert_slots is None else segment.expert_slots
    return listed + [(len(layout.segments), "item", number, slot + number) for number in range(layout.recent)]


def sees(layout, query, key):
    """METHOD: p <= q, and p is in q's own segment or is an expert; what full attention and summaries keep stays visible too."""
    later = key[3] > query[3]
    own = key[0] == query[0]
    stays = key[1] in ("expert", "summary") or (key[0] < len(layout.segments) and layout.segments[key[0]].stays_visible)
    return not later and (own or stays)


@given(layout=layouts)
def test_visibility_is_the_rule_of_the_method_pair_by_pair(layout):
    listed = slots(layout)
    expected = [[sees(layout, query, key) for key in listed] for query in listed]
    assert layout.visibility().tolist() == expected


@given(layout=layouts)
def test_pairs_by_formula_are_the_pairs_of_the_mask(layout):
    seen = layout.visibility()
    for segment in range(len(layout.segments) + 1):
        rows = seen[layout.joint_segment == segment]
        assert layout.visible_pairs(segment) == rows.sum()
        assert layout.kept_before(segment) == rows[:, layout.joint_segment < segment].any(axis=0).sum()


@given(plan=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), max_size=4), recent=st.integers(1, 9))
def test_pairs_of_experts_follow_the_formula_of_the_method(plan, recent):
    layout = SegmentLayout(segments=tuple(Segment(items=s, experts=k) for s, k in plan), recent=recent)
    before, total = 0, 0
    for s, k in [*plan, (recent, 0)]:
        total += (s + k) * (s + k + 1) // 2 + (s + k) * before
        before += k
    assert sum(layout.visible_pairs(segment) for segment in range(len(plan) + 1)) == total == layout.visibility().sum()


@given(layout=layouts)
def test_positions_are_slots_with_the_reserved_ones_counted(layout):
    listed = slots(layout)
    assert layout.joint_positions.tolist() == [slot for *_, slot in listed]
    assert layout.joint_segment.tolist() == [segment for segment, *_ in listed]
    assert layout.joint_is_expert.tolist() == [what == "expert" for _, what, *_ in listed]
    for segment in range(len(layout.segments) + 1):
        assert layout.positions(segment).tolist() == [slot for index, *_, slot in listed if index == segment]
        assert layout.size(segment) == len(layout.positions(segment))
    assert layout.length == listed[-1][-1] + 1
    assert layout.tokens == sum(what == "expert" for _, what, *_ in listed)


@given(layout=layouts)
def test_offsets_history_and_window_are_sums_of_items(layout):
    sizes = [segment.items for segment in layout.segments]
    assert layout.offsets == tuple(sum(sizes[: count + 1]) for count in range(len(sizes)))
    assert (layout.history, layout.window) == (sum(sizes), sum(sizes) + layout.recent)


@given(layout=layouts)
def test_every_item_with_a_position_of_its_own_predicts(layout):
    summarised = [segment.summaries is not None for segment in layout.segments for _ in range(segment.items)]
    expected = [column for column, gone in enumerate([*summarised, *[False] * layout.recent]) if not gone]
    assert layout.predicting_columns.tolist() == expected


@given(layout=layouts)
def test_segments_are_counted_up_to_an_offset_of_the_plan_and_nowhere_else(layout):
    for column in range(layout.history + 2):
        if column in (0, *layout.offsets):
            assert layout.segments_at(column) == (0, *layout.offsets).index(column)
        else:
            with pytest.raises(ValueError, match=rf"history: {column} items wide, not an offset of the plan"):
                layout.segments_at(column)


def test_a_plan_by_hand():
    # items 0 1 2 | expert x | items 3 4 | experts y z | recent 5 6
    layout = SegmentLayout.from_plan([(3, 1), (5, 2)], window=7)
    assert layout.offsets == (3, 5)
    assert layout.starts == (0, 4, 8)
    assert (layout.length, layout.window, layout.history, layout.recent, layout.tokens) == (10, 7, 5, 2, 3)
    assert [layout.visible_pairs(segment) for segment in range(3)] == [10, 10 + 4 * 1, 3 + 2 * 3]
    last = layout.visibility()[-1]
    assert layout.joint_positions[last].tolist() == [3, 6, 7, 8, 9]  # x, y, z and the recent items


def test_a_plan_without_offsets_is_the_recent_segment_alone():
    layout = SegmentLayout.from_plan([], window=4)
    assert (layout.segments, layout.recent, layout.length, layout.history) == ((), 4, 4, 0)
    assert np.array_equal(layout.visibility(), np.tri(4, dtype=bool))


@pytest.mark.parametrize("offsets", [(0,), (3, 3), (4, 2), (7,), (3, 9), (-1,)])
def test_a_plan_whose_offsets_do_not_rise_inside_the_window_is_refused(offsets):
    with pytest.raises(ValueError, match=r"plan: offsets .* must rise, start above 0 and stay below the window of 7 items"):
        SegmentLayout.from_plan([(offset, 1) for offset in offsets], window=7)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"items": 0}, "items: a segment of 0 items"),
        ({"items": 2, "experts": -1}, "experts: -1"),
        ({"items": 2, "experts": 3, "expert_slots": 2}, "expert_slots: 2 reserved for 3"),
        ({"items": 2, "summaries": 0}, "summaries: 0"),
        ({"items": 2, "summaries": 2, "experts": 1}, "summaries: 2 with 1 experts"),
    ],
)
def test_a_segment_that_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Segment(**values)


def test_a_memory_is_handed_on_as_inputs_and_nothing_else_is_seen():
    # items 0 1 2 | memory x y | x y again, items 3 4 | memory x y | x y again, recent 5 6
    layout = SegmentLayout(segments=(Segment(items=3, experts=2), Segment(items=2, experts=2)), recent=2, recurrent=True)
    assert [layout.positions(segment).tolist() for segment in range(3)] == [[0, 1, 2, 3, 4], [3, 4, 5, 6, 7, 8], [7, 8, 9, 10]]
    assert [layout.size(segment) for segment in range(3)] == [5, 6, 4]
    assert [layout.kept_before(segment) for segment in range(3)] == [0, 0, 0]
    assert [layout.visible_pairs(segment) for segment in range(3)] == [15, 21, 10]
    assert layout.kept == 2
    assert layout.length == 11
    assert layout.joint_is_expert.tolist() == [False] * 3 + [True] * 2 + [False] * 4 + [True] * 2 + [False] * 4
    seen = layout.visibility()
    assert np.array_equal(seen, np.tri(15, dtype=bool) & (layout.joint_segment[:, None] == layout.joint_segment[None, :]))
    assert layout.predicting_columns.tolist() == list(range(7))


@pytest.mark.parametrize(
    "segments",
    [
        (),
        (Segment(items=3),),
        (Segment(items=3, experts=2), Segment(items=3, experts=1)),
        (Segment(items=3, experts=2, expert_slots=3),),
        (Segment(items=3, summaries=2),),
        (Segment(items=3, experts=1, stays_visible=True),),
    ],
)
def test_segments_that_hand_on_something_else_are_no_memory(segments):
    with pytest.raises(ValueError, match="segments: recurrent ones hand on the same number of experts"):
        SegmentLayout(segments=segments, recent=2, recurrent=True)


def test_what_choice_waits_for_leaves_positions_without_a_prediction():
    segment = Segment(items=4, summaries=2)
    found = [SegmentLayout(segments=(segment,), recent=3, query_items=asked).predicting_columns.tolist() for asked in range(4)]
    assert found == [[4, 5, 6], [4, 5, 6], [5, 6], [6]]
    with pytest.raises(ValueError, match="query_items: 4 of 3 recent items"):
        SegmentLayout(segments=(segment,), recent=3, query_items=4)


def test_a_window_without_recent_items_is_refused():
    with pytest.raises(ValueError, match="recent: 0; expected at least 1"):
        SegmentLayout(segments=(), recent=0)


def test_equal_segments_differ_by_one_item_at_most_and_share_the_tokens():
    layout = SegmentLayout.equal(history=11, recent=3, segments=4, tokens=8, expert_slots=12)
    assert [segment.items for segment in layout.segments] == [3, 3, 3, 2]
    assert [segment.experts for segment in layout.segments] == [2] * 4
    assert [segment.slots_for_experts for segment in layout.segments] == [3] * 4
    assert layout.length == 11 + 12 + 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"history": 6, "segments": 4, "tokens": 6}, "tokens: 6 cannot be spread evenly over 4 segments"),
        ({"history": 3, "segments": 4, "tokens": 4}, "history: 3 items do not fill 4 segments"),
        ({"history": 8, "segments": 0, "tokens": 0}, "segments: 0"),
        ({"history": 8, "segments": 2, "tokens": 2, "expert_slots": 5}, "expert_slots: 5 cannot be spread evenly over 2 segments"),
    ],
)
def test_equal_segments_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SegmentLayout.equal(recent=2, **values)


# The figures of METHOD, as arithmetic on visible pairs: of full attention's L (L + 1) / 2


def shares(history, tokens, recent, *, cost):
    """Costs of serving, and of compressing and serving, over full's, where ``cost(positions, pairs)`` is one layer's."""
    layout = SegmentLayout.equal(history=history, recent=recent, segments=1, tokens=tokens)
    window = history + recent
    full = cost(window, window * (window + 1) // 2)
    compress, serve = (cost(layout.size(segment), layout.visible_pairs(segment)) for segment in range(2))
    return serve / full, (compress + serve) / full


def hstu_layer(positions, pairs, width=64):
    """Multiply-adds: u, v, q, k and the output map, 5 D^2; scores and weighted values, 2 D a pair. 16 layers cancel out."""
    return positions * 5 * width**2 + pairs * 2 * width


def test_the_papers_pairs():
    serve, both = shares(1024, 4, 256, cost=lambda positions, pairs: pairs)
    assert serve == (256 * 257 / 2 + 256 * 4) / (1280 * 1281 / 2)
    assert both == (1028 * 1029 / 2 + 256 * 257 / 2 + 256 * 4) / (1280 * 1281 / 2)
    assert round(serve, 3) == 0.041
    assert round(both, 3) == 0.687


@pytest.mark.parametrize(("history", "recent", "expected"), [(1024, 256, 0.073), (400, 100, 0.105)])
def test_the_papers_flops_with_projections(history, recent, expected):
    assert round(shares(history, 4, recent, cost=hstu_layer)[0], 3) == expected


def test_the_formula_of_the_backbone_gives_the_papers_flops():
    from persrec.backbones.hstu import HSTU, HSTUConfig

    hstu = HSTU(HSTUConfig(width=64, layers=16, heads=1, length=1284))
    by_backbone = shares(1024, 4, 256, cost=lambda positions, pairs: sum(hstu.macs(positions=positions, pairs=pairs).values()))
    assert by_backbone == shares(1024, 4, 256, cost=hstu_layer)


def test_a_layout_with_reserved_slots_moves_positions_and_nothing_else():
    tight = SegmentLayout.equal(history=6, recent=3, segments=2, tokens=2)
    roomy = SegmentLayout.equal(history=6, recent=3, segments=2, tokens=2, expert_slots=6)
    assert np.array_equal(tight.visibility(), roomy.visibility())
    assert [tight.visible_pairs(j) for j in range(3)] == [roomy.visible_pairs(j) for j in range(3)]
    assert roomy.joint_positions.tolist() == [*range(4), *range(6, 10), *range(12, 15)]
    assert all(earlier < later for earlier, later in itertools.pairwise(roomy.joint_positions))


@given(segments=st.integers(1, 5), more=st.integers(0, 300), recent=st.integers(1, 9), each=st.integers(0, 3))
def test_growing_segments_double_towards_the_past_up_to_whole_items(segments, more, recent, each):
    history = 2**segments - 1 + more
    layout = SegmentLayout.growing(history=history, recent=recent, segments=segments, tokens=segments * each)
    assert (layout.history, layout.recent, layout.tokens) == (history, recent, segments * each)
    sizes = [segment.items for segment in layout.segments]
    assert len(sizes) == segments
    unit = history / (2**segments - 1)
    for place, size in enumerate(reversed(sizes)):
        assert abs(size - unit * 2**place) < 1
    assert sizes == sorted(sizes, reverse=True)
    assert [segment.experts for segment in layout.segments] == [each] * segments


def test_growing_segments_that_cannot_be():
    with pytest.raises(ValueError, match=r"^history: 6 items do not fill 3 segments of doubling size; expected 7 or more$"):
        SegmentLayout.growing(history=6, recent=2, segments=3, tokens=0)
    with pytest.raises(ValueError, match=r"^tokens: 4 cannot be spread evenly over 3 segments$"):
        SegmentLayout.growing(history=7, recent=2, segments=3, tokens=4)
    with pytest.raises(ValueError, match=r"^segments: 0; expected at least 1$"):
        SegmentLayout.growing(history=7, recent=2, segments=0, tokens=0)


def test_layouts_that_differ_in_anything_have_other_ids():
    plain = SegmentLayout.from_plan([(4, 2), (9, 2)], window=13)
    others = [
        SegmentLayout.from_plan([(5, 2), (9, 2)], window=13),  # as many tokens behind other items
        SegmentLayout.from_plan([(4, 2), (9, 2)], window=14),
        SegmentLayout.from_plan([(4, 1), (9, 2)], window=13),
        SegmentLayout.from_plan([(4, 2), (9, 2)], window=13, hide_empty_experts=False),
        replace(plain, segments=tuple(replace(segment, expert_slots=3) for segment in plain.segments)),
        replace(plain, segments=(*plain.segments[:1], replace(plain.segments[1], stays_visible=True))),
        replace(plain, query_items=1),
    ]
    ids = [layout_id(layout) for layout in (plain, *others)]
    assert len(set(ids)) == len(ids)


@given(layout=layouts)
def test_a_cache_holds_the_positions_that_later_segments_see(layout):
    seen = [
        slot
        for segment, what, _, slot in slots(layout)
        if segment < len(layout.segments) and (what != "item" or layout.segments[segment].stays_visible)
    ]
    assert layout.kept_positions(len(layout.segments)).tolist() == seen
    for count in range(len(layout.segments) + 1):
        assert len(layout.kept_positions(count)) == layout.kept_before(count)

"""Layouts of a few small segments, for property tests."""

from hypothesis import strategies as st

from persrec.layout import Segment, SegmentLayout


@st.composite
def segments(draw):
    items = draw(st.integers(1, 6))
    kind = draw(st.sampled_from(["experts", "stays", "summaries"]))
    if kind == "summaries":
        return Segment(items=items, summaries=draw(st.integers(1, 4)))
    experts = draw(st.integers(0, 4))
    reserved = draw(st.none() | st.integers(experts, experts + 3))
    return Segment(items=items, experts=experts, expert_slots=reserved, stays_visible=kind == "stays")


several = st.lists(segments(), max_size=4) | st.builds(lambda segment, count: [segment] * count, segments(), st.integers(2, 4))
layouts = st.builds(SegmentLayout, segments=several.map(tuple), recent=st.integers(1, 6))

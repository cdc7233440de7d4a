"""Which segments the joint pass runs at once, and what attention computes for them. What a position sees is the layout's to say.

Running segments one after the other is exact. Running several in one call of the backbone gives the same numbers and saves
calls, which cost more than a small segment's numbers do. Two kinds of segments share a call:

- the recent segment with those right before it that it sees whole: attention has them as one row;
- the first segments, where they are alike: side by side, a row of attention each. Each row has room for what all the others
  keep, so some pairs are computed in vain. Segments run side by side only while at least 4 pairs in 5 are needed.

The naive kernel, which is the reference, runs no segments side by side.
"""

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction

from persrec.layout import SegmentLayout
from persrec.names import Kernel

# pairs computed in vain, of those needed; and items left out of the first segment that runs side by side, of all of its items
MOST_IN_VAIN = Fraction(1, 4)


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionCall:
    """What attention computes of one user in one call of the backbone over a whole window.

    Attributes:
        segments: which run at once; the recent one is ``len(layout.segments)``.
        rows: rows of attention: as many as segments where they run side by side, else 1.
        queries: of a row.
        prefix: keys before a row's own.
        visible_pairs: pairs that are needed, of all rows.
    """

    segments: tuple[int, ...]
    rows: int
    queries: int
    prefix: int
    visible_pairs: int


def joint_calls(layout: SegmentLayout, kernel: Kernel) -> tuple[AttentionCall, ...]:
    """The calls of the joint pass over a whole window of users whose segments all hold items."""
    return tuple(_call(layout, segments) for segments in joint_runs(layout, kernel))


def single_calls(layout: SegmentLayout) -> tuple[AttentionCall, ...]:
    """A call for each segment, the recent one last: what `compress`, `extend` and serving from a cache run."""
    return tuple(_call(layout, (segment,)) for segment in range(len(layout.segments) + 1))


def joint_runs(layout: SegmentLayout, kernel: Kernel, *, left_out: int = 0, empty: Collection[int] = ()) -> tuple[tuple[int, ...], ...]:
    """The segments of each call of the joint pass over a batch, in order.

    Args:
        layout: says which segments are alike and which are seen whole.
        kernel: how attention is computed.
        left_out: items that the batch leaves out of the first segment. To run side by side, the segment would be padded with as many.
        empty: history segments that need not run, as no row has an item there.
    """
    last = len(layout.segments)
    first_whole = _first_seen_whole(layout)
    count = 0 if kernel == "naive" else _side_by_side_count(layout, first_whole)
    segments = [segment for segment in range(first_whole) if segment not in empty]
    first_run = [segment for place, segment in enumerate(segments) if segment == segments[0] + place and segment < count]
    if first_run[:1] == [0] and left_out > MOST_IN_VAIN * layout.segments[0].items:
        first_run = []
    single_runs = [(segment,) for segment in segments[len(first_run) :]]
    last_run = (*(segment for segment in range(first_whole, last) if segment not in empty), last)
    return (*([tuple(first_run)] if first_run else []), *single_runs, last_run)


def is_side_by_side(layout: SegmentLayout, segments: tuple[int, ...]) -> bool:
    """Whether the segments of a call of the joint pass are a row of attention each."""
    return len(segments) > 1 and segments[-1] < len(layout.segments)


def _first_seen_whole(layout: SegmentLayout) -> int:
    """The first of the segments right before the recent one that later segments see whole."""
    first = len(layout.segments)
    while first and layout.segments[first - 1].kept == layout.segments[first - 1].length:
        first -= 1
    return first


def _side_by_side_count(layout: SegmentLayout, before: int) -> int:
    """How many of the ``before`` first segments run side by side; below 2, none do.

    ``S`` segments of ``n`` positions, ``k`` of them kept, have room for ``p = (S - 1) k`` keys before each row. They compute
    ``S (n (n + 1) / 2 + n p)`` pairs and need ``S (n (n + 1) / 2 + n p / 2)``. So ``p / (n + 1 + p)`` are in vain for each
    that is needed, which is `MOST_IN_VAIN` at ``p = (n + 1) MOST_IN_VAIN / (1 - MOST_IN_VAIN)``.
    """
    if layout.recurrent or not before:
        return 0
    first = layout.segments[0]
    equal_count = next((segment for segment in range(before) if layout.segments[segment] != first), before)
    if not first.kept:
        return equal_count
    most_room = (first.length + 1) * MOST_IN_VAIN / (1 - MOST_IN_VAIN)
    return min(equal_count, 1 + most_room // first.kept)


def _call(layout: SegmentLayout, segments: tuple[int, ...]) -> AttentionCall:
    visible_pairs = sum(layout.visible_pairs(segment) for segment in segments)
    rows, queries, prefix = 1, sum(layout.size(segment) for segment in segments), layout.kept_before(segments[0])
    if is_side_by_side(layout, segments):
        rows, queries = len(segments), layout.size(segments[0])
        prefix = (rows - 1) * layout.segments[segments[0]].kept
    return AttentionCall(segments=segments, rows=rows, queries=queries, prefix=prefix, visible_pairs=visible_pairs)

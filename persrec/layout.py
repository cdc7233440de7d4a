"""SegmentLayout: every fact on position, visibility, loss positions and pair counts, derived in one place.

A window is the last ``L`` items of a user. It is cut into history segments and the recent segment; behind the items of a
history segment come its expert tokens (arXiv 2601.03479, section 3).

How the words for what stands for a history relate:

- ``tokens`` is the number that a user of the package asks for, over all segments. A compression makes positions of them:
- ``experts`` are learnable and stand behind a segment's items, which they read;
- ``summaries`` are computed from the items (means, samples) and stand in their place.
- ``kept`` is what later segments see of a segment, and what a cache holds of it: its experts, its summaries, or all of it where
  it stays visible.

Axis legend used throughout the package:

    L  items of a window        n  positions of one segment (items, then experts)
    N  slots of the joint layout  p  positions kept from earlier segments (the prefix)
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Self

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One segment of the history.

    Attributes:
        items: item slots.
        experts: expert tokens behind the items.
        expert_slots: positions reserved for experts, at least ``experts``; an elastic model reserves its largest count so
            that positions do not move with the count in use. None reserves what is used.
        stays_visible: later segments see its items too, not its experts alone (full attention).
        summaries: where not None, so many vectors stand in the items' place (means, samples): they stay visible, and no
            position is left to predict the segment's items.
    """

    items: int
    experts: int = 0
    expert_slots: int | None = None
    stays_visible: bool = False
    summaries: int | None = None

    def __post_init__(self) -> None:
        if self.items < 1:
            raise ValueError(f"items: a segment of {self.items} items; expected at least 1")
        if self.experts < 0:
            raise ValueError(f"experts: {self.experts}; expected 0 or more")
        if self.slots_for_experts < self.experts:
            raise ValueError(f"expert_slots: {self.expert_slots} reserved for {self.experts} experts")
        if self.summaries is not None and (self.summaries < 1 or self.experts):
            raise ValueError(f"summaries: {self.summaries} with {self.experts} experts; expected at least 1, and no experts")

    @property
    def item_positions(self) -> int:
        """Positions in the items' place: the items, or their summaries."""
        return self.items if self.summaries is None else self.summaries

    @property
    def slots_for_experts(self) -> int:
        """Positions taken by experts, used or reserved."""
        return self.experts if self.expert_slots is None else self.expert_slots

    @property
    def length(self) -> int:
        """Positions that are computed: items or summaries, and used experts."""
        return self.item_positions + self.experts

    @property
    def slots(self) -> int:
        """Positions that are reserved in the joint layout."""
        return self.item_positions + self.slots_for_experts

    @property
    def kept(self) -> int:
        """Positions that later segments see."""
        return self.length if self.stays_visible or self.summaries is not None else self.experts


@dataclass(frozen=True, kw_only=True)
class SegmentLayout:
    """History segments and the recent segment of one window.

    A position sees an earlier or equal position that is not padding and is in its own segment, or is an expert, or is in
    a segment that stays visible. Positions are slot indices in the joint layout, padding and reserved slots counted.

    Attributes:
        segments: the history's segments, oldest first; may be empty.
        recent: item slots of the recent segment, ``R``.
        hide_empty_experts: whether the experts of a segment without items are hidden. The public code shows them.
        recurrent: the experts' outputs are handed to the next segment as its first inputs, and nothing else is seen of a
            segment; they stand there at the slots of the experts they come from, and are computed anew.
        query_items: where not 0, the items of so many first recent slots choose what is taken of the history, so that
            positions before the last of them must not predict.

    Differs: the public code pads the whole window on the left; ours fills segments from the first slot on (`fill`), the
    same with one segment, so that a history that grows keeps every earlier position.
    """

    segments: tuple[Segment, ...]
    recent: int
    hide_empty_experts: bool = True
    recurrent: bool = False
    query_items: int = 0

    def __post_init__(self) -> None:
        if self.recent < 1:
            raise ValueError(f"recent: {self.recent}; expected at least 1")
        if not 0 <= self.query_items <= self.recent:
            raise ValueError(f"query_items: {self.query_items} of {self.recent} recent items; expected none to all of them")
        if self.recurrent:
            counts = {(s.experts, s.slots_for_experts, s.kept) for s in self.segments}
            if len(counts) != 1 or len(set(*counts)) != 1 or not self.segments[0].experts or not self.hide_empty_experts:
                raise ValueError(
                    "segments: recurrent ones hand on the same number of experts, at least 1, and nothing else, hidden where empty"
                )

    @classmethod
    def from_plan(cls, plan: Sequence[tuple[int, int]], *, window: int, hide_empty_experts: bool = True) -> Self:
        """The layout of ``[(offset, count), ...]``: after item ``offset`` come ``count`` experts."""
        offsets = [0, *(offset for offset, _ in plan)]
        if any(later <= earlier for earlier, later in zip(offsets, [*offsets[1:], window], strict=True)):
            raise ValueError(f"plan: offsets {offsets[1:]} must rise, start above 0 and stay below the window of {window} items")
        segments = tuple(
            Segment(items=later - earlier, experts=count) for earlier, later, (_, count) in zip(offsets, offsets[1:], plan, strict=False)
        )
        return cls(segments=segments, recent=window - offsets[-1], hide_empty_experts=hide_empty_experts)

    @classmethod
    def equal(cls, *, history: int, recent: int, segments: int, tokens: int, expert_slots: int | None = None) -> Self:
        """``segments`` history segments of nearly equal size with ``tokens / segments`` experts each.

        Where ``history`` does not divide evenly, the first segments are one item longer.
        """
        if segments < 1:
            raise ValueError(f"segments: {segments}; expected at least 1")
        for name, count in (("tokens", tokens), ("expert_slots", expert_slots or 0)):
            if count % segments:
                raise ValueError(f"{name}: {count} cannot be spread evenly over {segments} segments")
        base, remainder = divmod(history, segments)
        if base < 1:
            raise ValueError(f"history: {history} items do not fill {segments} segments")
        parts = (base + (j < remainder) for j in range(segments))
        slots = None if expert_slots is None else expert_slots // segments
        return cls(segments=tuple(Segment(items=s, experts=tokens // segments, expert_slots=slots) for s in parts), recent=recent)

    @classmethod
    def growing(cls, *, history: int, recent: int, segments: int, tokens: int) -> Self:
        """``segments`` history segments that double in size towards the past, with ``tokens / segments`` experts each.

        The segment before the recent items has ``1 / (2^m - 1)`` of the history, the one before it twice that, and so on;
        offsets are rounded down to whole items.
        """
        if segments < 1:
            raise ValueError(f"segments: {segments}; expected at least 1")
        parts = 2**segments - 1
        if history < parts:
            raise ValueError(f"history: {history} items do not fill {segments} segments of doubling size; expected {parts} or more")
        if tokens % segments:
            raise ValueError(f"tokens: {tokens} cannot be spread evenly over {segments} segments")
        plan = [(history * (2**segments - 2 ** (segments - j)) // parts, tokens // segments) for j in range(1, segments + 1)]
        return cls.from_plan(plan, window=history + recent)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Window columns at which the segments end: ``o_1 < ... < o_m``."""
        return tuple(accumulate(segment.items for segment in self.segments))

    @property
    def history(self) -> int:
        """Items of all history segments."""
        return self.offsets[-1] if self.segments else 0

    @property
    def window(self) -> int:
        """Items of a window, ``L``."""
        return self.history + self.recent

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First slot of every segment, the recent one last."""
        return tuple(accumulate((s.slots for s in self.segments), initial=0))

    @property
    def length(self) -> int:
        """Slots of the joint layout, ``N``."""
        return self.starts[-1] + self.recent

    @property
    def tokens(self) -> int:
        """Expert tokens of all segments."""
        return sum(segment.experts for segment in self.segments)

    def kept_before(self, segment: int) -> int:
        """Positions that segment ``segment`` (0-based, the recent one is ``len(segments)``) sees of earlier ones."""
        return 0 if self.recurrent else sum(s.kept for s in self.segments[:segment])

    @property
    def kept(self) -> int:
        """Positions of which something is kept when the history is compressed."""
        return self.segments[-1].kept if self.recurrent else self.kept_before(len(self.segments))

    def handed_to(self, segment: int) -> int:
        """Inputs that a segment takes over from the one before it."""
        return self.segments[segment - 1].experts if self.recurrent and segment else 0

    def kept_positions(self, segments: int) -> np.ndarray:
        """Slot indices that a cache of the first ``segments`` segments holds, ``[p]``: the last computed ones of each.

        A recurrent memory holds those of the last segment alone.
        """
        first = max(0, segments - 1) if self.recurrent else 0
        parts = [self.positions(j)[self.size(j) - self.segments[j].kept :] for j in range(first, segments)]
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts])

    def size(self, segment: int) -> int:
        """Computed positions of a segment, those it takes over among them; the recent one is ``len(segments)``."""
        return self.handed_to(segment) + (self.segments[segment].length if segment < len(self.segments) else self.recent)

    def positions(self, segment: int) -> np.ndarray:
        """Slot indices of a segment's computed positions, ``[n]``."""
        first = self.starts[segment] - self.handed_to(segment)
        return np.arange(first, first + self.size(segment))

    # The joint sequence: the computed positions of all segments, one after the other.

    @cached_property
    def joint_positions(self) -> np.ndarray:
        """Slot index of every computed position."""
        return np.concatenate([self.positions(j) for j in range(len(self.segments) + 1)])

    @cached_property
    def joint_segment(self) -> np.ndarray:
        """Segment of every computed position."""
        return np.repeat(np.arange(len(self.segments) + 1), [self.size(j) for j in range(len(self.segments) + 1)])

    @cached_property
    def joint_is_expert(self) -> np.ndarray:
        """Whether a computed position is an expert's."""
        item_positions = (*(s.item_positions for s in self.segments), self.recent)
        return np.concatenate([np.arange(self.size(j)) >= self.handed_to(j) + item_positions[j] for j in range(len(item_positions))])

    @cached_property
    def predicting_columns(self) -> np.ndarray:
        """Window columns whose item has a position and so predicts the next item.

        All but those of summarised segments, and but the recent ones before the last item that chooses from the history.
        """
        silent = np.repeat([*(s.summaries is not None for s in self.segments), False], [*(s.items for s in self.segments), self.recent])
        silent[self.history : self.history + max(0, self.query_items - 1)] = True
        return np.flatnonzero(~silent)

    def visibility(self) -> np.ndarray:
        """Which joint position (row) sees which (column), padding apart."""
        stays_visible = np.array([*(s.kept == s.length for s in self.segments), False])[self.joint_segment]
        same_segment = self.joint_segment[:, None] == self.joint_segment[None, :]
        index = np.arange(len(self.joint_segment))
        is_kept = np.zeros_like(stays_visible) if self.recurrent else self.joint_is_expert | stays_visible
        visible: np.ndarray = (index[None, :] <= index[:, None]) & (same_segment | is_kept[None, :])
        return visible

    def visible_pairs(self, segment: int) -> int:
        """Query-key pairs that a segment's positions see: ``n(n+1)/2 + n p``."""
        n = self.size(segment)
        return n * (n + 1) // 2 + n * self.kept_before(segment)

    def offset_at(self, segments: int) -> int:
        """The window column at which the first ``segments`` of the history end."""
        return (0, *self.offsets)[segments]

    def segments_at(self, offset: int) -> int:
        """How many segments end at or before the window column ``offset``, which must be one of the plan's.

        Raises:
            ValueError: no segment ends there.
        """
        if offset not in (0, *self.offsets):
            raise ValueError(f"history: {offset} items wide, not an offset of the plan; expected one of {list(self.offsets)}")
        return (0, *self.offsets).index(offset)


def layout_id(layout: SegmentLayout) -> str:
    """A short identity of a layout, equal for equal layouts."""
    segments = [(s.items, s.experts, s.slots_for_experts, s.stays_visible, s.summaries) for s in layout.segments]
    facts = (segments, layout.recent, layout.hide_empty_experts, layout.recurrent, layout.query_items)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

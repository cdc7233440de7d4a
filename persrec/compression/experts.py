"""PerSRec (arXiv 2601.03479, section 3): learnable expert tokens behind each history segment."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from persrec import names
from persrec.compression.base import CompressionSettings, ItemSlots, with_tokens
from persrec.compression.summaries import chunk_of, means
from persrec.layout import SegmentLayout
from persrec.nn.cache import Chunk

LEARNT = names.EXPERT_STARTS[0]
RULES: dict[str, Callable[..., SegmentLayout]] = dict(zip(names.PLANS, (SegmentLayout.equal, SegmentLayout.growing), strict=True))


class Experts(nn.Module):
    """Expert tokens that become personal by what they attend to; later segments see them alone.

    An elastic model holds its largest count and is used with any count: the first experts of each segment are taken, and
    positions stay where they are. With no token it is the control: the same layout, the history hidden.

    Args:
        layout: the plan with the largest counts.
        width: the model's width ``D``.
        expert_start: ``learnt``, the same vector for all users; or ``pooled``, to which the mean of the token's share of the segment's
            items is added: of ``k`` tokens, the ``k`` chunks that `Pooling` keeps. Not in the paper.

    Raises:
        ValueError: a segment's items stay visible or are summarised: tokens alone are kept here; or the start is unknown.
    """

    def __init__(self, *, layout: SegmentLayout, width: int, expert_start: str = LEARNT) -> None:
        super().__init__()
        if expert_start not in names.EXPERT_STARTS:
            raise ValueError(f"expert_start: unknown {expert_start!r}; known: {', '.join(names.EXPERT_STARTS)}")
        if any(segment.stays_visible or segment.summaries is not None for segment in layout.segments):
            raise ValueError("layout: a segment stays visible or holds summaries; expected segments of which the experts alone are seen")
        self._largest = layout
        self._pooled = expert_start != LEARNT
        self.layout = layout
        self.tokens = nn.ParameterList(torch.empty(s.slots_for_experts, width).normal_(std=0.02) for s in layout.segments)

    def use(self, tokens: int) -> None:
        """Takes ``tokens`` experts, spread evenly over the segments, from now on.

        Raises:
            ValueError: the count does not spread evenly, or is above what was reserved.
        """
        experts, remainder = divmod(tokens, len(self._largest.segments))
        limit = min(segment.slots_for_experts for segment in self._largest.segments)
        if remainder or experts > limit:
            raise ValueError(
                f"tokens: {tokens} on {len(self._largest.segments)} segments; expected the same number, up to {limit}, on each"
            )
        slot_counts = (s.slots_for_experts for s in self._largest.segments)
        segments = (replace(s, experts=experts, expert_slots=slots) for s, slots in zip(self.layout.segments, slot_counts, strict=True))
        self.layout = replace(self.layout, segments=tuple(segments))

    def cut(self, items: Sequence[int] | None) -> None:
        """From now on the segments have ``items`` items, a count for each, and their tokens behind as before; None gives back the plan's.

        Raises:
            ValueError: the items are not as many segments as the plan has, or not as many together.
        """
        planned_items = [segment.items for segment in self._largest.segments]
        items = planned_items if items is None else items
        if len(items) != len(planned_items) or sum(items) != sum(planned_items):
            raise ValueError(f"items: {list(items)}; expected {len(planned_items)} segments of {sum(planned_items)} items together")
        segments = tuple(replace(segment, items=count) for segment, count in zip(self.layout.segments, items, strict=True))
        self.layout = replace(self.layout, segments=segments)

    def history_chunk(self, segment: int, items: ItemSlots) -> Chunk:
        """The items and, behind them, their experts, which alone are kept."""
        visible = items.valid.any(1, keepdim=True)
        if not self.layout.hide_empty_experts:
            visible = torch.ones_like(visible)
        count = self.layout.segments[segment].experts
        tokens = self.tokens[segment][:count]
        if self._pooled and count:
            tokens = tokens + means(items, chunk_of(items.valid, count), count)[0]
        return with_tokens(self.layout, segment, items, tokens, visible=visible)


def build(settings: CompressionSettings) -> Experts:
    """Experts at the places that ``settings.plan`` says.

    Raises:
        ValueError: the plan is unknown, or does not fit the history.
    """
    return Experts(layout=_layout(settings), width=settings.width, expert_start=settings.expert_start)


def _layout(settings: CompressionSettings) -> SegmentLayout:
    if not isinstance(settings.plan, str):
        layout = SegmentLayout.from_plan(settings.plan, window=settings.history + settings.recent)
        if layout.history != settings.history:
            raise ValueError(f"plan: ends at item {layout.history}; expected {settings.history}, the history's end")
        return layout
    if settings.plan not in RULES:
        raise ValueError(f"plan: unknown {settings.plan!r}; known: {', '.join(RULES)}, or a list of offsets and counts")
    rule = RULES[settings.plan]
    return rule(history=settings.history, recent=settings.recent, segments=settings.segments, tokens=settings.tokens)

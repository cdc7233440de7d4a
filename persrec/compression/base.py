"""What a compression is: it says what the backbone runs in a history segment's place, and what is kept of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from persrec.layout import SegmentLayout
from persrec.nn.cache import Chunk


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressionSettings:
    """What a compression may need to know.

    Attributes:
        history: item slots before the recent ones, ``P``.
        recent: item slots of the recent segment, ``R``.
        segments: history segments.
        tokens: vectors kept of the history, over all segments; of an elastic model, the largest count.
        width: the model's width ``D``.
        plan: where expert blocks stand: ``equal`` segments, ``growing`` ones (`SegmentLayout.growing`), or their offsets and
            counts, ``((offset, count), ...)``, which then say what ``segments`` and ``tokens`` are.
        expert_start: what an expert token is before the first layer, of `persrec.names.EXPERT_STARTS`.
        categories: int64 ``[V]``, the category of each item, or None where the dataset has none.
    """

    history: int
    recent: int
    segments: int
    tokens: int
    width: int
    plan: str | tuple[tuple[int, int], ...] = "equal"
    expert_start: str = "learnt"
    categories: NDArray[np.int64] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemSlots:
    """The item slots of one segment.

    Attributes:
        ids: ``[B, s]``, 0 is padding.
        vectors: ``[B, s, D]``.
        times: ``[B, s]`` seconds, 0 unknown; None switches the time bias off.
    """

    ids: torch.Tensor
    vectors: torch.Tensor
    times: torch.Tensor | None

    @property
    def valid(self) -> torch.Tensor:
        """``[B, s]``, False is padding."""
        return self.ids != 0


class Compression(Protocol):
    """How a long history becomes a few vectors. Any backbone takes any compression."""

    layout: SegmentLayout

    def history_chunk(self, segment: int, items: ItemSlots) -> Chunk:
        """What the backbone runs for history segment ``segment``."""
        ...


@runtime_checkable
class Elastic(Protocol):
    """A compression of which one model serves every token count up to its largest."""

    def use(self, tokens: int) -> None:
        """Keeps ``tokens`` from now on, spread evenly over the segments."""
        ...


@runtime_checkable
class Cuttable(Protocol):
    """A compression of which one model serves segments that end anywhere."""

    def cut(self, items: Sequence[int] | None) -> None:
        """From now on the segments have ``items`` items, a count for each segment; None gives back the plan's."""
        ...


@runtime_checkable
class OfCatalogue(Protocol):
    """A compression that knows something of every item of a catalogue, and of no other item."""

    catalogue: int
    """Items of the catalogue, padding item 0 included."""


@runtime_checkable
class Searching(Protocol):
    """A compression that looks at the recent items of a request, so that nothing of it can be kept before one comes."""

    def chosen(self, items: ItemSlots, asking: ItemSlots) -> ItemSlots:
        """The items taken of a history for ``asking``, the items of the first ``layout.query_items`` recent slots."""
        ...


def next_times(items: ItemSlots, query_time: torch.Tensor | None = None) -> torch.Tensor | None:
    """Query times of a segment's items, ``[B, s]``: the next item's inside the segment, the item's own at its end.

    Args:
        items: the segment.
        query_time: ``[B]``, the request's time: it is the last item's where given.
    """
    if items.times is None:
        return None
    width = items.ids.shape[1]
    places = torch.arange(width, device=items.ids.device).masked_fill(~items.valid, width)
    next_places = F.pad(places.flip(1).cummin(1).values.flip(1)[:, 1:], (0, 1), value=width)
    end_times = items.times if query_time is None else query_time[:, None]
    return torch.where(next_places < width, items.times.gather(1, next_places.clamp(max=width - 1)), end_times)


def item_chunk(
    layout: SegmentLayout, segment: int, items: ItemSlots, *, kept: int, query_time: torch.Tensor | None = None, after: int = 0
) -> Chunk:
    """A segment's items as they are.

    A history segment narrower than the plan's stands at its right end: what is missing is padding. A recent segment that
    is not full yet takes the first of its positions, or those behind ``after`` items that are kept already.
    """
    count = items.ids.shape[1]
    start = layout.starts[segment] + after
    if segment < len(layout.segments):
        start += layout.segments[segment].items - count
    return Chunk(
        inputs=items.vectors,
        positions=torch.arange(start, start + count, device=items.ids.device),
        valid=items.valid,
        key_times=items.times,
        query_times=next_times(items, query_time),
        kept=kept,
        items=count,
    )


def last_time(items: ItemSlots) -> torch.Tensor | None:
    """Time of the segment's last item, ``[B, 1]``; 0 where the segment is empty."""
    if items.times is None:
        return None
    order = torch.arange(1, items.ids.shape[1] + 1, device=items.ids.device)
    return items.times.gather(1, (order * items.valid).argmax(1, keepdim=True)) * items.valid.any(1, keepdim=True)


def with_tokens(layout: SegmentLayout, segment: int, items: ItemSlots, tokens: torch.Tensor, *, visible: torch.Tensor) -> Chunk:
    """A segment's items and, behind them, tokens ``[k, D]`` or ``[B, k, D]``, which alone are kept; ``visible`` ``[B, 1]``.

    A token takes the time of the segment's last item.
    """
    count = tokens.shape[-2]
    chunk = item_chunk(layout, segment, items, kept=count)
    if count == 0:
        return chunk
    end = last_time(items)
    times = None if end is None else end.expand(-1, count)
    return Chunk(
        inputs=torch.cat([chunk.inputs, tokens.expand(len(items.ids), -1, -1)], dim=1),
        positions=torch.cat([chunk.positions, torch.from_numpy(layout.positions(segment)[-count:]).to(items.ids.device)]),
        valid=torch.cat([chunk.valid, visible.expand(-1, count)], dim=1),
        key_times=None if chunk.key_times is None or times is None else torch.cat([chunk.key_times, times], dim=1),
        query_times=None if chunk.query_times is None or times is None else torch.cat([chunk.query_times, times], dim=1),
        kept=count,
        items=chunk.items,
    )

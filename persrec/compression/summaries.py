"""Summaries: vectors that stand in the place of a history's items, as chunks that a backbone runs before the recent ones.

A cache holds their keys and values. They carry no loss, since no position is left that predicts the history's items.
"""

import torch
import torch.nn.functional as F

from persrec.compression.base import ItemSlots
from persrec.layout import Segment, SegmentLayout
from persrec.nn.cache import Chunk


def summary_layout(*, history: int, recent: int, tokens: int, query_items: int = 0) -> SegmentLayout:
    """One history segment with ``tokens`` summaries in its items' place."""
    return SegmentLayout(segments=(Segment(items=history, summaries=tokens),), recent=recent, query_items=query_items)


def mean_chunk(layout: SegmentLayout, segment: int, items: ItemSlots, group: torch.Tensor) -> Chunk:
    """Means of groups of items; a mean takes the largest time among its items, an empty group is hidden.

    Args:
        layout: has as many summaries as there are groups.
        segment: the history segment.
        items: its items.
        group: ``[B, s]`` the group of every item, the number of groups for what is in none and for padding.
    """
    groups = layout.segments[segment].item_positions
    vectors, valid = means(items, group, groups)
    times = None
    if items.times is not None:
        times = items.times.new_zeros(len(group), groups + 1).scatter_reduce(1, group, items.times, "amax")[:, :groups]
    return _chunk(layout, segment, vectors=vectors, valid=valid, times=times)


def means(items: ItemSlots, group: torch.Tensor, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of each group's vectors, ``[B, groups, D]``, 0 of an empty one; and which groups have an item, ``[B, groups]``.

    Arguments as `mean_chunk`.
    """
    users, _, width = items.vectors.shape
    sums = items.vectors.new_zeros(users, groups + 1, width).scatter_add(1, group[..., None].expand(-1, -1, width), items.vectors)
    counts = torch.zeros_like(group).new_zeros(users, groups + 1).scatter_add(1, group, items.valid.long())[:, :groups]
    return sums[:, :groups] / counts.clamp(min=1)[..., None], counts > 0


def chunk_of(valid: torch.Tensor, chunks: int) -> torch.Tensor:
    """``[B, s]``: the chunk of every item, right-aligned so that the last chunk is filled first; ``chunks`` for padding."""
    size = torch.clamp(valid.sum(1, keepdim=True), min=chunks)
    return (chunks - 1 - back_from_latest(valid) * chunks // size).masked_fill(~valid, chunks)


def sample_chunk(layout: SegmentLayout, segment: int, items: ItemSlots) -> Chunk:
    """Items as they are, as many as there are summaries."""
    return _chunk(layout, segment, vectors=items.vectors, valid=items.valid, times=items.times)


def take(items: ItemSlots, chosen: torch.Tensor, count: int) -> ItemSlots:
    """The chosen items, in time order and right-aligned in ``count`` slots.

    Args:
        items: ``[B, s]``.
        chosen: bool ``[B, s]``, at most ``count`` a row, none of them padding.
        count: slots.
    """
    columns = torch.arange(chosen.shape[1], device=chosen.device).expand_as(chosen)
    places = columns.masked_fill(~chosen, -1).sort(dim=1).values[:, -count:]
    places = F.pad(places, (count - places.shape[1], 0), value=-1)
    has_item, places = places >= 0, places.clamp(min=0)
    vectors = items.vectors.gather(1, places[..., None].expand(-1, -1, items.vectors.shape[2]))
    return ItemSlots(
        ids=items.ids.gather(1, places) * has_item,
        vectors=vectors.masked_fill(~has_item[..., None], 0.0),
        times=None if items.times is None else items.times.gather(1, places) * has_item,
    )


def highest(scores: torch.Tensor, valid: torch.Tensor, count: int) -> torch.Tensor:
    """Bool ``[B, s]``: the ``count`` items of the highest scores, of equal ones the later; fewer where there are fewer.

    Args:
        scores: ``[B, s]``, any but a NaN.
        valid: ``[B, s]``.
        count: how many.
    """
    lowest = torch.finfo(scores.dtype).min if scores.is_floating_point() else torch.iinfo(scores.dtype).min
    flipped_columns = scores.masked_fill(~valid, lowest).flip(1).sort(dim=1, descending=True, stable=True).indices[:, :count]
    top = torch.zeros_like(valid).scatter(1, scores.shape[1] - 1 - flipped_columns, torch.ones_like(flipped_columns, dtype=torch.bool))
    return top & valid


def back_from_latest(valid: torch.Tensor) -> torch.Tensor:
    """``[B, s]``: how many items come behind each; for padding any number."""
    return (valid.flip(1).cumsum(1) - 1).flip(1)


def _chunk(layout: SegmentLayout, segment: int, *, vectors: torch.Tensor, valid: torch.Tensor, times: torch.Tensor | None) -> Chunk:
    return Chunk(
        inputs=vectors,
        positions=torch.from_numpy(layout.positions(segment)).to(vectors.device),
        valid=valid,
        key_times=times,
        query_times=times,
        kept=layout.segments[segment].item_positions,
        items=0,
    )

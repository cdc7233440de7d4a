"""The inputs of a model: checks that refuse in one line each, and the places of items in a window."""

import torch

from persrec.compression.base import ItemSlots
from persrec.data.windows import WindowShape
from persrec.layout import SegmentLayout


def shape_of(layout: SegmentLayout) -> WindowShape:
    """The part of a layout that windows are built by."""
    return WindowShape(segments=tuple(segment.items for segment in layout.segments), recent=layout.recent)


def check_items(name: str, items: torch.Tensor, times: torch.Tensor | None, *, count: int) -> None:
    """Ids ``[B, n]`` of a catalogue of ``count``, padding among them, and seconds shaped alike.

    Raises:
        ValueError: they are not; the message begins with ``name``, or with ``times``.
    """
    if items.dim() != 2 or items.dtype != torch.int64 or items.shape[1] == 0:
        raise ValueError(f"{name}: {items.dtype} of shape {list(items.shape)}; expected int64 [users, items]")
    if items.numel() and (items.amin() < 0 or items.amax() >= count):
        raise ValueError(f"{name}: ids from {items.amin()} to {items.amax()}; expected 0 to {count - 1}")
    if times is not None and times.dtype != torch.int64:
        raise ValueError(f"times: {times.dtype}; expected int64 seconds")
    if times is not None and times.shape != items.shape:
        raise ValueError(f"times: shape {list(times.shape)}; expected {list(items.shape)}, as {name}")


def count_of_features(item_features: torch.Tensor, *, width: int) -> int:
    """How many items a text model's vectors ``[V, D]`` are of.

    Raises:
        ValueError: they are of another width.
    """
    if item_features.dim() != 2 or item_features.shape[1] != width:
        raise ValueError(f"item_features: shape {list(item_features.shape)}; expected [items, {width}]")
    return len(item_features)


def columns_of(slots: ItemSlots, start: int, stop: int) -> ItemSlots:
    """Some columns of a window."""
    times = None if slots.times is None else slots.times[:, start:stop]
    return ItemSlots(ids=slots.ids[:, start:stop], vectors=slots.vectors[:, start:stop], times=times)


def known_empty(slots: ItemSlots) -> bool:
    """Whether no row has an item here; asked on the CPU alone, for a GPU would have to wait for the answer."""
    return slots.ids.device.type == "cpu" and not bool(slots.ids.any())


def check_query_time(query_time: torch.Tensor | None, items: torch.Tensor) -> None:
    """Raises a ValueError where the times of requests are no seconds, one a row of ``items``."""
    if query_time is not None and (query_time.dtype != torch.int64 or query_time.shape != items.shape[:1]):
        raise ValueError(f"query_time: {query_time.dtype} of shape {list(query_time.shape)}; expected int64 [{items.shape[0]}]")


def check_rows_hold_items(items: torch.Tensor) -> None:
    """A request is answered at its last recent item, so there must be one: a cache holds no state of the history's last."""
    empty = torch.nonzero((items == 0).all(1)).flatten().tolist()
    if empty:
        raise ValueError(f"items: no recent item in row {empty[0]}; expected at least one in each row that is served from a cache")


def at_last_item(hidden: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Hidden states at each row's last item that is not padding, ``[B, D]``; a row of padding alone gives its last slot."""
    count = items.shape[1]
    order = torch.arange(1, count + 1, device=items.device) * (items != 0)
    last = torch.where(order.amax(1) > 0, order.argmax(1), count - 1)
    return hidden[torch.arange(len(items), device=items.device), last]

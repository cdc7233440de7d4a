"""One user's cache in a store, and the entries of several users as one batch.

Axis legend:  B users   p positions of an entry   P positions of a batch   W, S as in `persrec.serving.precision`   m counted ids
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from persrec.layout import SegmentLayout, layout_id
from persrec.serving.precision import CacheForm, PackedCache


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredUser:
    """One user's cache, packed: ``values`` ``[p, W]``, ``scales`` ``[p, S]``, ``valid`` and ``times`` ``[p]``, ``items`` ``[m]``.

    Attributes:
        segments: how many segments of the history it holds.
        recent: how many of its last positions are recent items.
    """

    values: torch.Tensor
    scales: torch.Tensor | None
    valid: torch.Tensor
    times: torch.Tensor | None
    items: torch.Tensor | None
    segments: int
    recent: int

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        tensors = [tensor for tensor in (self.values, self.scales, self.valid, self.times, self.items) if tensor is not None]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreFacts:
    """What all entries of a store have in common.

    Attributes:
        layout: of their model.
        dtype: one of `persrec.names.CACHE_PRECISIONS`.
        form: of their keys and values, or states; None until an entry has some.
        timed: whether they have times; None until there is an entry.
        counts_history: whether they hold the ids of the history for a counting output; None until an entry tells.
        counts_recent: whether they hold those of the recent items; None until an entry with recent items is there.
    """

    layout: SegmentLayout
    dtype: str
    form: CacheForm | None = None
    timed: bool | None = None
    counts_history: bool | None = None
    counts_recent: bool | None = None

    def __post_init__(self) -> None:
        flags = self.timed, self.counts_history, self.counts_recent
        if not all(flag is None or isinstance(flag, bool) for flag in flags):
            raise ValueError(f"timed, counts_history, counts_recent: {flags}; expected true, false or nothing")
        if self.counts_history and self.counts_recent is False:
            raise ValueError("counts_recent: false where the history is counted; expected true")

    def check_said(self, *, users: int, segments: int, recent: int) -> None:
        """Raises a ValueError where a store of ``users`` with at most so many segments and recent items has to say more of them."""
        needed = {"timed": users, "counts_history": segments, "counts_recent": recent}
        missing = [name for name, count in needed.items() if count and getattr(self, name) is None]
        if missing:
            raise ValueError(f"{missing[0]}: nothing, with users who tell; expected true or false")

    def positions(self, segments: int, recent: int) -> np.ndarray:
        """Slot indices ``[p]`` of an entry of so many segments and recent items."""
        history = self.layout.kept_positions(segments)
        first = self.layout.starts[-1]
        return np.concatenate([history, np.arange(first, first + recent)])

    def count_of_ids(self, segments: int, recent: int) -> int:
        """Ids ``m`` of an entry of so many segments and recent items, of the kinds that are kept."""
        return (self.layout.offset_at(segments) if self.counts_history else 0) + (recent if self.counts_recent else 0)


def user_row(packed: PackedCache, row: int) -> StoredUser:
    """One user's part of a batch, with tensors of its own on the CPU: a view would keep the batch in memory."""

    def row_copy(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else tensor[row].detach().to("cpu", copy=True)

    values, valid = row_copy(packed.values), row_copy(packed.valid)
    assert values is not None  # noqa: S101 - always there
    assert valid is not None  # noqa: S101
    return StoredUser(
        values=values,
        scales=row_copy(packed.scales),
        valid=valid,
        times=row_copy(packed.times),
        items=row_copy(packed.items),
        segments=packed.segments,
        recent=packed.recent,
    )


def batch_of(entries: Sequence[StoredUser], facts: StoreFacts, device: torch.device) -> PackedCache:
    """The entries side by side, all with as many recent items; shorter histories have hidden positions behind them."""
    segments, recent = max((entry.segments for entry in entries), default=0), entries[0].recent if entries else 0
    positions = torch.from_numpy(facts.positions(segments, recent))
    shape = len(entries), len(positions)
    nonempty = [entry for entry in entries if len(entry.valid)]
    same_length = all(len(entry.valid) == len(positions) for entry in entries)
    is_filled = torch.ones(shape, dtype=torch.bool) if same_length else _is_filled(entries, len(positions), recent)

    def side_by_side(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
        """``[p, ...]`` of each entry to ``[B, P, ...]``."""
        tensors = [part for part in parts if part is not None]
        if not tensors:
            return None
        if same_length:
            return torch.stack(tensors).to(device)
        rows = torch.cat(tensors)
        batch = rows.new_zeros(*shape, *rows.shape[1:])
        batch[is_filled] = rows
        return batch.to(device)

    times = side_by_side([entry.times for entry in nonempty])
    if times is None and facts.timed:
        times = torch.zeros(shape, dtype=torch.int64)
    valid = side_by_side([entry.valid for entry in nonempty])
    is_single = same_length and len(nonempty) == 1  # its numbers are copied as they are unpacked
    values = nonempty[0].values[None].to(device) if is_single else side_by_side([entry.values for entry in nonempty])
    has_ids = facts.counts_history or (recent and facts.counts_recent)
    return PackedCache(
        values=torch.zeros(*shape, 0, dtype=torch.float32) if values is None else values,
        scales=side_by_side([entry.scales for entry in nonempty]),
        dtype=facts.dtype,
        form=facts.form if nonempty else None,
        positions=positions.to(device),
        valid=(is_filled if valid is None else valid).to(device),
        times=None if times is None else times.to(device),
        segments=segments,
        layout=layout_id(facts.layout),
        items=_ids_of(entries, facts.count_of_ids(segments, recent), recent).to(device) if has_ids else None,
        recent=recent,
    )


def _is_filled(entries: Sequence[StoredUser], width: int, recent: int) -> torch.Tensor:
    """``[B, width]``: where an entry has positions, its history first and its recent items last."""
    lengths, index = torch.tensor([len(entry.valid) - recent for entry in entries]), torch.arange(width)
    return (index < lengths[:, None]) | (index >= width - recent)


def _ids_of(entries: Sequence[StoredUser], count: int, recent: int) -> torch.Tensor:
    """The entries' counted ids ``[B, count]``: those of the history, padding behind shorter ones, and those of ``recent`` items."""
    ids = torch.zeros(len(entries), count, dtype=torch.int32)
    for row, entry in zip(ids, entries, strict=True):
        if entry.items is not None:
            of_history = len(entry.items) - recent
            row[:of_history] = entry.items[:of_history]
            row[count - recent :] = entry.items[of_history:]
    return ids

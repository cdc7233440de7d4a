"""What a backbone reads of a segment, and what it keeps of the earlier ones."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F

KeysValues = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """The positions of one segment, or of several that run at once, as a backbone takes them.

    Attributes:
        inputs: ``[B, n, D]`` vectors, before positions.
        positions: ``[n]`` slot indices in the joint layout.
        valid: ``[B, n]``; False is padding or a hidden expert.
        key_times: ``[B, n]`` seconds, 0 unknown; None switches the time bias off.
        query_times: ``[B, n]`` seconds, 0 unknown.
        kept: how many of the last positions later segments see.
        items: how many of the first positions are items of the window; 0 where several segments run, of which each knows its own.
        segments: how many segments follow each other in it, all alike: each has ``n / segments`` positions, the last ``kept`` of them
            kept, and sees its own positions and the kept ones of the segments before it.
    """

    inputs: torch.Tensor
    positions: torch.Tensor
    valid: torch.Tensor
    key_times: torch.Tensor | None
    query_times: torch.Tensor | None
    kept: int
    items: int
    segments: int = 1

    @property
    def width(self) -> int:
        """Its positions, ``n``."""
        return self.positions.shape[0]

    @classmethod
    def joined(cls, chunks: Sequence[Self]) -> Self:
        """Chunks one behind the other; each sees the earlier ones whole, and nothing of them is kept."""
        return chunks[0] if len(chunks) == 1 else cls._concatenated(chunks, kept=0, segments=1)

    @classmethod
    def side_by_side(cls, chunks: Sequence[Self]) -> Self:
        """Chunks of segments that are alike and follow each other; each sees what is kept of the earlier ones.

        The first may be narrower, for items that were left out.
        """
        if len(chunks) == 1:
            return chunks[0]
        first, last = chunks[0], chunks[-1]
        padded = [first.padded(last.width - first.width), *chunks[1:]]
        return cls._concatenated(padded, kept=last.kept, segments=len(chunks))

    @classmethod
    def _concatenated(cls, chunks: Sequence[Self], *, kept: int, segments: int) -> Self:
        return cls(
            inputs=torch.cat([chunk.inputs for chunk in chunks], dim=1),
            positions=torch.cat([chunk.positions for chunk in chunks]),
            valid=torch.cat([chunk.valid for chunk in chunks], dim=1),
            key_times=functools.reduce(_concatenate_times, (chunk.key_times for chunk in chunks)),
            query_times=functools.reduce(_concatenate_times, (chunk.query_times for chunk in chunks)),
            kept=kept,
            items=0,
            segments=segments,
        )

    def padded(self, count: int) -> Self:
        """The chunk with padding in front, for the segment's first ``count`` items, which were left out; ``items`` does not count them."""
        if count == 0:
            return self
        return replace(
            self,
            inputs=F.pad(self.inputs, (0, 0, count, 0)),
            positions=torch.cat([self.positions[0] + torch.arange(-count, 0, device=self.positions.device), self.positions]),
            valid=F.pad(self.valid, (count, 0)),
            key_times=None if self.key_times is None else F.pad(self.key_times, (count, 0)),
            query_times=None if self.query_times is None else F.pad(self.query_times, (count, 0)),
        )

    def of_kept(self, values: torch.Tensor, dim: int) -> torch.Tensor:
        """The part of ``values``, whose dimension ``dim`` is the positions, that belongs to the positions that later segments see."""
        width = self.width // self.segments
        return torch.unflatten(values, dim, (self.segments, width)).narrow(dim + 1, width - self.kept, self.kept).flatten(dim, dim + 1)

    def behind(self, cache: "KVCache", positions: torch.Tensor) -> Self:
        """The chunk with a memory's states as its first inputs, at ``positions`` ``[p]``; nothing of it is kept as keys."""
        if cache.states is None:
            return replace(self, kept=0)
        return replace(
            self,
            inputs=torch.cat([cache.states, self.inputs], dim=1),
            positions=torch.cat([positions, self.positions]),
            valid=torch.cat([cache.valid, self.valid], dim=1),
            key_times=_concatenate_times(cache.times, self.key_times),
            query_times=_concatenate_times(cache.times, self.query_times),
            kept=0,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class KVCache:
    """Keys and values, per layer, of the positions that later segments see: a user's compressed history.

    Attributes:
        layers: per layer, keys ``[B, H, p, d_k]`` (as attention reads them, rotated where positions rotate) and values
            ``[B, H, p, d_v]``.
        positions: ``[p]`` slot indices.
        valid: ``[B, p]``.
        times: ``[B, p]`` seconds, or None without times.
        segments: how many segments of the layout it holds.
        layout: identity of the layout that it belongs to.
        states: ``[B, p, D]``, or None: what a recurrent memory keeps; ``layers`` is empty then, until recent items are kept too.
        backbone: the kind that it was computed by, "" where that is not known.
        recent: how many of its last positions are recent items, kept between two refreshes.
        rooms: per layer, tensors whose first positions are those of ``layers`` and whose other positions are free; or empty. A pass
            without gradients writes its own keys and values there and copies nothing else. One pass at a time uses them.
        items: ``[B, m]`` int32, the ids that a counting output reads, oldest first, 0 pads; None where nothing is counted.
    """

    layers: tuple[KeysValues, ...]
    positions: torch.Tensor
    valid: torch.Tensor
    times: torch.Tensor | None
    segments: int
    layout: str
    states: torch.Tensor | None = None
    backbone: str = ""
    recent: int = 0
    rooms: tuple[KeysValues, ...] = ()
    items: torch.Tensor | None = None

    @property
    def length(self) -> int:
        """Cached positions, ``p``."""
        return self.positions.shape[0]

    @property
    def nbytes_per_user(self) -> int:
        """Bytes per user of keys and values, layers x (K + V width, after grouping heads) x positions x element size.

        Of a memory's states: width x positions x element size. Of items that are counted: 4 each.
        """
        users = max(1, self.valid.shape[0])
        tensors = self.tensors if self.items is None else (*self.tensors, self.items)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors) // users

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """What is kept: keys and values, layer by layer, or a memory's states."""
        states = () if self.states is None else (self.states,)
        return (*(tensor for pair in self.layers for tensor in pair), *states)

    def append(self, chunk: Chunk, layers: tuple[KeysValues, ...]) -> Self:
        """The cache with the kept positions of ``chunk`` at its end; ``layers`` are their keys and values."""
        times = _concatenate_times(self.times, None if chunk.key_times is None else chunk.of_kept(chunk.key_times, 1))
        all_layers = layers
        if self.layers:
            all_layers = tuple(
                (torch.cat([old_k, new_k], dim=2), torch.cat([old_v, new_v], dim=2))
                for (old_k, old_v), (new_k, new_v) in zip(self.layers, layers, strict=True)
            )
        return replace(
            self,
            layers=all_layers,
            positions=torch.cat([self.positions, chunk.of_kept(chunk.positions, 0)]),
            valid=torch.cat([self.valid, chunk.of_kept(chunk.valid, 1)], dim=1),
            times=times,
            segments=self.segments + chunk.segments,
            rooms=(),
        )

    def past(self, layer: int) -> "Past | None":
        """What a layer's queries see before their own segment."""
        if not self.layers:
            return None
        return Past(own=self.layers[layer], room=self.rooms[layer] if self.rooms and not torch.is_grad_enabled() else None)

    @property
    def of_requests(self) -> bool:
        """Whether `SequentialRecommender.append` has kept anything of a request here, be it a memory's states as keys alone."""
        return self.recent > 0 or (self.states is not None and self.keyed > 0)

    @property
    def keyed(self) -> int:
        """Positions that have keys: all, except in a memory whose states have not been run with recent items yet."""
        return sum(keys.shape[2] for keys, _ in self.layers[:1])

    def with_room(self, positions: int, *, layers: int, heads: int, width: int, like: torch.Tensor) -> Self:
        """The cache with free positions behind.

        Args:
            positions: how many of them.
            layers: of the backbone, each with keys and values of ``heads`` x ``width``.
            heads: see ``layers``.
            width: of a head.
            like: a tensor of the type and on the device that keys have.
        """
        shape = (self.valid.shape[0], heads, self.keyed + positions, width)
        rooms = tuple((like.new_empty(shape), like.new_empty(shape)) for _ in range(layers))
        for room, keys_values in zip(rooms, self.layers, strict=False):
            for target, source in zip(room, keys_values, strict=True):
                target[:, :, : self.keyed] = source
        return replace(self, layers=_first_positions(rooms, self.keyed), rooms=rooms)

    def with_recent(self, chunk: Chunk, layers: tuple[KeysValues, ...], *, count: int) -> Self:
        """The cache with the first ``count`` positions of a chunk at its end; ``layers`` are the keys and values of the whole chunk.

        Recent items alone count as recent: where a chunk begins with a memory's states, these do not.
        """
        state_count = chunk.width - chunk.items
        # with gradients, or where the whole chunk does not fit, nothing was written there: see `Past.followed_by`
        is_written = bool(self.rooms) and self.keyed + layers[0][0].shape[2] <= self.rooms[0][0].shape[2]
        rooms = self.rooms if is_written and not torch.is_grad_enabled() else ()
        all_layers = (
            _first_positions(rooms, self.length + count)
            if rooms
            else tuple(
                (_concatenate_keys(old_k, new_k[:, :, :count]), _concatenate_keys(old_v, new_v[:, :, :count]))
                for (old_k, old_v), (new_k, new_v) in zip(self.layers or ((None, None),) * len(layers), layers, strict=True)
            )
        )
        return replace(
            self,
            layers=all_layers,
            positions=torch.cat([self.positions, chunk.positions[:count]]),
            valid=torch.cat([self.valid, chunk.valid[:, :count]], dim=1),
            times=_concatenate_times(self.times, None if chunk.key_times is None else chunk.key_times[:, :count]),
            recent=self.recent + count - state_count,
            rooms=rooms,
        )

    def remember(self, chunk: Chunk, hidden: torch.Tensor) -> Self:
        """The cache with the states of the kept positions of ``chunk`` in place of what it held; ``hidden`` ``[B, n, D]``.

        A user without an item in the segment keeps what was held before.
        """
        states, valid = chunk.of_kept(hidden, 1), chunk.of_kept(chunk.valid, 1)
        times = None if chunk.key_times is None else chunk.of_kept(chunk.key_times, 1)
        if self.states is not None:
            states = torch.where(valid[..., None], states, self.states)
            times = None if times is None or self.times is None else torch.where(valid, times, self.times)
            valid = valid | self.valid
        return replace(
            self, states=states, positions=chunk.of_kept(chunk.positions, 0), valid=valid, times=times, segments=self.segments + 1
        )

    def with_items(self, items: torch.Tensor) -> Self:
        """The cache with more counted ids, ``[B, m]``, behind those that it has."""
        ids = items.int()
        return replace(self, items=ids if self.items is None else torch.cat([self.items, ids], dim=1))

    def without_positions(self) -> Self:
        """The cache without its positions, so that a segment sees no key of it."""
        times = None if self.times is None else self.times[:, :0]
        return replace(self, states=None, positions=self.positions[:0], valid=self.valid[:, :0], times=times)

    def detached_from_segments(self) -> Self:
        """The cache with tensors that hold nothing but themselves: a view would keep all positions of a segment in memory."""
        states = None if self.states is None else _with_own_storage(self.states)
        return replace(
            self,
            layers=tuple((_with_own_storage(keys), _with_own_storage(values)) for keys, values in self.layers),
            states=states,
            rooms=(),
        )

    def of_users(self, rows: torch.Tensor) -> Self:
        """The caches of some users alone, ``rows`` ``[b]`` int64, with tensors of their own."""
        return replace(
            self,
            layers=tuple((keys[rows], values[rows]) for keys, values in self.layers),
            valid=self.valid[rows],
            times=None if self.times is None else self.times[rows],
            states=None if self.states is None else self.states[rows],
            rooms=(),
            items=None if self.items is None else self.items[rows],
        )

    def skip(self, segments: int) -> Self:
        """The cache after so many more segments, of which nothing is kept."""
        return replace(self, segments=self.segments + segments)


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """A layer's keys and values of the positions before a segment; ``room`` begins with them and has free positions behind."""

    own: KeysValues
    room: KeysValues | None

    def followed_by(self, keys_values: KeysValues) -> KeysValues:
        """Keys and values ``[B, H, p + n, d]`` with those of the segment's own positions ``[B, H, n, d]`` behind."""
        length, stop = self.own[0].shape[2], self.own[0].shape[2] + keys_values[0].shape[2]
        if self.room is None or stop > self.room[0].shape[2]:
            return torch.cat([self.own[0], keys_values[0]], dim=2), torch.cat([self.own[1], keys_values[1]], dim=2)
        for room, tensor in zip(self.room, keys_values, strict=True):
            room.narrow(2, length, stop - length).copy_(tensor)
        return self.room[0].narrow(2, 0, stop), self.room[1].narrow(2, 0, stop)


def _first_positions(rooms: tuple[KeysValues, ...], positions: int) -> tuple[KeysValues, ...]:
    return tuple((keys[:, :, :positions], values[:, :, :positions]) for keys, values in rooms)


def _concatenate_keys(earlier: torch.Tensor | None, later: torch.Tensor) -> torch.Tensor:
    return later if earlier is None else torch.cat([earlier, later], dim=2)


def kept_keys_values(keys: torch.Tensor, values: torch.Tensor, chunk: Chunk) -> KeysValues:
    """Of a layer's keys and values ``[B, H, n, d]``, those of the positions that later segments see.

    Without gradients they are tensors of their own: views would hold all that every layer computed, until the last layer has run.
    """
    if not chunk.kept:
        return keys.new_empty(*keys.shape[:2], 0, keys.shape[3]), values.new_empty(*values.shape[:2], 0, values.shape[3])
    keys, values = chunk.of_kept(keys, 2), chunk.of_kept(values, 2)
    return (keys, values) if torch.is_grad_enabled() else (_with_own_storage(keys), _with_own_storage(values))


def _concatenate_times(earlier: torch.Tensor | None, later: torch.Tensor | None) -> torch.Tensor | None:
    return None if earlier is None or later is None else torch.cat([earlier, later], dim=1)


def _with_own_storage(tensor: torch.Tensor) -> torch.Tensor:
    nbytes = tensor.numel() * tensor.element_size()
    return tensor if tensor.untyped_storage().nbytes() == nbytes else tensor.clone(memory_format=torch.contiguous_format)


def empty_cache(*, users: int, layout: str, timed: bool, device: torch.device, backbone: str = "") -> KVCache:
    """A cache that holds no segment yet."""
    return KVCache(
        layers=(),
        positions=torch.zeros(0, dtype=torch.int64, device=device),
        valid=torch.zeros(users, 0, dtype=torch.bool, device=device),
        times=torch.zeros(users, 0, dtype=torch.int64, device=device) if timed else None,
        segments=0,
        layout=layout,
        backbone=backbone,
    )

"""Caches at a precision: float32 as it is, bfloat16 by rounding, int8 with a scale per token, head and layer.

Axis legend:  B users   p kept positions   W numbers kept per position, all layers' keys and values side by side
              S vectors per position: layers x 2 x heads, each with a scale of its own
"""

from dataclasses import dataclass
from typing import Self

import torch

from persrec.names import CACHE_PRECISIONS
from persrec.nn.cache import KeysValues, KVCache

MODEL_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
STORED_DTYPES = {**MODEL_DTYPES, "int8": torch.int8}
STEPS = 127  # of int8 on either side of 0


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheForm:
    """What a model's caches have in common, whichever user's and however long.

    Attributes:
        dtype: the numbers' type as the model computes them, ``float32`` or ``bfloat16``.
        vectors: per layer and per keys and values: heads and width of a head, ``((H, d_k), (H, d_v)), ...`` flattened.
        backbone: the kind that computed them, "" where that is not known.
        states: whether a position has no keys and values but a memory's state, one vector: ``vectors`` is ``((1, D),)``.
    """

    dtype: str
    vectors: tuple[tuple[int, int], ...]
    backbone: str = ""
    states: bool = False

    @classmethod
    def of(cls, cache: KVCache) -> Self | None:
        """The form of a cache; None where it holds no position.

        Raises:
            ValueError: its numbers are of another type than a model's, or a memory's states have keys of a request's items beside them.
        """
        tensors = cache.tensors
        if not tensors:
            return None
        if cache.states is not None and cache.layers:
            raise ValueError("cache: of a memory, with keys of a request's items; expected its states of the history alone")
        dtype = str(tensors[0].dtype).removeprefix("torch.")
        if dtype not in MODEL_DTYPES:
            raise ValueError(f"cache: of {dtype}; expected {' or '.join(MODEL_DTYPES)}")
        if cache.states is not None:
            return cls(dtype=dtype, vectors=((1, cache.states.shape[2]),), backbone=cache.backbone, states=True)
        vectors = tuple((tensor.shape[1], tensor.shape[3]) for tensor in tensors)
        return cls(dtype=dtype, vectors=vectors, backbone=cache.backbone)

    @property
    def width(self) -> int:
        """``W``."""
        return sum(heads * width for heads, width in self.vectors)

    @property
    def heads(self) -> int:
        """``S``."""
        return sum(heads for heads, _ in self.vectors)

    def widths(self) -> list[int]:
        """Width of each of the ``S`` vectors of a position."""
        return [width for heads, width in self.vectors for _ in range(heads)]


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedCache:
    """A cache as it is stored.

    Attributes:
        values: ``[B, p, W]`` of ``dtype``.
        scales: ``[B, p, S]`` float32 for int8, else None. A stored number times its vector's scale is what was kept.
        dtype: one of `persrec.names.CACHE_PRECISIONS`.
        form: of the cache; None where no position is kept.
        positions: ``[p]``.
        valid: ``[B, p]``.
        times: ``[B, p]`` seconds, or None.
        segments: how many segments of the layout it holds.
        layout: identity of the layout.
        items: ``[B, m]`` int32, the ids that a counting output reads, or None.
        recent: how many of the last positions are recent items.
    """

    values: torch.Tensor
    scales: torch.Tensor | None
    dtype: str
    form: CacheForm | None
    positions: torch.Tensor
    valid: torch.Tensor
    times: torch.Tensor | None
    segments: int
    layout: str
    items: torch.Tensor | None = None
    recent: int = 0

    @property
    def nbytes_per_user(self) -> int:
        """Bytes of keys, values or states, scales and counted ids per user; the counterpart of `KVCache.nbytes_per_user`."""
        tensors = [tensor for tensor in (self.values, self.scales, self.items) if tensor is not None]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors) // max(1, len(self.values))

    def unpack(self, *, room: int = 0) -> KVCache:
        """The cache as the recommender reads it, in the model's own type of numbers: keys and values are copied once.

        Args:
            room: free positions behind them, where a pass without gradients writes its own; `KVCache.rooms` says how. A memory's
                states have none.
        """
        states = None if self.form is None or not self.form.states else _states(self.values, self.scales, self.form)
        rooms = () if self.form is None or self.form.states else _rooms(self.values, self.scales, self.form, free=room)
        count = len(self.positions)
        return KVCache(
            layers=tuple((keys[:, :, :count], values[:, :, :count]) for keys, values in rooms),
            states=states,
            positions=self.positions,
            valid=self.valid,
            times=self.times,
            segments=self.segments,
            layout=self.layout,
            backbone="" if self.form is None else self.form.backbone,
            rooms=rooms if room else (),
            items=self.items,
            recent=self.recent,
        )


def pack(cache: KVCache, dtype: str) -> PackedCache:
    """The cache at a precision.

    ``float32`` gives back what was put, bit for bit. ``bfloat16`` rounds to 8 significant bits. ``int8`` keeps of every key
    and value of a head its largest magnitude over 127 as a float32 scale, and the nearest whole multiples of it: no number
    is further off than half a scale. A memory's state is kept as a key is.

    Raises:
        ValueError: the precision is unknown, the cache holds a number that is not finite, or it is one that `CacheForm.of` refuses.
    """
    if dtype not in CACHE_PRECISIONS:
        raise ValueError(f"dtype: unknown {dtype!r}; known: {', '.join(CACHE_PRECISIONS)}")
    form = CacheForm.of(cache)
    users, positions = cache.valid.shape
    values = torch.zeros(users, positions, 0, dtype=torch.float32, device=cache.valid.device)
    if form is not None:
        by_position = [tensor.transpose(1, 2).flatten(2) for pair in cache.layers for tensor in pair]
        values = torch.cat(by_position, dim=2) if cache.states is None else cache.states
        if not bool(torch.isfinite(values).all()):
            raise ValueError("cache: holds NaN or infinity; expected finite keys and values")
    scales = None
    if dtype == "int8":
        values, scales = _quantised(values.float(), form)
    elif form is not None and MODEL_DTYPES[dtype].itemsize < MODEL_DTYPES[form.dtype].itemsize:
        values = values.to(MODEL_DTYPES[dtype])
    return PackedCache(
        values=values,
        scales=scales,
        dtype=dtype,
        form=form,
        positions=cache.positions,
        valid=cache.valid,
        times=cache.times,
        segments=cache.segments,
        layout=cache.layout,
        items=cache.items,
        recent=cache.recent,
    )


def _quantised(values: torch.Tensor, form: CacheForm | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers ``[B, p, W]`` from -127 to 127, and scales ``[B, p, S]``; a vector of zeros has the scale 0."""
    if form is None:
        return values.to(torch.int8), values
    vectors = torch.split(values, form.widths(), dim=2)
    scales = torch.stack([vector.abs().amax(2) / STEPS for vector in vectors], dim=2)
    number_scales = _per_number(torch.where(scales > 0, scales, 1.0), form)
    return (values / number_scales).round().clamp(-STEPS, STEPS).to(torch.int8), scales


def _per_number(scales: torch.Tensor, form: CacheForm) -> torch.Tensor:
    """``[B, p, S]`` to ``[B, p, W]``: the scale of each number."""
    widths = form.widths()
    if len(set(widths)) == 1:
        return scales.repeat_interleave(widths[0], dim=2)
    return scales.repeat_interleave(torch.tensor(widths, device=scales.device), dim=2, output_size=form.width)


def _states(values: torch.Tensor, scales: torch.Tensor | None, form: CacheForm) -> torch.Tensor:
    """A memory's states ``[B, p, D]``, in numbers of their own."""
    numbers = values.to(MODEL_DTYPES[form.dtype], copy=True)
    return numbers if scales is None else numbers * scales


def _rooms(values: torch.Tensor, scales: torch.Tensor | None, form: CacheForm, *, free: int) -> tuple[KeysValues, ...]:
    """Keys and values ``[B, H, p + free, d]`` by layer, of which the first ``p`` positions are filled."""
    users, positions = values.shape[:2]
    parts = torch.split(values, [heads * width for heads, width in form.vectors], dim=2)
    steps = [None] * len(parts) if scales is None else torch.split(scales, [heads for heads, _ in form.vectors], dim=2)
    tensors = []
    for part, step, (heads, width) in zip(parts, steps, form.vectors, strict=True):
        room = part.new_empty(users, heads, positions + free, width, dtype=MODEL_DTYPES[form.dtype])
        numbers, destination = part.reshape(users, positions, heads, width).transpose(1, 2), room[:, :, :positions]
        if step is None:
            destination.copy_(numbers)
        else:
            torch.mul(numbers, step.transpose(1, 2)[..., None], out=destination)
        tensors.append(room)
    return tuple(zip(tensors[::2], tensors[1::2], strict=True))

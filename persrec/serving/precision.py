"""Caches at a precision: float32 as it is, bfloat16 by rounding, int8 with a scale per token, head and layer.

Axis legend:  B users   p kept positions   W numbers kept per position, all layers' keys and values side by side
              S vectors per position, each with a scale of its own: T tensors (2 a layer) x H heads, of width d
"""

from dataclasses import dataclass
from typing import Self

import torch

from persrec.names import CACHE_PRECISIONS
from persrec.nn.cache import KeysValues, KVCache

MODEL_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
STORED_DTYPES = {**MODEL_DTYPES, "int8": torch.int8}
KEYS_OF_MEMORY = "cache: of a memory, with keys of a request's items or room for them; expected its states of the history alone"
STEPS = 127  # of int8 on either side of 0


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheForm:
    """What a model's caches have in common, whichever user's and however long.

    Attributes:
        dtype: the numbers' type as the model computes them, ``float32`` or ``bfloat16``.
        tensors: ``T``, keys and values of each layer; 1 of a memory's states.
        heads: ``H`` of each tensor; 1 of states.
        head_width: ``d``, width of a head; of states the model's.
        backbone: the kind that computed them, "" where that is not known.
        states: whether they are a memory's states.
    """

    dtype: str
    tensors: int
    heads: int
    head_width: int
    backbone: str = ""
    states: bool = False

    def __post_init__(self) -> None:
        sizes = self.tensors, self.heads, self.head_width
        if self.dtype not in MODEL_DTYPES or not all(type(size) is int and size > 0 for size in sizes):
            raise ValueError(f"form: {self.dtype!r} of sizes {sizes}; expected a model's type and whole numbers above 0")
        if not isinstance(self.backbone, str) or not isinstance(self.states, bool):
            raise ValueError(f"form: backbone {self.backbone!r}, states {self.states!r}; expected a name, and true or false")  # noqa: TRY004 - bad input
        if (self.tensors, self.heads) != (1, 1) if self.states else self.tensors % 2:
            raise ValueError(f"form: {self.tensors} tensors of {self.heads} heads; expected keys and values, or one of states")

    @classmethod
    def of(cls, cache: KVCache) -> Self | None:
        """The form of a cache; None where it has no keys, values or states.

        Raises:
            ValueError: its numbers are of another type than a model's, its tensors are not alike, or a memory's states have keys of a
                request's items beside them.
        """
        if not cache.tensors:
            return None
        if cache.states is not None and cache.layers:
            raise ValueError(KEYS_OF_MEMORY)
        first = cache.tensors[0]
        dtype = str(first.dtype).removeprefix("torch.")
        if dtype not in MODEL_DTYPES:  # said as of a cache, before a form is made
            raise ValueError(f"cache: of {dtype}; expected {' or '.join(MODEL_DTYPES)}")
        if cache.states is not None:
            return cls(dtype=dtype, tensors=1, heads=1, head_width=first.shape[2], backbone=cache.backbone, states=True)
        if len({(tensor.shape[1], tensor.shape[3]) for tensor in cache.tensors}) > 1:
            raise ValueError("cache: keys and values of different heads or widths; expected all alike")
        return cls(dtype=dtype, tensors=len(cache.tensors), heads=first.shape[1], head_width=first.shape[3], backbone=cache.backbone)

    @property
    def width(self) -> int:
        """``W``."""
        return self.vectors * self.head_width

    @property
    def vectors(self) -> int:
        """``S``."""
        return self.tensors * self.heads

    def by_vector(self, values: torch.Tensor) -> torch.Tensor:
        """``[B, p, W]`` as a view ``[B, p, T, H, d]``."""
        return torch.unflatten(values, 2, (self.tensors, self.heads, self.head_width))


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
        form, states = self.form, None
        layers: tuple[KeysValues, ...] = ()
        rooms: tuple[KeysValues, ...] = ()
        if form is not None and form.states:
            states = _rooms(self.values, self.scales, form, free=0)[0, :, 0]
        elif form is not None:
            tensors = _rooms(self.values, self.scales, form, free=room)
            layers = _by_layer(tensors[..., : len(self.positions), :])
            rooms = _by_layer(tensors) if room else ()
        return KVCache(
            layers=layers,
            states=states,
            positions=self.positions,
            valid=self.valid,
            times=self.times,
            segments=self.segments,
            layout=self.layout,
            backbone="" if form is None else form.backbone,
            rooms=rooms,
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
        tensors = torch.stack(cache.tensors) if cache.states is None else cache.states[None, :, None].clone()
        values = tensors.permute(1, 3, 0, 2, 4).flatten(2)
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
    vectors = form.by_vector(values)
    scales = vectors.detach().abs().amax(-1, keepdim=True) / STEPS
    numbers = (vectors / torch.where(scales > 0, scales, 1.0)).round().clamp(-STEPS, STEPS)
    return numbers.to(torch.int8).flatten(2), scales.flatten(2)


def _rooms(values: torch.Tensor, scales: torch.Tensor | None, form: CacheForm, *, free: int) -> torch.Tensor:
    """``[T, B, H, p + free, d]``, of which the first ``p`` positions are filled: one copy for all layers."""
    users, positions = values.shape[:2]
    shape = form.tensors, users, form.heads, positions + free, form.head_width
    rooms = values.new_empty(shape, dtype=MODEL_DTYPES[form.dtype])
    numbers, filled = form.by_vector(values).permute(2, 0, 3, 1, 4), rooms[..., :positions, :]
    if scales is None:
        filled.copy_(numbers)
    else:
        torch.mul(numbers, torch.unflatten(scales, 2, (form.tensors, form.heads, 1)).permute(2, 0, 3, 1, 4), out=filled)
    return rooms


def _by_layer(tensors: torch.Tensor) -> tuple[KeysValues, ...]:
    """``[T, ...]`` as pairs of keys and values."""
    each = tensors.unbind(0)
    return tuple(zip(each[::2], each[1::2], strict=True))

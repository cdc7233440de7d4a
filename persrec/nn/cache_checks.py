"""Whether a cache that a caller brings is one of this model; each message names what came and what was expected."""

import itertools
from dataclasses import dataclass

from persrec.nn.cache import KVCache


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptSizes:
    """What a model keeps of a position: ``layers`` of ``heads``, each of ``width``; of a memory, states of width ``states``."""

    layers: int
    heads: int
    width: int
    states: int

    def __str__(self) -> str:
        """For a message."""
        return f"{self.layers} layers of {self.heads} heads of width {self.width}"


def check_cache(cache: KVCache, *, layout: str, users: int, timed: bool) -> None:
    """It is of this layout, of so many users, and with times where the items have them.

    Raises:
        ValueError: it is not.
    """
    if cache.layout != layout:
        raise ValueError(f"cache: of layout {cache.layout}; expected {layout}, the model's")
    if cache.valid.shape[0] != users:
        raise ValueError(f"cache: {cache.valid.shape[0]} users; expected {users}, as the items")
    if (cache.times is not None) != timed:
        raise ValueError(f"times: {'given' if timed else 'missing'}, but the cache was made {'without' if timed else 'with'} times")


def check_kept(cache: KVCache, *, kind: str, sizes: KeptSizes) -> None:
    """Keys and values, or a memory's states, are of this kind of backbone and of its sizes.

    Raises:
        ValueError: they are not.
    """
    if cache.backbone not in ("", kind):
        raise ValueError(f"cache: computed by a {cache.backbone}; expected one of a {kind}, as the model is")
    if cache.states is not None and cache.states.shape[2] != sizes.states:
        raise ValueError(f"cache: states of width {cache.states.shape[2]}; expected {sizes.states}, as the model's")
    for tensor in itertools.chain.from_iterable(cache.layers):
        cache_sizes = KeptSizes(layers=len(cache.layers), heads=tensor.shape[1], width=tensor.shape[3], states=sizes.states)
        if cache_sizes != sizes:
            raise ValueError(f"cache: {cache_sizes}; expected {sizes}, as the model keeps")

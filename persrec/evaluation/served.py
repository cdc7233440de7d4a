"""User vectors of everyone who is evaluated, served from caches: stored, stale, or with a history that is not the user's own.

The target and the recent items are those of `user_states` throughout; the history alone is changed. So two settings differ
in what the cache holds and in nothing else.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from persrec.data.splits import Part, Split, Targets
from persrec.data.windows import WindowBatch, WindowShape, build_windows
from persrec.evaluation.states import evaluating
from persrec.inputs import shape_of
from persrec.names import ABLATIONS
from persrec.nn.cache import KeysValues, KVCache
from persrec.recommender import SequentialRecommender

Ints = NDArray[np.int64]


class Caches(Protocol):
    """Where caches are kept between compressing and serving; `persrec.serving.CacheStore` is one."""

    def put_each(self, users: Sequence[int], cache: KVCache) -> object:
        """Keeps the caches of a batch, one a user."""
        ...

    def get(self, users: Sequence[int]) -> KVCache:
        """The caches of some users as one batch."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """What the cache of a request is made from.

    Attributes:
        new_caches: makes an empty store, one a batch; its precision is what the vectors go through.
        history: items of the history at most, as of a model that is elastic in history; None is all that have a slot.
        staleness: the history ends so many items before the recent ones begin; the items between are seen by neither.
        ablation: ``none``; ``random_tokens``, normal numbers in place of every kept key and value, of the mean and deviation
            that all users' keys, or values, have in that layer; ``shuffled_history``, the items of the history in another
            order, the times in their places; ``other_user``, the cache of another user, each user's serving one other.
        seed: of the random numbers, the orders and the others.
    """

    new_caches: Callable[[], Caches]
    history: int | None = None
    staleness: int = 0
    ablation: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.ablation not in ABLATIONS:
            raise ValueError(f"ablation: unknown {self.ablation!r}; known: {', '.join(ABLATIONS)}")
        if self.staleness < 0:
            raise ValueError(f"staleness: {self.staleness}; expected 0 or more items")


def served_states(
    model: SequentialRecommender, data: Split, part: Part, *, serving: Serving, time_bias: bool, batch_size: int = 128
) -> torch.Tensor:
    """Unit vectors ``[E, D]`` as `user_states` gives them, of the same type of numbers, from the recent items and a cache.

    Raises:
        ValueError: the layout has no history, another user's cache is asked for and there is one user alone, or random tokens of a
            memory, which has neither keys nor values.
    """
    if not model.layout.segments:
        raise ValueError("model: its layout has no history; expected one that a cache is made of")
    if serving.ablation == "random_tokens" and model.layout.recurrent:
        raise ValueError("ablation: 'random_tokens' of a memory, which keeps states; expected a cache of keys and values")
    batches = _Batches(model=model, data=data, part=part, serving=serving, time_bias=time_bias)
    targets = data.of(part)
    owner = another(targets.users, serving.seed) if serving.ablation == "other_user" else np.arange(len(targets))
    order = np.argsort(np.minimum(batches.targets.positions, batches.shape.width), kind="stable")
    blocks = [order[start : start + batch_size] for start in range(0, len(targets), batch_size)]
    generator = torch.Generator().manual_seed(serving.seed)
    states = torch.empty(len(targets), model.backbone.width, dtype=next(model.parameters()).dtype, device=batches.device)
    with evaluating(model):
        noise = _Noise.from_caches(batches.cache(rows) for rows in blocks) if serving.ablation == "random_tokens" else None
        for rows in blocks:
            cache = batches.cache(owner[rows])
            if noise is not None:
                cache = noise.replacement(cache, generator)
            states[torch.from_numpy(rows).to(batches.device)] = batches.user_states(rows, cache)
    return states


def another(users: Ints, seed: int) -> Ints:
    """The first row of another user for each row, ``[E]``: the next in one random ring of all users, so nobody gets their own.

    Args:
        users: ``[E]``, the user of each row, ascending.
        seed: of the ring.

    Raises:
        ValueError: there are fewer than two users.
    """
    _, first, user_index = np.unique(users, return_index=True, return_inverse=True)
    if len(first) < 2:
        raise ValueError(f"users: {len(first)}; expected at least 2, for another user's cache")
    ring = np.random.default_rng(seed).permutation(len(first))
    next_user = np.empty(len(first), dtype=np.int64)
    next_user[ring] = np.roll(ring, 1)
    return first[next_user[user_index]]


def shuffled(items: Ints, users: Ints, seed: int) -> Ints:
    """Windows' histories ``[B, P]`` with each row's items in another order, padding in its place.

    The order is drawn from the seed and the row's user, so it does not depend on who shares a batch.
    """
    shuffled_items = items.copy()
    for row, user in enumerate(users):
        columns = np.flatnonzero(items[row])
        shuffled_items[row, columns] = items[row, np.random.default_rng([seed, int(user)]).permutation(columns)]
    return shuffled_items


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batches:
    """Caches and user vectors of some of a part's targets."""

    model: SequentialRecommender
    data: Split
    part: Part
    serving: Serving
    time_bias: bool

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def shape(self) -> WindowShape:
        return shape_of(self.model.layout)

    @property
    def targets(self) -> Targets:
        return self.data.of(self.part)

    def cache(self, rows: Ints) -> KVCache:
        """The rows' caches out of the store, each of as many segments as the history fills; rows may repeat."""
        all_rows, rows = rows, np.unique(rows)
        history, windows = self.model.layout.history, self._windows(rows)
        items, times = windows.items[:, :history], windows.times[:, :history]
        if self.serving.ablation == "shuffled_history":
            items = shuffled(items, self.targets.users[rows], self.serving.seed)
        store = self.serving.new_caches()
        lengths = history - (items[:, ::-1] != 0).argmax(axis=1)  # to the last item
        lengths[~items.any(axis=1)] = 0
        offsets = np.array(self.model.layout.offsets)
        ends = offsets[np.searchsorted(offsets, lengths)]  # without an item: an empty first segment
        if not self.model.layout.hide_empty_experts:
            ends[:] = offsets[-1]  # the experts of empty segments are seen, so they are made
        for offset in np.unique(ends):
            group = np.flatnonzero(ends == offset)
            group_items, group_times = (self._on_device(part[group, :offset]) for part in (items, times))
            store.put_each(rows[group].tolist(), self.model.compress(group_items, group_times if self.time_bias else None))
        return _to_device(store.get(all_rows.tolist()), self.device)

    def user_states(self, rows: Ints, cache: KVCache) -> torch.Tensor:
        """The rows' vectors, from their own recent items."""
        history, windows = self.model.layout.history, self._windows(rows)
        recent, times = (self._on_device(part[:, history:]) for part in (windows.items, windows.times))
        time_arguments = (times, self._on_device(windows.query_times)) if self.time_bias else (None, None)
        return self.model.user_states(recent, *time_arguments, cache=cache)

    def _windows(self, rows: Ints) -> WindowBatch:
        users, ends = self.targets.users[rows], self.targets.positions[rows]
        return build_windows(self.data.sequences, users, ends, self.shape, gap=self.serving.staleness, history=self.serving.history)

    def _on_device(self, values: Ints) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Noise:
    """Mean and deviation of the numbers of each layer's keys, and of its values, over users, valid positions, heads and width."""

    moments: tuple[tuple[float, float], ...]

    @classmethod
    def from_caches(cls, caches: Iterable[KVCache]) -> Self:
        sums: list[torch.Tensor] = []
        for cache in caches:
            tensors = [tensor.transpose(1, 2)[cache.valid].double() for pair in cache.layers for tensor in pair]
            cache_sums = [torch.stack([part.new_tensor(part.numel()), part.sum(), part.square().sum()]) for part in tensors]
            sums = [old + new for old, new in zip(sums, cache_sums, strict=True)] if sums else cache_sums
        moments = []
        for count, total, squares in (layer_sums.tolist() for layer_sums in sums):
            mean = total / max(count, 1)
            moments.append((mean, max(squares / max(count, 1) - mean**2, 0.0) ** 0.5))
        return cls(moments=tuple(moments))

    def replacement(self, cache: KVCache, generator: torch.Generator) -> KVCache:
        """The cache with normal numbers for its keys and values; what is valid, positions and times stay."""
        moments = iter(self.moments)

        def normal_like(tensor: torch.Tensor) -> torch.Tensor:
            mean, deviation = next(moments)
            return (mean + deviation * torch.randn(tensor.shape, generator=generator)).to(tensor)

        layers: tuple[KeysValues, ...] = tuple((normal_like(keys), normal_like(values)) for keys, values in cache.layers)
        return replace(cache, layers=layers)


def _to_device(cache: KVCache, device: torch.device) -> KVCache:
    return replace(
        cache,
        layers=tuple((keys.to(device), values.to(device)) for keys, values in cache.layers),
        positions=cache.positions.to(device),
        valid=cache.valid.to(device),
        times=None if cache.times is None else cache.times.to(device),
        states=None if cache.states is None else cache.states.to(device),
        items=None if cache.items is None else cache.items.to(device),
    )

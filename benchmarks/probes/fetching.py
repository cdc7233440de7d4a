"""A request with what it fetches: what is kept of its users, from the CPU's memory, and the backbone's part behind it."""

from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.probes.subject import Request, Subject
from persrec.nn.cache import KVCache
from persrec.serving import CacheStore

Served = tuple[torch.Tensor, torch.Tensor, KVCache | None]  # unit vectors, the items that came with the request, the cache behind them


def fetching_server(subject: Subject, request: Request) -> Callable[[], Served]:
    """Fetches what is kept of a batch of users, and serves them.

    What is kept lies in a store in the CPU's memory, at the cell's precision, and each request fetches it, with room for what it brings:
    on a GPU the way there is part of a request. The store does not take a memory's states with recent items behind them: these are
    copied instead.
    """
    model = subject.model
    if not subject.from_cache:
        return lambda: (model.user_states(request.items, request.times, request.query_times), request.items, None)
    if subject.cell.serving == "append":
        appended, new, new_times = subject.appended(request)
        fetch = _fetching(subject, appended)

        def append() -> Served:
            cache = fetch()
            return model.append(new, new_times, request.query_times, cache=cache)[0], new, cache

        return append
    recent, times = request.columns(subject.layout.history, subject.layout.window)
    fetch = _fetching(subject, subject.compress(request))

    def serve() -> Served:
        cache = fetch()
        return model.user_states(recent, times, request.query_times, cache=cache), recent, cache

    return serve


def _fetching(subject: Subject, cache: KVCache) -> Callable[[], KVCache]:
    """What a request fetches of a batch of users, out of a store that holds their ``cache``."""
    device = subject.cell.device
    if subject.layout.recurrent and cache.layers:
        states = copied(cache, "cpu")
        return lambda: copied(states, device)
    store, everyone = CacheStore(layout=subject.layout, dtype=subject.cell.cache_dtype), list(range(len(cache.valid)))
    store.put_each(everyone, cache)
    return lambda: store.get(everyone, device=device, room=subject.layout.recent - cache.recent)


def copied(cache: KVCache, device: str) -> KVCache:
    """The cache with tensors of its own on a device; one with room keeps it."""

    def own(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, copy=True)

    rooms = tuple((own(keys), own(values)) for keys, values in cache.rooms)
    layers = tuple((own(keys), own(values)) for keys, values in cache.layers if not rooms)
    return replace(
        cache,
        layers=layers or tuple((keys[:, :, : cache.keyed], values[:, :, : cache.keyed]) for keys, values in rooms),
        positions=own(cache.positions),
        valid=own(cache.valid),
        times=None if cache.times is None else own(cache.times),
        states=None if cache.states is None else own(cache.states),
        rooms=rooms,
        items=None if cache.items is None else own(cache.items),
    )

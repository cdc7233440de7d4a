"""A whole request: fetch what is kept of the user, serve, score the catalogue, leave out seen items, take the best 100."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from benchmarks.probes.clock import repeat
from benchmarks.probes.latency import percentiles
from benchmarks.probes.subject import Subject
from benchmarks.probes.throughput import rate
from persrec.nn.cache import KVCache
from persrec.serving import CacheStore, recommend

SECONDS, LEAST = 0.5, 67  # as of a request's serving alone
BEST = 100


def measure_request(subject: Subject) -> tuple[dict[str, Any], dict[str, Any]]:
    """Milliseconds of a whole request for one user, and requests a second in batches."""
    size = subject.cell.batch_size
    with torch.inference_mode():
        alone = repeat(asking(subject, 1), device=subject.cell.device, seconds=SECONDS, least=LEAST)
        batches = repeat(asking(subject, size), device=subject.cell.device, seconds=SECONDS / 2, least=5)
    metrics = percentiles("request_latency", alone) | {"requests_per_second": rate(batches, size)}
    return metrics, {"request_seconds": alone, "request_batch_seconds": batches}


def asking(subject: Subject, users: int) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """What a batch of requests does; the store is filled, and the catalogue's unit vectors are there, beforehand.

    What is kept of the users lies in the CPU's memory, at the cell's precision, and each request fetches it: on a GPU the way there is part
    of a request. The store takes caches of the history alone. A memory's states, and a cache of recent items as well, are kept beside it:
    these with room for the new item, which comes along.
    """
    request, model, device = subject.request(users), subject.model, subject.cell.device
    features = model.item_features()

    def best(states: torch.Tensor, items: torch.Tensor, cache: KVCache | None) -> tuple[torch.Tensor, torch.Tensor]:
        return recommend(states, features, seen=request.items, count=BEST, repeats=model.repeats(states, items, cache=cache))

    if not subject.from_cache:
        return lambda: best(model.user_states(request.items, request.times, request.query_times), request.items, None)
    if subject.cell.serving == "append":
        appended, new, new_times = subject.appended(request)
        kept = copied(appended, "cpu")

        def ask_of_new() -> tuple[torch.Tensor, torch.Tensor]:
            cache = copied(kept, device)
            return best(model.append(new, new_times, request.query_times, cache=cache)[0], new, cache)

        return ask_of_new
    recent, times = request.columns(subject.layout.history, subject.layout.window)
    fetch = _fetching(subject, subject.compress(request))

    def ask() -> tuple[torch.Tensor, torch.Tensor]:
        cache = fetch()
        return best(model.user_states(recent, times, request.query_times, cache=cache), recent, cache)

    return ask


def _fetching(subject: Subject, cache: KVCache) -> Callable[[], KVCache]:
    """What a request fetches of a batch of users; the store does not take a memory's states, which are copied."""
    device = subject.cell.device
    if subject.layout.recurrent:
        states = copied(cache, "cpu")
        return lambda: copied(states, device)
    store, everyone = CacheStore(layout=subject.layout, dtype=subject.cell.cache_dtype), list(range(len(cache.valid)))
    store.put_each(everyone, cache)
    return lambda: store.get(everyone, device=device)


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

"""A whole request: fetch the user's cache from the store, serve, score the catalogue, leave out seen items, take the best 100."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.probes.clock import repeat
from benchmarks.probes.latency import percentiles
from benchmarks.probes.subject import Subject
from benchmarks.probes.throughput import rate
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

    The store keeps caches at the cell's precision, in the CPU's memory: on a GPU the way there is part of a request. Where recent items
    are kept as well, the cache stays in place with room behind, since each request writes to it.
    """
    request, model, device = subject.request(users), subject.model, subject.cell.device
    features = model.item_features()
    if not subject.from_cache:
        return lambda: recommend(
            model.user_states(request.items, request.times, request.query_times), features, seen=request.items, count=BEST
        )
    if subject.cell.serving == "append":
        kept, new, new_times = subject.appended(request)
        return lambda: recommend(model.append(new, new_times, request.query_times, cache=kept)[0], features, seen=request.items, count=BEST)
    recent, times = request.columns(subject.layout.history, subject.layout.window)
    if subject.layout.recurrent:  # a memory's states, which the store does not take
        states = subject.compress(request)
        return lambda: recommend(
            model.user_states(recent, times, request.query_times, cache=states), features, seen=request.items, count=BEST
        )
    store, everyone = CacheStore(layout=subject.layout, dtype=subject.cell.cache_dtype), list(range(users))
    store.put_each(everyone, subject.compress(request))

    def ask() -> tuple[torch.Tensor, torch.Tensor]:
        cache = store.get(everyone, device=device)
        return recommend(model.user_states(recent, times, request.query_times, cache=cache), features, seen=request.items, count=BEST)

    return ask

"""A whole request: fetch what is kept of the user, serve, score the catalogue, leave out seen items, take the best 100."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.probes.clock import repeat
from benchmarks.probes.fetching import fetching_server
from benchmarks.probes.latency import percentiles
from benchmarks.probes.subject import Subject
from benchmarks.probes.throughput import rate
from persrec.serving import recommend

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
    """What a batch of requests does; the store is filled, and the catalogue's unit vectors are there, beforehand."""
    request, model = subject.request(users), subject.model
    features, serve = model.item_features(), fetching_server(subject, request)

    def ask() -> tuple[torch.Tensor, torch.Tensor]:
        states, items, cache = serve()
        return recommend(states, features, seen=request.items, count=BEST, repeats=model.repeats(states, items, cache=cache))

    return ask

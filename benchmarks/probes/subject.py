"""What a probe measures: a cell's model, with the inputs of its requests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.cell import Cell
from persrec.layout import SegmentLayout
from persrec.nn.cache import KVCache
from persrec.recommender import SequentialRecommender
from persrec.serving import pack

TIMED_ITEMS = 1024  # of a larger catalogue, as many are encoded to time it and to see its memory
NO_ITEMS = "item vectors are parameters, nothing is computed"
NOTHING_BEFORE = "nothing is computed before a request"
NOT_RUN = "counted on the meta device alone: the model was not run"


def nothing(reason: str) -> dict[str, Any]:
    """A number that could not be taken, and why."""
    return {"value": None, "low": None, "high": None, "n": 0, "method": reason}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One batch of requests: windows without padding, so that a cost is that of the configuration and not of the data."""

    items: torch.Tensor
    times: torch.Tensor | None
    query_times: torch.Tensor | None

    def columns(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Items and times of some window columns."""
        return self.items[:, start:stop], None if self.times is None else self.times[:, start:stop]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A cell and its model, as serving finds them."""

    cell: Cell
    model: SequentialRecommender

    def __post_init__(self) -> None:
        self.model.items.kept.on = True  # as serving finds them: probes change weights by training alone, which is seen

    @property
    def layout(self) -> SegmentLayout:
        """The layout in use."""
        return self.model.layout

    @property
    def device(self) -> str:
        """Where ids lie: with the weights, or on the CPU where these have no storage."""
        return "cpu" if self.cell.counted_only else self.cell.device

    @property
    def from_cache(self) -> bool:
        """Whether a request is served from what `compress` kept."""
        return self.cell.serving != "recompute" and bool(self.layout.segments)

    @property
    def compresses(self) -> bool:
        """Whether anything is computed before a request."""
        return self.from_cache and any(segment.kept for segment in self.layout.segments)

    @property
    def computes_items(self) -> bool:
        """Whether item vectors are computed, from texts or by a map, and not parameters."""
        return any(self.model.items.lookup_macs(self.some_items(1)).values())

    def some_items(self, limit: int) -> torch.Tensor:
        """Evenly spaced items of the catalogue: ``limit`` of them, or all where there are fewer."""
        count = min(limit, self.model.items.count - 1)
        return torch.linspace(1, self.model.items.count - 1, count, device=self.device).long()

    @torch.no_grad()
    def keep_item_vectors(self) -> None:
        """Computes the vectors of the catalogue, as serving finds them."""
        self.model.items.vectors()

    def request(self, users: int) -> Request:
        """Full windows of random items an hour apart, the same ones every time."""
        random = np.random.default_rng(self.cell.seed)
        items = torch.from_numpy(random.integers(1, self.model.items.count, (users, self.layout.window))).to(self.device)
        if not self.cell.time_bias:
            return Request(items=items, times=None, query_times=None)
        times = torch.arange(1, self.layout.window + 1, device=self.device).mul(3600).expand(users, -1)
        return Request(items=items, times=times, query_times=times[:, -1] + 3600)

    def compress(self, request: Request) -> KVCache:
        """The caches of a batch of users."""
        history, times = request.columns(0, self.layout.history)
        return self.model.compress(history, times)

    def server(self, request: Request) -> Callable[[], torch.Tensor]:
        """What a batch of requests costs, catalogue scoring apart; the caches are made beforehand, with room for the recent items.

        A cache kept at another precision than the model's is read back at each request, as it would be.
        """
        if not self.from_cache:
            return lambda: self.model.user_states(request.items, request.times, request.query_times)
        if self.cell.serving == "append":
            appended, items, times = self.appended(request)
            return lambda: self.model.append(items, times, request.query_times, cache=appended)[0]
        cache = self.compress(request)
        recent, times = request.columns(self.layout.history, self.layout.window)
        if self.cell.cache_dtype != "float32":
            packed = pack(cache, self.cell.cache_dtype)
            return lambda: self.model.user_states(recent, times, request.query_times, cache=packed.unpack(room=self.layout.recent))
        room = self.model.with_room(cache)
        return lambda: self.model.user_states(recent, times, request.query_times, cache=room)

    def appended(self, request: Request) -> tuple[KVCache, torch.Tensor, torch.Tensor | None]:
        """The cache before the last request that the recent items have room for, and the items and times that it brings."""
        cache = self.model.with_room(self.compress(request))
        recent, times = request.columns(self.layout.history, self.layout.window)
        earlier = recent.shape[1] - 1
        if earlier:
            _, cache = self.model.append(recent[:, :earlier], None if times is None else times[:, :earlier], cache=cache)
        return cache, recent[:, cache.recent :], None if times is None else times[:, cache.recent :]

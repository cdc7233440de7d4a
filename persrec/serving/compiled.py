"""Requests from a cache as one compiled graph: of a small request, calling operation after operation is most of the time."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from persrec.items import TextEncoder
from persrec.nn.cache import KVCache
from persrec.recommender import SequentialRecommender

MOST_GRAPHS = 64  # of one model, a kind of request each


class CompiledRequests:
    """Answers requests as `SequentialRecommender.user_states` does from a cache, to rounding, by a graph of `torch.compile`.

    The first request of each kind makes a graph, which takes seconds and, on a CPU, a C++ compiler: kinds are of so many users, of so
    many kept positions, with times or without. Recent items are padded to the layout's number, so fewer are the same kind. A request
    is checked before, outside the graph. In the graph attention is dense: a request has few queries, and the compiler fuses the rest.

    Args:
        model: in evaluation mode; its weights are read at each request.
        backend: of `torch.compile`; ``eager`` makes the graph and runs it operation by operation.

    Raises:
        ValueError: the model is in training mode, or nothing can be kept of its histories.
    """

    def __init__(self, model: SequentialRecommender, *, backend: str = "inductor") -> None:
        if model.training:
            raise ValueError("model: in training mode; expected one in evaluation mode, as eval() sets it")
        if model.layout.query_items:
            raise ValueError(
                f"model: {type(model.compression).__name__} keeps nothing of a history; expected one that is served from a cache"
            )
        self.model = model
        self._answer = torch.compile(  # type: ignore[call-overload] # torch declares the last two for the compiler it returns alone
            model.answer, fullgraph=True, dynamic=False, backend=backend, isolate_recompiles=True, recompile_limit=MOST_GRAPHS
        )

    @torch.no_grad()
    def user_states(
        self,
        items: torch.Tensor,
        times: torch.Tensor | None = None,
        query_time: torch.Tensor | None = None,
        *,
        cache: KVCache,
        item_features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Unit vectors ``[B, D]``; arguments and errors are those of `SequentialRecommender.user_states`.

        Raises:
            ValueError: a model of texts is asked without ``item_features``: a graph encodes no texts.
        """
        model = self.model
        if item_features is None and isinstance(model.items, TextEncoder):
            raise ValueError("item_features: missing; expected the vectors of all items, since a graph encodes no texts")
        cache = model.checked_cache(items, times, query_time, cache=cache, item_features=item_features)
        missing = model.layout.recent - items.shape[1]
        items, times = F.pad(items, (0, missing)), None if times is None else F.pad(times, (0, missing))
        kernel = model.backbone.kernel
        model.use_kernel("naive")
        try:
            # room and counted ids are of no use to the graph, and their widths would make other kinds
            states: torch.Tensor = self._answer(
                items, times, query_time, cache=replace(cache, rooms=(), items=None), item_features=item_features
            )
        finally:
            model.use_kernel(kernel)
        return states

"""Requests from a cache as one compiled graph: a small request spends most of its time on calling one operation after the other."""

import copy
from dataclasses import replace

import torch
import torch.nn.functional as F

from persrec.items import TextEncoder
from persrec.nn.cache import KVCache
from persrec.recommender import SequentialRecommender

MOST_GRAPHS = 32  # of one model, one for each kind of request


class CompiledRequests:
    """Answers requests as `SequentialRecommender.user_states` does from a cache, to rounding, by graphs of `torch.compile`.

    The first request of each kind makes a graph, which takes seconds and, on a CPU, a C++ compiler. A kind is a number of users and of kept
    positions, a cache with room or without, with times or without, and a request's time or none. Recent items are padded to the layout's
    number, so a request of fewer is of the same kind. After `MOST_GRAPHS` kinds, the model answers requests of others, call by call. A
    request is checked before, outside the graph. In the graph attention is dense: cheap for few recent items, and dearer than the model's
    own for hundreds of them behind thousands of kept positions (docs/costs.md).

    Args:
        model: in evaluation mode; its weights are read at each request, and nothing of it is changed.
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
        self._kinds: set[object] = set()
        self._answer = torch.compile(  # type: ignore[call-overload] # torch declares the last two for the compiler it returns alone
            _dense_copy(model).answer,
            fullgraph=True,
            dynamic=False,
            backend=backend,
            isolate_recompiles=True,
            recompile_limit=2 * MOST_GRAPHS,
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
        if not self._has_graph(items, query_time, cache, item_features):
            return model.answer(items, times, query_time, cache=cache, item_features=item_features)
        missing = model.layout.recent - items.shape[1]
        items, times = F.pad(items, (0, missing)), None if times is None else F.pad(times, (0, missing))
        # room and counted ids are of no use to the graph, and their widths would make other kinds
        graph_cache = replace(cache, rooms=(), items=None)
        states: torch.Tensor = self._answer(items, times, query_time, cache=graph_cache, item_features=item_features)
        return states

    def _has_graph(self, items: torch.Tensor, query_time: torch.Tensor | None, cache: KVCache, item_features: torch.Tensor | None) -> bool:
        """Whether there is, or may be, a graph for requests of this kind."""
        tensor_forms = tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in cache.tensors)
        features_shape = None if item_features is None else item_features.shape
        kind = items.shape[0], cache.length, cache.times is None, query_time is None, tensor_forms, features_shape
        if kind not in self._kinds and len(self._kinds) < MOST_GRAPHS:
            self._kinds.add(kind)
        return kind in self._kinds


def _dense_copy(model: SequentialRecommender) -> SequentialRecommender:
    """The model by the same weights, with dense attention: a copy of two modules' shells, so that nothing of the model is changed."""
    dense, backbone = copy.copy(model), copy.copy(model.backbone)
    backbone.kernel = "naive"
    dense._modules = {**model._modules, "backbone": backbone}
    return dense

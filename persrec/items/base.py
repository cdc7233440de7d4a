"""What an item encoder is: it turns item ids into vectors."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemSettings:
    """What an item encoder may need to know.

    Attributes:
        count: catalogue size ``V``, padding item 0 included.
        width: the model's width ``D``.
        layers: blocks of an item Llama.
        heads: heads a block of an item Llama.
        texts: ``V`` texts, "" for padding; None where the dataset has none.
        key_value_heads: of an item Llama, as `persrec.backbones.BackboneSettings` says.
        feed_forward: width inside the feed-forward of an item Llama, as there.
        copying_start: an item Llama passes on what it attends to from the first step on, as `persrec.backbones.BackboneSettings` says;
            of random weights alone.
        prompt: what stands before every text.
        weights: a folder of Hugging Face's form that an item Llama starts from, with its tokeniser; None starts from random
            ones, with a tokeniser trained on the texts, as where the folder has none.
    """

    count: int
    width: int
    layers: int
    heads: int
    texts: Sequence[str] | None = None
    key_value_heads: int | None = None
    feed_forward: int | None = None
    copying_start: bool = False
    prompt: str = ""
    weights: Path | None = None


class ItemEncoder(Protocol):
    """Vectors of the catalogue.

    Attributes:
        count: catalogue size ``V``, padding item 0 included.
        kept: whether, and where, the catalogue's vectors are kept from call to call.
    """

    count: int
    kept: "KeptVectors"

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is learnt, as a module's."""
        ...

    def vectors(self) -> torch.Tensor:
        """``[V, D]`` raw vectors of all items, the padding item's row included.

        Computed anew at each call, except inside `KeptVectors.scope`.
        """
        ...

    def lookup(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors of ``ids``: ``[...]`` to ``[..., D]``."""
        ...

    def read_once(self, ids: torch.Tensor) -> AbstractContextManager[None]:
        """Inside, `lookup` of any of ``ids`` takes what is computed once at the start, with gradients."""
        ...

    def compute(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors of ``ids``, ``[n]`` to ``[n, D]``, computed anew whatever is kept."""
        ...

    def lookup_macs(self, *lookups: torch.Tensor, visible: bool = False) -> dict[str, int]:
        """Multiply-adds of looking up these ids under `read_once`, forward: of ``attention`` and of ``maps``.

        What runs, or with ``visible`` what is needed: no padding, and of a causal text the earlier tokens alone.
        """
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """An item encoder that reads texts."""

    def encode(self, token_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Raw vectors ``[n, D]`` of texts ``[n, T]``, right-padded, of ``lengths`` tokens."""
        ...


@runtime_checkable
class ReadsBatches(Protocol):
    """An item encoder that reads a step's items in batches.

    Attributes:
        most: the largest of a number that each process of a training has. Where processes share the encoder's shards, every pass
            through it gathers the shards, so all processes read equally many batches in a step.
    """

    most: Callable[[int], int]


class KeptVectors:
    """The catalogue's vectors, kept from call to call where that is asked for.

    By default nothing is kept, so that vectors are always those of the weights as they are. Torch counts the changes of a
    tensor by optimisers, by ``load_state_dict`` and in place; it does not count those through ``.data`` or through a numpy
    view. Kept vectors would be stale after such a change, and only the caller that asks to keep them can know that none happens.

    Attributes:
        on: whether vectors are kept, out of training and without gradients, until torch has counted a change of a weight.
    """

    def __init__(self) -> None:
        self.on = False
        self._weights: list[torch.Tensor] = []  # they hold their storage, so that its address is not given to another tensor
        self._versions: list[int] = []
        self._vectors: torch.Tensor | None = None

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Inside, vectors are computed once and kept; no weight may be changed there through ``.data``."""
        was_on, self.on = self.on, True
        try:
            yield
        finally:
            self.on = was_on
            if not was_on:
                self.forget()

    def get(self, module: nn.Module, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """What ``compute`` gives for the weights of ``module``; kept where it may be."""
        weights = list(module.parameters())
        if not self.used_by(module) or any(weight.is_inference() for weight in weights):  # nothing counts such weights' changes
            return compute()
        if self._vectors is None or not self._unchanged(weights):
            self._weights, self._versions = [weight.detach() for weight in weights], [weight._version for weight in weights]
            self._vectors = compute()
        return self._vectors

    def used_by(self, module: nn.Module) -> bool:
        """Whether ``module``, as it stands, takes its vectors from here."""
        return self.on and not module.training and not torch.is_grad_enabled()

    def forget(self) -> None:
        """Drops what is kept."""
        self._weights, self._versions, self._vectors = [], [], None

    def _unchanged(self, weights: list[nn.Parameter]) -> bool:
        return len(weights) == len(self._weights) and all(
            weight.data_ptr() == cached_weight.data_ptr() and weight._version == version
            for weight, cached_weight, version in zip(weights, self._weights, self._versions, strict=True)
        )

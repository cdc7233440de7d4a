"""What an item encoder is: it turns item ids into vectors."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
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
    """Vectors of the catalogue."""

    count: int

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is learnt, as a module's."""
        ...

    def vectors(self) -> torch.Tensor:
        """``[V, D]`` raw vectors of all items, the padding item's row included.

        Out of training and without gradients they are computed once and kept while the weights stay as they are.
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


class KeptVectors:
    """The catalogue's vectors, kept while the weights they came from stay as they are."""

    def __init__(self) -> None:
        self._stamp: tuple[tuple[int, int], ...] | None = None
        self._vectors: torch.Tensor | None = None

    def get(self, module: nn.Module, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """What ``compute`` gives for the weights of ``module``, as kept."""
        stamp = tuple((parameter.data_ptr(), parameter._version) for parameter in module.parameters())
        if self._vectors is None or stamp != self._stamp:
            self._stamp, self._vectors = stamp, compute()
        return self._vectors

    def forget(self) -> None:
        """Drops what is kept."""
        self._stamp = self._vectors = None

"""What a backbone is: it runs one segment against the cache of the earlier ones."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from persrec.names import Kernel
from persrec.nn.attention import executed_pairs
from persrec.nn.cache import Chunk, KeysValues, KVCache


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneSettings:
    """The sizes a sweep varies.

    Attributes:
        width: ``D``.
        layers: blocks.
        heads: heads a block.
        length: slots of the joint layout, ``N``.
        dropout: share dropped in training.
        key_value_heads: of a Llama; None is half as many as heads, or as many where ``heads`` is odd.
        feed_forward: width inside the feed-forward of a Llama (None: 8/3 of the width) or a SASRec (None: the width).
        divisor: of an HSTU's attention; None is ``length``, and 0 the number of keys that a query sees.
        copying_start: attention passes on what it attends to from the first step on (`start_copying`); of random weights alone.
        weights: a folder of Hugging Face's form that a Llama starts from; None starts from random ones.
        request_time: whether an item of a backbone that reads times knows when the next event comes, as a server knows the time of a
            request; else it knows its own time alone.
    """

    width: int
    layers: int
    heads: int
    length: int
    dropout: float = 0.0
    key_value_heads: int | None = None
    feed_forward: int | None = None
    divisor: int | None = None
    copying_start: bool = False
    weights: Path | None = None
    request_time: bool = True


def start_copying(value: torch.Tensor, output: torch.Tensor) -> None:
    """Sets a layer's value and output maps to the identity, so that what attention sums up is passed on as it came.

    Heads that share values pass on the same numbers, each at its own place.

    From random maps a model has to find this first, and twice over where tokens stand between the items and what reads them:
    while nothing is read from a token, nothing tells what to write into it.

    Args:
        value: ``[G d, D]``; fewer rows than ``D`` read the first ``G d`` numbers of a state alone.
        output: ``[D, H d]``.
    """
    nn.init.eye_(value)
    nn.init.eye_(output)


class Backbone(nn.Module, ABC):
    """A causal sequence model over vectors.

    One method runs a segment; the joint pass, compress, extend and serve are chains of it, so they cannot disagree.

    Attributes:
        width: ``D``.
        length: slots it has positions for, ``N``.
        layers: one after the other; a cache holds keys and values of each.
        kernel: how attention is computed.
        backward_products: matrix products of the attention's backward pass, the scores computed again among them; the forward
            pass has two.
        feed_forward: names of a layer's modules that are its feed-forward.
        reads_times: whether the times of items change its numbers, as its part in `persrec.names` declares.
    """

    width: int
    length: int
    layers: nn.ModuleList
    kernel: Kernel
    backward_products: ClassVar[int] = 5
    feed_forward: ClassVar[tuple[str, ...]] = ()
    reads_times: ClassVar[bool] = False

    @abstractmethod
    def forward(self, chunk: Chunk, cache: KVCache) -> tuple[torch.Tensor, tuple[KeysValues, ...]]:
        """Runs a segment, or several that are alike (`Chunk`).

        Returns:
            Hidden states ``[B, n, D]``, and per layer the keys and values of the positions that later segments see.
        """

    @abstractmethod
    def macs(self, *, positions: int, pairs: int) -> dict[str, int]:
        """Multiply-adds per user, per part, of ``positions`` positions that attend to ``pairs`` keys in all.

        Matrix products alone; norms, activations and sums are not multiply-adds.
        """

    def executed_pairs(self, *, queries: int, prefix: int) -> int:
        """Pairs that the attention kernel in use computes for one segment."""
        return executed_pairs(queries, prefix, kernel=self.kernel)

    @property
    def reads_next_times(self) -> bool:
        """Whether an item's numbers depend on the time of the event behind it."""
        return self.reads_times

    @abstractmethod
    def cache_heads(self) -> tuple[int, int]:
        """Heads of the keys and values that are kept of a position, and the width of a head."""

    def cache_width(self) -> int:
        """Numbers kept per cached position: layers x (K + V width)."""
        heads, width = self.cache_heads()
        return len(self.layers) * 2 * heads * width

"""What a backbone is: it runs one segment against the cache of the earlier ones."""

from typing import Protocol

import torch

from persrec.nn.attention import Kernel
from persrec.nn.cache import Chunk, KeysValues, KVCache


class Backbone(Protocol):
    """A causal sequence model over vectors.

    One method runs a segment; the joint pass, compress, extend and serve are chains of it, so they cannot disagree.

    Attributes:
        width: ``D``.
        length: slots it has positions for, ``N``.
        kernel: how attention is computed.
        backward_products: matrix products of the attention's backward pass; the forward pass has two.
    """

    width: int
    length: int
    backward_products: int
    kernel: Kernel

    def __call__(self, chunk: Chunk, cache: KVCache) -> tuple[torch.Tensor, tuple[KeysValues, ...]]:
        """Runs a segment.

        Returns:
            Hidden states ``[B, n, D]``, and per layer the keys and values of the last ``chunk.keep`` positions.
        """
        ...

    def macs(self, *, positions: int, pairs: int) -> dict[str, int]:
        """Multiply-adds per user, per part, of ``positions`` positions that attend to ``pairs`` keys in all.

        Matrix products alone; norms, activations and sums are not multiply-adds.
        """
        ...

    def executed_pairs(self, *, queries: int, prefix: int) -> int:
        """Pairs that the attention kernel in use computes for one segment."""
        ...

    def cache_width(self) -> int:
        """Numbers kept per cached position: layers x (K + V width)."""
        ...

"""Item encoders: what turns item ids into vectors."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import nn


class ItemEncoder(Protocol):
    """Vectors of the catalogue."""

    count: int

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is learnt, as a module's."""
        ...

    def vectors(self) -> torch.Tensor:
        """``[V, D]`` raw vectors of all items, the padding item's row included."""
        ...

    def lookup(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors of ``ids``: ``[...]`` to ``[..., D]``."""
        ...


class ItemEmbedding(nn.Module):
    """A learnable vector per item, mapped to the model's width where it is narrower or wider.

    Args:
        count: catalogue size ``V``, padding item 0 included.
        width: the model's width ``D``.
        item_width: width of an item's own vector; None is ``width``, without a map.
    """

    def __init__(self, *, count: int, width: int, item_width: int | None = None) -> None:
        super().__init__()
        self.count = count
        self.embedding = nn.Embedding(count, item_width or width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.projection = None if item_width is None or item_width == width else nn.Linear(item_width, width)

    def vectors(self) -> torch.Tensor:
        """As `ItemEncoder` says."""
        return self._map(self.embedding.weight)

    def lookup(self, ids: torch.Tensor) -> torch.Tensor:
        """As `ItemEncoder` says."""
        return self._map(self.embedding(ids))

    def _map(self, rows: torch.Tensor) -> torch.Tensor:
        return rows if self.projection is None else self.projection(rows)

"""A learnable vector per item."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import nn

from persrec.items.base import ItemSettings, KeptVectors


class ItemEmbedding(nn.Module):
    """A learnable vector per item, mapped to the model's width where it has a width of its own.

    Args:
        count: catalogue size ``V``, padding item 0 included.
        width: the model's width ``D``.
        item_width: width of an item's own vector, with a linear map to ``D``; None is ``D``, without a map.
    """

    def __init__(self, *, count: int, width: int, item_width: int | None = None) -> None:
        super().__init__()
        self.count = count
        self.embedding = nn.Embedding(count, item_width or width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.projection = None if item_width is None else nn.Linear(item_width, width, bias=False)
        self.kept = KeptVectors()

    def vectors(self) -> torch.Tensor:
        """As `ItemEncoder` says."""
        if self.projection is None:
            return self.embedding.weight
        return self.kept.get(self, lambda: self._map(self.embedding.weight))

    def lookup(self, ids: torch.Tensor) -> torch.Tensor:
        """As `ItemEncoder` says."""
        return F.embedding(ids, self.vectors()) if self.kept.used_by(self) else self.compute(ids)

    def read_once(self, ids: torch.Tensor) -> AbstractContextManager[None]:  # noqa: ARG002 - looking up twice costs nothing
        """As `ItemEncoder` says."""
        return nullcontext()

    def compute(self, ids: torch.Tensor) -> torch.Tensor:
        """As `ItemEncoder` says."""
        return self._map(self.embedding(ids))

    def lookup_macs(self, *lookups: torch.Tensor, visible: bool = False) -> dict[str, int]:  # noqa: ARG002 - all of it is needed
        """As `ItemEncoder` says: the map, for every id looked up."""
        macs_per_id = 0 if self.projection is None else self.projection.weight.numel()
        return {"attention": 0, "maps": macs_per_id * sum(ids.numel() for ids in lookups)}

    def _map(self, rows: torch.Tensor) -> torch.Tensor:
        return rows if self.projection is None else self.projection(rows)


def build(settings: ItemSettings) -> ItemEmbedding:
    """A vector of the model's width per item."""
    return ItemEmbedding(count=settings.count, width=settings.width)


def build_mapped(settings: ItemSettings) -> ItemEmbedding:
    """A vector per item and a linear map to the model's width."""
    return ItemEmbedding(count=settings.count, width=settings.width, item_width=settings.width)

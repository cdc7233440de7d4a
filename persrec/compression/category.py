"""Pooling by item category (arXiv 2601.19158): a summary for each of the user's most frequent categories."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from persrec.compression.base import CompressionSettings, ItemSlots
from persrec.compression.summaries import mean_chunk, summary_layout
from persrec.nn.cache import Chunk


class Category(nn.Module):
    """The ``tokens`` categories of which the history holds most items, each as the mean of its items' vectors.

    Of categories with equally many items the one with the latest item goes first. Summaries stand in the order of their latest items and
    take the largest time among their items. Items without a category are one category of their own. Fewer categories than ``tokens``
    leave the first summaries empty and hidden.

    Args:
        history: item slots before the recent ones.
        recent: item slots of the recent segment.
        tokens: summaries.
        categories: int64 ``[V]``, the category of each item, 0 for padding and unknown.

    Raises:
        ValueError: the dataset has no categories.

    Differs: the grouping by category is the paper's idea; which groups are kept and how one becomes a vector is decided
    here as for pooling, so that the grouping alone is compared.
    """

    categories: torch.Tensor

    def __init__(self, *, history: int, recent: int, tokens: int, categories: NDArray[np.int64] | None) -> None:
        super().__init__()
        if categories is None:
            raise ValueError("categories: None for the compression 'category'; expected the category of each item")
        if categories.dtype != np.int64 or categories.ndim != 1 or (categories < 0).any():
            raise ValueError(f"categories: {categories.dtype} of shape {categories.shape}; expected int64 from 0, one of each item")
        self.layout = summary_layout(history=history, recent=recent, tokens=tokens)
        self.register_buffer("categories", torch.tensor(categories), persistent=False)
        self.catalogue = len(categories)
        self.count = int(categories.max(initial=0)) + 1

    def history_chunk(self, segment: int, items: ItemSlots) -> Chunk:
        """The summaries, all of them kept."""
        return mean_chunk(self.layout, segment, items, self._group(items, self.layout.segments[segment].item_positions))

    def _group(self, items: ItemSlots, groups: int) -> torch.Tensor:
        """``[B, s]``: the summary of every item; ``groups`` for padding and for items of the other categories."""
        users, width = items.ids.shape
        category = self.categories[items.ids].masked_fill(~items.valid, self.count)
        counts = category.new_zeros(users, self.count + 1).scatter_add(1, category, torch.ones_like(category))[:, : self.count]
        columns = torch.arange(1, width + 1, device=category.device).expand_as(category)
        latest_columns = category.new_zeros(users, self.count + 1).scatter_reduce(1, category, columns, "amax")[:, : self.count]
        # most items first; the column of the latest settles ties, since no two categories share it
        largest = (counts * (width + 1) + latest_columns).topk(min(groups, self.count), dim=1).indices
        largest = largest.gather(1, latest_columns.gather(1, largest).sort(dim=1).indices)
        summaries = torch.arange(groups - largest.shape[1], groups, device=largest.device).expand_as(largest)
        group_of = category.new_full((users, self.count + 1), groups).scatter(1, largest, summaries)
        return group_of.gather(1, category)


def build(settings: CompressionSettings) -> Category:
    """As many categories as ``settings.tokens`` says."""
    return Category(history=settings.history, recent=settings.recent, tokens=settings.tokens, categories=settings.categories)

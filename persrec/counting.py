"""An output that can repeat an item: scores mixed with how often, and how long ago, a user took each item.

Attention over vectors of items finds it hard to say "the same once more": where people repeat, the user's own frequency, which learns
nothing, can lie above every model. So a model may add to the score of each of a user's own items a few counts of it, with weights that
the user's state gives. It is a part of the output, alike for every backbone and every compression.

The counts of item ``v`` after ``n`` items are ``sum over k with i_k = v of 2^(-(n - k) / h)``, one for each half-life ``h``, in items;
an infinite one counts occurrences. They depend on ids alone, so what is kept of a history for them is its ids, 4 bytes each, and serving
from a cache gives the joint pass's numbers. They are no tokens: what they are worth is measured by a model that has counts and no token.

Differs: not in the paper (arXiv 2601.03479). RepeatNet (arXiv 1812.02646) mixes two distributions, one over the user's own items; here a
score has two terms.

Axis legend:  B users   n items of each, oldest first, 0 pads anywhere   c positions that predict   D width   J half-lives
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from persrec.names import COUNTS

HALF_LIVES = (math.inf, 32.0, 8.0, 2.0)  # items
SCALE = 20.0  # a count is read as log(1 + SCALE x count): one that halves every h items falls about linearly in the items since
NOTHING, RECENT, ALL = COUNTS


class CountingOutput(nn.Module):
    """Weights of the counts of a user's own items, read from the user's state.

    Args:
        width: of a user's state, ``D``.
        counted: ``recent`` counts the recent items alone, ``all`` those of the history too.

    Raises:
        ValueError: ``counted`` is neither.
    """

    def __init__(self, *, width: int, counted: str) -> None:
        super().__init__()
        if counted not in (RECENT, ALL):
            raise ValueError(f"counted: {counted!r}; expected {RECENT!r} or {ALL!r}")
        self.counts_history = counted == ALL
        self.weights = nn.Linear(width, len(HALF_LIVES))
        nn.init.zeros_(self.weights.weight)  # an untrained model scores as one that does not count
        nn.init.zeros_(self.weights.bias)

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What is added to the cosines of a user's own items.

        Args:
            users: ``[B, D]`` unit vectors.
            items: ``[B, n]`` int64.

        Returns:
            Ids ``[B, n]``, each of a user's items once and 0 elsewhere, and what is added to their scores ``[B, n]``, 0 where the id is.
        """
        ids, order = items.sort(dim=1, stable=True)
        is_item = items != 0
        items_since = (is_item.sum(1, keepdim=True) - is_item.cumsum(1)).gather(1, order)  # after each, padding apart
        group = F.pad(ids[:, 1:] != ids[:, :-1], (1, 0)).cumsum(1)
        counts = [
            torch.zeros_like(items_since, dtype=users.dtype).scatter_add(1, group, _decayed(items_since, h, users.dtype))
            for h in HALF_LIVES
        ]
        distinct = torch.zeros_like(ids).scatter(1, group, ids)
        added_scores = _weighted(self.weights(users), [_log_count(count) for count in counts])
        return distinct, added_scores.masked_fill(distinct == 0, 0.0)

    def at_positions(
        self, states: torch.Tensor, items: torch.Tensor, columns: torch.Tensor, segments: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same at several positions of a window, each of which counts the items up to its own.

        Args:
            states: ``[B, c, D]`` unit vectors.
            items: ``[B, n]`` int64, the window.
            columns: ``[c]``, the positions' columns in it.
            segments: ``[n]``, the segment of each column: where the history is not counted, a position counts its own segment's items.

        Returns:
            Which items a position counts, ``[B, c, n]``: of several of one id the newest stands for all. And what is added to their
            scores, ``[B, c, n]``.
        """
        is_item, index = items != 0, torch.arange(items.shape[1], device=items.device)
        is_earlier = index[:, None] >= index[None, :]  # and itself
        if not self.counts_history:
            is_earlier &= segments[:, None] == segments[None, :]
        # [B, n, n]: whether a column holds the row's item, at the row's place or earlier
        is_occurrence = (items[:, :, None] == items[:, None, :]) & is_item[:, None, :] & is_earlier
        rank = is_item.cumsum(1)
        items_between = (rank[:, :, None] - rank[:, None, :]).clamp_min(0)
        # [B, n]: the counts of each item at its own place
        counts_at_items = [(_decayed(items_between, h, states.dtype) * is_occurrence).sum(2) for h in HALF_LIVES]
        is_later = is_occurrence.transpose(1, 2) & (index[:, None] < index[None, :])
        next_index = torch.where(is_later, index, len(index)).amin(2)  # [B, n]: the item's next place
        is_counted = is_earlier[columns] & is_item[:, None, :] & (next_index[:, None, :] > columns[:, None])
        items_since = items_between[:, columns]
        counts = [_decayed(items_since, h, states.dtype) * count[:, None, :] for h, count in zip(HALF_LIVES, counts_at_items, strict=True)]
        return is_counted, _weighted(self.weights(states), [_log_count(count) for count in counts])


def _decayed(items_since: torch.Tensor, half_life: float, dtype: torch.dtype) -> torch.Tensor:
    """What is left of one occurrence after ``items_since`` items."""
    return torch.exp2(items_since.to(dtype) * (-1 / half_life))


def _log_count(count: torch.Tensor) -> torch.Tensor:
    """A count as the output reads it: 0 of none, 1 of one just now."""
    return torch.log1p(SCALE * count) / math.log1p(SCALE)


def _weighted(weights: torch.Tensor, counts: list[torch.Tensor]) -> torch.Tensor:
    """The sum of counts ``[..., n]``, each by its weight of ``[..., J]``; one by one, since together they would fill memory J times."""
    total = weights[..., :1] * counts[0]
    for index, count in enumerate(counts[1:], start=1):
        total = total + weights[..., index : index + 1] * count
    return total

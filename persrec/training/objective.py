"""The loss of a batch of windows as one module, so that what trains on several processes can wrap it; and a step that is taken in parts."""

import contextlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from persrec.data.windows import WindowBatch
from persrec.losses import OwnItems, sampled_softmax
from persrec.recommender import SequentialRecommender
from persrec.training.recipe import Recipe
from persrec.training.team import Team


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Targets of a batch: all of them, and those of recent items."""

    all: int
    recent: int


class Loss(NamedTuple):
    """A loss, and how many positions were computed and predicted for it; a tuple, in which torch's wrappers find the tensor."""

    value: torch.Tensor
    computed: int
    predicted: int


class Objective(nn.Module):
    """Mean loss over all positions of a batch that have a next item."""

    def __init__(self, model: SequentialRecommender, recipe: Recipe) -> None:
        """Of a model as the recipe trains it."""
        super().__init__()
        self.model = model
        self._recipe, self._recent = recipe, model.layout.recent
        device = next(model.parameters()).device
        self.device = torch.device("cpu") if device.type == "meta" else device  # ids have values, also where weights have none

    def forward(self, batch: WindowBatch, negative_ids: torch.Tensor, weight: float, of: Counts | None = None) -> Loss:
        """The loss of a batch.

        Args:
            batch: windows.
            negative_ids: ``[M]``, shared by the batch.
            weight: of the recent items' loss beside that of all positions.
            of: counts of the batch that this one is a part of: the losses of its parts add up to its own.
        """
        items, targets = (torch.from_numpy(part).to(self.device) for part in (batch.items, batch.targets))
        times = query_times = None
        if self._recipe.time_bias:
            times, query_times = (torch.from_numpy(part).to(self.device) for part in (batch.times, batch.query_times))
        model, half = self.model, self._recipe.autocast
        lower = torch.autocast(self.device.type, dtype=torch.bfloat16) if half else contextlib.nullcontext()
        with model.items.read_once(torch.cat([items.flatten(), targets.flatten(), negative_ids])):
            with lower:
                hidden, columns = model.hidden_states(items, times, query_times)
                computed = len(items) * len(columns)
                targets = targets[:, columns]
                predicts = targets > 0
                predicted = int(predicts.sum())
                target_ids = targets[predicts]
                positives, negatives = model.items.lookup(target_ids), model.items.lookup(negative_ids)
            if half:  # a softmax over cosines takes all their digits
                hidden, positives, negatives = hidden.float(), positives.float(), negatives.float()
            own = None if model.counting is None else own_items(model, hidden, items, targets, columns)
        states = hidden[predicts]
        temperature = self._recipe.temperature
        loss = sampled_softmax(states, positives, negatives, target_ids, negative_ids, temperature=temperature, own_items=own)
        if of is not None:
            loss = loss * (predicted / of.all) if predicted else states.sum() * 0
        if not weight:
            return Loss(value=loss, computed=computed, predicted=predicted)
        late = torch.arange(len(columns), device=self.device) >= len(columns) - self._recent
        rows = late.expand_as(predicts)[predicts]  # every window ends with an item, so there is one at least
        of_recent = states[rows], positives[rows], negatives, target_ids[rows], negative_ids
        recent = sampled_softmax(*of_recent, temperature=temperature, own_items=None if own is None else own.of(rows))
        if of is not None:
            recent = recent * (int(rows.sum()) / of.recent) if bool(rows.any()) else states.sum() * 0
        return Loss(value=(loss + weight * recent) / (1 + weight), computed=computed, predicted=predicted)

    def counts(self, batch: WindowBatch) -> Counts:
        """The targets of a batch, without computing anything."""
        layout = self.model.layout
        columns = layout.predicting_columns - (layout.window - batch.items.shape[1])
        columns = columns[columns >= 0]
        predicts = batch.targets[:, columns] > 0
        return Counts(all=int(predicts.sum()), recent=int(predicts[:, len(columns) - self._recent :].sum()))


def own_items(
    model: SequentialRecommender, hidden: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, columns: torch.Tensor
) -> OwnItems:
    """What the positions that have a target score of a window's items, in a model that counts.

    Args:
        model: the model.
        hidden: ``[B, c, D]``, as `SequentialRecommender.hidden_states` gives them.
        items: ``[B, n]``, as it took them.
        targets: ``[B, c]``, 0 where there is none.
        columns: ``[c]``, as it gave them.
    """
    states, vectors = F.normalize(hidden, dim=-1), F.normalize(model.items.lookup(items).to(hidden.dtype), dim=-1)
    counted, added = model.repeats_in_window(states, items, columns)
    is_target, predicts = items[:, None, :] == targets[:, :, None], targets > 0
    return OwnItems(
        scores=(states @ vectors.transpose(1, 2) + added)[predicts],
        others=(counted & ~is_target)[predicts],
        added=(added * (counted & is_target)).sum(2)[predicts],
    )


def backward_in_parts(
    wrapped: nn.Module, objective: Objective, team: Team, batch: WindowBatch, negative_ids: torch.Tensor, weight: float, *, parts: int
) -> Loss:
    """The backward of a batch, each process on its own windows, these in ``parts`` one after the other; gradients are the whole batch's.

    Every process and every part has the same negatives, as the batch as a whole would. A process without a window takes the first one,
    which then counts nothing.
    """
    counts = objective.counts(batch)
    own = np.arange(team.rank, len(batch.items), team.size)
    shares = [rows for rows in np.array_split(own, parts) if len(rows)] or [np.array([], dtype=np.int64)]
    total, computed = 0.0, 0
    for number, rows in enumerate(shares):
        with team.syncing(wrapped, on=number == len(shares) - 1):
            loss: Loss = wrapped(_rows(batch, rows if len(rows) else np.array([0])), negative_ids, weight, counts)
            value = loss.value if len(rows) else loss.value * 0
            (value * team.size).backward()  # type: ignore[no-untyped-call] # processes average their gradients
        total, computed = total + float(value.detach()), computed + (loss.computed if len(rows) else 0)
    sums = team.sum(torch.tensor([total, computed], dtype=torch.float64, device=objective.device))
    return Loss(value=sums[0], computed=int(sums[1]), predicted=counts.all)


def _rows(batch: WindowBatch, rows: np.ndarray) -> WindowBatch:
    return WindowBatch(items=batch.items[rows], times=batch.times[rows], targets=batch.targets[rows], query_times=batch.query_times[rows])

"""The loss of a batch of windows as one module, so that what trains on several processes can wrap it; and a step that is taken in parts."""

import contextlib
from dataclasses import dataclass
from typing import NamedTuple, Self

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
    """Targets of a batch: those of all items, of recent items, and of expert tokens."""

    all: int
    recent: int
    experts: int = 0


class Loss(NamedTuple):
    """A loss, and how many positions were computed and predicted for it; a tuple, in which torch's wrappers find the tensor."""

    value: torch.Tensor
    computed: int
    predicted: int


class Objective(nn.Module):
    """Mean loss over all items of a batch that have a next one, beside it those of the recent items and of the expert tokens."""

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
        model, half, weight_of_experts = self.model, self._recipe.autocast, self._recipe.expert_weight
        lower = torch.autocast(self.device.type, dtype=torch.bfloat16) if half else contextlib.nullcontext()
        with model.items.read_once(torch.cat([items.flatten(), targets.flatten(), negative_ids])):
            with lower:
                hidden, columns = model.hidden_states(items, times, query_times, experts=weight_of_experts > 0)
                count = len(set(columns.tolist()))  # items have a column each, and experts stand in that of one of them
                predicting = [_Predicting.of(model, hidden, targets, columns, slice(count))]
                if weight_of_experts:
                    predicting.append(_Predicting.of(model, hidden, targets, columns, slice(count, None)))
                negatives = model.items.lookup(negative_ids)
            if half:  # a softmax over cosines takes all their digits
                hidden, negatives = hidden.float(), negatives.float()
                predicting = [one.float() for one in predicting]
            if model.counting is not None:
                predicting[0] = predicting[0]._replace(
                    own=own_items(model, hidden[:, :count], items, targets[:, columns[:count]], columns[:count])
                )
        of_items, whole = predicting[0], (None, None, None) if of is None else (of.all, of.recent, of.experts)
        terms = [(1.0, of_items, whole[0])]
        if weight:  # every window ends with an item, so there is one at least
            late = torch.arange(count, device=self.device) >= count - self._recent
            terms.append((weight, of_items.only(late.expand_as(of_items.predicts)[of_items.predicts]), whole[1]))
        terms += [(weight_of_experts, one, whole[2]) for one in predicting[1:]]
        means = [each * self._mean(one, negatives, negative_ids, among=among) for each, one, among in terms]
        value = sum(means[1:], means[0]) / sum(each for each, _, _ in terms)
        return Loss(value=value, computed=len(items) * count, predicted=len(of_items.ids))

    def _mean(self, one: "_Predicting", negatives: torch.Tensor, negative_ids: torch.Tensor, *, among: int | None) -> torch.Tensor:
        """The mean loss of some positions, or where they are a part of ``among``, their share of the mean over these."""
        if not len(one.ids):
            return one.states.sum() * 0
        loss = sampled_softmax(
            one.states, one.positives, negatives, one.ids, negative_ids, temperature=self._recipe.temperature, own_items=one.own
        )
        return loss if among is None else loss * (len(one.ids) / among)

    def counts(self, batch: WindowBatch) -> Counts:
        """The targets of a batch, without computing anything."""
        layout = self.model.layout
        columns = layout.predicting_columns - (layout.window - batch.items.shape[1])
        columns = columns[columns >= 0]
        predicts = batch.targets[:, columns] > 0
        ends = [
            (offset - 1 - (layout.window - batch.items.shape[1]), s.experts)
            for offset, s in zip(layout.offsets, layout.segments, strict=True)
        ]
        experts = sum(count * int((batch.targets[:, end] > 0).sum()) for end, count in ends if end >= 0)
        return Counts(all=int(predicts.sum()), recent=int(predicts[:, len(columns) - self._recent :].sum()), experts=experts)


class _Predicting(NamedTuple):
    """Positions of a batch, ``predicts`` ``[B, c]`` those of ``c`` columns that have a next item, ``n`` of them; what each is ranked by.

    Attributes:
        predicts: ``[B, c]``.
        states: ``[n, D]``.
        positives: ``[n, D]`` vectors of their next items.
        ids: ``[n]`` of these.
        own: of a model that counts.
    """

    predicts: torch.Tensor
    states: torch.Tensor
    positives: torch.Tensor
    ids: torch.Tensor
    own: OwnItems | None = None

    @classmethod
    def of(cls, model: SequentialRecommender, hidden: torch.Tensor, targets: torch.Tensor, columns: torch.Tensor, which: slice) -> Self:
        """Those of some of the columns, of ``targets`` ``[B, L]``."""
        of_columns = targets[:, columns[which]]
        predicts = of_columns > 0
        ids = of_columns[predicts]
        return cls(predicts=predicts, states=hidden[:, which][predicts], positives=model.items.lookup(ids), ids=ids)

    def only(self, rows: torch.Tensor) -> Self:
        """Some of them, ``rows`` ``[n]`` booleans."""
        own = None if self.own is None else self.own.of(rows)
        return self._replace(states=self.states[rows], positives=self.positives[rows], ids=self.ids[rows], own=own)

    def float(self) -> Self:
        """In float32."""
        return self._replace(states=self.states.float(), positives=self.positives.float())


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

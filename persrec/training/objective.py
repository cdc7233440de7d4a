"""The loss of a batch of windows as one module, so that what trains on several processes can wrap it; and a step that is taken in parts."""

import contextlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from persrec.data.windows import WindowBatch
from persrec.losses import sampled_softmax
from persrec.recommender import SequentialRecommender
from persrec.training.distillation import distillation, teacher_of
from persrec.training.positions import JointPass, Predicting, Windows
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
    """Mean loss over all items of a batch that have a next one; beside it those of the recent items, the expert tokens and a teacher."""

    def __init__(self, model: SequentialRecommender, recipe: Recipe) -> None:
        """Of a model as the recipe trains it.

        Raises:
            ValueError: a model of this compression has no teacher, and the recipe asks for one.
        """
        super().__init__()
        self.model = model
        self._teachers = (teacher_of(model),) if recipe.distillation else ()  # no module of its own: its weights are the model's
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
        windows = Windows.of(batch, self.device, times=self._recipe.time_bias)
        half = self._recipe.autocast
        lower = torch.autocast(self.device.type, dtype=torch.bfloat16) if half else contextlib.nullcontext()
        items = self.model.items
        with contextlib.ExitStack() as reading:
            with lower:  # texts are read as the block is entered
                reading.enter_context(items.read_once(torch.cat([windows.items.flatten(), windows.targets.flatten(), negative_ids])))
                student, *taught = (self._passed(one, windows) for one in (self.model, *self._teachers))
                negatives = items.lookup(negative_ids)
            if half:  # a softmax over cosines takes all their digits
                negatives, student, taught = negatives.float(), student.float(), [one.float() for one in taught]
            if self.model.counting is not None:
                student, *taught = (one.counting(windows) for one in (student, *taught))
        value, recent = self._own_loss(student, negatives, negative_ids, weight, of)
        for teacher in taught:
            of_teacher, recent_of_teacher = self._own_loss(teacher, negatives, negative_ids, weight, of)
            learnt = distillation(
                recent.states,
                recent_of_teacher.states,
                recent.positives,
                negatives,
                recent.ids,
                negative_ids,
                temperature=self._recipe.temperature,
            )
            if of is not None:
                learnt = learnt * (len(recent.ids) / of.recent)
            share = self._recipe.distillation
            value = (value + of_teacher + share * learnt) / (2 + share)
        return Loss(value=value, computed=student.items.predicts.numel(), predicted=len(student.items.ids))

    def _passed(self, model: SequentialRecommender, windows: Windows) -> JointPass:
        """A joint pass, and what its positions are to predict."""
        asks = self._recipe.expert_weight > 0 and model is self.model
        hidden, columns = model.hidden_states(windows.items, windows.times, windows.query_times, experts=asks)
        count = len(set(columns.tolist()))  # items have a column each, and experts stand in that of one of them
        parts = [slice(count), *([slice(count, None)] if asks else [])]
        of_items, *of_experts = (Predicting.of(model, hidden, windows.targets, columns, part) for part in parts)
        return JointPass(model=model, hidden=hidden[:, :count], columns=columns[:count], items=of_items, experts=tuple(of_experts))

    def _own_loss(
        self, passed: JointPass, negatives: torch.Tensor, negative_ids: torch.Tensor, weight: float, of: Counts | None
    ) -> tuple[torch.Tensor, Predicting]:
        """What a pass loses on its own targets, and its recent positions; every window ends with an item, so there is one at least."""
        of_items, whole = passed.items, (None, None, None) if of is None else (of.all, of.recent, of.experts)
        count = len(passed.columns)
        late = torch.arange(count, device=self.device) >= count - self._recent
        recent = of_items.only(late.expand_as(of_items.predicts)[of_items.predicts]) if weight or self._teachers else of_items
        terms = [(1.0, of_items, whole[0]), *([(weight, recent, whole[1])] if weight else [])]
        terms += [(self._recipe.expert_weight, one, whole[2]) for one in passed.experts]
        means = [each * self._mean(one, negatives, negative_ids, among=among) for each, one, among in terms]
        counted = sum(each for each, one, among in terms if (len(one.ids) if among is None else among))  # no target in the batch: no weight
        return sum(means[1:], means[0]) / counted, recent

    def _mean(self, one: Predicting, negatives: torch.Tensor, negative_ids: torch.Tensor, *, among: int | None) -> torch.Tensor:
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
        return Counts(all=int(predicts.sum()), recent=int(predicts[:, max(0, len(columns) - self._recent) :].sum()), experts=experts)


def backward_in_parts(
    wrapped: nn.Module, objective: Objective, team: Team, batch: WindowBatch, negative_ids: torch.Tensor, weight: float, *, parts: int
) -> Loss:
    """The backward of a batch, each process on its own windows, these in ``parts`` one after the other; gradients are the whole batch's.

    Every process and every part has the same negatives, as the batch as a whole would. A process without a window takes the first one,
    which then counts nothing.
    """
    counts = objective.counts(batch)
    own = np.arange(team.rank, len(batch.items), team.size)
    most = -(-len(batch.items) // team.size)  # windows of a process; all take as many parts, since shards are gathered in each
    shares = np.array_split(own, min(parts, most))
    total, computed = 0.0, 0
    for number, rows in enumerate(shares):
        with team.syncing(wrapped, on=number == len(shares) - 1):
            loss: Loss = wrapped(rows_of(batch, rows if len(rows) else np.array([0])), negative_ids, weight, counts)
            value = loss.value if len(rows) else loss.value * 0
            (value * team.size).backward()  # type: ignore[no-untyped-call] # processes average their gradients
        total, computed = total + float(value.detach()), computed + (loss.computed if len(rows) else 0)
    sums = team.sum(torch.tensor([total, computed], dtype=torch.float64, device=objective.device))
    return Loss(value=sums[0], computed=int(sums[1]), predicted=counts.all)


def rows_of(batch: WindowBatch, rows: np.ndarray) -> WindowBatch:
    """Some windows of a batch."""
    return WindowBatch(items=batch.items[rows], times=batch.times[rows], targets=batch.targets[rows], query_times=batch.query_times[rows])

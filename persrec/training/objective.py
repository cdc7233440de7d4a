"""The loss of a batch of windows as one module, which training on several processes wraps; and the backward of a step in parts."""

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
            ValueError: the recipe asks for a teacher, and a model of this compression has none; or for a loss of expert tokens, and
                vectors of another kind stand for the history.
        """
        super().__init__()
        if recipe.expert_weight and any(segment.summaries is not None for segment in model.layout.segments):
            raise ValueError(f"expert_weight: {recipe.expert_weight:g}; expected 0 where summaries stand for the history")
        self.model = model
        self._teachers = (teacher_of(model),) if recipe.distillation else ()  # no module of its own: its weights are the model's
        self._recipe, self._recent = recipe, model.layout.recent
        device = next(model.parameters()).device
        self.device = torch.device("cpu") if device.type == "meta" else device  # ids have values, also where weights have none

    def forward(self, batch: WindowBatch, negative_ids: torch.Tensor, weight: float, whole_counts: Counts | None = None) -> Loss:
        """The loss of a batch.

        Args:
            batch: windows.
            negative_ids: ``[M]``, shared by the batch.
            weight: of the recent items' loss beside that of all positions.
            whole_counts: counts of the batch that this one is a part of: the losses of its parts add up to its own.
        """
        windows = Windows.of(batch, self.device, times=self._recipe.time_bias)
        half_precision = self._recipe.autocast
        autocast = torch.autocast(self.device.type, dtype=torch.bfloat16) if half_precision else contextlib.nullcontext()
        items = self.model.items
        with contextlib.ExitStack() as stack:
            with autocast:  # texts are read as the block is entered
                stack.enter_context(items.read_once(torch.cat([windows.items.flatten(), windows.targets.flatten(), negative_ids])))
                student, *teacher_passes = (self._joint_pass(model, windows) for model in (self.model, *self._teachers))
                negatives = items.lookup(negative_ids)
            if half_precision:  # a softmax over cosines takes all their digits
                negatives, student, teacher_passes = negatives.float(), student.float(), [teacher.float() for teacher in teacher_passes]
            if self.model.counting is not None:
                student, *teacher_passes = (joint.counting(windows) for joint in (student, *teacher_passes))
        value, recent = self._target_loss(student, negatives, negative_ids, weight, whole_counts)
        for teacher in teacher_passes:
            teacher_value, teacher_recent = self._target_loss(teacher, negatives, negative_ids, weight, whole_counts)
            distillation_loss = distillation(
                recent.states,
                teacher_recent.states,
                recent.positives,
                negatives,
                recent.ids,
                negative_ids,
                temperature=self._recipe.temperature,
            )
            if whole_counts is not None:
                distillation_loss = distillation_loss * (len(recent.ids) / whole_counts.recent)
            share = self._recipe.distillation
            value = (value + teacher_value + share * distillation_loss) / (2 + share)
        return Loss(value=value, computed=student.items.predicts.numel(), predicted=len(student.items.ids))

    def _joint_pass(self, model: SequentialRecommender, windows: Windows) -> JointPass:
        """A joint pass, and the targets of its positions."""
        with_experts = self._recipe.expert_weight > 0 and model is self.model
        hidden, columns = model.hidden_states(windows.items, windows.times, windows.query_times, experts=with_experts)
        count = len(set(columns.tolist()))  # items have a column each, and experts stand in that of one of them
        parts = [slice(count), *([slice(count, None)] if with_experts else [])]
        items, *experts = (Predicting.of(model, hidden, windows.targets, columns, part) for part in parts)
        return JointPass(model=model, hidden=hidden[:, :count], columns=columns[:count], items=items, experts=tuple(experts))

    def _target_loss(
        self, joint: JointPass, negatives: torch.Tensor, negative_ids: torch.Tensor, recent_weight: float, whole_counts: Counts | None
    ) -> tuple[torch.Tensor, Predicting]:
        """The loss of a pass on its targets, and its recent positions: at least one, since every window ends with an item."""
        items = joint.items
        totals = (None, None, None) if whole_counts is None else (whole_counts.all, whole_counts.recent, whole_counts.experts)
        count = len(joint.columns)
        is_recent = torch.arange(count, device=self.device) >= count - self._recent
        recent = items.only(is_recent.expand_as(items.predicts)[items.predicts]) if recent_weight or self._teachers else items
        terms = [(1.0, items, totals[0]), *([(recent_weight, recent, totals[1])] if recent_weight else [])]
        terms += [(self._recipe.expert_weight, positions, totals[2]) for positions in joint.experts]
        means = [weight * self._mean(positions, negatives, negative_ids, total=total) for weight, positions, total in terms]
        # a term without a target in the batch has no weight
        total_weight = sum(weight for weight, positions, total in terms if (len(positions.ids) if total is None else total))
        return sum(means[1:], means[0]) / total_weight, recent

    def _mean(self, positions: Predicting, negatives: torch.Tensor, negative_ids: torch.Tensor, *, total: int | None) -> torch.Tensor:
        """The mean loss of some positions; with ``total``, their share of the mean over so many positions, of which they are a part."""
        if not len(positions.ids):
            return positions.states.sum() * 0
        loss = sampled_softmax(
            positions.states,
            positions.positives,
            negatives,
            positions.ids,
            negative_ids,
            temperature=self._recipe.temperature,
            own_items=positions.own,
        )
        return loss if total is None else loss * (len(positions.ids) / total)

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
    process_rows = np.arange(team.rank, len(batch.items), team.size)
    windows_per_process = -(-len(batch.items) // team.size)  # at most; all take as many parts, since shards are gathered in each
    shares = np.array_split(process_rows, min(parts, windows_per_process))
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

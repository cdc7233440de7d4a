"""The positions of a batch that predict: their states, their targets, and in a model that counts what the user's own items add."""

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F

from persrec.data.windows import WindowBatch
from persrec.losses import OwnItems
from persrec.recommender import SequentialRecommender


class Windows(NamedTuple):
    """A batch as tensors ``[B, n]``; ``query_times`` is ``[B]``. Times are None where the model is given none."""

    items: torch.Tensor
    targets: torch.Tensor
    times: torch.Tensor | None
    query_times: torch.Tensor | None

    @classmethod
    def of(cls, batch: WindowBatch, device: torch.device, *, times: bool) -> Self:
        """A batch on a device."""
        items, targets, *time_tensors = (
            torch.from_numpy(part).to(device) for part in (batch.items, batch.targets, *((batch.times, batch.query_times) if times else ()))
        )
        return cls(items, targets, *(time_tensors or (None, None)))


class Predicting(NamedTuple):
    """The ``n`` positions of a batch that have a next item, in ``c`` columns; and what each is ranked by.

    Attributes:
        predicts: ``[B, c]``, which positions have a next item.
        states: ``[n, D]``.
        positives: ``[n, D]`` vectors of their next items.
        ids: ``[n]`` of these.
        own: the scores of the user's own items, in a model that counts; else None.
    """

    predicts: torch.Tensor
    states: torch.Tensor
    positives: torch.Tensor
    ids: torch.Tensor
    own: OwnItems | None = None

    @classmethod
    def of(cls, model: SequentialRecommender, hidden: torch.Tensor, targets: torch.Tensor, columns: torch.Tensor, part: slice) -> Self:
        """Those in ``part`` of the columns; ``targets`` is ``[B, L]``."""
        next_items = targets[:, columns[part]]
        predicts = next_items > 0
        ids = next_items[predicts]
        return cls(predicts=predicts, states=hidden[:, part][predicts], positives=model.items.lookup(ids), ids=ids)

    def only(self, rows: torch.Tensor) -> Self:
        """Some of the positions, ``rows`` ``[n]`` booleans."""
        own = None if self.own is None else self.own.of(rows)
        return self._replace(states=self.states[rows], positives=self.positives[rows], ids=self.ids[rows], own=own)

    def float(self) -> Self:
        """In float32."""
        return self._replace(states=self.states.float(), positives=self.positives.float())


class JointPass(NamedTuple):
    """A joint pass: states ``[B, c, D]`` of the items that predict, their columns ``[c]``, and what they and experts predict."""

    model: SequentialRecommender
    hidden: torch.Tensor
    columns: torch.Tensor
    items: Predicting
    experts: tuple[Predicting, ...]

    def float(self) -> Self:
        """In float32."""
        return self._replace(hidden=self.hidden.float(), items=self.items.float(), experts=tuple(expert.float() for expert in self.experts))

    def counting(self, windows: Windows) -> Self:
        """With what the user's own items add at each position."""
        own = own_items(self.model, self.hidden, windows.items, windows.targets[:, self.columns], self.columns)
        return self._replace(items=self.items._replace(own=own))


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
    is_counted, added_scores = model.repeats_in_window(states, items, columns)
    is_target, predicts = items[:, None, :] == targets[:, :, None], targets > 0
    return OwnItems(
        scores=(states @ vectors.transpose(1, 2) + added_scores)[predicts],
        others=(is_counted & ~is_target)[predicts],
        added=(added_scores * (is_counted & is_target)).sum(2)[predicts],
    )

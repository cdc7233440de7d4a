"""The positions of a batch that predict: their states, what each is to rank first, and in a model that counts what its own items add."""

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F

from persrec.data.windows import WindowBatch
from persrec.losses import OwnItems
from persrec.recommender import SequentialRecommender


class Windows(NamedTuple):
    """A batch as tensors ``[B, n]``; ``query_times`` is ``[B]``, and there are times where the model is given them."""

    items: torch.Tensor
    targets: torch.Tensor
    times: torch.Tensor | None
    query_times: torch.Tensor | None

    @classmethod
    def of(cls, batch: WindowBatch, device: torch.device, *, times: bool) -> Self:
        """A batch on a device."""
        items, targets, *more = (
            torch.from_numpy(part).to(device) for part in (batch.items, batch.targets, *((batch.times, batch.query_times) if times else ()))
        )
        return cls(items, targets, *(more or (None, None)))


class Predicting(NamedTuple):
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


class JointPass(NamedTuple):
    """A joint pass: states ``[B, c, D]`` of the items that predict, their columns ``[c]``, and what they and experts predict."""

    model: SequentialRecommender
    hidden: torch.Tensor
    columns: torch.Tensor
    items: Predicting
    experts: tuple[Predicting, ...]

    def float(self) -> Self:
        """In float32."""
        return self._replace(hidden=self.hidden.float(), items=self.items.float(), experts=tuple(one.float() for one in self.experts))

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
    counted, added = model.repeats_in_window(states, items, columns)
    is_target, predicts = items[:, None, :] == targets[:, :, None], targets > 0
    return OwnItems(
        scores=(states @ vectors.transpose(1, 2) + added)[predicts],
        others=(counted & ~is_target)[predicts],
        added=(added * (counted & is_target)).sum(2)[predicts],
    )

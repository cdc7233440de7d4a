"""Sampled softmax over cosines, with the same number of negatives at every length."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

NOTHING = -1e4  # a logit whose exponential is 0, and which has a gradient
# logits of a block stay in a core's cache while they are worked on; on a GPU a block is only bounded in memory
BLOCK_ELEMENTS = {"cpu": 1 << 17, "cuda": 1 << 26}


def sampled_softmax(
    states: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    target_ids: torch.Tensor,
    negative_ids: torch.Tensor,
    *,
    temperature: float,
    own_items: "OwnItems | None" = None,
) -> torch.Tensor:
    """Mean cross-entropy of each target against negatives that the batch shares.

    Args:
        states: ``[n, D]`` hidden states of the positions that predict.
        positives: ``[n, D]`` vectors of their targets.
        negatives: ``[M, D]`` vectors of the sampled items; a negative that is a position's own target is left out there.
        target_ids: ``[n]``.
        negative_ids: ``[M]``.
        temperature: what cosines are divided by.
        own_items: of a model that counts: what each position's own items have beside the negatives. A negative that is one of them has
            its plain cosine, as an item that was not counted.

    Differs: the public code shares one sampled item per position over the batch, so its negatives grow with the length.
    """
    states = F.normalize(states, dim=-1) / temperature
    own = (states * F.normalize(positives, dim=-1)).sum(-1)
    beside = None
    if own_items is not None:
        own, beside = own + own_items.added / temperature, own_items.scores_of_others(temperature)
    loss: torch.Tensor = _CrossEntropy.apply(states, own, F.normalize(negatives, dim=-1), target_ids, negative_ids, beside)  # type: ignore[no-untyped-call]
    return loss


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnItems:
    """The scores of a user's own items at ``n`` positions, and what is added to the score of each target.

    Attributes:
        scores: ``[n, m]``, cosines and what is added to them.
        others: ``[n, m]``, which of them are own items of the position other than its target.
        added: ``[n]``, to the target's cosine; 0 where it is none of them.
    """

    scores: torch.Tensor
    others: torch.Tensor
    added: torch.Tensor

    def of(self, rows: torch.Tensor) -> "OwnItems":
        """Those of some positions, ``rows`` ``[n]`` booleans."""
        return OwnItems(scores=self.scores[rows], others=self.others[rows], added=self.added[rows])

    def scores_of_others(self, temperature: float) -> torch.Tensor:
        """The logarithm of the sum of the others' exponentials, ``[n]``; nothing to speak of where there are none."""
        return (self.scores / temperature).masked_fill(~self.others, NOTHING).logsumexp(1)


def naive_cross_entropy(
    states: torch.Tensor,
    own: torch.Tensor,
    negatives: torch.Tensor,
    target_ids: torch.Tensor,
    negative_ids: torch.Tensor,
    beside: torch.Tensor | None = None,
) -> torch.Tensor:
    """What `_CrossEntropy` computes, with all logits ``[n, M]`` at once: its reference."""
    others = (states @ negatives.T).masked_fill(target_ids[:, None] == negative_ids[None, :], -torch.inf).logsumexp(1)
    others = others if beside is None else torch.logaddexp(others, beside)
    return (torch.logaddexp(own, others) - own).mean()


class _CrossEntropy(torch.autograd.Function):
    """Takes the gradients along with the loss, a block of rows at a time: no logits outlive their block."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        own: torch.Tensor,
        negatives: torch.Tensor,
        target_ids: torch.Tensor,
        negative_ids: torch.Tensor,
        beside: torch.Tensor | None,
    ) -> torch.Tensor:
        count, learns = len(states), any(ctx.needs_input_grad)
        losses = torch.empty_like(own)
        grad_states, grad_own, grad_negatives = torch.empty_like(states), torch.empty_like(own), torch.zeros_like(negatives)
        grad_beside = None if beside is None else torch.empty_like(beside)
        step = max(1, BLOCK_ELEMENTS.get(states.device.type, 1 << 17) // max(1, len(negatives)))
        for start in range(0, count, step):
            rows = slice(start, start + step)
            logits = states[rows] @ negatives.T
            logits.masked_fill_(target_ids[rows, None] == negative_ids[None, :], -torch.inf)
            top = torch.maximum(logits.amax(1), own[rows])
            if beside is not None:
                top = torch.maximum(top, beside[rows])
            shares = logits.sub_(top[:, None]).exp_()
            own_share = (own[rows] - top).exp_()
            total = shares.sum(1).add_(own_share)
            if beside is not None:
                total.add_((beside[rows] - top).exp_())
            losses[rows] = total.log() + top - own[rows]
            if learns:
                shares.mul_((1 / (total * count))[:, None])
                grad_states[rows] = shares @ negatives
                grad_negatives += shares.T @ states[rows]
                grad_own[rows] = (own_share / total - 1) / count
                if beside is not None and grad_beside is not None:
                    grad_beside[rows] = (beside[rows] - top).exp_() / total / count
        ctx.save_for_backward(grad_states, grad_own, grad_negatives, grad_beside)
        return losses.mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_states, grad_own, grad_negatives, grad_beside = ctx.saved_tensors
        return grad_states * grad, grad_own * grad, grad_negatives * grad, None, None, None if grad_beside is None else grad_beside * grad

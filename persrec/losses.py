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
        own_items: of a model that counts: the scores of each position's own items, which compete with the target as negatives do. A
            negative that is one of them keeps its plain cosine, as an item that was not counted.

    Differs: the public code shares one sampled item per position over the batch, so its negatives grow with the length.
    """
    states = F.normalize(states, dim=-1) / temperature
    target_logits = (states * F.normalize(positives, dim=-1)).sum(-1)
    own_logits = None
    if own_items is not None:
        target_logits, own_logits = target_logits + own_items.added / temperature, own_items.scores_of_others(temperature)
    loss: torch.Tensor = _CrossEntropy.apply(states, target_logits, F.normalize(negatives, dim=-1), target_ids, negative_ids, own_logits)  # type: ignore[no-untyped-call]
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
        """The logarithm of the sum of the others' exponentials, ``[n]``: about `NOTHING` where there are none."""
        return (self.scores / temperature).masked_fill(~self.others, NOTHING).logsumexp(1)


def naive_cross_entropy(
    states: torch.Tensor,
    target_logits: torch.Tensor,
    negatives: torch.Tensor,
    target_ids: torch.Tensor,
    negative_ids: torch.Tensor,
    own_logits: torch.Tensor | None = None,
) -> torch.Tensor:
    """What `_CrossEntropy` computes, with all logits ``[n, M]`` at once: its reference."""
    other_logits = (states @ negatives.T).masked_fill(target_ids[:, None] == negative_ids[None, :], -torch.inf).logsumexp(1)
    other_logits = other_logits if own_logits is None else torch.logaddexp(other_logits, own_logits)
    return (torch.logaddexp(target_logits, other_logits) - target_logits).mean()


class _CrossEntropy(torch.autograd.Function):
    """Computes the gradients along with the loss, a block of rows at a time: no logits outlive their block."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        target_logits: torch.Tensor,
        negatives: torch.Tensor,
        target_ids: torch.Tensor,
        negative_ids: torch.Tensor,
        own_logits: torch.Tensor | None,
    ) -> torch.Tensor:
        count, needs_gradients = len(states), any(ctx.needs_input_grad)
        losses = torch.empty_like(target_logits)
        grad_states, grad_targets, grad_negatives = torch.empty_like(states), torch.empty_like(target_logits), torch.zeros_like(negatives)
        grad_own = None if own_logits is None else torch.empty_like(own_logits)
        step = max(1, BLOCK_ELEMENTS.get(states.device.type, 1 << 17) // max(1, len(negatives)))
        for start in range(0, count, step):
            rows = slice(start, start + step)
            logits = states[rows] @ negatives.T
            logits.masked_fill_(target_ids[rows, None] == negative_ids[None, :], -torch.inf)
            top = torch.maximum(logits.amax(1), target_logits[rows])
            if own_logits is not None:
                top = torch.maximum(top, own_logits[rows])
            shares = logits.sub_(top[:, None]).exp_()
            target_share = (target_logits[rows] - top).exp_()
            total = shares.sum(1).add_(target_share)
            if own_logits is not None:
                total.add_((own_logits[rows] - top).exp_())
            losses[rows] = total.log() + top - target_logits[rows]
            if needs_gradients:
                shares.mul_((1 / (total * count))[:, None])
                grad_states[rows] = shares @ negatives
                grad_negatives += shares.T @ states[rows]
                grad_targets[rows] = (target_share / total - 1) / count
                if own_logits is not None and grad_own is not None:
                    grad_own[rows] = (own_logits[rows] - top).exp_() / total / count
        ctx.save_for_backward(grad_states, grad_targets, grad_negatives, grad_own)
        return losses.mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_states, grad_targets, grad_negatives, grad_own = ctx.saved_tensors
        return grad_states * grad, grad_targets * grad, grad_negatives * grad, None, None, None if grad_own is None else grad_own * grad

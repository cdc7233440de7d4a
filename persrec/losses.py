"""Sampled softmax over cosines, with the same number of negatives at every length."""

from typing import Any

import torch
import torch.nn.functional as F

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
) -> torch.Tensor:
    """Mean cross-entropy of each target against negatives that the batch shares.

    Args:
        states: ``[n, D]`` hidden states of the positions that predict.
        positives: ``[n, D]`` vectors of their targets.
        negatives: ``[M, D]`` vectors of the sampled items; a negative that is a position's own target is left out there.
        target_ids: ``[n]``.
        negative_ids: ``[M]``.
        temperature: what cosines are divided by.

    Differs: the public code shares one sampled item per position over the batch, so its negatives grow with the length.
    """
    states = F.normalize(states, dim=-1) / temperature
    own = (states * F.normalize(positives, dim=-1)).sum(-1)
    loss: torch.Tensor = _CrossEntropy.apply(states, own, F.normalize(negatives, dim=-1), target_ids, negative_ids)  # type: ignore[no-untyped-call]
    return loss


def naive_cross_entropy(
    states: torch.Tensor, own: torch.Tensor, negatives: torch.Tensor, target_ids: torch.Tensor, negative_ids: torch.Tensor
) -> torch.Tensor:
    """What `_CrossEntropy` computes, with all logits ``[n, M]`` at once: its reference."""
    others = (states @ negatives.T).masked_fill(target_ids[:, None] == negative_ids[None, :], -torch.inf)
    return (torch.logaddexp(own, others.logsumexp(1)) - own).mean()


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
    ) -> torch.Tensor:
        count, learns = len(states), any(ctx.needs_input_grad)
        losses = torch.empty_like(own)
        grad_states, grad_own, grad_negatives = torch.empty_like(states), torch.empty_like(own), torch.zeros_like(negatives)
        step = max(1, BLOCK_ELEMENTS.get(states.device.type, 1 << 17) // max(1, len(negatives)))
        for start in range(0, count, step):
            rows = slice(start, start + step)
            logits = states[rows] @ negatives.T
            logits.masked_fill_(target_ids[rows, None] == negative_ids[None, :], -torch.inf)
            top = torch.maximum(logits.amax(1), own[rows])
            shares = logits.sub_(top[:, None]).exp_()
            own_share = (own[rows] - top).exp_()
            total = shares.sum(1).add_(own_share)
            losses[rows] = total.log() + top - own[rows]
            if learns:
                shares.mul_((1 / (total * count))[:, None])
                grad_states[rows] = shares @ negatives
                grad_negatives += shares.T @ states[rows]
                grad_own[rows] = (own_share / total - 1) / count
        ctx.save_for_backward(grad_states, grad_own, grad_negatives)
        return losses.mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_states, grad_own, grad_negatives = ctx.saved_tensors
        return grad_states * grad, grad_own * grad, grad_negatives * grad, None, None

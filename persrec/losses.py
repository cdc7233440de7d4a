"""Sampled softmax over cosines, with the same number of negatives at every length."""

import torch
import torch.nn.functional as F


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
    others = (states @ F.normalize(negatives, dim=-1).T).masked_fill_(target_ids[:, None] == negative_ids[None, :], -torch.inf)
    return (torch.logaddexp(own, others.logsumexp(1)) - own).mean()

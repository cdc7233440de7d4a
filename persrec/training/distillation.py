"""Distillation in place: full attention over the whole window teaches the pass that reads only what is kept of the history.

Teacher and student share every weight, and both learn from the targets. The student's recent positions learn from the teacher's too:
from its states and from its scores. Not in the paper. Universally slimmable networks (arXiv 1903.05134, section 3.3) have this rule:
of networks that share weights, the widest teaches the narrower ones; there by scores alone.
"""

import torch
import torch.nn.functional as F

from persrec.compression import CompressionSettings, build_compression
from persrec.recommender import SequentialRecommender


def teacher_of(model: SequentialRecommender) -> SequentialRecommender:
    """Full attention over the model's window, by the model's own weights.

    Raises:
        ValueError: the model has no expert tokens: it has no positions for every item of its history, keeps all, or is recurrent.
    """
    layout = model.layout
    more_than_experts = any(segment.stays_visible or segment.summaries is not None for segment in layout.segments)
    if more_than_experts or layout.recurrent or not layout.segments:
        raise ValueError(f"distillation: no teacher for {type(model.compression).__name__}; expected expert tokens")
    width = model.backbone.width
    settings = CompressionSettings(history=layout.history, recent=layout.recent, segments=1, tokens=0, width=width)
    full = build_compression("full", settings)
    return SequentialRecommender(items=model.items, backbone=model.backbone, compression=full, counting=model.counting)


def distillation(
    states: torch.Tensor,
    teacher: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    target_ids: torch.Tensor,
    negative_ids: torch.Tensor,
    *,
    temperature: float,
) -> torch.Tensor:
    """How far the student's positions are from the teacher's, the mean over them; gradients reach ``states`` alone.

    The sum of ``(1 - cosine) / temperature`` of the two states and of the Kullback-Leibler divergence of the softmax over each position's
    target and the negatives. What counts of own items add to scores is left out.

    Args:
        states: ``[n, D]``, the student's.
        teacher: ``[n, D]``, at the same positions.
        positives: ``[n, D]`` vectors of their targets.
        negatives: ``[M, D]``.
        target_ids: ``[n]``.
        negative_ids: ``[M]``; one that is a position's own target is left out there.
        temperature: what cosines are divided by.
    """
    states, teacher = F.normalize(states, dim=-1), F.normalize(teacher.detach(), dim=-1)
    positives, negatives = F.normalize(positives.detach(), dim=-1), F.normalize(negatives.detach(), dim=-1)
    is_target = target_ids[:, None] == negative_ids[None, :]

    def log_shares(vectors: torch.Tensor) -> torch.Tensor:
        logits = torch.cat([(vectors * positives).sum(-1, keepdim=True), (vectors @ negatives.T).masked_fill(is_target, -1e4)], dim=1)
        return (logits / temperature).log_softmax(1)

    divergence = F.kl_div(log_shares(states), log_shares(teacher), reduction="batchmean", log_target=True)
    return divergence + (1 - (states * teacher).sum(-1)).mean() / temperature

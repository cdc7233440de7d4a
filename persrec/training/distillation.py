"""Distillation in place: the model's own weights, run over the whole window, teach what reads only what is kept of the history.

Teacher and student share every weight. The teacher learns from the targets as full attention does, and the recent positions of the student
also from the teacher's: from its states and from its scores. Not in the paper. The widest of the networks that share weights teaching the
narrower ones is the rule of universally slimmable networks (arXiv 1903.05134, section 3.3); there it is scores alone.
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
    others = any(segment.stays_visible or segment.summaries is not None for segment in layout.segments)
    if others or layout.recurrent or not layout.segments:
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
    """What the student's positions are away from the teacher's, the mean over them; gradients reach ``states`` alone.

    The sum of ``(1 - cosine) / temperature`` of the two states and of the Kullback-Leibler divergence of the softmax over each position's
    target and the negatives; what counts of own items add is left out.

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
    own = target_ids[:, None] == negative_ids[None, :]

    def log_shares(of: torch.Tensor) -> torch.Tensor:
        logits = torch.cat([(of * positives).sum(-1, keepdim=True), (of @ negatives.T).masked_fill(own, -1e4)], dim=1)
        return (logits / temperature).log_softmax(1)

    divergence = F.kl_div(log_shares(states), log_shares(teacher), reduction="batchmean", log_target=True)
    return divergence + (1 - (states * teacher).sum(-1)).mean() / temperature

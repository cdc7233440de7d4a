"""The last step of a request: the best items of the catalogue for a user state, without those that the user has had."""

import torch


@torch.no_grad()
def recommend(
    states: torch.Tensor,
    features: torch.Tensor,
    *,
    seen: torch.Tensor | None = None,
    count: int = 100,
    repeats: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The items with the highest scores, best first.

    Args:
        states: ``[B, D]`` unit vectors, as `SequentialRecommender.user_states` gives them.
        features: ``[V, D]`` unit rows, as `SequentialRecommender.item_features` gives them; row 0 is padding and never recommended.
        seen: ``[B, s]`` int64 ids that are left out of a user's list, 0 pads; None leaves nothing out. On a GPU an id that is no item
            of the catalogue leaves out nothing: to refuse it would wait for the device.
        count: items wanted; of a smaller catalogue all.
        repeats: what is added to the scores of the users' own items, as `SequentialRecommender.repeats` gives it.

    Returns:
        Ids and scores, ``[B, count]`` each. Where a user has seen so many that fewer remain, the rest have the score -inf.

    Raises:
        ValueError: ``count`` is below 1, or ``seen`` is not shaped as the users are, or on a CPU holds an id that is no item of
            the catalogue.
    """
    if count < 1:
        raise ValueError(f"count: {count}; expected at least 1")
    if seen is not None and (seen.dim() != 2 or seen.dtype != torch.int64 or len(seen) != len(states)):
        raise ValueError(f"seen: {seen.dtype} of shape {list(seen.shape)}; expected int64 [{len(states)}, items]")
    if seen is not None and seen.numel():
        is_no_item = (seen < 0) | (seen >= len(features))
        if seen.device.type != "cpu":
            seen = seen.masked_fill(is_no_item, 0)
        elif bool(is_no_item.any()):
            raise ValueError(f"seen: ids from {seen.amin()} to {seen.amax()}; expected 0 to {len(features) - 1}")
    scores = states @ features.T
    if repeats is not None:
        scores.scatter_add_(1, *repeats)
    if seen is not None:
        scores.scatter_(1, seen, -torch.inf)
    best = scores[:, 1:].topk(min(count, len(features) - 1), dim=1)
    return best.indices + 1, best.values

"""User vectors of everyone who is evaluated."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from persrec.data.splits import Part, Split
from persrec.data.windows import build_windows
from persrec.evaluation.ranks import Added
from persrec.inputs import shape_of
from persrec.recommender import SequentialRecommender


@contextmanager
def evaluating(model: SequentialRecommender) -> Iterator[None]:
    """Inside, the model is out of training, nothing takes gradients, and the catalogue's vectors are computed once."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), model.items.kept.scope():
            yield
    finally:
        model.train(was_training)


def user_states(
    model: SequentialRecommender, data: Split, part: Part, *, time_bias: bool, history: int | None = None, batch_size: int = 128
) -> torch.Tensor:
    """Unit vectors ``[E, D]`` of the users before each target of a part, from the window before it, in the order of the targets.

    The request's time is the target's, as in the paper: known when the request comes. Users of like length share a batch. The
    vectors are of the model's own type of numbers.

    Args:
        model: the model.
        data: the split.
        part: which targets.
        time_bias: whether times are given.
        history: how many items before the recent ones are seen at most, as of a model that is elastic in history; None is all.
        batch_size: users at once.
    """
    weights = next(model.parameters())
    shape = shape_of(model.layout)
    targets = data.of(part)
    ends = targets.positions
    states = torch.empty(len(ends), model.backbone.width, dtype=weights.dtype, device=weights.device)
    order = np.argsort(np.minimum(ends, shape.width), kind="stable")
    with evaluating(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = build_windows(data.sequences, targets.users[rows], ends[rows], shape, trim=True, history=history)
            items, times, query_times = (
                torch.from_numpy(array).to(weights.device) for array in (batch.items, batch.times, batch.query_times)
            )
            time_arguments = (times, query_times) if time_bias else (None, None)
            states[torch.from_numpy(rows).to(weights.device)] = model.user_states(items, *time_arguments)
    return states


def repeats(
    model: SequentialRecommender, states: torch.Tensor, data: Split, part: Part, *, history: int | None = None, gap: int = 0
) -> Added | None:
    """What a model that counts adds to the scores of the users' own items, as `target_ranks` takes it; None of one that does not.

    The items are the users' own whatever a cache holds: an ablation that puts other tokens there leaves the counts true. Where a user's
    known items are left out of the ranking, nothing is added: only a target that is a repeat would gain, and that is the answer.

    Args:
        model: the model.
        states: ``[E, D]`` unit vectors before each target.
        data: the split.
        part: which targets.
        history: as in `user_states`.
        gap: items right before the recent ones that are not counted, as of a cache of that age.
    """
    if model.counting is None or data.exclude_seen:
        return None
    shape = shape_of(model.layout)
    targets = data.of(part)

    @functools.lru_cache(maxsize=1)  # a block of users is asked for once per block of items
    def added_scores(start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = slice(start, stop)
        batch = build_windows(data.sequences, targets.users[rows], targets.positions[rows], shape, history=history, gap=gap)
        block_repeats = model.repeats(states[rows], torch.from_numpy(batch.items).to(states.device))
        assert block_repeats is not None  # noqa: S101 - the model counts
        return block_repeats

    return lambda rows: added_scores(rows.start, rows.stop)

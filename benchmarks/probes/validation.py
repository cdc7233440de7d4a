"""The figure that a training is stopped by."""

import math
from collections.abc import Callable, Sequence

from benchmarks.probes.models import use_tokens
from persrec.data.splits import LeaveOneOut
from persrec.evaluation.metrics import metric_values
from persrec.evaluation.ranks import target_ranks
from persrec.evaluation.states import evaluating, user_states
from persrec.recommender import SequentialRecommender


def validation_figure(
    model: SequentialRecommender, data: LeaveOneOut, *, time_bias: bool, tokens: Sequence[int] = (), histories: Sequence[int] = ()
) -> Callable[[], float]:
    """NDCG@10 on the validation targets, NaN where a vector is not finite.

    Args:
        model: validated as it stands.
        data: the split.
        time_bias: whether times are given.
        tokens: the figure is the mean over these counts of a model that is elastic in its tokens; empty is the count in use alone.
        histories: and over these lengths of the history; empty is the whole history alone.
    """

    def validate() -> float:
        with evaluating(model):
            figures = [figure(count, history) for count in tokens or (None,) for history in histories or (None,)]
        return sum(figures) / len(figures)

    def figure(count: int | None, history: int | None) -> float:
        if count is not None:
            use_tokens(model, count)
        states, features = user_states(model, data, "validation", time_bias=time_bias, history=history), model.item_features()
        if not bool(states.isfinite().all() and features.isfinite().all()):
            return math.nan
        ranks = target_ranks(states, features, data.targets("validation"), data.seen("validation"))
        return float(metric_values(ranks)["ndcg@10"].mean())

    return validate

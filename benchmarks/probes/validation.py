"""The figure that a training is stopped by."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.probes.models import use_tokens
from persrec.data.splits import Split
from persrec.evaluation.metrics import metric_values, user_means
from persrec.evaluation.ranks import target_ranks
from persrec.evaluation.states import evaluating, repeats, user_states
from persrec.recommender import SequentialRecommender


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """With what an elastic model is asked: a token count, and items of history at most; None is the model's own."""

    tokens: int | None = None
    history: int | None = None


def validation_figure(
    model: SequentialRecommender, data: Split, *, time_bias: bool, served: Sequence[Served] = (Served(),)
) -> Callable[[], float]:
    """NDCG@10 on the validation targets, NaN where a vector is not finite.

    Args:
        model: validated as it stands.
        data: the split.
        time_bias: whether times are given.
        served: the figure is the mean over these.
    """

    def validate() -> float:
        with evaluating(model):
            figures = [figure(setting) for setting in served]
        return sum(figures) / len(figures)

    def figure(setting: Served) -> float:
        if setting.tokens is not None:
            use_tokens(model, setting.tokens)
        states = user_states(model, data, "validation", time_bias=time_bias, history=setting.history)
        features = model.item_features()
        if not bool(states.isfinite().all() and features.isfinite().all()):
            return math.nan
        count_scores = repeats(model, states, data, "validation", history=setting.history)
        ranks = target_ranks(states, features, data.targets("validation"), data.seen("validation"), added=count_scores)
        return float(user_means(metric_values(ranks)["ndcg@10"], data.validation.users).mean())

    return validate

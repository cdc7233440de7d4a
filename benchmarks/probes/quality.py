"""Ranking quality over the whole catalogue, with bootstrap intervals over users."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.cell import Cell, changed_at_evaluation
from persrec.compression.experts import Experts
from persrec.data.splits import LeaveOneOut
from persrec.evaluation.metrics import bootstrap_means, is_share, metric_values, summarise
from persrec.evaluation.ranks import repeat_mask, target_ranks
from persrec.evaluation.served import Serving, served_states
from persrec.evaluation.states import evaluating, user_states
from persrec.recommender import SequentialRecommender
from persrec.serving import CacheStore

REPLICATE_METRICS = ("ndcg@10", "recall@10")
BOOTSTRAP_SEED = 0
DIGITS = 7  # of a replicate in a record


def quality_of_ranks(ranks: np.ndarray, data: LeaveOneOut) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics of test ranks ``[E]``, and the bootstrap means that make records comparable user by user."""
    seen = "seen items left out" if data.exclude_seen else "seen items kept"
    per_user = metric_values(ranks)
    names = list(per_user)
    means = bootstrap_means(np.stack([per_user[name] for name in names], axis=1), seed=BOOTSTRAP_SEED)
    metrics = {}
    for column, name in enumerate(names):
        summary = summarise(per_user[name], share=is_share(name), replicates=means[:, column])
        metrics[name] = {
            "value": summary.value,
            "low": summary.low,
            "high": summary.high,
            "n": summary.n,
            "method": f"full catalogue, {seen}" + (f"; {summary.note}" if summary.note else ""),
        }
    if not data.exclude_seen:
        metrics.update(_by_novelty(per_user, data))
    replicates = {name: [round(float(value), DIGITS) for value in means[:, names.index(name)]] for name in REPLICATE_METRICS}
    return metrics, {"seed": BOOTSTRAP_SEED, **replicates}


def states_before_target(cell: Cell, model: SequentialRecommender, data: LeaveOneOut) -> torch.Tensor:
    """User vectors before the test target: of the joint pass, or from caches where the cell changes what these hold."""
    if not changed_at_evaluation(cell):
        return user_states(model, data, "test", time_bias=cell.time_bias)
    serving = Serving(
        new_caches=lambda: CacheStore(layout=model.layout, dtype=cell.cache_dtype),
        staleness=cell.staleness,
        ablation=cell.ablation,
        seed=cell.seed,
    )
    return served_states(model, data, "test", serving=serving, time_bias=cell.time_bias)


def validation_figure(model: SequentialRecommender, data: LeaveOneOut, *, time_bias: bool, tokens: int | None) -> Callable[[], float]:
    """NDCG@10 on the validation targets, NaN where a vector is not finite; an elastic model is asked with ``tokens`` experts."""

    def validate() -> float:
        if tokens is not None and isinstance(model.compression, Experts):
            model.compression.use(tokens)
        with evaluating(model):
            states, features = user_states(model, data, "validation", time_bias=time_bias), model.item_features()
        if not bool(states.isfinite().all() and features.isfinite().all()):
            return math.nan
        ranks = target_ranks(states, features, data.targets("validation"), data.seen("validation"))
        return float(metric_values(ranks)["ndcg@10"].mean())

    return validate


def _by_novelty(per_user: dict[str, np.ndarray], data: LeaveOneOut) -> dict[str, Any]:
    """Recall and NDCG at 10 over targets that the user had before, and over those that are new."""
    past = data.past("test")
    repeats = repeat_mask(data.targets("test"), (past.offsets, past.items))
    metrics = {}
    for kind, rows in (("repeat", repeats), ("novel", ~repeats)):
        for name in ("recall@10", "ndcg@10"):
            summary = summarise(per_user[name][rows], share=is_share(name))
            method = "full catalogue, seen items kept" + (f"; {summary.note}" if summary.note else "")
            method = method if summary.n else f"no user's target is {kind}"
            metrics[f"{name}_{kind}"] = {"value": summary.value, "low": summary.low, "high": summary.high, "n": summary.n, "method": method}
    return metrics

"""Ranking quality over the whole catalogue, with bootstrap intervals over users."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cell import Cell, InvalidMeasurementError, changed_at_evaluation
from benchmarks.measures import CACHE_TOLERANCE, RESAMPLE_SEED, RESAMPLED, RESAMPLES
from benchmarks.probes.models import served_model
from benchmarks.probes.subject import Request, Subject
from benchmarks.probes.validation import Served, validation_figure
from persrec import names
from persrec.checkpoints.folder import load_weights
from persrec.data.interactions import InteractionLog
from persrec.data.named_protocols import PUBLISHED_PROTOCOLS, PublishedProtocol
from persrec.data.splits import Split
from persrec.data.windows import build_windows
from persrec.evaluation.floors import floor_ranks
from persrec.evaluation.metrics import Summary, bootstrap_means, is_share, is_single, metric_values, summarise, user_means
from persrec.evaluation.protocols import ranks_under
from persrec.evaluation.ranks import repeat_mask, target_ranks
from persrec.evaluation.served import Serving, served_states
from persrec.evaluation.states import repeats, user_states
from persrec.inputs import shape_of
from persrec.recommender import SequentialRecommender
from persrec.serving import CacheStore

CHECKED_USERS = 64
DIGITS = 7  # of a replicate in a record


def trained_subject(cell: Cell, log: InteractionLog, folder: Path) -> Subject:
    """A cell and its trained model, with the weights of ``folder``.

    Raises:
        CheckpointError: they are damaged, or another model's.
    """
    model = served_model(cell, log)
    load_weights(folder, model)
    return Subject(cell=cell, model=model)


def measure_quality(subject: Subject, data: Split) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """What `quality_of_ranks` says of a trained model, from what the cell serves it from, and the ranks."""
    model = subject.model
    states = states_before_target(subject.cell, model, data)
    with torch.no_grad():  # so that a text model's vectors are those kept
        features = model.item_features()
    count_scores = repeats(model, states, data, "test", history=subject.cell.history, gap=subject.cell.staleness)
    ranks = target_ranks(states, features, data.targets("test"), data.seen("test"), added=count_scores)
    quality = quality_of_ranks(ranks, data)
    if not changed_at_evaluation(subject.cell):
        request_time = subject.model.backbone.reads_next_times and subject.cell.time_bias
        quality["protocols"] = under_protocols(states, features, data, request_time=request_time, trained_under=subject.cell.protocol)
    return quality, ranks


def under_protocols(
    states: torch.Tensor, features: torch.Tensor, data: Split, *, request_time: bool, trained_under: str
) -> list[dict[str, Any]]:
    """Recall and NDCG of a trained model under each published protocol that goes with the data.

    Args:
        states: ``[E, D]`` before the test targets.
        features: ``[V, D]``.
        data: the split that it was trained on.
        request_time: whether the model knew the time of the request.
        trained_under: the protocol of the data; of a published one the data have no other's items.
    """
    if not data.exclude_seen or data.name != names.LEAVE_ONE_OUT:
        return []
    protocols = [protocol for protocol in PUBLISHED_PROTOCOLS if trained_under in (names.OWN_PROTOCOL, protocol.name)]
    results = [_under(protocol, states, features, data, request_time=request_time) for protocol in protocols]
    return [result for result in results if result["metrics"]]  # a small log may have no target under a protocol


def _under(protocol: PublishedProtocol, states: torch.Tensor, features: torch.Tensor, data: Split, *, request_time: bool) -> dict[str, Any]:
    result = ranks_under(protocol, states, features, data)
    means = {name: float(values.mean()) for name, values in metric_values(result.ranks).items() if len(values)}
    method = f"full catalogue of {result.items} items, protocol {protocol.name}"
    return {
        "name": protocol.name,
        "items": result.items,
        "asks_request_time": protocol.request_time,
        "request_time": request_time,
        "metrics": {name: {"value": value, "n": len(result.ranks), "method": method} for name, value in means.items()},
    }


def validation_as_used(subject: Subject, data: Split, *, best: float | None) -> float | None:
    """NDCG@10 on the validation targets of the model as the cell uses it, by which configurations are chosen.

    Args:
        subject: the cell and its trained model.
        data: its data.
        best: the figure of the kept weights in training: that of the cell, unless one model serves several.

    Returns:
        None where the cell changes what a trained model is served from: such a cell answers a question and is not chosen.
    """
    if changed_at_evaluation(subject.cell):
        return None
    cell = subject.cell
    if cell.training != "elastic":
        return best
    served = Served(tokens=cell.tokens if cell.token_counts else None, history=cell.history if cell.history_lengths else None)
    figure = validation_figure(subject.model, data, time_bias=cell.time_bias, served=(served,))()
    return figure if math.isfinite(figure) else None


def measure_floor(cell: Cell, data: Split) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """What `quality_of_ranks` says of a baseline that learns nothing, and the ranks."""
    past = data.past("test")
    ranks = floor_ranks(
        cell.backbone,
        train_counts=data.train_counts(),
        past=(past.offsets, past.items),
        targets=data.targets("test"),
        seen=data.seen("test"),
    )
    return quality_of_ranks(ranks, data), ranks


@torch.no_grad()
def check_cache(subject: Subject, data: Split) -> float | None:
    """Largest gap between scores from the cache and from the joint pass, counts among them, for some real users; None without a cache.

    A server that keeps recent items is held to it on full windows of random items, since not every user has so many.

    Raises:
        InvalidMeasurementError: the gap is above `CACHE_TOLERANCE`.
    """
    if not subject.from_cache:
        return None
    if subject.cell.serving == "append":
        request = subject.request(CHECKED_USERS)
        cache, recent, recent_times = subject.appended(request)
        served, _ = subject.model.append(recent, recent_times, request.query_times, cache=cache)
    else:  # at full precision, whatever the cell keeps caches at
        request = _of_real_users(subject, data)
        recent, recent_times = request.columns(subject.layout.history, subject.layout.window)
        cache = subject.compress(request)
        served = subject.model.user_states(recent, recent_times, request.query_times, cache=cache)
    joint = subject.model.user_states(request.items, request.times, request.query_times)
    differences = (served - joint) @ subject.model.item_features().T
    of_cache, of_window = subject.model.repeats(served, recent, cache=cache), subject.model.repeats(joint, request.items)
    if of_cache is not None and of_window is not None:  # what counts add may be larger than a cosine, and rounds as it is large
        differences = differences.scatter_add(1, *of_cache).scatter_add(1, of_window[0], -of_window[1])
        differences /= of_window[1].abs().max().clamp(min=1.0)
    gap, tolerance = float(differences.abs().max()), CACHE_TOLERANCE[subject.cell.dtype]
    if not gap <= tolerance:
        raise InvalidMeasurementError(f"scores from the cache differ from the joint pass by {gap:.1e}, above {tolerance:.0e}")
    return gap


def _of_real_users(subject: Subject, data: Split) -> Request:
    """The first users' windows before their test targets."""
    shape = shape_of(subject.layout)
    users, ends = data.test.users[:CHECKED_USERS], data.test.positions[:CHECKED_USERS]
    batch = build_windows(data.sequences, users, ends, shape, history=subject.cell.history)
    items, times, query_times = (torch.from_numpy(part).to(subject.device) for part in (batch.items, batch.times, batch.query_times))
    if not subject.cell.time_bias:
        return Request(items=items, times=None, query_times=None)
    return Request(items=items, times=times, query_times=query_times)


def quality_of_ranks(ranks: np.ndarray, data: Split) -> dict[str, Any]:
    """Of test ranks ``[E]``: metrics, the bootstrap means that make records comparable user by user, and users by their history.

    A user's several targets count as their mean, so that every user counts alike.
    """
    filtering = _filtering(data)
    per_target = metric_values(ranks)
    per_user = {name: user_means(values, data.test.users) for name, values in per_target.items()}
    names, single = list(per_user), is_single(data.test.users)
    means = bootstrap_means(np.stack([per_user[name] for name in names], axis=1), RESAMPLES, RESAMPLE_SEED)
    metrics = {}
    for column, name in enumerate(names):
        summary = summarise(per_user[name], share=is_share(name) and single, replicates=means[:, column])
        metrics[name] = _metric(summary, filtering)
    if not data.exclude_seen:
        metrics.update(_by_novelty(per_target, data))
    replicates = {name: [round(float(value), DIGITS) for value in means[:, names.index(name)]] for name in RESAMPLED}
    return {"metrics": metrics, "replicates": {"seed": RESAMPLE_SEED, "means": replicates}, "groups": _by_history(per_target, data)}


def states_before_target(cell: Cell, model: SequentialRecommender, data: Split) -> torch.Tensor:
    """User vectors before the test target: of the joint pass, or from caches where the cell changes what these hold."""
    if not changed_at_evaluation(cell):
        return user_states(model, data, "test", time_bias=cell.time_bias, history=cell.history)
    serving = Serving(
        new_caches=lambda: CacheStore(layout=model.layout, dtype=cell.cache_dtype),
        history=cell.history,
        staleness=cell.staleness,
        ablation=cell.ablation,
        seed=cell.seed,
    )
    return served_states(model, data, "test", serving=serving, time_bias=cell.time_bias)


def _by_novelty(per_target: dict[str, np.ndarray], data: Split) -> dict[str, Any]:
    """Recall and NDCG at 10 over targets that the user had before, and over those that are new."""
    past = data.past("test")
    repeats = repeat_mask(data.targets("test"), (past.offsets, past.items))
    metrics: dict[str, Any] = {}
    for kind, rows in (("repeat", repeats), ("novel", ~repeats)):
        of_kind = _of_rows(per_target, rows, data, if_empty=f"no user's target is {kind}")
        metrics |= {f"{name}_{kind}": metric for name, metric in of_kind.items()}
    return metrics


def _by_history(per_target: dict[str, np.ndarray], data: Split) -> list[dict[str, Any]]:
    """Recall and NDCG at 10 by how many events come before the target, in the protocol's groups; empty ones are left out."""
    edges = (1, *(edge for edge in data.protocol.groups if edge > 1))
    groups = []
    for least, below in itertools.zip_longest(edges, edges[1:]):
        rows = (data.test.positions >= least) & (data.test.positions < (below or np.inf))
        if rows.any():
            groups.append({"least": least, "below": below, "metrics": _of_rows(per_target, rows, data, if_empty="")})
    return groups


def _of_rows(per_target: dict[str, np.ndarray], rows: np.ndarray, data: Split, *, if_empty: str) -> dict[str, Any]:
    """Recall and NDCG at 10 over some of the targets, a user's several as their mean; ``if_empty`` says why there are none."""
    users, filtering = data.test.users[rows], _filtering(data)
    metrics = {}
    for name in ("recall@10", "ndcg@10"):
        summary = summarise(user_means(per_target[name][rows], users), share=is_share(name) and is_single(users))
        metrics[name] = _metric(summary, filtering) if summary.n else _metric(summary, filtering) | {"method": if_empty}
    return metrics


def _filtering(data: Split) -> str:
    """Whether items that the user had before are ranked."""
    return "seen items left out" if data.exclude_seen else "seen items kept"


def _metric(summary: Summary, filtering: str) -> dict[str, Any]:
    """A mean over users as a record holds it."""
    method = f"full catalogue, {filtering}" + (f"; {summary.note}" if summary.note else "")
    return {"value": summary.value, "low": summary.low, "high": summary.high, "n": summary.n, "method": method}

"""What a small model makes of a log's older items: trained once in minutes, then asked with them, without, shuffled and aged.

One full-attention HSTU is trained with its history and without, in turn, so the same weights answer all questions. What it gains by the
older items is a hint and no bound: one small model, one seed. A larger one may gain more.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch

from benchmarks.audit.history import mean_with_interval
from benchmarks.audit.record import Asked, SmallModel
from benchmarks.probes.validation import Served, validation_figure
from persrec import names
from persrec.backbones import BackboneSettings, build_backbone
from persrec.compression import CompressionSettings, build_compression
from persrec.counting import CountingOutput
from persrec.data.splits import Split
from persrec.evaluation.metrics import metric_values, user_means
from persrec.evaluation.ranks import target_ranks
from persrec.evaluation.served import Serving, served_states
from persrec.evaluation.states import repeats, user_states
from persrec.items.ids import ItemEmbedding
from persrec.recommender import SequentialRecommender
from persrec.serving import CacheStore
from persrec.training import EpochReport, Recipe, Trainer

WIDTH, LAYERS, HISTORY, SEED = 32, 2, 112, 1
METRIC = "ndcg@10"
RECIPE = Recipe(
    learning_rate=2e-3,
    warmup_steps=100,
    decays=True,
    weight_decay=0.0,
    temperature=0.05,
    negatives=128,
    epochs=30,
    patience=2,
    targets_per_step=2048,
    time_bias=True,
    history_lengths=(0, HISTORY),
    seed=SEED,
)


def audited_model(
    split: Split, *, recent: int, recipe: Recipe = RECIPE, history: int = HISTORY, on_epoch: Callable[[EpochReport], None] | None = None
) -> SmallModel:
    """Trains the model and asks it.

    Args:
        split: what is trained on, and the test targets.
        recent: how many of the last events are recent.
        recipe: how it is trained; its lengths of the history are replaced.
        history: items before the recent ones.
        on_epoch: told of every epoch.
    """
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(recipe.seed)
    model = build_small_model(split, recent=recent, history=history)
    settings = dataclasses.replace(recipe, history_lengths=(0, history))
    validate = validation_figure(model, split, time_bias=recipe.time_bias, served=(Served(history=0), Served(history=history)))
    result = Trainer(model=model, data=split, recipe=settings, validate=validate, on_epoch=on_epoch).run()
    values = {name: ask(model, split, recipe.time_bias) for name, ask in _questions(recent).items()}
    without = values["without"]
    answers = {}
    for name, figures in values.items():
        gain, low, high = mean_with_interval(figures - without, seed=SEED)
        answers[name] = Asked(ndcg=float(figures.mean()), gain=gain, low=low, high=high)
    return SmallModel(
        width=WIDTH,
        layers=LAYERS,
        history=history,
        recent=recent,
        counts=model.counting is not None,
        seed=recipe.seed,
        steps=result.steps,
        converged=result.converged,
        seconds=result.train_seconds,
        asked=answers,
    )


def build_small_model(split: Split, *, recent: int, history: int) -> SequentialRecommender:
    """HSTU with full attention, untrained; where users repeat items its output counts them."""
    compression = build_compression("full", CompressionSettings(history=history, recent=recent, segments=1, tokens=0, width=WIDTH))
    backbone = BackboneSettings(width=WIDTH, layers=LAYERS, heads=1, length=compression.layout.length, dropout=0.2)
    counting = None if split.exclude_seen else CountingOutput(width=WIDTH, counted=names.COUNTS[2])
    items = ItemEmbedding(count=split.num_items, width=WIDTH)
    return SequentialRecommender(items=items, backbone=build_backbone("hstu", backbone), compression=compression, counting=counting)


Values = np.ndarray
Ask = Callable[[SequentialRecommender, Split, bool], Values]


def _questions(recent: int) -> Mapping[str, Ask]:
    """NDCG@10 of each user, by what the model is asked with."""
    return MappingProxyType({
        "without": lambda model, split, timed: _joint(model, split, timed, history=0),
        "with": lambda model, split, timed: _joint(model, split, timed, history=None),
        "shuffled": lambda model, split, timed: _from_cache(model, split, timed, ablation="shuffled_history"),
        "aged": lambda model, split, timed: _from_cache(model, split, timed, staleness=recent),
    })  # fmt: skip


def _joint(model: SequentialRecommender, split: Split, timed: bool, *, history: int | None) -> Values:
    return _ranked(model, split, user_states(model, split, "test", time_bias=timed, history=history), history=history)


def _from_cache(model: SequentialRecommender, split: Split, timed: bool, *, ablation: str = "none", staleness: int = 0) -> Values:
    serving = Serving(new_caches=lambda: CacheStore(layout=model.layout), ablation=ablation, staleness=staleness, seed=SEED)
    return _ranked(model, split, served_states(model, split, "test", serving=serving, time_bias=timed), gap=staleness)


@torch.no_grad()
def _ranked(model: SequentialRecommender, split: Split, states: torch.Tensor, *, history: int | None = None, gap: int = 0) -> Values:
    added = repeats(model, states, split, "test", history=history, gap=gap)
    ranks = target_ranks(states, model.item_features(), split.targets("test"), split.seen("test"), added=added)
    return user_means(metric_values(ranks)[METRIC], split.test.users)

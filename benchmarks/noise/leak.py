"""A mask that shows each item the next one, planted in every backbone and kernel, and the law of causality that must see it.

A model with such a mask trains to a loss near 0 and serves nothing: at a request there is no next item to look at.
"""

import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.cell import Cell
from benchmarks.noise.record import Planted
from benchmarks.probes.models import build_model
from persrec import names
from persrec.names import Kernel
from persrec.nn.attention.visible import keys_seen
from persrec.recommender import SequentialRecommender

ITEMS, USERS, CHANGED = 60, 4, 6  # the last `CHANGED` items are drawn anew
TOLERANCE = 1e-5  # in float32, an item that is not seen changes nothing by more
KERNELS: tuple[Kernel, ...] = ("naive", "segmented")  # that compute on a CPU


def leaks() -> Planted:
    """How often the planted mask is seen; a backbone that already breaks the law counts as missed."""
    trials = [(backbone, kernel) for backbone in names.backbones() for kernel in KERNELS]
    hits = 0
    for backbone, kernel in trials:
        model = small_model(backbone, kernel)
        sound = change_before(model) <= TOLERANCE
        with _leaking():
            hits += sound and change_before(model) > TOLERANCE
    return Planted(
        planted="a mask that shows the next item, in each backbone and kernel, held against the law of causality",
        trials=len(trials),
        found=hits,
    )


@torch.no_grad()
def change_before(model: SequentialRecommender) -> float:
    """How much the states before some last items change at most when these are drawn anew: 0 but for rounding, by causality.

    The contract tests hold every backbone to it, too (``tests/contracts/test_causality.py``).
    """
    window = model.layout.window
    random = np.random.default_rng(1)
    items = torch.from_numpy(random.integers(1, ITEMS, (USERS, window)))
    other = items.clone()
    other[:, -CHANGED:] = other[:, -CHANGED:] % (ITEMS - 1) + 1
    states, columns = model.hidden_states(items)
    changed, _ = model.hidden_states(other)
    before = torch.as_tensor(columns) < window - CHANGED
    return float((changed[:, before] - states[:, before]).abs().max())


@torch.no_grad()
def small_model(backbone: str, kernel: Kernel) -> SequentialRecommender:
    """One with tokens, whose attention is computed by this kernel."""
    cell = Cell(backbone=backbone, compression="experts", history=12, recent=8, tokens=2, width=16, layers=2, heads=2, time_bias=False)
    texts = [f"item {number}" for number in range(ITEMS)]
    model = build_model(cell, ITEMS, texts, None)
    model.use_kernel(kernel)
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.normal_(std=0.3, generator=generator)  # some start at 0, and a layer that adds nothing shows nothing
    return model.eval()


@contextmanager
def _leaking() -> Iterator[None]:
    """While it lasts, each query also sees the key behind its own, whichever kernel computes."""
    attention = "persrec.nn.attention"
    start = pkgutil.resolve_name(f"{attention}.softmax:_AdditiveMask").write

    def show_next(block: Any, values: torch.Tensor) -> torch.Tensor:
        values[..., block.own].tril_(1)
        return values

    def start_with_next(mask: Any, block: Any, scores: torch.Tensor) -> torch.Tensor:
        start(mask, block, scores)[..., block.own].diagonal(offset=1, dim1=1, dim2=2).zero_()
        return scores

    with (
        patch(f"{attention}.naive.keys_seen", lambda query, prefix: keys_seen(query, prefix) + 1),
        patch(f"{attention}.blocks.Block.hide_later", show_next),
        patch(f"{attention}.softmax._AdditiveMask.write", start_with_next),
    ):
        yield

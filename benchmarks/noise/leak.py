"""A mask that shows each item the next one, planted in every backbone, and the law of causality that must see it.

A model with such a mask trains to a loss near 0 and serves nothing: at a request there is no next item to look at.
"""

from contextlib import AbstractContextManager
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.cell import Cell
from benchmarks.noise.record import Planted
from benchmarks.probes.models import build_model
from persrec import names
from persrec.nn.attention.visible import keys_seen
from persrec.recommender import SequentialRecommender

ITEMS, USERS, CHANGED = 60, 4, 6  # the last so many items are drawn anew
TOLERANCE = 1e-5  # METHOD: in float32, what is not seen changes nothing by more


def leaks() -> Planted:
    """How many backbones the planted mask is seen in; a backbone that already breaks the law counts as missed."""
    found = 0
    backbones = list(names.backbones())
    for backbone in backbones:
        model = _model(backbone)
        sound = change_before(model) <= TOLERANCE
        with _leaking():
            found += sound and change_before(model) > TOLERANCE
    return Planted(
        planted="a mask that shows the next item, in each backbone, held against the law of causality", trials=len(backbones), found=found
    )


@torch.no_grad()
def change_before(model: SequentialRecommender) -> float:
    """How much the states before some last items change at most when these are drawn anew: 0 but for rounding, by causality."""
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
def _model(backbone: str) -> SequentialRecommender:
    """A small one with tokens, computed with the dense mask, which is what leaks."""
    cell = Cell(backbone=backbone, compression="experts", history=12, recent=8, tokens=2, width=16, layers=2, heads=2, time_bias=False)
    texts = [f"item {number}" for number in range(ITEMS)]
    model = build_model(cell, ITEMS, texts, None)
    model.use_kernel("naive")
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.normal_(std=0.3, generator=generator)  # some start at 0, and a layer that adds nothing shows nothing
    return model.eval()


def _leaking() -> AbstractContextManager[object]:
    """While it lasts, each query of the dense mask also sees the key behind its own."""
    return patch("persrec.nn.attention.naive.keys_seen", lambda query, prefix: keys_seen(query, prefix) + 1)

"""Every backbone with every compression computes, learns, compresses and serves in bfloat16, and in nothing else."""

import numpy as np
import pytest
import torch
from small_models import BACKBONE_NAMES, CASES, ITEMS, PART_OF, build, random_windows

from persrec.evaluation.ranks import target_ranks
from persrec.losses import sampled_softmax
from persrec.names import CACHE_PRECISIONS
from persrec.serving import CacheStore

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.parametrize("backbone", BACKBONE_NAMES)]

ONE_OF_EACH = sorted({part.name: case for case, part in PART_OF.items()}.values())
NEAR = 0.1  # on cosines, after a few roundings to 8 bits


@pytest.fixture(autouse=True)
def doubles_by_default():
    """A tensor that is made without the inputs' type would be a double, and not fit."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def in_bfloat16(backbone, case):
    return build(backbone, CASES[case](), seed=3).to(torch.bfloat16)


@pytest.mark.parametrize("kernel", ["segmented", "naive"])
@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_a_joint_pass_and_its_gradients(backbone, case, kernel):
    model, exact = in_bfloat16(backbone, case), build(backbone, CASES[case](), seed=3)
    model.use_kernel(kernel)
    items, times, query_time = random_windows(model.layout, seed=1)
    with torch.no_grad():
        scores = model.score(items, times, query_time)
        assert scores.dtype == torch.bfloat16
        assert (scores.float() - exact.score(items, times, query_time)).abs().max() < NEAR
    states, columns = model.hidden_states(items, times, query_time)
    assert states.dtype == torch.bfloat16
    ids, everything = items[:, columns], torch.arange(1, ITEMS)
    items_of = model.items.lookup
    loss = sampled_softmax(states[ids > 0], items_of(ids[ids > 0]), items_of(everything), ids[ids > 0], everything, temperature=0.2)
    loss.backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert {gradient.dtype for gradient in gradients} == {torch.bfloat16}
    assert all(gradient.isfinite().all() for gradient in gradients)


@torch.no_grad()
def test_ranks_where_the_output_counts(backbone):
    model = build(backbone, CASES["recent"](), seed=3, counts="all").to(torch.bfloat16)
    items, times, query_time = random_windows(model.layout, seed=1)
    items = items[items.ne(0).any(1)]
    times, query_time = times[: len(items)], query_time[: len(items)]
    states = model.user_states(items, times, query_time)
    ids, more = model.repeats(states, items)
    assert more.dtype == torch.bfloat16
    targets = np.full(len(items), 3)
    ranks = target_ranks(states, model.item_features(), targets, added=lambda rows: (ids[rows], more[rows]))
    scores = (states.float() @ model.item_features().float().T).scatter_add(1, ids, more.float())
    assert ranks.tolist() == (scores[:, 1:] > scores[:, 3:4]).sum(1).add(1).tolist()


@pytest.mark.parametrize("case", [case for case in ONE_OF_EACH if PART_OF[case].needs_history and not PART_OF[case].chooses_at_request])
@torch.no_grad()
def test_a_cache_and_what_is_served_from_it_at_every_precision(backbone, case):
    model = in_bfloat16(backbone, case)
    items, times, query_time = random_windows(model.layout, seed=1)
    history = model.layout.history
    asks = (items[:, history:] != 0).any(1)
    joint = model.score(items, times, query_time)[asks]
    cache = model.compress(items[asks, :history], times[asks, :history])
    caches = [cache]
    users = list(range(int(asks.sum())))
    for precision in CACHE_PRECISIONS:
        store = CacheStore(layout=model.layout, dtype=precision)
        store.put_each(users, cache)
        caches.append(store.get(users))
    for stored in caches:
        assert {tensor.dtype for tensor in stored.tensors} <= {torch.bfloat16}
        served = model.score(items[asks, history:], times[asks, history:], query_time[asks], cache=stored)
        assert served.dtype == torch.bfloat16
        assert (served - joint).abs().max() < NEAR

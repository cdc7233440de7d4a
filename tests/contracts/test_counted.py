"""A model that counts: cached, extended and appended are the joint pass's scores, and counts are no tokens. Every backbone, compression."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from small_models import BACKBONE_NAMES, CACHED, CASES, ITEMS, PART_OF, TOLERANCE, build, random_windows

from persrec.evaluation.ranks import target_ranks, target_ranks_from_scores
from persrec.serving import CacheStore, recommend

pytestmark = pytest.mark.usefixtures("one_thread")
counted = pytest.mark.parametrize("counts", ["recent", "all"])
PAIRS = [(backbone, case) for number, (backbone, case) in enumerate(itertools.product(BACKBONE_NAMES, CACHED)) if number % 3 != 1]
# the output reads a state and ids, and knows no backbone: two pairs of three are enough for every case and every backbone


@counted
@pytest.mark.parametrize(("backbone", "case"), PAIRS)
@torch.no_grad()
def test_scores_from_a_cache_are_the_joint_pass(backbone, case, counts):
    model = build(backbone, CASES[case](), counts=counts)
    items, times, query_time = random_windows(model.layout)
    history, recent = items[:, : model.layout.history], items[:, model.layout.history :]
    recent[recent.eq(0).all(1), 0] = 3
    joint = model.score(items, times, query_time)
    past, since = times[:, : model.layout.history], times[:, model.layout.history :]
    torch.testing.assert_close(model.score(recent, since, query_time, cache=model.compress(history, past)), joint, **TOLERANCE)
    cache = model.compress(history[:, : model.layout.offsets[0]], past[:, : model.layout.offsets[0]])
    for start, stop in itertools.pairwise(model.layout.offsets):
        cache = model.extend(cache, history[:, start:stop], past[:, start:stop])
    torch.testing.assert_close(model.score(recent, since, query_time, cache=cache), joint, **TOLERANCE)
    store = CacheStore(layout=model.layout)
    store.put_each(range(len(items)), cache)
    torch.testing.assert_close(model.score(recent, since, query_time, cache=store.get(range(len(items)))), joint, **TOLERANCE)


@torch.no_grad()
def test_a_store_keeps_counts_the_bytes_of_the_ids_and_each_user_its_own(tmp_path):
    model = build("hstu", CASES["3 segments"](), counts="all")
    items, times, query_time = random_windows(model.layout, holes=False)
    history, since = items[:, : model.layout.history], times[:, model.layout.history :]
    cache, recent = model.compress(history, times[:, : model.layout.history]), items[:, model.layout.history :]
    store = CacheStore(layout=model.layout)
    store.put_each(range(len(items)), cache)
    plain = CacheStore(layout=model.layout)
    plain.put_each(range(len(items)), dataclasses.replace(cache, items=None))
    assert store.nbytes - plain.nbytes == 4 * history.numel()
    store.save(tmp_path / "store")
    loaded = CacheStore.load(tmp_path / "store", layout=model.layout)
    order = [2, 0, 1]
    assert torch.equal(loaded.get(order).items.long(), history[order])
    assert torch.equal(cache.of_users(torch.tensor(order)).items.long(), history[order])
    found = model.score(recent[order], since[order], query_time[order], cache=loaded.get(order))
    torch.testing.assert_close(found, model.score(items, times, query_time)[order], **TOLERANCE)
    with pytest.raises(ValueError, match="ids that are counted"):
        store.put("another", dataclasses.replace(cache.of_users(torch.tensor([0])), items=None))


@counted
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize(("backbone", "case"), PAIRS)
@torch.no_grad()
def test_appended_requests_count_as_the_joint_pass_does(backbone, case, timed, counts):
    model = build(backbone, CASES[case](), counts=counts)
    items, times, _ = random_windows(model.layout, holes=False)
    history = model.layout.history
    cache = model.compress(items[:, :history], times[:, :history] if timed else None)
    for stop in range(history + 1, model.layout.window + 1):
        known = history + cache.recent
        query_time = times[:, stop - 1] + 60 if timed else None
        new, new_times = items[:, known:stop], times[:, known:stop] if timed else None
        users, kept = model.append(new, new_times, query_time, cache=cache)
        found = recommend(users, model.item_features(), count=ITEMS, repeats=model.repeats(users, new, cache=cache))
        cut = torch.where(torch.arange(items.shape[1]) < stop, items, 0)
        joint = model.score(cut, torch.where(cut > 0, times, 0) if timed else None, query_time)
        torch.testing.assert_close(found[1], joint[:, 1:].sort(descending=True).values, **TOLERANCE)
        cache = kept


@pytest.mark.parametrize("case", ["full", "1 expert", "memory"])
@torch.no_grad()
def test_a_cache_holds_the_history_s_ids_where_they_are_counted(case):
    history = torch.ones(2, 9).long()
    plain, recent, whole = (build("sasrec", CASES[case](), counts=counts).compress(history) for counts in ("none", "recent", "all"))
    assert plain.items is None
    assert recent.items is None
    assert whole.nbytes_per_user == plain.nbytes_per_user + 4 * 9


@torch.no_grad()
def test_no_token_counts_recent_items_alone_and_counts_only_the_history_too():
    """Behind the experts' layout without a token an item of the history changes nothing, unless it is counted."""
    for counts, changes in (("recent", False), ("all", True)):
        model = build("hstu", CASES["no expert"](), counts=counts)
        items, _, _ = random_windows(model.layout, holes=False)
        other = items.clone()
        other[:, 0] = items[:, 0] % (ITEMS - 1) + 1
        assert torch.equal(model.score(items), model.score(other)) != changes


@torch.no_grad()
def test_random_tokens_leave_the_counts_true():
    """What is counted comes from the ids, whatever keys and values a cache holds."""
    model = build("sasrec", CASES["1 expert"](), counts="all")
    items, _, _ = random_windows(model.layout, holes=False)
    cache = model.compress(items[:, : model.layout.history])
    noise = torch.Generator().manual_seed(7)
    cache = dataclasses.replace(
        cache, layers=tuple(tuple(torch.randn(one.shape, generator=noise) for one in kept) for kept in cache.layers)
    )
    recent = items[:, model.layout.history :]
    users = model.user_states(recent, cache=cache)
    assert not torch.allclose(users, model.user_states(items), atol=1e-3)
    added = model.repeats(users, recent, cache=cache)
    window = model.repeats(users, items)
    for ids, values in zip(torch.stack([added[0], window[0]]), torch.stack([added[1], window[1]]), strict=True):
        order = ids.argsort(dim=1)
        torch.testing.assert_close(values.gather(1, order), window[1].gather(1, window[0].argsort(dim=1)))


def test_a_cache_of_a_model_that_does_not_count_is_refused():
    plain, counting = (build("sasrec", CASES["1 expert"](), counts=counts) for counts in ("none", "all"))
    cache = plain.compress(torch.ones(1, 9).long())
    with pytest.raises(ValueError, match="cache: holds no ids of its items"):
        counting.score(torch.ones(1, 2).long(), cache=cache)
    with pytest.raises(ValueError, match="model: it has no counting output"):
        plain.repeats_in_window(torch.zeros(1, 1, 8), torch.ones(1, 3).long(), torch.tensor([0]))


@pytest.mark.parametrize("item_block", [5, None])
@torch.no_grad()
def test_ranks_with_counts_are_those_of_the_scores(item_block):
    model = build("sasrec", CASES["full"](), counts="all")
    items, _, _ = random_windows(model.layout, holes=False)
    users, targets = model.user_states(items), np.array([3, 7, 1, 22])
    ids, values = model.repeats(users, items)
    found = target_ranks(
        users, model.item_features(), targets, added=lambda rows: (ids[rows], values[rows]), item_block=item_block, block=3
    )
    assert found.tolist() == target_ranks_from_scores(model.score(items), targets).tolist()


def test_every_case_is_drawn():
    assert {case for _, case in PAIRS} == set(CACHED)
    assert {backbone for backbone, _ in PAIRS} == set(BACKBONE_NAMES)
    assert {PART_OF[case].name for _, case in PAIRS} == {PART_OF[case].name for case in CACHED}

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from persrec.evaluation.ranks import repeat_mask, target_ranks, target_ranks_from_scores, tie_order


def naive_ranks(scores, targets, seen):
    """A full sort of each user's items: by score, then by hash; padding and seen items, the target excepted, are not in it."""
    hashes = tie_order(scores.shape[1]).tolist()
    ranks = []
    for user, target in enumerate(targets):
        left_out = set() if seen is None else set(seen[1][seen[0][user] : seen[0][user + 1]].tolist())
        items = [item for item in range(1, scores.shape[1]) if item == target or item not in left_out]
        items.sort(key=lambda item, user=user: (-scores[user, item], hashes[item]))
        ranks.append(items.index(target) + 1)
    return ranks


def case(n, V, D, seed, distinct=3, with_seen=True):
    """Vectors of few small whole numbers: products are exact in float32, and ties are many."""
    random = np.random.Generator(np.random.PCG64(seed))
    users = random.integers(-distinct, distinct + 1, size=(n, D)).astype(np.float32)
    items = random.integers(-distinct, distinct + 1, size=(V, D)).astype(np.float32)
    targets = random.integers(1, V, size=n)
    counts = random.integers(0, 2 * V, size=n)  # repeated items, the target and padding among them
    seen = (np.concatenate([[0], np.cumsum(counts)]), random.integers(0, V, size=counts.sum())) if with_seen else None
    return users, items, targets, seen


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 9),
    V=st.integers(2, 23),
    seed=st.integers(0, 10_000),
    block=st.integers(1, 11),
    item_block=st.integers(1, 25),
    with_seen=st.booleans(),
)
def test_ranks_are_those_of_a_full_sort_whatever_the_blocks(n, V, seed, block, item_block, with_seen):
    users, items, targets, seen = case(n, V, 2, seed, distinct=1, with_seen=with_seen)
    expected = naive_ranks(users @ items.T, targets, seen)
    found = target_ranks(torch.from_numpy(users), torch.from_numpy(items), targets, seen, block=block, item_block=item_block)
    assert found.tolist() == expected
    assert found.dtype == np.int64
    assert target_ranks_from_scores(users @ items.T, targets, seen, block=block, item_block=item_block).tolist() == expected


@pytest.mark.parametrize("item_block", [None, 1024, 1000, 257])
@pytest.mark.parametrize("distinct", [1, 40])
def test_counts_of_a_large_catalogue_are_those_of_the_definition(item_block, distinct):
    # whole and part words of flags, more above a target than a byte counts, ties with each score or with few
    n, V = 21, 3001
    users, items, targets, seen = case(n, V, 2, seed=5, distinct=distinct)
    scores, hashes = users @ items.T, tie_order(V)
    rows = np.repeat(np.arange(n), np.diff(seen[0]))
    ranked = np.ones((n, V), dtype=bool)
    ranked[rows, seen[1]] = ranked[:, 0] = False
    own = scores[np.arange(n), targets][:, None]
    earlier = (scores > own) | ((scores == own) & (hashes[None, :] < hashes[targets][:, None]))
    expected = 1 + (earlier & ranked).sum(axis=1)
    given = [torch.from_numpy(vectors) for vectors in (users, items)]
    assert target_ranks(*given, targets, seen, block=8, item_block=item_block).tolist() == expected.tolist()
    assert target_ranks_from_scores(scores, targets, seen, block=8, item_block=item_block).tolist() == expected.tolist()


def test_random_unit_vectors_rank_as_a_sort_of_their_float64_scores():
    random = torch.Generator().manual_seed(0)
    users = torch.nn.functional.normalize(torch.randn(70, 48, generator=random), dim=1)
    items = torch.nn.functional.normalize(torch.randn(501, 48, generator=random), dim=1)
    targets = np.random.Generator(np.random.PCG64(0)).integers(1, 501, size=70)
    expected = naive_ranks((users.double() @ items.double().T).numpy(), targets, None)
    for block, item_block in ((512, 16_384), (32, 100), (7, 33)):
        assert target_ranks(users, items, targets, block=block, item_block=item_block).tolist() == expected


@pytest.mark.parametrize("item_block", [16_384, 501, 500, 128, 37])
@pytest.mark.parametrize("width", [48, 50, 129])
def test_items_of_equal_vectors_tie_wherever_they_stand(item_block, width):
    # products of equal vectors differ in their last bits from tile to tile; ranks must follow the hash alone
    random = torch.Generator().manual_seed(width)
    users = torch.nn.functional.normalize(torch.randn(37, width, generator=random), dim=1)
    items = torch.nn.functional.normalize(torch.randn(1, width, generator=random), dim=1).repeat(501, 1)
    targets = np.arange(1, 38) * 13
    by_hash = sorted(range(1, 501), key=tie_order(501).tolist().__getitem__)
    found = target_ranks(users, items, targets, block=16, item_block=item_block)
    assert found.tolist() == [by_hash.index(target) + 1 for target in targets.tolist()]


def test_the_target_is_never_left_out_and_the_padding_never_ranked():
    scores = np.array([[9.0, 1.0, 2.0, 3.0]])
    assert target_ranks_from_scores(scores, np.array([1])).tolist() == [3]
    assert target_ranks_from_scores(scores, np.array([1]), (np.array([0, 2]), np.array([1, 3]))).tolist() == [2]


def test_one_row_of_scores_serves_all_users():
    scores = np.array([[0.0, 1.0, 2.0, 3.0]])
    assert target_ranks_from_scores(scores, np.array([1, 2, 3, 3])).tolist() == [3, 2, 1, 1]


def test_scores_that_came_are_not_changed():
    scores = np.array([[9.0, 1.0, 2.0, 3.0]])
    target_ranks_from_scores(scores, np.array([1]), (np.array([0, 1]), np.array([3])))
    assert scores.tolist() == [[9.0, 1.0, 2.0, 3.0]]


def test_autocast_does_not_blur_the_scores():
    random = torch.Generator().manual_seed(1)
    users, items = (torch.nn.functional.normalize(torch.randn(n, 16, generator=random), dim=1) for n in (20, 400))
    targets = np.arange(1, 21)
    expected = target_ranks(users, items, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert target_ranks(users, items, targets).tolist() == expected.tolist()


def test_no_users_have_no_ranks():
    assert target_ranks(torch.zeros(0, 3), torch.zeros(5, 3), np.zeros(0, dtype=np.int64)).tolist() == []


def test_the_tie_order_is_fixed_and_is_not_the_order_of_ids():
    order = tie_order(100_000)
    assert len(np.unique(order)) == 100_000
    assert np.array_equal(order[:1000], tie_order(1000))  # of an id, whatever the catalogue
    # splitmix64 seeded with 0: its first two outputs, as unsigned numbers
    assert order[:2].view(np.uint64).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    places = np.empty(100_000)
    places[np.argsort(order)] = np.arange(100_000)
    assert abs(np.corrcoef(places, np.arange(100_000))[0, 1]) < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": torch.full((3, 2), torch.nan)}, "users: holds NaN"),
        ({"items": torch.full((5, 2), torch.inf)}, "items: holds NaN or infinity"),
        ({"items": torch.zeros(5, 3)}, r"items: shape \(5, 3\)"),
        ({"users": torch.zeros(2, 2)}, "users: 2 for 3 targets"),
        ({"targets": np.array([0, 1, 2])}, r"targets: .* expected item ids in 1\.\.4"),
        ({"targets": np.array([1, 2, 5])}, r"expected item ids in 1\.\.4"),
        ({"seen": (np.array([0, 1]), np.array([1]))}, r"seen: offsets of shape \(2,\); expected 4"),
        ({"seen": (np.array([0, 1, 1, 1]), np.array([1, 2]))}, "ascending from 0 to 2"),
        ({"seen": (np.array([0, 1, 1, 1]), np.array([5]))}, r"seen: item ids 5\.\.5 leave 0\.\.4"),
        ({"block": 0}, "block: 0 users"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, message):
    arguments = {"users": torch.zeros(3, 2), "items": torch.zeros(5, 2), "targets": np.array([1, 2, 3])} | change
    with pytest.raises(ValueError, match=message):
        target_ranks(**arguments)


def test_scores_that_are_not_finite_are_refused():
    # a NaN compares as neither higher nor equal: such a target would rank first
    with pytest.raises(ValueError, match="scores: hold NaN or infinity"):
        target_ranks_from_scores(np.array([[0.0, np.nan]]), np.array([1]))
    with pytest.raises(ValueError, match="scores: hold NaN or infinity"):
        target_ranks_from_scores(np.array([[np.inf, -np.inf]]), np.array([1]))
    with pytest.raises(ValueError, match=r"scores: shape \(2, 2\); expected \(3, V\) or \(1, V\)"):
        target_ranks_from_scores(np.zeros((2, 2)), np.array([1, 1, 1]))


def test_finite_scores_of_any_size_are_ranked():
    largest = np.finfo(np.float32).max  # their sum is infinite, they are not
    assert target_ranks_from_scores(np.array([[0, largest, largest / 2, largest]], dtype=np.float32), np.array([2])).tolist() == [3]


def test_repeat_targets_are_those_among_the_past():
    past = (np.array([0, 2, 2, 5]), np.array([4, 7, 3, 3, 1]))
    assert repeat_mask(np.array([7, 7, 3]), past).tolist() == [True, False, True]
    assert repeat_mask(np.array([3, 4, 2]), past).tolist() == [False, False, False]

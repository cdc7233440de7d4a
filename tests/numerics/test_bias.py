"""HSTU's relative bias: blocks of it and their gradients against the definition, and the buckets of time differences."""

import math

import pytest
import torch
from attention_inputs import TIMES, random_pairs, with_unknown
from hypothesis import given
from hypothesis import strategies as st

from persrec.nn.attention import bias as bias_module
from persrec.nn.attention.bias import BUCKET_WIDTH, TIME_BUCKETS, UNKNOWN_TIME, Bias, Pairs, TableGradients, bucket_starts, time_buckets
from persrec.nn.attention.naive import causal_mask
from persrec.nn.attention.visible import keys_seen
from persrec.nn.cache import Chunk, empty_cache
from persrec.nn.context import Context
from persrec.nn.positions import RelativeBias, pairs_of

pytestmark = pytest.mark.usefixtures("one_thread")

CLOSE = {"rtol": 0, "atol": 1e-6}  # in float64, so that no sum's order matters


@given(
    users=st.integers(1, 3),
    queries=st.integers(1, 40),
    prefix=st.integers(0, 20),
    kind=st.sampled_from((None, *TIMES)),
    step=st.integers(1, 2),
    gap=st.booleans(),
    seed=st.integers(0, 9999),
    data=st.data(),
)
def test_a_block_of_the_bias_and_its_gradients_are_those_of_the_definition(users, queries, prefix, kind, step, gap, seed, data):
    random = torch.Generator().manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bias_module, "MOST_KEPT_BUCKETS", 0)
        patch.setattr(bias_module, "MOST_KEPT_DISTANCES", 0)
        pairs = random_pairs(users, queries, prefix, random=random, kind=kind, step=step)
        if gap and prefix:  # as tokens of an earlier segment stand in front of a segment's slots
            moved = pairs.key_positions.clone()
            moved[prefix:] += 7
            pairs = Pairs.of(moved[prefix:], moved, pairs.query_times, pairs.key_times)
        assert (pairs.runs is not None) == (kind in ("ascending", "unknown")) or kind == "any"
        tables = [torch.randn(200, generator=random, dtype=torch.float64), torch.randn(TIME_BUCKETS, generator=random, dtype=torch.float64)]
        leaves = [table.requires_grad_() for table in tables]
        bias = Bias(distance=leaves[0], interval=None if kind is None else with_unknown(leaves[1]), pairs=pairs)
        rows = data.draw(st.integers(0, queries - 1))
        rows = slice(rows, data.draw(st.integers(rows + 1, queries)))
        some = data.draw(st.integers(0, users - 1))
        some = slice(some, data.draw(st.integers(some + 1, users)))
        keys = slice(0, keys_seen(rows.stop - 1, prefix))
        dense = bias.dense()
        expected = (dense if len(dense) == 1 else dense[some])[:, rows, keys]
        seen = causal_mask(queries, prefix, torch.device("cpu"))[rows, keys]
        with torch.no_grad():
            block = bias.block(some, rows, keys)
        torch.testing.assert_close(block * seen, expected * seen, **CLOSE)
        slope = torch.randn(some.stop - some.start, 2, *seen.shape, generator=random, dtype=torch.float64) * seen
        sums = TableGradients(bias)
        sums.add(slope, some, rows, keys)
        gradients = torch.autograd.grad((expected[:, None] * slope).sum(), leaves, allow_unused=True)
        torch.testing.assert_close(sums.distance, gradients[0], **CLOSE)
        if kind is not None:
            torch.testing.assert_close(sums.interval[:TIME_BUCKETS], gradients[1], **CLOSE)


@pytest.mark.parametrize("times", [[-100, -50, 0, 30, 40_000], [0, 0, -7, 5, 6], [5, 6, 7, -1, 9]])
def test_times_before_1970_are_bucketed_pair_by_pair(monkeypatch, times):
    monkeypatch.setattr(bias_module, "MOST_KEPT_BUCKETS", 0)
    monkeypatch.setattr(bias_module, "MOST_KEPT_DISTANCES", 0)
    positions, seconds = torch.arange(5), torch.tensor([times])
    pairs = Pairs.of(positions, positions, seconds, seconds)
    assert pairs.runs is None
    bias = Bias(distance=torch.randn(5), interval=with_unknown(torch.randn(TIME_BUCKETS)), pairs=pairs)
    seen = causal_mask(5, 0, torch.device("cpu"))
    everything = slice(0, 1), slice(0, 5), slice(0, 5)
    torch.testing.assert_close(bias.block(*everything) * seen, bias.dense() * seen, **CLOSE)


def test_a_bucket_starts_where_the_function_says():
    starts = torch.tensor(bucket_starts())
    assert starts.tolist() == sorted(starts.tolist())
    at, before = (time_buckets(torch.tensor([[1]]) + difference, torch.tensor([[1]])).item() for difference in (starts[37], starts[37] - 1))
    assert (at, before) == (37, 36)
    everywhere = starts[:60]
    zero = torch.ones(1, 1, dtype=torch.int64)
    assert time_buckets(zero + everywhere, zero)[0, :, 0].tolist() == [int((starts <= start).sum()) - 1 for start in everywhere]


def bucket(query, key):
    """arXiv 2402.17152 and METHOD: floor(log(max(1, |dt|)) / 0.301), 128 buckets; an unknown time has none."""
    if query == 0 or key == 0:
        return UNKNOWN_TIME
    return min(TIME_BUCKETS - 1, math.floor(math.log(max(1, abs(query - key))) / 0.301))


def at_an_edge(query, key):
    """Whether the difference is so near to a bucket's edge that float32 may put it on either side."""
    place = math.log(max(1, abs(query - key))) / 0.301
    return place > 0.5 and abs(place - round(place)) < 1e-5


times = st.integers(0, 3) | st.integers(1, 10**5) | st.integers(1_500_000_000, 1_900_000_000)


@given(queries=st.lists(times, min_size=1, max_size=6), keys=st.lists(times, min_size=1, max_size=6))
def test_time_buckets_are_those_of_the_definition(queries, keys):
    found = time_buckets(torch.tensor([queries]), torch.tensor([keys]))
    assert (found.dtype, found.shape) == (torch.uint8, (1, len(queries), len(keys)))
    for query, row in zip(queries, found[0].tolist(), strict=True):
        for key, one in zip(keys, row, strict=True):
            assert one == bucket(query, key) or (at_an_edge(query, key) and abs(one - bucket(query, key)) == 1)


def test_time_buckets_by_hand_and_as_large_as_they_come():
    assert BUCKET_WIDTH == 0.301
    one_second, a_day, longest = 1, 86_400, 2**62
    found = time_buckets(torch.tensor([[10, 10 + one_second, 10 + a_day, 0, 10 + longest]]), torch.tensor([[10]]))
    # log(86400) / 0.301 = 37.76; 2^62 seconds would be bucket 142
    assert found[0, :, 0].tolist() == [0, 0, 37, UNKNOWN_TIME, TIME_BUCKETS - 1]


def test_time_buckets_leave_their_arguments_alone():
    queries, keys = torch.tensor([[5, 900]]), torch.tensor([[700, 0]])
    time_buckets(queries, keys)
    assert (queries.tolist(), keys.tolist()) == ([[5, 900]], [[700, 0]])


def test_the_bias_is_by_slot_distance_and_by_bucket_and_nothing_for_an_unknown_time():
    bias = RelativeBias(length=12)
    with torch.no_grad():
        bias.distance.copy_(torch.arange(12) * 100.0)
        bias.interval.copy_(torch.arange(TIME_BUCKETS) + 1.0)
    chunk = Chunk(
        inputs=torch.zeros(1, 3, 1),
        positions=torch.tensor([4, 5, 9]),
        valid=torch.ones(1, 3, dtype=torch.bool),
        key_times=torch.tensor([[1000, 1001, 0]]),
        query_times=torch.tensor([[1001, 90_000, 90_000]]),
        kept=0,
        items=3,
    )
    pairs = pairs_of(Context(chunk, empty_cache(users=1, layout="", timed=True, device=torch.device("cpu"))))
    block = bias(pairs).block(slice(None), slice(None), slice(3))[0]
    # below the diagonal and on it: 100 times the distance of slots, plus 1 + bucket where both times are known
    day = bucket(90_000, 1000)
    assert day == bucket(90_000, 1001)
    assert block.tril().tolist() == [[0 + 1, 0, 0], [100 + 1 + day, 0 + 1 + day, 0], [500 + 1 + day, 400 + 1 + day, 0]]

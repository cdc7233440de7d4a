"""Attention of few queries is the reference's, whatever the shape, the padding and the bias; and it is taken where it was meant to be."""

import dataclasses

import pytest
import torch
from attention_inputs import attention_inputs
from small_models import BACKBONE_NAMES, CASES, TOLERANCE, build, random_windows

from persrec.nn import context as context_module
from persrec.nn.attention import few as few_module
from persrec.nn.attention.blocks import row_blocks
from persrec.nn.attention.few import POINTWISE_PAIRS, are_few, few_mask, few_pointwise, few_softmax, few_weights
from persrec.nn.attention.naive import causal_mask, naive_pointwise, naive_softmax

pytestmark = pytest.mark.usefixtures("one_thread")

# rows, heads, queries, prefix, width of a head
SHAPES = [(1, 1, 1, 0, 1), (1, 4, 8, 4, 16), (3, 2, 7, 0, 3), (5, 3, 13, 9, 2), (4, 1, 1, 17, 3), (2, 2, 48, 65, 5)]
CLOSE = {"rtol": 0, "atol": 1e-9}  # in float64


def in_room(tensor):
    """The same numbers as a cache with room gives them: of each head side by side, with a gap behind."""
    rows, heads, keys, width = tensor.shape
    room = tensor.new_full((rows, heads, keys + 3, width), torch.nan)
    room[:, :, :keys] = tensor
    return room[:, :, :keys]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", ["none", "distance", "time"])
@torch.no_grad()
def test_pointwise_attention_of_few_queries_is_the_references(shape, bias):
    (q, k, v, *_), valid, tables = attention_inputs(shape, bias=bias)
    found = few_pointwise(q, in_room(k), in_room(v), few_weights(valid, 11.0, q), tables)
    mask = causal_mask(shape[2], shape[3], q.device) & valid[:, None, None, :]
    expected = naive_pointwise(q, k, v, mask, None if tables is None else tables.dense()[:, None], 11.0)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_softmax_attention_of_few_queries_is_the_references(shape):
    """A query that is padding sees itself beside what it would see, and stays finite."""
    (q, k, v, *_), valid, _ = attention_inputs(shape, bias="none")
    found = few_softmax(q, in_room(k), in_room(v), few_mask(valid, q))
    queries, prefix = shape[2], shape[3]
    self_pairs = torch.eye(queries, prefix + queries, dtype=torch.bool).roll(prefix, 1)
    mask = (causal_mask(queries, prefix, q.device) & valid[:, None]) | self_pairs
    torch.testing.assert_close(found, naive_softmax(q, k, v, mask[:, None]), **CLOSE)
    assert bool(found.isfinite().all())


def test_few_are_few_pairs_of_few_queries_without_gradients():
    valid, cpu = torch.ones(2, 1000, dtype=torch.bool), torch.device("cpu")
    assert not are_few(valid, 8, cpu, pairs=16_000)  # gradients
    with torch.no_grad():
        assert are_few(valid, 8, cpu, pairs=16_000)
        assert not are_few(valid, 8, cpu, pairs=15_999)
        one_block, two_blocks = 71, 72
        assert [len(tuple(row_blocks(queries))) for queries in (one_block, two_blocks)] == [1, 2]
        assert are_few(valid, one_block, cpu, pairs=POINTWISE_PAIRS)
        assert not are_few(valid, two_blocks, cpu, pairs=POINTWISE_PAIRS)  # blocks leave out hidden pairs, and FLOPs are counted so
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not are_few(valid, 8, cpu, pairs=16_000)  # attention computes in float32 there, which the blocks see to
        assert are_few(valid, 8, torch.device("meta"), pairs=16_000)  # what is counted without storage is what would run
        assert not are_few(valid, 8, torch.device("cuda"), pairs=16_000)


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@pytest.mark.parametrize("case", ["3 segments", "memory of 3 segments", "full in 2 segments"])
@pytest.mark.parametrize("timed", [False, True])
@torch.no_grad()
def test_a_model_gives_the_same_by_few_calls_as_by_blocks(backbone, case, timed, monkeypatch):
    model = build(backbone, CASES[case]())
    items, times, query_time = random_windows(model.layout)
    given = (items, times, query_time) if timed else (items,)
    calls = []
    for name in ("few_pointwise", "few_softmax"):
        plain = getattr(few_module, name)
        monkeypatch.setattr(context_module, name, lambda *arguments, plain=plain: calls.append(1) or plain(*arguments))
    few = model.user_states(*given)
    count = len(calls)
    model.use_kernel("naive")
    torch.testing.assert_close(few, model.user_states(*given), **TOLERANCE)
    model.use_kernel("segmented")
    assert count == len(calls) > 0
    for limit in ("POINTWISE_PAIRS", "SOFTMAX_PAIRS"):
        monkeypatch.setattr(context_module, limit, -1)
    torch.testing.assert_close(few, model.user_states(*given), **TOLERANCE)
    assert count == len(calls)


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@pytest.mark.parametrize("few", [True, False])
@torch.no_grad()
def test_a_request_from_a_cache_with_room_is_that_of_one_without(backbone, few, monkeypatch):
    """By few calls and by blocks, which read keys that have gaps between the heads; of nobody, too."""
    if not few:
        for limit in ("POINTWISE_PAIRS", "SOFTMAX_PAIRS"):
            monkeypatch.setattr(context_module, limit, -1)
    model = build(backbone, CASES["3 segments"]())
    items, times, query_time = random_windows(model.layout, holes=False)
    history = model.layout.history
    for users in (4, 0):
        cache = model.compress(items[:users, :history], times[:users, :history])
        request = items[:users, history:], times[:users, history:], query_time[:users]
        plain = model.user_states(*request, cache=cache)
        torch.testing.assert_close(model.user_states(*request, cache=model.with_room(cache)), plain, **TOLERANCE)
        joint = model.user_states(items[:users], times[:users], query_time[:users]) if users else plain
        torch.testing.assert_close(plain, joint, **TOLERANCE)


@torch.no_grad()
def test_few_calls_in_bfloat16_give_the_references_numbers_to_its_precision():
    (q, k, v, *_), valid, tables = attention_inputs((3, 2, 7, 5, 4), bias="time")
    q, k, v = (tensor.bfloat16() for tensor in (q, k, v))
    halves = dataclasses.replace(tables, distance=tables.distance.bfloat16(), interval=tables.interval.bfloat16())
    found = few_pointwise(q, k, v, few_weights(valid, 11.0, q), halves)
    mask = causal_mask(7, 5, q.device) & valid[:, None, None, :]
    expected = naive_pointwise(q.double(), k.double(), v.double(), mask, tables.dense()[:, None], 11.0)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0.05)

"""Plain forms give what the reference gives, outputs and gradients; each is one that a model attends by."""

import pytest
import torch

from benchmarks.kernels import plain as plain_forms
from benchmarks.kernels.plain import AUTOGRAD_LOOP, COMPILED, FORMS, IN_PLACE_LOOP, banded, plain
from persrec.nn import attention
from persrec.nn.attention.bias import Bias, Pairs
from persrec.nn.attention.naive import causal_mask, naive_pointwise

EAGER = [name for name in FORMS if name != COMPILED]  # compiling takes a minute; its row compares outputs before it is timed


def inputs(*, prefix=3, queries=9, heads=2, biased=True):
    torch.manual_seed(0)
    shape = (2, heads, queries, 4)
    q = torch.randn(shape, requires_grad=True)
    k, v = (torch.randn(2, heads, prefix + queries, 4, requires_grad=True) for _ in range(2))
    valid = torch.rand(2, prefix + queries) > 0.2
    mask = causal_mask(queries, prefix, q.device) & valid[:, None, None, :]
    return (q, k, v), mask, torch.randn(2, 1, queries, prefix + queries) if biased else None


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("name", EAGER)
def test_a_form_gives_what_the_reference_gives_and_its_gradients(name, biased):
    tensors, mask, bias = inputs(biased=biased)
    expected = naive_pointwise(*tensors, mask, bias, 20.0)
    gradients = torch.autograd.grad(expected.square().sum(), tensors)
    found = FORMS[name](*tensors, mask, bias, 20.0)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), tensors), gradients)
    with torch.inference_mode():
        own = tuple(tensor.detach().clone() for tensor in tensors)
        torch.testing.assert_close(FORMS[name](*own, mask, bias, 20.0), expected.detach())
        assert all(torch.equal(tensor, kept) for tensor, kept in zip(own, tensors, strict=True))  # in place means its own buffers


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("rows", [1, 4, 9, 64])
@pytest.mark.parametrize("name", [IN_PLACE_LOOP, AUTOGRAD_LOOP])
def test_a_loop_gives_the_bias_its_gradients_whoever_shares_it_and_at_any_edge(name, rows, shape, monkeypatch):
    monkeypatch.setattr(plain_forms, "BLOCK_ROWS", rows)
    tensors, mask, _ = inputs()
    bias = torch.randn(*shape, 9, 12, requires_grad=True)
    expected = naive_pointwise(*tensors, mask, bias, 20.0)
    found = FORMS[name](*tensors, mask, bias, 20.0)
    torch.testing.assert_close(found, expected)
    gradients, own = (torch.autograd.grad(out.square().sum(), (*tensors, bias)) for out in (expected, found))
    torch.testing.assert_close(own, gradients)


def test_the_loop_in_place_uses_one_buffer_for_the_scores_of_all_blocks(monkeypatch):
    monkeypatch.setattr(plain_forms, "BLOCK_ROWS", 2)
    places = []
    kept = plain_forms._scores

    def noted(*arguments):
        places.append((scores := kept(*arguments)).data_ptr())
        return scores

    monkeypatch.setattr(plain_forms, "_scores", noted)
    (q, k, v), mask, bias = inputs()
    with torch.inference_mode():
        FORMS[IN_PLACE_LOOP](q, k, v, mask, bias, 20.0)
    assert len(places) == 5
    assert len(set(places)) == 1


@pytest.mark.parametrize("prefix", [0, 3])
def test_the_band_of_a_bias_is_the_dense_one_where_a_query_sees_and_has_its_gradient(prefix):
    table = torch.randn(20, requires_grad=True)
    bias = Bias(distance=table, interval=None, pairs=Pairs.of(torch.arange(prefix, prefix + 9), torch.arange(prefix + 9)))
    seen = causal_mask(9, prefix, table.device)
    torch.testing.assert_close(banded(bias) * seen, bias.dense() * seen)
    weights = torch.randn(9, prefix + 9) * seen
    gradients, own = (torch.autograd.grad((dense * weights).sum(), table) for dense in (bias.dense(), banded(bias)))
    torch.testing.assert_close(own, gradients)


def test_a_bias_by_time_or_of_positions_with_gaps_has_no_band():
    queries, keys = torch.arange(6, 9), torch.tensor([0, 1, 6, 7, 8])
    times = torch.arange(1, 9)[None]
    gaps = Bias(distance=torch.randn(9), interval=None, pairs=Pairs.of(queries, keys))
    timed = Bias(distance=torch.randn(9), interval=torch.randn(129), pairs=Pairs.of(torch.arange(8), torch.arange(8), times, times))
    for bias in (gaps, timed):
        assert torch.equal(banded(bias), bias.dense())


def test_a_model_attends_by_the_form_while_it_is_set():
    calls = []

    def form(*arguments):
        calls.append(arguments)
        return naive_pointwise(*arguments)

    (q, k, v), _, _ = inputs()
    options = {"prefix": 3, "valid": torch.ones(2, 12, dtype=torch.bool), "bias": None, "divisor": 20.0, "kernel": "naive"}
    with plain(form):
        attention.pointwise_attention(q, k, v, **options)
    attention.pointwise_attention(q, k, v, **options)
    assert len(calls) == 1

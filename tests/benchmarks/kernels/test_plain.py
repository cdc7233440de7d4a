"""Plain forms give what the reference gives, outputs and gradients; each is one that a model attends by."""

import pytest
import torch

from benchmarks.kernels import plain as plain_forms
from benchmarks.kernels.plain import AUTOGRAD_LOOP, COMPILED, FORMS, IN_PLACE_LOOP, Banded, Whole, plain
from persrec.nn import context
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
    own_bias = None if bias is None else Whole(table=bias)
    found = FORMS[name](*tensors, mask, own_bias, 20.0)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), tensors), gradients)
    with torch.inference_mode():
        own = tuple(tensor.detach().clone() for tensor in tensors)
        torch.testing.assert_close(FORMS[name](*own, mask, own_bias, 20.0), expected.detach())
        assert all(torch.equal(tensor, kept) for tensor, kept in zip(own, tensors, strict=True))  # in place means its own buffers


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("rows", [1, 4, 9, 64])
@pytest.mark.parametrize("name", [IN_PLACE_LOOP, AUTOGRAD_LOOP])
def test_a_loop_gives_the_bias_its_gradients_whoever_shares_it_and_at_any_edge(name, rows, shape, monkeypatch):
    monkeypatch.setattr(plain_forms, "BLOCK_ROWS", rows)
    tensors, mask, _ = inputs()
    bias = torch.randn(*shape, 9, 12, requires_grad=True)
    expected = naive_pointwise(*tensors, mask, bias, 20.0)
    found = FORMS[name](*tensors, mask, Whole(table=bias), 20.0)
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
        FORMS[IN_PLACE_LOOP](q, k, v, mask, Whole(table=bias), 20.0)
    assert len(places) == 5
    assert len(set(places)) == 1


@pytest.mark.parametrize("keys", [range(9), range(3, 12), [0, 1, *range(5, 14)], [7, *range(9, 18)]])
@pytest.mark.parametrize("name", EAGER)
def test_a_form_attends_as_the_reference_does_by_a_table_of_distances(name, keys, monkeypatch):
    """In a model's place: with keys before the queries, and with a gap between; outputs and gradients, the table's among them."""
    monkeypatch.setattr(plain_forms, "BLOCK_ROWS", 4)
    torch.manual_seed(0)
    keys = torch.tensor([*keys]) if len(keys) > 9 else torch.arange(12)
    prefix, queries = len(keys) - 9, keys[-9:]
    tensors = [torch.randn(2, 2, size, 4, requires_grad=True) for size in (9, len(keys), len(keys))]
    table = torch.randn(20, requires_grad=True)
    bias = Bias(distance=table, interval=None, pairs=Pairs.of(queries, keys))
    options = {"prefix": prefix, "valid": torch.rand(2, len(keys)) > 0.2, "bias": bias, "divisor": 20.0, "kernel": "naive"}
    expected = context.pointwise_attention(*tensors, **options)
    with plain(FORMS[name]):
        found = [context.pointwise_attention(*tensors, **options) for _ in range(2)]  # the second layer finds what the first has made
        with torch.inference_mode():
            torch.testing.assert_close(context.pointwise_attention(*tensors, **options), expected.detach())
    gradients, *own = (torch.autograd.grad(out.square().sum(), (*tensors, table)) for out in (expected, *found))
    for out, its in zip(found, own, strict=True):
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(its, gradients)


def test_a_band_looks_up_no_pair_but_those_before_a_gap():
    table, keys = torch.randn(20), torch.tensor([0, 1, *range(5, 14)])
    bias = Bias(distance=table, interval=None, pairs=Pairs.of(keys[-9:], keys))
    band = Banded(table=table, ahead=bias.pairs.distances(slice(None), slice(0, bias.pairs.strided)).long())
    assert band.ahead.shape == (9, 2)
    seen = causal_mask(9, 2, table.device)
    torch.testing.assert_close(band.rows_of(table, slice(0, 9), slice(0, 11))[0] * seen, bias.dense() * seen)


def test_a_bias_by_time_is_the_dense_one():
    times = torch.arange(1, 9)[None]
    timed = Bias(distance=torch.randn(9), interval=torch.randn(129), pairs=Pairs.of(torch.arange(8), torch.arange(8), times, times))
    (tensors, _, _), given = inputs(prefix=0, queries=8), []
    with plain(lambda q, k, v, mask, bias, divisor: given.append(bias)):
        context.pointwise_attention(*tensors, prefix=0, valid=torch.ones(2, 8, dtype=torch.bool), bias=timed, divisor=1.0, kernel="naive")
    assert torch.equal(given[0].rows_of(given[0].table, slice(0, 8), slice(0, 8)), timed.dense()[:, None])


def test_a_model_attends_by_the_form_while_it_is_set_and_shares_a_passs_mask():
    masks = []

    def form(q, k, v, mask, bias, divisor):
        masks.append(mask)
        return naive_pointwise(q, k, v, mask, bias, divisor)

    (q, k, v), _, _ = inputs()
    options = {"prefix": 3, "valid": torch.ones(2, 12, dtype=torch.bool), "bias": None, "divisor": 20.0, "kernel": "naive"}
    with plain(form):
        expected = [context.pointwise_attention(q, k, v, **options) for _ in range(2)]
        with pytest.raises(ValueError, match="kernel: 'blocks'"):
            context.pointwise_attention(q, k, v, **options | {"kernel": "blocks"})
    assert torch.equal(context.pointwise_attention(q, k, v, **options), expected[0])
    assert len(masks) == 2
    assert masks[0] is masks[1]

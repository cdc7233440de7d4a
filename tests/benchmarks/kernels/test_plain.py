"""Plain forms give what the reference gives, outputs and gradients; each is one that a model attends by."""

import pytest
import torch

from benchmarks.kernels.plain import COMPILED, FORMS, plain
from persrec.nn import attention
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

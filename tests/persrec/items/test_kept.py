"""Item vectors are always those of the weights as they are; kept from call to call only where that is asked for."""

import numpy as np
import pytest
import torch
from small_models import CASES, build

from persrec.items.ids import ItemEmbedding

BACKBONES = ("llama", "hllm")  # whose item vectors are computed


def weights_of(model):
    return list(model.items.parameters())


def double_the_data(model):
    for weight in weights_of(model):
        weight.data.mul_(-2)


def replace_the_data(model):
    for weight in weights_of(model):
        weight.data = weight.data * -2


def double_in_place(model):
    with torch.no_grad():
        for weight in weights_of(model):
            weight.mul_(-2)


def double_through_numpy(model):
    for weight in weights_of(model):
        np.multiply(weight.detach().numpy(), -2, out=weight.detach().numpy())


def step(model):
    optimizer = torch.optim.SGD(weights_of(model), lr=1.0)
    with torch.enable_grad():
        (model.items.vectors() * torch.linspace(-9, 9, model.backbone.width)).sum().backward()
    optimizer.step()


def load(model):
    model.load_state_dict({name: tensor * -2 for name, tensor in model.state_dict().items()})


CHANGES = (double_the_data, replace_the_data, double_in_place, double_through_numpy, step, load)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_after_any_change_of_the_weights_the_vectors_are_those_of_the_new(backbone, change):
    model = build(backbone, CASES["1 expert"]())
    items = torch.tensor([[3, 5, 7]])
    with torch.no_grad():
        before, _ = model.items.vectors(), model.score(items)
        change(model)
        after, looked_up, scores = model.items.vectors(), model.items.lookup(items), model.score(items)
        expected = model.items.compute(torch.arange(model.items.count))
        joint = model.user_states(items) @ torch.nn.functional.normalize(expected, dim=-1).T
    assert not torch.allclose(before, after, rtol=1e-3)
    torch.testing.assert_close(after, expected)
    torch.testing.assert_close(looked_up, expected[items])
    torch.testing.assert_close(scores, joint)


@pytest.mark.parametrize("change", [double_in_place, replace_the_data, step, load], ids=lambda change: change.__name__)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_where_vectors_are_kept_a_change_that_torch_counts_is_seen(backbone, change):
    model = build(backbone, CASES["1 expert"]())
    with model.items.kept.scope():
        with torch.no_grad():
            before = model.items.vectors()
            assert model.items.vectors() is before
        change(model)
        with torch.no_grad():
            torch.testing.assert_close(model.items.vectors(), model.items.compute(torch.arange(model.items.count)), rtol=0, atol=1e-5)


@torch.no_grad()
def test_behind_the_scope_nothing_is_kept():
    items = ItemEmbedding(count=5, width=4, item_width=3).eval()
    with items.kept.scope():
        with items.kept.scope():
            inner = items.vectors()
        assert items.vectors() is inner
    items.projection.weight.data.mul_(2)
    torch.testing.assert_close(items.vectors(), 2 * inner)
    with items.kept.scope():
        torch.testing.assert_close(items.vectors(), 2 * inner)


def test_weights_whose_changes_nothing_counts_are_not_kept():
    with torch.inference_mode():
        items = ItemEmbedding(count=5, width=4, item_width=3).eval()
        with items.kept.scope():
            first = items.vectors()
            items.projection.weight.mul_(2)
            torch.testing.assert_close(items.vectors(), 2 * first)

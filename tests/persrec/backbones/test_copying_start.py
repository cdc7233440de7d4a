"""A start that copies: attention begins as a mean of what is seen and passes it on."""

import pytest
import torch
import torch.nn.functional as F

from persrec.backbones import BackboneSettings, build_backbone
from persrec.backbones.hstu import HSTUConfig

WIDTH = 16


def built(name, *, copying=True, heads=2, **more):
    torch.manual_seed(3)
    return build_backbone(name, BackboneSettings(width=WIDTH, layers=2, heads=heads, length=12, copying_start=copying, **more))


def copies(name, layer):
    """What the value map and then the output map make of a state, ``[D, D]``; a pointwise layer's activation left out."""
    if name == "hstu":
        return layer.uvqk[:, WIDTH : 2 * WIDTH] @ layer.output.weight.T
    return (layer.output.weight @ layer.value.weight).T


@pytest.mark.parametrize("name", ["hstu", "sasrec"])
def test_the_value_and_output_maps_undo_each_other(name):
    for layer in built(name).layers:
        assert torch.equal(copies(name, layer), torch.eye(WIDTH))
    assert not torch.allclose(copies(name, built(name, copying=False).layers[0]), torch.eye(WIDTH), atol=0.1)


@pytest.mark.parametrize(("heads", "key_value_heads"), [(2, 2), (2, 1), (4, 2)])
def test_each_head_passes_on_the_values_that_it_has_at_its_own_place(heads, key_value_heads):
    of_head = torch.arange(WIDTH).view(heads, -1)[:key_value_heads].repeat_interleave(heads // key_value_heads, dim=0)
    expected = torch.zeros(WIDTH, WIDTH)
    expected[of_head.flatten(), torch.arange(WIDTH)] = 1.0  # number of a state (row) to where it is passed on (column)
    for layer in built("llama", heads=heads, key_value_heads=key_value_heads).layers:
        attention = layer.self_attn
        by_head = attention.v_proj.weight.unflatten(0, (key_value_heads, -1)).repeat_interleave(heads // key_value_heads, dim=0)
        assert torch.equal((attention.o_proj.weight @ by_head.flatten(0, 1)).T, expected)


def test_an_hstu_without_its_bias_cannot_start_near_a_mean():
    with pytest.raises(ValueError, match="copying_start: true without the relative bias"):
        HSTUConfig(width=WIDTH, layers=1, heads=2, length=4, copying_start=True, relative_bias=False)


def test_pointwise_attention_starts_near_a_mean():
    @torch.no_grad()
    def spread(copying):
        layer = built("hstu", copying=copying).layers[0]
        states = torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(5))
        _, _, q, k = F.silu(layer._norm(states) @ layer.uvqk).chunk(4, dim=-1)
        weights = F.silu(q @ k.T + layer.bias.distance[0])
        return (weights.std() / weights.mean().abs()).item()

    assert spread(copying=True) < 0.1
    assert spread(copying=False) > 0.5


@pytest.mark.parametrize("name", ["hstu", "sasrec", "llama"])
def test_it_is_off_unless_asked_for_and_changes_no_other_map(name):
    plain, again, copying = built(name, copying=False), build_default(name), built(name)
    changed = {key for key, weight in plain.state_dict().items() if not torch.equal(weight, copying.state_dict()[key])}
    assert all(torch.equal(weight, again.state_dict()[key]) for key, weight in plain.state_dict().items())
    touched = {
        "hstu": ("uvqk", "output.weight", "bias.distance"),
        "sasrec": ("value.weight", "output.weight"),
        "llama": ("v_proj.weight", "o_proj.weight"),
    }
    assert changed
    assert all(key.endswith(touched[name]) for key in changed)
    if name == "hstu":
        assert torch.equal(plain.layers[0].uvqk[:, :WIDTH], copying.layers[0].uvqk[:, :WIDTH])


def build_default(name):
    torch.manual_seed(3)
    return build_backbone(name, BackboneSettings(width=WIDTH, layers=2, heads=2, length=12))

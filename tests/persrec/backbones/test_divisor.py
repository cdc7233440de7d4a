"""What HSTU's attention is divided by: a constant, or the number of keys that each query sees."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from small_models import CACHED, CASES, TOLERANCE, build, random_windows, with_hstu

from persrec.backbones.hstu import HSTUConfig

pytestmark = pytest.mark.usefixtures("one_thread")


def divided(case, divisor, *, dtype=torch.float32, **changes):
    """An HSTU of the case's weights with another divisor."""
    return with_hstu(build("hstu", CASES[case]()), divisor=divisor, **changes).to(dtype)


def by_hand(model, items):
    """All states of a window by dense products, where every history segment holds items; without the relative bias."""
    layout, backbone = model.layout, model.backbone
    tokens = [model.compression.tokens[n][: s.experts].expand(len(items), -1, -1) for n, s in enumerate(layout.segments)]
    vectors, edges = model.items.lookup(items), (0, *layout.offsets, layout.window)
    parts = [torch.cat([vectors[:, a:b], *tokens[n : n + 1]], dim=1) for n, (a, b) in enumerate(pairwise(edges))]
    ones = [torch.cat([items[:, a:b], *(t[..., 0].bool().int() for t in tokens[n : n + 1])], 1) for n, (a, b) in enumerate(pairwise(edges))]
    valid = torch.cat(ones, dim=1) != 0
    sees = torch.from_numpy(layout.visibility()) & valid[:, None, :]
    x = torch.cat(parts, dim=1) + backbone.positions.weight[torch.from_numpy(layout.joint_positions)]
    heads = backbone.config.heads
    for layer in backbone.layers:
        normed = F.layer_norm(x, x.shape[-1:], eps=1e-6)
        u, v, q, k = F.silu(normed @ layer.uvqk).chunk(4, dim=-1)
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
        weights = F.silu(q @ k.transpose(-1, -2)) * sees[:, None] / sees.sum(-1).clamp(min=1)[:, None, :, None]
        attended = (weights @ v).transpose(1, 2).flatten(2)
        x = x + layer.output(u * F.layer_norm(attended, x.shape[-1:], eps=1e-6))
    return x[:, torch.from_numpy(~layout.joint_is_expert)]


@torch.no_grad()
@pytest.mark.parametrize("case", ["1 expert", "3 segments", "unequal plan"])
def test_each_query_is_divided_by_the_keys_that_it_sees(case):
    model = divided(case, 0, relative_bias=False)
    items, _, _ = random_windows(model.layout, holes=False)
    items[1, 0] = 0  # padding counts as no key
    expected = by_hand(model, items)
    hidden, columns = model.hidden_states(items)
    torch.testing.assert_close(hidden[items[:, columns] != 0], expected[:, columns][items[:, columns] != 0], **TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("case", CACHED)
def test_cached_is_joint_and_every_kernel_gives_the_same(case):
    model = divided(case, 0)
    items, times, query_time = random_windows(model.layout, gaps=False)
    history = model.layout.history
    asks = (items[:, history:] != 0).any(1)
    cache = model.compress(items[:, :history], times[:, :history])
    served = model.score(
        items[asks][:, history:], times[asks][:, history:], query_time[asks], cache=cache.of_users(asks.nonzero().flatten())
    )
    for kernel in ("segmented", "blocks", "naive"):
        model.backbone.kernel = kernel
        torch.testing.assert_close(model.score(items, times, query_time)[asks], served, **TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("case", ["full", "3 segments"])
def test_appended_items_see_as_many_keys_as_in_the_joint_pass(case):
    model = divided(case, 0, request_time=False)
    items, times, _ = random_windows(model.layout, holes=False)
    history = model.layout.history
    cache = model.compress(items[:, :history], times[:, :history])
    for stop in range(history + 1, items.shape[1] + 1):
        users, cache = model.append(items[:, stop - 1 : stop], times[:, stop - 1 : stop], cache=cache)
    torch.testing.assert_close(users, model.user_states(items, times), **TOLERANCE)


@torch.no_grad()
def test_the_norm_behind_attention_takes_any_divisor_out_but_for_its_eps():
    """So a divisor matters where attention passes on numbers as small as that eps, as at the start of a training."""
    items, times, query_time = random_windows(CASES["3 segments"]().layout)
    scores = {
        (divisor, eps): divided("3 segments", divisor, dtype=torch.float64, norm_eps=eps).score(items, times, query_time)
        for divisor in (None, 0, 5) for eps in (1e-30, 1e-2)
    }  # fmt: skip
    for divisor in (0, 5):
        torch.testing.assert_close(scores[divisor, 1e-30], scores[None, 1e-30], rtol=0, atol=1e-9)
        assert not torch.allclose(scores[divisor, 1e-2], scores[None, 1e-2], rtol=0, atol=1e-4)


@torch.no_grad()
def test_by_default_it_is_the_layouts_length():
    items, times, query_time = random_windows(CASES["3 segments"]().layout)
    length = CASES["3 segments"]().layout.length
    assert torch.equal(*(divided("3 segments", divisor).score(items, times, query_time) for divisor in (None, length)))


def test_less_than_nothing_is_refused():
    with pytest.raises(ValueError, match="^divisor: -1; expected 0, which is the number of keys that a query sees, or more$"):
        HSTUConfig(width=8, layers=1, heads=2, length=4, divisor=-1)

"""The key laws once more, on CUDA: other kernels, the same numbers."""

import itertools

import pytest
import torch
from attention_inputs import attention_inputs, outputs_and_gradients
from small_models import BACKBONE_NAMES, CACHED, CASES, TOLERANCE, build, elastic, random_windows, small_recipe, small_split

from persrec.data.windows import WindowShape, build_windows
from persrec.evaluation.states import user_states
from persrec.names import CACHE_PRECISIONS
from persrec.nn.attention import pointwise_attention, softmax_attention
from persrec.nn.attention.bias import time_buckets
from persrec.serving import CacheStore, pack
from persrec.training import Trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")]

GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def whole_float32():
    """TF32 keeps 10 bits of a float32's 23: the contract's 1e-5 is of float32."""
    kept = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(kept)


def on_gpu(*tensors):
    return [tensor.to(GPU) for tensor in tensors]


SHAPE = (3, 2, 71, 5, 4)


def answers(kind, kernel, dtype=torch.float32):
    leaves, valid, bias = attention_inputs(SHAPE, bias="time" if kind == "pointwise" else "none", dtype=dtype, device=GPU)
    prefix = SHAPE[3]
    if kind == "pointwise":
        return outputs_and_gradients(
            lambda: pointwise_attention(*leaves[:3], prefix=prefix, valid=valid, bias=bias, divisor=76.0, kernel=kernel), leaves
        )
    # a query that is padding may give anything finite: nothing sees it
    seen = valid[:, None, prefix:, None]
    return outputs_and_gradients(lambda: softmax_attention(*leaves, prefix=prefix, valid=valid, kernel=kernel), leaves, seen=seen)


@pytest.mark.parametrize("kind", ["pointwise", "softmax"])
def test_the_segmented_kernel_gives_the_naive_kernels_outputs_and_gradients(kind):
    for found, expected in zip(answers(kind, "segmented"), answers(kind, "naive"), strict=True):
        assert found.isfinite().all()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["pointwise", "softmax"])
def test_attention_keeps_the_precision_it_is_given(kind, dtype):
    rounded = answers(kind, "segmented", dtype)
    assert all(tensor.dtype == dtype for tensor in rounded)
    torch.testing.assert_close(rounded[0].float(), answers(kind, "segmented")[0], rtol=0.1, atol=0.1)


def test_time_buckets_are_those_of_the_cpu():
    random = torch.Generator().manual_seed(0)
    queries, keys = (torch.randint(0, 10**9, (2, 300), generator=random) for _ in range(2))
    here, there = time_buckets(queries, keys), time_buckets(*on_gpu(queries, keys)).cpu()
    apart = (here.int() - there.int()).abs()
    assert apart.max() <= 1  # a logarithm that ends on the other side of a bucket's edge
    assert (apart > 0).float().mean() < 1e-3


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@torch.no_grad()
def test_scores_are_those_of_the_cpu(backbone, case):
    model = build(backbone, CASES[case]())
    inputs = random_windows(model.layout)
    expected = model.score(*inputs)
    model = build(backbone, CASES[case]())
    model.load_state_dict(build(backbone, CASES[case]()).state_dict())
    found = model.to(GPU).score(*on_gpu(*inputs))
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", CACHED)
@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@torch.no_grad()
def test_cached_and_extended_equal_joint(backbone, case):
    model = build(backbone, CASES[case]()).to(GPU)
    layout = model.layout
    items, times, query_time = on_gpu(*random_windows(layout, seed=5))
    history = layout.history
    asks = (items[:, history:] != 0).any(1)
    joint = model.score(items, times, query_time)
    extended = model.compress(items[:, : layout.offsets[0]], times[:, : layout.offsets[0]])
    for start, stop in itertools.pairwise(layout.offsets):
        extended = model.extend(extended, items[:, start:stop], times[:, start:stop])
    for cache in (model.compress(items[:, :history], times[:, :history]), extended):
        own = cache.of_users(asks.nonzero().flatten())
        served = model.score(items[asks, history:], times[asks, history:], query_time[asks], cache=own)
        torch.testing.assert_close(served, joint[asks], **TOLERANCE)


@pytest.mark.parametrize("dtype", CACHE_PRECISIONS)
@torch.no_grad()
def test_a_store_takes_caches_from_the_gpu_and_gives_them_back(dtype):
    model = build("hstu", CASES["3 segments"]()).to(GPU)
    items, times, _ = on_gpu(*random_windows(model.layout, holes=False))
    cache = model.compress(items[:, :6], times[:, :6])
    store = CacheStore(layout=model.layout, dtype=dtype)
    store.put_each(range(4), cache)
    found, expected = store.get([3, 0], device=GPU), pack(cache.of_users(torch.tensor([3, 0], device=GPU)), dtype).unpack()
    assert torch.equal(found.valid, expected.valid)
    for ours, theirs in zip(found.layers, expected.layers, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.device.type == "cuda"
            assert torch.equal(one, other)


@pytest.mark.parametrize("case", ["full", "3 segments", "pooling"])
@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@torch.no_grad()
def test_padding_and_neighbours_change_nothing(backbone, case):
    model = build(backbone, CASES[case]()).to(GPU)
    items, times, query_time = on_gpu(*random_windows(model.layout, seed=3))
    together = model.score(items, times, query_time)
    for row in range(len(items)):
        one = slice(row, row + 1)
        torch.testing.assert_close(model.score(items[one], times[one], query_time[one]), together[one], **TOLERANCE)
    lead = 3
    items[:, :lead], times[:, :lead] = 0, 0
    whole = model.score(items, times, query_time)
    torch.testing.assert_close(model.score(items[:, lead:], times[:, lead:], query_time), whole, **TOLERANCE)
    items[1], times[1] = 0, 0
    assert model.score(items, times, query_time).isfinite().all()


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
def test_without_tokens_no_gradient_comes_from_the_history(backbone):
    for tokens in (0, 6):
        model = build(backbone, elastic(use=tokens)).to(GPU)
        items, _, _ = on_gpu(*random_windows(model.layout, holes=False))
        features = torch.randn(24, model.backbone.width, generator=torch.Generator().manual_seed(0)).to(GPU).requires_grad_()
        old, recent = items[:, :9].remainder(11) + 1, items[:, 9:].remainder(11) + 13
        states, columns = model.hidden_states(torch.cat([old, recent], dim=1), item_features=features)
        moved = torch.autograd.grad(states[:, columns >= 9].square().mul(torch.arange(1, 5, device=GPU)[None, :, None]).sum(), features)[0]
        assert bool((moved[old.unique()] != 0).any()) == (tokens > 0)


@pytest.mark.parametrize("case", ["full", "recent", "3 segments", "elastic", "pooling"])
@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
def test_training_lowers_the_loss(backbone, case):
    model = build(backbone, CASES[case](), lively=False).to(GPU)
    data = small_split(users=8, shortest=8)
    recipe = small_recipe(epochs=3, patience=3, targets_per_step=26, token_counts=(0, 2, 4) if case == "elastic" else ())
    result = Trainer(model=model, data=data, recipe=recipe, validate=lambda: 1.0).run()
    losses = [report.loss for report in result.curve]
    assert losses[-1] < 0.97 * losses[0]
    states = user_states(model, data, "test", time_bias=True)
    assert states.device.type == "cuda"
    torch.testing.assert_close(states.norm(dim=1), torch.ones(len(states), device=GPU))


def test_a_segment_that_is_empty_in_every_row_changes_nothing():
    # on the CPU it is not even run
    model = build("hstu", CASES["3 segments"]())
    data = small_split(users=6, shortest=5, longest=7)
    shape = WindowShape(segments=tuple(segment.items for segment in model.layout.segments), recent=model.layout.recent)
    batch = build_windows(data.sequences, data.test.users, data.test.positions, shape)
    inputs = [torch.from_numpy(part) for part in (batch.items, batch.times, batch.query_times)]
    with torch.no_grad():
        expected = model.score(*inputs)
        torch.testing.assert_close(model.to(GPU).score(*on_gpu(*inputs)).cpu(), expected, rtol=0, atol=1e-4)

import itertools
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from attention_inputs import attention_inputs, outputs_and_gradients, with_unknown
from hypothesis import given
from hypothesis import strategies as st
from small_models import CASES, build, random_windows

from persrec.nn import attention as attention_module
from persrec.nn.attention import bias as bias_module
from persrec.nn.attention import blocks as blocks_module
from persrec.nn.attention import executed_pairs, pointwise_attention, softmax_attention
from persrec.nn.attention import pointwise as pointwise_module
from persrec.nn.attention import softmax as softmax_module
from persrec.nn.attention.bias import Bias, time_buckets
from persrec.nn.attention.fused import fused_softmax
from persrec.nn.attention.naive import causal_mask
from persrec.nn.attention.visible import first_query, keys_seen, sees

pytestmark = pytest.mark.usefixtures("one_thread")

# users, heads, queries, prefix, width of a head: odd, and across the edges of blocks of query rows
SHAPES = [(1, 1, 1, 0, 1), (3, 2, 7, 0, 3), (2, 1, 64, 5, 4), (3, 2, 65, 0, 3), (5, 3, 13, 9, 2), (2, 2, 129, 3, 5), (4, 1, 1, 17, 3)]
CLOSE = {"rtol": 0, "atol": 1e-6}  # in float64, so that no sum's order matters


@pytest.fixture(params=["as shipped", "small blocks"])
def blocks(request, monkeypatch):
    """Small blocks: 4 query rows at a time, of a few users or of some heads of one; and buckets by their runs, however few pairs."""
    if request.param == "small blocks":
        monkeypatch.setattr(bias_module, "MOST_KEPT_BUCKETS", 0)
        monkeypatch.setattr(bias_module, "MOST_KEPT_DISTANCES", 0)
        monkeypatch.setattr(blocks_module, "QUERY_ROWS", 4)
        monkeypatch.setattr(blocks_module, "most_scores", lambda device: 200)


def bias_by_loops(bias, users):
    """The definition of METHOD, pair by pair."""
    pairs = bias.pairs
    out = torch.zeros(users, len(pairs.query_positions), len(pairs.key_positions), dtype=bias.distance.dtype)
    for user, row, key in itertools.product(*(range(size) for size in out.shape)):
        slots = max(0, int(pairs.query_positions[row] - pairs.key_positions[key]))
        out[user, row, key] = bias.distance[slots]
        if bias.interval is not None:
            times = pairs.query_times[user, row], pairs.key_times[user, key]
            out[user, row, key] += bias.interval[int(time_buckets(*(time.view(1, 1) for time in times)))]
    return out


def pointwise_by_loops(q, k, v, *, prefix, valid, bias, divisor):
    """The formula of METHOD, pair by pair."""
    users, heads, queries, _ = q.shape
    out = torch.zeros(users, heads, queries, v.shape[-1], dtype=q.dtype)
    dense_bias = None if bias is None else bias_by_loops(bias, users)
    for user in range(users):
        for head in range(heads):
            for row in range(queries):
                for key in range(prefix + row + 1):
                    if not valid[user, key]:
                        continue
                    score = q[user, head, row] @ k[user, head, key]
                    if bias is not None:
                        score = score + dense_bias[min(user, len(dense_bias) - 1), row, key]
                    out[user, head, row] += score * torch.sigmoid(score) / divisor * v[user, head, key]
    return out


@given(queries=st.integers(1, 9), prefix=st.integers(0, 9))
def test_the_causal_rule_is_one_rule(queries, prefix):
    rule = [[sees(query, key, prefix) for key in range(prefix + queries)] for query in range(queries)]
    assert causal_mask(queries, prefix, torch.device("cpu")).tolist() == rule
    assert [sum(row) for row in rule] == [keys_seen(query, prefix) for query in range(queries)]
    for key, column in enumerate(zip(*rule, strict=True)):
        assert column.index(True) == max(0, first_query(key, prefix))


@pytest.mark.parametrize("bias", ["none", "distance", "time"])
def test_pointwise_attention_is_the_formula_pair_by_pair(bias, blocks):
    shape = (3, 2, 7, 3, 2)
    (q, k, v, *_), valid, tables = attention_inputs(shape, bias=bias)
    with torch.no_grad():
        expected = pointwise_by_loops(q, k, v, prefix=3, valid=valid, bias=tables, divisor=11.0)
        for kernel in ("segmented", "naive"):
            found = pointwise_attention(q, k, v, prefix=3, valid=valid, bias=tables, divisor=11.0, kernel=kernel)
            torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("bias", ["none", "distance", "time"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_segmented_kernel_gives_the_naive_kernels_outputs_and_gradients(shape, bias, blocks):
    leaves, valid, tables = attention_inputs(shape, bias=bias)
    settings = {"prefix": shape[3], "valid": valid, "bias": tables, "divisor": 37.0}
    answers = [
        outputs_and_gradients(partial(pointwise_attention, *leaves[:3], **settings, kernel=kernel), leaves)
        for kernel in ("segmented", "naive")
    ]
    for found, expected in zip(*answers, strict=True):
        torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("shape", SHAPES)
def test_without_gradients_the_segmented_kernel_gives_the_same_numbers(shape, blocks):
    (q, k, v, *_), valid, tables = attention_inputs(shape)
    with_graph = pointwise_attention(q, k, v, prefix=shape[3], valid=valid, bias=tables, divisor=5.0, kernel="segmented")
    with torch.no_grad():
        without = pointwise_attention(q, k, v, prefix=shape[3], valid=valid, bias=tables, divisor=5.0, kernel="segmented")
    assert torch.equal(with_graph, without)


def test_the_segmented_kernels_gradients_are_those_of_finite_differences():
    leaves, valid, tables = attention_inputs((2, 1, 5, 2, 2))

    def call(q, k, v, distance, interval):
        bias = Bias(distance=distance, interval=with_unknown(interval), pairs=tables.pairs)
        return pointwise_attention(q, k, v, prefix=2, valid=valid, bias=bias, divisor=3.0, kernel="segmented")

    assert torch.autograd.gradcheck(call, leaves)


@given(
    users=st.integers(1, 4),
    queries=st.integers(1, 20),
    prefix=st.integers(0, 6),
    rows=st.integers(1, 7),
    elements=st.integers(1, 400),
    kind=st.sampled_from(["pointwise", "softmax"]),
)
def test_blocks_of_any_size_give_the_same_numbers(users, queries, prefix, rows, elements, kind):
    leaves, valid, tables = attention_inputs((users, 3, queries, prefix, 2), seed=queries, bias="time" if kind == "pointwise" else "none")

    def attend(kernel):
        if kind == "softmax":
            return softmax_attention(*leaves, prefix=prefix, valid=valid, kernel=kernel)
        return pointwise_attention(*leaves[:3], prefix=prefix, valid=valid, bias=tables, divisor=2.0, kernel=kernel)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks_module, "QUERY_ROWS", rows)
        patch.setattr(blocks_module, "most_scores", lambda device: elements)
        segmented = attend("segmented")
        found = torch.autograd.grad(segmented.square().sum(), leaves)
    naive = attend("naive")
    torch.testing.assert_close(segmented, naive, **CLOSE)
    for gradient, expected in zip(found, torch.autograd.grad(naive.square().sum(), leaves), strict=True):
        torch.testing.assert_close(gradient, expected, **CLOSE)


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_kernels_agree_in_outputs_and_gradients(shape, blocks):
    leaves, valid, _ = attention_inputs(shape, bias="none")
    answers = [
        outputs_and_gradients(partial(softmax_attention, *leaves, prefix=shape[3], valid=valid, kernel=kernel), leaves)
        for kernel in ("segmented", "naive")
    ]
    for found, expected in zip(*answers, strict=True):
        torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("shape", SHAPES)
def test_fused_softmax_attention_agrees_wherever_something_sees_the_row(shape):
    # on a GPU it stands in for the blocks; the framework's attention runs on a CPU too, by another kernel
    leaves, valid, _ = attention_inputs(shape, bias="none")
    prefix = shape[3]
    queries, seen_before = valid[:, prefix:], valid.cumsum(1)[:, prefix:] > 0
    seen = (queries | ~seen_before)[:, None, :, None]
    fused = outputs_and_gradients(lambda: fused_softmax(*leaves, prefix, valid), leaves, seen=seen)
    naive = outputs_and_gradients(lambda: softmax_attention(*leaves, prefix=prefix, valid=valid, kernel="naive"), leaves, seen=seen)
    for found, expected in zip(fused, naive, strict=True):
        torch.testing.assert_close(found, expected, **CLOSE)
    own = (~queries)[:, None, :, None].expand_as(leaves[0])
    assert torch.equal(fused_softmax(*leaves, prefix, valid)[own], leaves[2][:, :, prefix:][own])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_fused_softmax_attention_hides_padding_in_every_precision(dtype):
    width = 160  # the widest head dampens what hides a key the most
    (q, k, v), valid, _ = attention_inputs((2, 2, 7, 4, width), bias="none", dtype=dtype)
    assert not valid[1].all()
    with torch.no_grad():
        out = fused_softmax(q, k, v, 4, valid)
        hidden = ~valid[:, None, :, None]
        assert torch.equal(
            fused_softmax(q, k.masked_fill(hidden, 9.0), v.masked_fill(hidden, 1000.0), 4, valid)[1, :, valid[1, 4:]],
            out[1, :, valid[1, 4:]],
        )
    assert out.isfinite().all()
    assert out.dtype == dtype


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backbone", ["sasrec", "llama"])
def test_with_fused_softmax_attention_a_model_gives_the_same_scores_and_gradients(backbone, case, monkeypatch):
    answers = []
    for fused in (False, True):
        monkeypatch.setattr(attention_module, "on_gpu", lambda tensor, fused=fused: fused)
        model = build(backbone, CASES[case]()).double()  # float32's rounding grows through a memory's segments
        scores = model.score(*random_windows(model.layout))
        scores.sin().sum().backward()
        answers.append([scores.detach(), *(weight.grad for weight in model.parameters() if weight.grad is not None)])
    for found, expected in zip(*answers, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_softmax_kernels_gradients_are_those_of_finite_differences():
    leaves, valid, _ = attention_inputs((2, 1, 5, 2, 2), bias="none")
    assert not valid.all()
    assert torch.autograd.gradcheck(lambda *given: softmax_attention(*given, prefix=2, valid=valid, kernel="segmented"), leaves)


def test_softmax_attention_without_padding_is_the_frameworks_causal_attention(blocks):
    (q, k, v), _, _ = attention_inputs((2, 3, 11, 0, 4), bias="none")
    found = softmax_attention(q, k, v, prefix=0, valid=torch.ones(2, 11, dtype=torch.bool), kernel="segmented")
    torch.testing.assert_close(found, F.scaled_dot_product_attention(q, k, v, is_causal=True), **CLOSE)


def test_softmax_attention_is_the_formula_row_by_row(blocks):
    users, heads, queries, prefix, width = shape = (3, 2, 5, 2, 3)
    (q, k, v), valid, _ = attention_inputs(shape, bias="none")
    with torch.no_grad():
        found = softmax_attention(q, k, v, prefix=prefix, valid=valid, kernel="segmented")
        for user in range(users):
            for row in range(queries):
                # what is not padding, up to itself; a padded query sees itself too, or it might see nothing
                seen = [key for key in range(prefix + row + 1) if valid[user, key] or key == prefix + row]
                scores = q[user, :, None, row] @ k[user][:, seen].transpose(-1, -2) / math.sqrt(width)
                expected = scores.softmax(-1) @ v[user][:, seen]
                torch.testing.assert_close(found[user, :, row], expected[:, 0], **CLOSE)


@pytest.mark.parametrize("kernel", ["segmented", "naive"])
@pytest.mark.parametrize("prefix", [0, 3])
def test_a_row_of_padding_alone_stays_finite_and_so_do_its_gradients(kernel, prefix, blocks):
    leaves, valid, tables = attention_inputs((2, 2, 9, prefix, 3), dtype=torch.float32)
    assert not valid[0].any()
    hstu = pointwise_attention(*leaves[:3], prefix=prefix, valid=valid, bias=tables, divisor=12.0, kernel=kernel)
    softmax = softmax_attention(*leaves[:3], prefix=prefix, valid=valid, kernel=kernel)
    assert (hstu[0] == 0).all()
    for out in (hstu, softmax):
        assert out.isfinite().all()
        gradients = torch.autograd.grad(out.sum(), leaves, retain_graph=True, allow_unused=True)
        assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("kernel", ["segmented", "naive"])
def test_what_padding_holds_reaches_nothing(kernel, blocks):
    (q, k, v, *_), valid, tables = attention_inputs((3, 2, 9, 4, 3), dtype=torch.float32)
    with torch.no_grad():
        hidden = ~valid[:, None, :, None]
        other_k, other_v = k.masked_fill(hidden, 7.0), v.masked_fill(hidden, -3.0)
        for attend in (
            lambda k, v: pointwise_attention(q, k, v, prefix=4, valid=valid, bias=tables, divisor=12.0, kernel=kernel),
            lambda k, v: softmax_attention(q, k, v, prefix=4, valid=valid, kernel=kernel),
        ):
            queries = valid[:, None, 4:, None].expand(-1, 2, -1, 3)
            torch.testing.assert_close(attend(other_k, other_v)[queries], attend(k, v)[queries], **CLOSE)


@given(queries=st.integers(0, 1000))
def test_blocks_cover_all_rows_and_none_is_a_narrow_rest(queries):
    edges = list(blocks_module.row_blocks(queries))
    assert [row for start, stop in edges for row in range(start, stop)] == list(range(queries))
    sizes = [stop - start for start, stop in edges]
    assert len(sizes) == (max(1, round(queries / blocks_module.QUERY_ROWS)) if queries else 0)
    assert max(sizes, default=0) - min(sizes, default=0) < len(edges) or not queries  # what rounding up leaves for the last


def test_several_threads_work_on_larger_blocks_and_one_thread_on_what_its_caches_hold(monkeypatch):
    one_user = torch.empty(16, 8, 1280, 64, device="meta")
    largest = {}
    for threads in (1, 2, 16):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        largest[threads] = max(part.scores for part in blocks_module.blocks(one_user, 0))
    assert largest[1] <= 2**19
    assert 2**19 < largest[2] <= 2**21
    assert 2**21 < largest[16] <= 2**25


@pytest.mark.parametrize("kernel", ["pointwise", "softmax"])
def test_merging_heads_copies_nothing(kernel):
    leaves, valid, _ = attention_inputs((2, 3, 7, 0, 4), seed=1, bias="none")
    if kernel == "softmax":
        attended = softmax_attention(*leaves[:3], prefix=0, valid=valid, kernel="segmented")
    else:
        attended = pointwise_attention(*leaves[:3], prefix=0, valid=valid, bias=None, divisor=1.0, kernel="segmented")
    assert attended.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize(("module", "name"), [(pointwise_module, "_scores"), (softmax_module, "_weights")])
@given(queries=st.integers(1, 200), prefix=st.integers(0, 30), rows=st.sampled_from([1, 3, 64]))
def test_executed_pairs_are_the_scores_that_the_kernel_computes(module, name, queries, prefix, rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks_module, "QUERY_ROWS", rows)
        counted = executed_pairs(queries, prefix, kernel="segmented")
        computed = []
        own = getattr(module, name)

        def counting(*arguments):
            scores = own(*arguments)
            computed.append(scores.numel())
            return scores

        patch.setattr(module, name, counting)
        one = torch.ones(1, 1, prefix + queries, 1)
        valid = torch.ones(1, prefix + queries, dtype=torch.bool)
        with torch.no_grad():
            if module is pointwise_module:
                pointwise_attention(one[:, :, prefix:], one, one, prefix=prefix, valid=valid, bias=None, divisor=1.0, kernel="segmented")
            else:
                softmax_attention(one[:, :, prefix:], one, one, prefix=prefix, valid=valid, kernel="segmented")
    assert counted == sum(computed)
    visible = queries * (queries + 1) // 2 + queries * prefix
    assert visible <= counted <= visible + queries * (rows - 1)
    assert executed_pairs(queries, prefix, kernel="naive") == queries * (prefix + queries)


@pytest.mark.parametrize("kernel", ["segmented", "naive"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float16, 1e-2), (torch.bfloat16, 1e-1)])
def test_attention_keeps_the_precision_it_is_given(kernel, dtype, tolerance):
    (q, k, v, *_), valid, tables = attention_inputs((2, 2, 7, 2, 3))
    rounded = Bias(distance=tables.distance.to(dtype), interval=tables.interval.to(dtype), pairs=tables.pairs)
    with torch.no_grad():
        given_precision = [tensor.to(dtype) for tensor in (q, k, v)]
        hstu = pointwise_attention(*given_precision, prefix=2, valid=valid, bias=rounded, divisor=10.0, kernel=kernel)
        softmax = softmax_attention(*given_precision, prefix=2, valid=valid, kernel=kernel)
        assert hstu.dtype == softmax.dtype == dtype
        torch.testing.assert_close(
            hstu.double(), pointwise_by_loops(q, k, v, prefix=2, valid=valid, bias=tables, divisor=10.0), rtol=0, atol=tolerance
        )


def test_fused_softmax_attention_computes_in_the_type_of_autocast():
    """Rotated keys are float32 where values are bfloat16, and autocast does not reach past the class of the causal mask."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, positions, 8, generator=generator) for positions in (4, 7, 7))
    valid = torch.ones(2, 7, dtype=torch.bool)
    expected = fused_softmax(q, k, v, 3, valid)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = fused_softmax(q, k, v.bfloat16(), 3, valid)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0, atol=0.03)

"""HSTU's Triton kernels against the dense reference: on a GPU, and on a CPU by Triton's interpreter (tests/conftest.py sets it)."""

import itertools
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from attention_inputs import attention_inputs, outputs_and_gradients
from small_models import CASES, TOLERANCE, build, random_windows

from benchmarks.kernels import rows as probe
from benchmarks.kernels.record import KernelSettings
from persrec.nn import attention
from persrec.nn.attention import pointwise_attention
from persrec.nn.attention.pointwise import PointwiseBlocks

pytestmark = pytest.mark.usefixtures("one_thread")

INSTALL = "Triton is not installed: python -m pip install --constraint constraints.txt --editable '.[gpu]'"
PLACES = [pytest.param("cpu", id="interpreter"), pytest.param("cuda", marks=pytest.mark.gpu)]
# users, heads, queries, prefix, width of a head: odd, and across the edges of tiles
SHAPES = [(1, 1, 1, 0, 1), (3, 2, 7, 0, 3), (2, 1, 33, 5, 4), (2, 2, 17, 19, 2), (1, 3, 49, 0, 17), (4, 1, 1, 17, 3)]
SHAPES_AND_BIASES = [(shape, bias) for place, shape in enumerate(SHAPES) for bias in (("none", "distance")[place % 2], "time")]
CLOSE = {"rtol": 0, "atol": 1e-5}  # in float32, whatever the order of a sum


def mend_the_interpreters_bfloat16(monkeypatch):
    """Triton's interpreter keeps bfloat16 as its bits, and its products take them for integers."""
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder

    own = InterpreterBuilder.create_dot

    def create_dot(self, a, b, *rest):
        a, b = (self.cast_impl(side, tl.float32) if side.dtype.scalar.is_bf16() else side for side in (a, b))
        return own(self, a, b, *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)


@pytest.fixture(params=PLACES)
def place(request, monkeypatch):
    """Where kernels run: here, interpreted, or on a GPU; both are dispatched to as CUDA tensors are."""
    if find_spec("triton") is None:
        pytest.skip(INSTALL)
    interpreting = os.environ.get("TRITON_INTERPRET") == "1"
    if request.param == "cuda" and (interpreting or not torch.cuda.is_available()):
        pytest.skip("TRITON_INTERPRET=1 runs on the CPU" if torch.cuda.is_available() else "torch sees no CUDA device")
    if request.param == "cpu":
        if not interpreting:
            pytest.skip("there is a GPU; TRITON_INTERPRET=1 interprets the kernels all the same")
        monkeypatch.setattr(attention, "on_gpu", lambda tensor: True)
        mend_the_interpreters_bfloat16(monkeypatch)
    kept = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # TF32 keeps 10 bits of a float32's 23
    yield torch.device(request.param)
    torch.set_float32_matmul_precision(kept)


@pytest.fixture
def tiles(monkeypatch):
    """Small tiles, so that few positions fill several: sets their rows and keys."""
    from persrec.nn.attention import triton as triton_pointwise

    def of(rows, keys):
        monkeypatch.setattr(triton_pointwise, "ROWS", rows)
        monkeypatch.setattr(triton_pointwise, "KEYS", keys)

    of(16, 16)
    return of


def answers(shape, bias, kernel, place, dtype=torch.float32):
    leaves, valid, tables = attention_inputs(shape, bias=bias, dtype=dtype, device=place)
    settings = {"prefix": shape[3], "valid": valid, "bias": tables, "divisor": 7.0}
    return outputs_and_gradients(lambda: pointwise_attention(*leaves[:3], **settings, kernel=kernel), leaves)


@pytest.mark.parametrize(("shape", "bias"), SHAPES_AND_BIASES)
def test_outputs_and_gradients_are_those_of_the_dense_form(shape, bias, place, tiles):
    for found, expected in zip(answers(shape, bias, "segmented", place), answers(shape, bias, "naive", place), strict=True):
        torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("size", [(16, 32), (32, 16)])
def test_tiles_need_not_be_square(size, place, tiles):
    tiles(*size)
    shape = (1, 2, 37, 5, 4)
    for found, expected in zip(answers(shape, "time", "segmented", place), answers(shape, "time", "naive", place), strict=True):
        torch.testing.assert_close(found, expected, **CLOSE)


def test_tiles_as_shipped_give_the_same_numbers(place):
    shape = (2, 1, 67, 6, 8)
    for found, expected in zip(answers(shape, "time", "segmented", place), answers(shape, "time", "naive", place), strict=True):
        torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_summed_in_float32(dtype, place):
    shape = (2, 2, 37, 5, 4)
    exact = answers(shape, "time", "naive", place, torch.float64)
    for found, expected in zip(answers(shape, "time", "segmented", place, dtype), exact, strict=True):
        assert found.dtype == dtype
        size = expected.abs().max()
        torch.testing.assert_close(found.double() / size, expected / size, rtol=0, atol=8 * torch.finfo(dtype).eps)


def test_buckets_begin_and_end_at_the_very_second(place, tiles):
    from persrec.nn.attention import triton as triton_pointwise
    from persrec.nn.attention.bias import UNKNOWN_TIME, Bias, Pairs, bucket_starts, time_buckets

    now = 2**60
    edges = [now - start + before for start in bucket_starts()[1:] for before in (0, 1)]
    times = torch.tensor([[*edges, now, 0, now + 5]], device=place)  # keys; the last is the query's own
    positions = torch.arange(times.shape[1], device=place)
    pairs = Pairs.of(positions[-1:], positions, torch.tensor([[now]], device=place), times)
    interval = torch.arange(1.0, UNKNOWN_TIME + 2, device=place)  # told apart by what each adds to a score
    bias = Bias(distance=torch.zeros(times.shape[1], device=place), interval=interval, pairs=pairs)
    values = torch.eye(times.shape[1], device=place)[None, None]
    nothing = torch.zeros(1, 1, times.shape[1], 1, device=place)
    found = triton_pointwise.TritonPointwise(prefix=times.shape[1] - 1, bias=bias).forward(nothing[:, :, :1], nothing, values)
    expected = torch.nn.functional.silu(1.0 + time_buckets(torch.tensor([[now]]), times.cpu())[0, 0])
    torch.testing.assert_close(found[0, 0, 0].cpu(), expected)


def test_users_that_share_out_the_tables_gradients_lose_none(place, monkeypatch):
    from persrec.nn.attention import triton as triton_pointwise

    shape = (5, 2, 5, 0, 2)
    expected = answers(shape, "time", "naive", place)
    for programs in (1, 2, 5, 100):
        monkeypatch.setattr(triton_pointwise, "TABLE_PROGRAMS", programs)
        for found, wanted in zip(answers(shape, "time", "segmented", place), expected, strict=True):
            torch.testing.assert_close(found, wanted, **CLOSE)


def test_a_tile_without_a_visible_pair_is_never_read(place, tiles):
    # what is read there would make NaN of a sum: 0 times NaN is NaN
    from persrec.nn.attention import triton as triton_pointwise

    (q, k, v, *_), _, bias = attention_inputs((1, 1, 40, 3, 2), dtype=torch.float32, device=place)
    q, k, v = (tensor.detach() for tensor in (q, k, v))
    kernel = triton_pointwise.TritonPointwise(prefix=3, bias=bias)
    first = 16  # rows of a tile; they see 19 keys, in 2 tiles of 16, and the third tile of keys is hidden from them
    later_k, later_v = (tensor.index_fill(2, torch.arange(32, 43, device=place), torch.nan) for tensor in (k, v))
    assert kernel.forward(q, later_k, later_v)[:, :, :first].isfinite().all()
    grad = torch.ones_like(q)
    assert kernel.backward(q, later_k, later_v, grad)[0][:, :, :first].isfinite().all()
    early_q, early_grad = (tensor.index_fill(2, torch.arange(first, device=place), torch.nan) for tensor in (q, grad))
    for gradient in kernel.backward(early_q, k, v, early_grad)[1:3]:
        assert gradient[:, :, 32:].isfinite().all()


INTERPRETED = ["3 alike segments", "unequal plan", "memory of 3 segments"]  # some ten seconds each, for what the others go through too
MODELS = [
    *(pytest.param(case, "cpu", id=f"interpreter-{case}") for case in INTERPRETED),
    *(pytest.param(case, "cuda", marks=pytest.mark.gpu) for case in (*INTERPRETED, "full", "3 segments", "elastic", "pooling")),
]


@pytest.mark.parametrize(("case", "place"), MODELS, indirect=["place"])
def test_a_models_states_and_gradients_are_those_of_the_dense_form(case, place):
    model = build("hstu", CASES[case]()).to(place)
    inputs = [part.to(place) for part in random_windows(model.layout)]
    answers = []
    for kernel in ("segmented", "naive"):
        model.use_kernel(kernel)
        model.zero_grad()
        states, _ = model.hidden_states(*inputs)
        states.sin().sum().backward()
        answers.append((states, *(weight.grad for _, weight in sorted(model.named_parameters()))))
    assert any(name.endswith("interval") for name, _ in model.named_parameters())
    for found, expected in zip(*answers, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["full", "3 segments", "unequal plan", "memory of 3 segments"])
@torch.no_grad()
def test_served_from_a_cache_is_the_dense_joint_pass(case, place):
    model = build("hstu", CASES[case]()).to(place)
    items, times, query_time = (part.to(place) for part in random_windows(model.layout, seed=5))
    history = model.layout.history
    asks = (items[:, history:] != 0).any(1)
    extended = model.compress(items[:, : model.layout.offsets[0]], times[:, : model.layout.offsets[0]])
    for start, stop in itertools.pairwise(model.layout.offsets):
        extended = model.extend(extended, items[:, start:stop], times[:, start:stop])
    cache = extended.of_users(asks.nonzero().flatten())
    served = model.score(items[asks, history:], times[asks, history:], query_time[asks], cache=cache)
    model.use_kernel("naive")
    torch.testing.assert_close(served, model.score(items, times, query_time)[asks], **TOLERANCE)


def test_the_step_that_a_gpu_is_measured_by_runs_through_the_kernels(place, monkeypatch):
    from persrec.nn.attention.triton import TritonPointwise

    monkeypatch.setattr(probe, "LONG", 40)
    ran = []
    own = {name: getattr(TritonPointwise, name) for name in ("forward", "backward")}
    for name in own:

        def noted(self, *tensors, name=name):
            ran.append((name, tensors[0].dtype))
            return own[name](self, *tensors)

        monkeypatch.setattr(TritonPointwise, name, noted)
    settings = KernelSettings(device=place.type, threads=1, rounds=1, layers=1, users=2, recent=8)
    probe._long_training(settings, timed=True).ours()
    assert ran == [("forward", torch.bfloat16), ("backward", torch.bfloat16)]  # history and recent items at once


SMALLEST_SHARED_MEMORY = 99 * 1024  # what a program may have, of the GPUs of compute capability 8.0 to 9.0


@pytest.mark.slow
@pytest.mark.parametrize("target", [("80", "bf16", "16"), ("90", "fp32", "128")])
def test_the_kernels_compile_for_gpus_and_fit_them(target, tmp_path):
    if find_spec("triton") is None:
        pytest.skip(INSTALL)
    script = Path(__file__).parent / "compile_kernels.py"
    settings = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(script.parents[2])}
    ran = subprocess.run([sys.executable, script, *target], env=os.environ | settings, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    shared = json.loads(ran.stdout)
    assert len(shared) == 4
    assert all(0 <= taken <= SMALLEST_SHARED_MEMORY for taken in shared.values())


def test_tensors_on_a_cpu_and_what_triton_does_not_take_go_to_the_blocks(monkeypatch):
    q = torch.zeros(1, 1, 2, 2)
    assert isinstance(attention._pointwise(q, 0, None), PointwiseBlocks)
    monkeypatch.setattr(attention, "on_gpu", lambda tensor: True)
    assert isinstance(attention._pointwise(q.double(), 0, None), PointwiseBlocks)
    monkeypatch.setattr(attention, "has_triton", lambda: False)
    assert isinstance(attention._pointwise(q, 0, None), PointwiseBlocks)

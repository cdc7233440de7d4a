"""Rows: what they compare before they time, and the ratios of what they measured."""

import statistics
from functools import partial

import pytest
import torch

from benchmarks.cell import InvalidMeasurementError
from benchmarks.kernels import computations, rows
from benchmarks.kernels import plain as plain_forms
from benchmarks.kernels.plain import AUTOGRAD_LOOP, COMPILED, FORMS, IN_PLACE_LOOP
from benchmarks.kernels.record import KernelSettings
from benchmarks.probes import nvml
from persrec.nn import context
from persrec.serving.compiled import CompiledRequests

pytestmark = pytest.mark.usefixtures("one_thread")

EVERY = [name for name in dict.fromkeys((*rows.names("cpu"), *rows.names("cuda"))) if "16384" not in name and "compiled" not in name]
SETTINGS = KernelSettings(device="cpu", threads=1, rounds=1, layers=2, users=2, heads=2, width=8, history=24, recent=8, tokens=4)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(rows, "_ROWS", rows._ROWS + rows._GPU_ROWS)  # at these sizes a CPU computes those, too
    monkeypatch.setattr(rows, "LONG", 24)
    monkeypatch.setitem(rows.PEAK_SIZE, "cpu", 16)
    for module in (rows, computations):
        monkeypatch.setattr(module, "RANKED_ITEMS", 300)
        monkeypatch.setattr(module, "RANKED_USERS", 200)


def job(name):
    return {"settings": SETTINGS, "name": name}


def phase(name):
    pass


@pytest.mark.parametrize("name", EVERY)
def test_what_a_row_times_agrees_with_its_plain_form(name):
    check = rows.check_row(job(name), phase)
    assert 0 <= check["largest_difference"] <= check["tolerance"]


@pytest.mark.parametrize(
    "name",
    [
        "hstu, full forward, dense einsum over segmented",
        "hstu, full training step, head by head, causal half over segmented",
        f"hstu, full training step, {IN_PLACE_LOOP} over segmented",
        "hstu, serving, head by head, in place over segmented",
        "hstu, serve over full, time over FLOPs",
        "hstu, training step of 5 equal segments over full, time over FLOPs",
        "hstu, compressing 4 segments over 1, a segment",
        "hstu, training step of 4096 items in bfloat16, naive over segmented",
        "sasrec, serve over full, time over FLOPs",
    ],
)
@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan")])
def test_a_row_whose_outputs_differ_is_refused(name, factor, monkeypatch):
    def wrong(attend):
        return lambda *inputs, kernel, **rest: attend(*inputs, kernel=kernel, **rest) * (1.0 if kernel == "naive" else factor)

    monkeypatch.setattr(context, "pointwise_attention", wrong(context.pointwise_attention))
    monkeypatch.setattr(context, "softmax_attention", wrong(context.softmax_attention))
    for few in ("few_pointwise", "few_softmax"):  # small passes without gradients
        attend = getattr(context, few)
        monkeypatch.setattr(context, few, lambda *inputs, attend=attend: attend(*inputs) * factor)
    with pytest.raises(InvalidMeasurementError, match="outputs differ from the plain form by"):
        rows.check_row(job(name), phase)


def test_gradients_are_compared_where_a_training_step_is_timed(monkeypatch):
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            return x.clone()

        @staticmethod
        def backward(_, gradient):
            return 2 * gradient

    attend = context.pointwise_attention

    def wrong(q, k, v, *, kernel, **rest):
        return attend(q if kernel == "naive" else Doubled.apply(q), k, v, kernel=kernel, **rest)

    monkeypatch.setattr(context, "pointwise_attention", wrong)
    rows.check_row(job("hstu, full forward, dense einsum over segmented"), phase)
    with pytest.raises(InvalidMeasurementError):
        rows.check_row(job("hstu, full training step, head by head, causal half over segmented"), phase)


def test_ranks_and_the_fused_softmax_are_compared(monkeypatch):
    monkeypatch.setattr(computations, "target_ranks", lambda states, vectors, targets: targets % 7)
    with pytest.raises(InvalidMeasurementError):
        rows.check_row(job("ranking 100000 items at width 64, share of the matrix-product peak"), phase)
    monkeypatch.setattr(computations, "softmax_attention", lambda q, k, v, **rest: q + k + v)
    for name in rows.names("cpu"):
        if name.startswith("softmax") and "compiled" not in name:
            with pytest.raises(InvalidMeasurementError):
                rows.check_row(job(name), phase)


def test_a_difference_is_a_share_of_the_norm_and_rounding_of_large_gradients_is_none():
    plain = (torch.tensor([3.0, 4.0]), torch.tensor([1e-9]))
    assert computations.largest_difference((plain,), (plain,)) == 0.0
    moved = (torch.tensor([3.0, 4.5]), plain[1])
    assert computations.largest_difference((moved,), (plain,)) == pytest.approx(0.5 / 5)
    rounded = (plain[0], torch.tensor([3e-9]))
    assert computations.largest_difference((rounded,), (plain,)) == pytest.approx(2e-9 / (1e-3 * 5))
    for number in (float("nan"), float("inf")):
        assert computations.largest_difference(((torch.tensor([3.0, number]), plain[1]),), (plain,)) == float("inf")
        assert computations.largest_difference((plain,), ((torch.tensor([3.0, number]), plain[1]),)) == float("inf")


@pytest.mark.parametrize(
    "name",
    [
        "hstu, serving, head by head, in place over segmented",
        "hstu, serve over full, time over FLOPs",
        "hstu, peak bytes of a forward, segmented over naive",
        "softmax, full forward over the fused causal kernel",
        "ranking 100000 items at width 64, share of the matrix-product peak",
    ],
)
def test_a_ratio_is_of_its_own_samples(name):
    row = rows.measure_row(job(name), phase)
    if row.unit == "byte":
        assert row.ratio == row.ours[0] / max(1, row.other[0])
    else:
        pairs = zip(row.ours, row.other, strict=True)
        ratios = [(other / ours if row.higher_is_better else ours / other) / row.share_of_flops for ours, other in pairs]
        assert row.ratio == pytest.approx(statistics.median(ratios))
    assert (row.share_of_flops == 1) == ("FLOPs" not in name and "ranking" not in name)


@pytest.mark.parametrize("inverse", [False, True])
def test_a_share_of_flops_divides_either_ratio(inverse, monkeypatch):
    monkeypatch.setattr(rows, "interleaved", lambda calls, rounds, device: [[2.0], [3.0]])
    ratio, ours, other = rows._times(rows.Sides(ours=list, other=list, checks=(), share=0.5, inverse=inverse), SETTINGS)
    assert ratio == pytest.approx((2 / 3 if inverse else 3 / 2) / 0.5)
    assert (ours, other) == ((2.0,), (3.0,))


@pytest.mark.parametrize("options", [{}, {"timed": True}, {"memory": True}])
def test_a_gpus_rows_compare_the_dense_form_in_bfloat16(options, monkeypatch):
    calls = []
    attend = context.pointwise_attention

    def noted(q, k, v, *, kernel, bias, **rest):
        calls.append((kernel, q.dtype, k.shape[2], bias.interval is not None))
        return attend(q, k, v, kernel=kernel, bias=bias, **rest)

    monkeypatch.setattr(context, "pointwise_attention", noted)
    sides = rows._long_training(SETTINGS, **options)
    assert (sides.bound, sides.memory, sides.inverse) == ((0.1, True, True) if options.get("memory") else (4.0, False, False))
    for call, kernel in ((sides.ours, "segmented"), (sides.other, "naive")):
        calls.clear()
        call()
        assert {part[:2] + part[3:] for part in calls} == {(kernel, torch.bfloat16, options.get("timed", False))}
        assert max(keys for _, _, keys, _ in calls) == 24


def test_every_row_of_a_plain_form_names_it_and_has_what_is_asked():
    known = rows.names("cpu")
    for form in FORMS:
        kinds = ["full training step"] if form == AUTOGRAD_LOOP else ["full forward", "full training step", "serving"]
        names = [f"hstu, {kind}, {form} over segmented{kept}" for kind in kinds for kept in ("", f", {rows.KEPT}")]
        assert [name for name, _ in rows._rows_of_forms() if f", {form} over" in name] == names
        if form == COMPILED:
            continue  # without a compiler it has no rows here
        assert set(names) <= set(known)
        for name in names:
            sides = rows._sides(job(name))
            assert (sides.form, sides.bound, sides.share) == (form, 3.0 if "serving" in name else 2.5, 1.0)


def test_a_row_of_a_plain_form_times_that_form_and_says_so(monkeypatch):
    calls = []
    loop = FORMS[IN_PLACE_LOOP]
    monkeypatch.setattr(rows, "FORMS", {**FORMS, IN_PLACE_LOOP: lambda *inputs: calls.append(1) or loop(*inputs)})
    row = rows.measure_row(job(f"hstu, full training step, {IN_PLACE_LOOP} over segmented"), phase)
    assert row.form == IN_PLACE_LOOP
    assert len(calls) == SETTINGS.layers * (1 + SETTINGS.rounds)  # a warm-up and the rounds
    assert rows.measure_row(job("hstu, serve over full, time over FLOPs"), phase).form is None


def test_a_gpu_has_no_rows_of_freed_memory_kept():
    assert any(rows.KEPT in name for name in rows.names("cpu"))
    assert not any(rows.KEPT in name for name in rows.names("cuda"))


def test_a_plain_form_that_gives_something_else_is_refused(monkeypatch):
    name = "hstu, full forward, batched, in place over segmented"
    rows.check_row(job(name), phase)
    monkeypatch.setattr(plain_forms, "_weighted", lambda scores, mask, bias: scores * mask)
    with pytest.raises(InvalidMeasurementError, match="outputs differ from the plain form by"):
        rows.check_row(job(name), phase)


def test_without_a_compiler_there_is_no_compiled_row(monkeypatch):
    monkeypatch.setattr(rows.shutil, "which", lambda name: None)
    for kind in (COMPILED, rows.FLEX, rows.GRAPH):
        assert not any(kind in name for name in rows.names("cpu"))
        assert any(kind in name for name in rows.names("cuda"))


@pytest.mark.parametrize("name", [name for name, _ in rows._ROWS if rows.GRAPH in name])
def test_what_a_compiled_row_times_agrees_too(name, monkeypatch):
    """By graphs that are run operation by operation: compiling them takes seconds each."""
    monkeypatch.setattr(computations, "CompiledRequests", partial(CompiledRequests, backend="eager"))
    monkeypatch.setattr(computations, "REQUESTS", 2)
    check = rows.check_row(job(name), phase)
    assert 0 <= check["largest_difference"] <= check["tolerance"]


def test_a_disturbed_gpu_ends_a_row(monkeypatch):
    """The watch of a CUDA row around one on a CPU."""
    monkeypatch.setattr(nvml, "_state", lambda: {"throttle_reasons": 0x40})
    monkeypatch.setattr(rows, "GpuWatch", lambda device: nvml.GpuWatch("cuda"))
    with pytest.raises(InvalidMeasurementError, match="clocks held back"):
        rows.measure_row(job("hstu, serve over full, time over FLOPs"), phase)

"""Two independent counters of multiply-adds, by part: fvcore over a trace, torch over what is dispatched.

An operation is either priced here or listed as one that is no matrix product; anything else makes the cell invalid. Both
counters run with attention computed by plain matrix products (`SDPBackend.MATH`): torch's counter prices the fused CPU
kernel at 0.
"""

import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from benchmarks.cell import InvalidMeasurementError
from benchmarks.probes.parts import ATTENTION, FEED_FORWARD, PARTS, PROJECTIONS, SCORING, PartCounter
from persrec.recommender import SequentialRecommender

LINEAR = "linear"

# norms, activations, sums, copies and index arithmetic: no multiply-adds of a matrix product
# fmt: off
NOT_PRODUCTS = frozenset(
    f"aten::{name}"
    for name in (
        "__and__", "__iand__", "__ior__", "__or__", "__rshift__", "__xor__", "abs", "abs_", "add", "add_", "addcmul", "all", "amax", "amin",
        "any", "arange", "argmax", "argsort", "as_strided", "bitwise_and", "bitwise_and_", "bitwise_not", "bitwise_or", "bitwise_or_",
        "cat", "clamp", "clamp_", "clamp_min", "clone", "constant_pad_nd", "contiguous", "copy_", "cos", "cummax", "cummin", "cumsum",
        "diagonal", "diff", "div", "div_", "dropout", "embedding", "empty_like", "eq", "exp", "exp2", "exp_", "expand", "expand_as", "eye",
        "fill_", "flip", "floor", "floor_divide", "full", "full_like", "gather", "ge", "gelu", "gt", "index", "index_put_", "index_select",
        "is_nonzero", "item", "layer_norm", "le", "lift_fresh", "linalg_vector_norm", "log", "log1p", "log_", "logical_and", "logical_not",
        "logsumexp", "lt", "masked_fill", "masked_fill_", "masked_select", "max", "maximum", "mean", "min", "mul", "mul_", "narrow", "ne",
        "neg", "new_ones", "new_zeros", "nonzero", "norm", "numpy_T", "ones", "ones_like", "pad", "pow", "reciprocal", "remainder",
        "repeat", "repeat_interleave", "rms_norm", "roll", "rsqrt", "rsub", "scatter", "scatter_add", "scatter_reduce", "searchsorted",
        "sigmoid", "silu", "silu_", "sin", "softmax", "sort", "split", "sqrt", "stack", "sub", "sub_", "sum", "tanh", "to", "topk", "tril",
        "tril_", "triu", "triu_", "type_as", "unbind", "unflatten", "unfold", "where", "zero_", "zeros", "zeros_like",
    )
)
# fmt: on

Handle = Callable[[list[Any], list[Any]], Counter[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """Multiply-adds of one call by part, and the operations that are not priced."""

    parts: dict[str, int]
    uncounted: dict[str, int]

    def of(self, part: str) -> int:
        """Those of one part, or the ``total``."""
        return sum(self.parts.values()) if part == "total" else self.parts.get(part, 0)


@contextmanager
def in_blocks(model: SequentialRecommender) -> Iterator[None]:
    """Inside, attention runs block by block on a GPU too: the formula prices blocks, and counters do not see into kernels."""
    kernel = model.backbone.kernel
    model.use_kernel("blocks" if kernel == "segmented" else kernel)
    try:
        yield
    finally:
        model.use_kernel(kernel)


class _Module(nn.Module):
    """A closure as a module, for fvcore, which must find the weights in it."""

    def __init__(self, call: Callable[[torch.Tensor], torch.Tensor], model: nn.Module) -> None:
        super().__init__()
        self.call = call
        self.model = model

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        return self.call(items)


def _shape(value: Any) -> list[int]:
    return list(value.type().sizes())


def _product(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """A matrix product, broadcast or not: every output number takes as many multiply-adds as the inner dimension."""
    out, inner = _shape(outputs[0]), _shape(inputs[0])[-1]
    return Counter({ATTENTION if len(out) == 4 else LINEAR: math.prod(out) * inner})


def _batched_product(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Of two tensors that both have a batch: weights have none, so it is attention's."""
    return Counter({ATTENTION: math.prod(_shape(outputs[0])) * _shape(inputs[0])[-1]})


def _added_product(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return _product(inputs[1:], outputs)


def _added_batched_product(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return _batched_product(inputs[1:], outputs)


def _scaled_dot_product(inputs: list[Any], outputs: list[Any]) -> Counter[str]:  # noqa: ARG001 - fvcore's signature
    q, k, v = (_shape(value) for value in inputs[:3])
    return Counter({ATTENTION: math.prod(q[:-2]) * q[-2] * k[-2] * (q[-1] + v[-1])})


HANDLES: dict[str, Handle] = {
    "aten::matmul": _product,
    "aten::mm": _product,
    "aten::bmm": _batched_product,
    "aten::baddbmm": _added_batched_product,
    "aten::linear": _product,
    "aten::addmm": _added_product,
    "aten::scaled_dot_product_attention": _scaled_dot_product,
}


def count_by_fvcore(
    call: Callable[[torch.Tensor], torch.Tensor], items: torch.Tensor, model: SequentialRecommender, *, outside: str = SCORING
) -> Count:
    """Multiply-adds of ``call(items)``, which runs ``model`` forward, by fvcore over a trace with our prices.

    Args:
        call: what is traced.
        items: its input.
        model: whose parts are told apart, by the modules that the trace names.
        outside: the part that products outside of the backbone belong to.

    Raises:
        InvalidMeasurementError: the trace holds an operation that is neither priced nor known to be none.
    """
    analysis = FlopCountAnalysis(_Module(call, model), (items,))
    for name in ("aten::layer_norm", "aten::batch_norm", "aten::group_norm", "aten::einsum"):  # fvcore prices norms by the element
        analysis.set_op_handle(name, None)
    for name, handle in HANDLES.items():
        analysis.set_op_handle(name, handle)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with warnings.catch_warnings(), torch.no_grad(), in_blocks(model):
        warnings.simplefilter("ignore")  # a tracer warns of every shape that Python reads
        counts = analysis.by_module_and_operator()
        uncounted = dict(analysis.unsupported_ops())
    unpriced = sorted(set(uncounted) - NOT_PRODUCTS)
    if unpriced:
        raise InvalidMeasurementError(f"no price for the operations {', '.join(unpriced)}")
    parts = dict.fromkeys(PARTS, 0)
    everything, of_backbone = counts[""], counts.get("model.backbone", Counter())
    parts[ATTENTION] = int(of_backbone[ATTENTION])
    parts[FEED_FORWARD] = int(sum(operations[LINEAR] for name, operations in counts.items() if _is_feed_forward(name, model)))
    parts[PROJECTIONS] = int(of_backbone[LINEAR]) - parts[FEED_FORWARD]
    parts[outside] += int(sum(everything[kind] - of_backbone[kind] for kind in (ATTENTION, LINEAR)))
    return Count(parts=parts, uncounted={name: int(times) for name, times in sorted(uncounted.items())})


def _is_feed_forward(name: str, model: SequentialRecommender) -> bool:
    return name.startswith("model.backbone.") and name.rpartition(".")[2] in model.backbone.feed_forward


def count_by_torch(call: Callable[[], object], model: SequentialRecommender) -> Count:
    """Multiply-adds of ``call()``, which runs ``model``, forward and backward alike, by torch's counter."""
    with in_blocks(model):
        return Count(parts=PartCounter(model).count(call), uncounted={})


logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)

"""What the attention kernels cost beside plain forms of attention and beside each other, as ratios within one process."""

import ctypes
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from benchmarks.cell import InvalidMeasurementError
from benchmarks.kernels.computations import (
    RANKED_ITEMS,
    RANKED_USERS,
    Attend,
    Computation,
    Group,
    both,
    build_model,
    causal_silu,
    causal_softmax,
    compressing,
    flex_causal,
    forward,
    fused_causal,
    largest_difference,
    ranking,
    requests,
    serving,
    training,
)
from benchmarks.kernels.plain import AUTOGRAD_LOOP, COMPILED, FORMS, plain
from benchmarks.kernels.record import CALL_BY_CALL, FEW_RECENT, REQUEST_HEADS, REQUEST_LAYERS, KernelRow, KernelSettings
from benchmarks.probes.clock import interleaved
from benchmarks.probes.nvml import GpuWatch
from benchmarks.probes.peak import peak_bytes
from benchmarks.probes.products import PEAK_SIZE, matrix_product, product_peak
from persrec.names import Kernel
from persrec.recommender import SequentialRecommender

LONG = 4096  # items of the rows that a GPU alone is measured by
FAST: Kernel = "segmented"
PLAIN: Kernel = "naive"
TOLERANCE = 1e-4  # of float32 numbers that are summed in another order; measured: up to 1e-5
TOLERANCE_BFLOAT16 = 0.5  # through 16 layers of numbers of 8 bits; measured: 0.2, and 1 without attention
KEPT = "freed memory kept by the process"
FLEX = "FlexAttention, compiled"  # its gradients need a GPU
GRAPH = "a compiled request"
COMPILERS = ("c++", "g++", "clang++")  # what `torch.compile` takes on a CPU; without one its rows are not there
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of the GNU C library's mallopt


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """Two calls to time in turn, and what is compared with its plain form before.

    Attributes:
        ours: the one side.
        other: the other.
        checks: computations that the sides time; each must give by the fast kernels what it gives by the plain form.
        tolerance: what `largest_difference` may be.
        share: the FLOPs of ours over the other's. The ratio is other over ours divided by it.
        inverse: whether the ratio is ours over other.
        bound: what is asked of the ratio.
        memory: whether peaks of memory are compared, not times.
        form: the plain form of `FORMS` that the other side attends by; None is our reference.
    """

    ours: Callable[[], object]
    other: Callable[[], object]
    checks: tuple[Computation, ...]
    tolerance: float = TOLERANCE
    share: float = 1.0
    inverse: bool = False
    bound: float | None = None
    memory: bool = False
    form: str | None = None

    @classmethod
    def fast_beside_plain(cls, computation: Computation, *, form: str | None = None, **options: Any) -> "Sides":
        """One computation by the fast kernels and by a plain form."""
        return cls(ours=lambda: computation(FAST), other=lambda: by_form(computation, form), checks=(computation,), form=form, **options)

    @classmethod
    def one_beside_another(cls, ours: Computation, other: Computation, **options: Any) -> "Sides":
        """Two computations, both by the fast kernels."""
        return cls(ours=lambda: ours(FAST), other=lambda: other(FAST), checks=(ours, other), inverse=True, **options)


def by_form(computation: Computation, form: str | None) -> tuple[Group, ...]:
    """A computation with attention in a plain form, our reference where it is None."""
    if form is None:
        return computation(PLAIN)
    with plain(FORMS[form]):
        return computation(PLAIN)


def names(device: str) -> list[str]:
    """The rows there are on a device."""
    return [name for name, _ in _rows(device)]


def check_row(payload: Mapping[str, Any], report_phase: Callable[[str], None]) -> dict[str, float]:
    """Compares what a row times with its plain form, as a job of `benchmarks.isolation`; ``payload`` as of `measure_row`.

    It has a process of its own: what the plain form allocates and frees would change the timings after it.

    Returns:
        ``largest_difference`` and ``tolerance``, as the record has them.

    Raises:
        InvalidMeasurementError: they differ by more than the tolerance.
    """
    report_phase("compare")
    sides = _sides(payload)
    forms = (None,) if sides.form is None else (None, sides.form)
    difference = max(largest_difference(check(FAST), by_form(check, form)) for check in sides.checks for form in forms)
    if not difference <= sides.tolerance:
        raise InvalidMeasurementError(f"outputs differ from the plain form by {difference:.3g}; expected at most {sides.tolerance:g}")
    return {"largest_difference": difference, "tolerance": sides.tolerance}


def measure_row(payload: Mapping[str, Any], report_phase: Callable[[str], None]) -> KernelRow:
    """One process's part of a row, as a job of `benchmarks.isolation`: ``payload`` has the ``settings`` and the row's ``name``.

    Raises:
        InvalidMeasurementError: the GPU was disturbed meanwhile.
    """
    report_phase("measure")
    settings: KernelSettings = payload["settings"]
    sides = _sides(payload)
    with GpuWatch("cpu" if sides.memory else settings.device):
        ratio, ours, other = (_peaks if sides.memory else _times)(sides, settings)
    return KernelRow(
        name=payload["name"],
        ratio=ratio,
        bound=sides.bound,
        higher_is_better=not sides.inverse,
        share_of_flops=sides.share,
        unit="byte" if sides.memory else "s",
        ours=ours,
        other=other,
        form=sides.form,
    )


def matrix_product_peak(settings: KernelSettings) -> float:
    """The machine's matrix-product peak in FLOP a second, float32, as measured here."""
    torch.set_num_threads(settings.threads)
    return product_peak(settings.device, rounds=settings.rounds)


def _sides(payload: Mapping[str, Any]) -> Sides:
    settings = payload["settings"]
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    return dict(_rows(settings.device))[payload["name"]](settings)


def _times(sides: Sides, settings: KernelSettings) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    ours, other = interleaved([sides.ours, sides.other], rounds=settings.rounds, device=settings.device)
    return statistics.median(_ratios(ours, other, sides)), tuple(ours), tuple(other)


def _ratios(ours: Sequence[float], other: Sequence[float], sides: Sides) -> list[float]:
    """The ratio of the two samples of each round, which were taken one after the other."""
    ratios = [other_sample / our_sample for our_sample, other_sample in zip(ours, other, strict=True)]
    return [(1 / ratio if sides.inverse else ratio) / sides.share for ratio in ratios]


def _peaks(sides: Sides, settings: KernelSettings) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    ours, other = (peak_bytes(call, settings.device) for call in (sides.ours, sides.other))
    return ours / max(1, other), (ours,), (other,)


def _with_freed_memory_kept(sides: Sides) -> Sides:
    """The row's process gives no freed memory back to the system, so that neither side pays for fresh pages at each call.

    Raises:
        RuntimeError: the C library refuses.
    """
    if not all(ctypes.CDLL(None).mallopt(threshold, 1 << 30) for threshold in (MMAP_THRESHOLD, TRIM_THRESHOLD)):
        raise RuntimeError("mallopt: refused; expected the C library to keep what is freed")
    return sides


def _full(
    settings: KernelSettings, make: Callable[..., Computation], *, bound: float, memory: bool = False, form: str | None = None
) -> Sides:
    """Full attention over the window, by the fast kernels and by a plain form."""
    return Sides.fast_beside_plain(make(settings, build_model(settings, "full")), form=form, bound=bound, memory=memory, inverse=memory)


def _serve_by_form(settings: KernelSettings, form: str) -> Sides:
    """Serving with tokens, by the fast kernels and by a plain form."""
    model = build_model(settings, "experts", tokens=settings.tokens)
    return Sides.fast_beside_plain(serving(settings, model), form=form, bound=3.0)


def _rows_of_forms() -> Iterator[tuple[str, Callable[[KernelSettings], Sides]]]:
    """Rows of each plain form: a forward pass, a training step and serving, each with memory as it comes and with freed memory kept."""
    for form in FORMS:
        kinds: dict[str, Callable[[KernelSettings], Sides]] = {
            "hstu, full forward": partial(_full, make=forward, bound=2.5, form=form),
            "hstu, full training step": partial(_full, make=training, bound=2.5, form=form),
            "hstu, serving": partial(_serve_by_form, form=form),
        }
        for kind, make_sides in kinds.items():
            if form == AUTOGRAD_LOOP and "training" not in kind:
                continue  # without gradients it differs from the in-place loop only in not being in place
            yield f"{kind}, {form} over segmented", make_sides
            yield f"{kind}, {form} over segmented, {KEPT}", partial(_make_with_freed_memory_kept, make_sides)


def _make_with_freed_memory_kept(make_sides: Callable[[KernelSettings], Sides], settings: KernelSettings) -> Sides:
    return _with_freed_memory_kept(make_sides(settings))


def _long_training(settings: KernelSettings, *, timed: bool = False, memory: bool = False) -> Sides:
    """A training step over `LONG` items in bfloat16, with HSTU's bias by time where ``timed``."""
    model = build_model(settings, "full", history=LONG - settings.recent).bfloat16()
    return Sides.fast_beside_plain(
        training(settings, model, timed=timed),
        tolerance=TOLERANCE_BFLOAT16,
        bound=1 / 10 if memory else 4.0,
        memory=memory,
        inverse=memory,
    )


def _share(settings: KernelSettings, phase: str, *, backbone: str = "hstu", segments: int = 1) -> Sides:
    """Time over full attention's time, divided by FLOPs over full attention's FLOPs."""
    full = build_model(settings, "full", backbone=backbone)
    model = build_model(settings, "experts", backbone=backbone, segments=segments, tokens=settings.tokens)
    all_segments, is_training = range(segments + 1), phase == "train"
    full_macs = _macs(full, range(2), backward=is_training)
    if is_training:
        share = _macs(model, all_segments, backward=True) / full_macs
        return Sides.one_beside_another(training(settings, model), training(settings, full), share=share, bound=1.15)
    serve, full_forward = serving(settings, model), forward(settings, full)
    if phase == "serve":
        return Sides.one_beside_another(serve, full_forward, share=_macs(model, all_segments[-1:]) / full_macs, bound=1.15)
    compress_and_serve = both(compressing(settings, model), serve)
    return Sides.one_beside_another(compress_and_serve, full_forward, share=_macs(model, all_segments) / full_macs, bound=1.15)


def _macs(model: SequentialRecommender, segments: range, *, backward: bool = False) -> int:
    """Multiply-adds of some segments of the layout, visible pairs alone."""
    layout, backbone = model.layout, model.backbone
    parts = backbone.macs(positions=sum(layout.size(j) for j in segments), pairs=sum(layout.visible_pairs(j) for j in segments))
    attention = parts.pop("attention")
    if backward:
        return 3 * sum(parts.values()) + attention * (2 + backbone.backward_products) // 2
    return sum(parts.values()) + attention


def _serve_at(settings: KernelSettings, history: int) -> Sides:
    """Serving after a long history over serving after a short one."""
    long, short = (build_model(settings, "experts", history=count, tokens=settings.tokens) for count in (history, settings.recent))
    return Sides.one_beside_another(serving(settings, long), serving(settings, short))


def _compress_segments(settings: KernelSettings, segments: int) -> Sides:
    """Compressing so many segments over compressing one of the same size, divided by the number: 1 is linear."""
    many_segments, one_segment = (
        build_model(settings, "experts", history=settings.recent * count, segments=count, tokens=settings.tokens * count)
        for count in (segments, 1)
    )
    return Sides.one_beside_another(compressing(settings, many_segments), compressing(settings, one_segment), share=float(segments))


def _compiled(settings: KernelSettings, backbone: str) -> Sides:
    """A small request of few recent items, from tokens: by one graph over the same operation by operation."""
    sizes = replace(settings, layers=REQUEST_LAYERS, heads=REQUEST_HEADS, recent=FEW_RECENT)
    model = build_model(sizes, "experts", backbone=backbone, tokens=settings.tokens)
    return Sides.one_beside_another(requests(settings, model, compiled=True), requests(settings, model, compiled=False))


def _request_share(settings: KernelSettings, backbone: str, *, graph: bool, full_graph: bool) -> Sides:
    """The time of a request from tokens over that of one from full attention's cache of `LONG` items, over their FLOPs.

    Each by a compiled graph or call by call. Of two graphs nothing is asked: full attention's is dense, and quicker without one.
    """
    sizes = replace(settings, layers=REQUEST_LAYERS, heads=REQUEST_HEADS, history=LONG)
    model = build_model(sizes, "experts", backbone=backbone, tokens=settings.tokens)
    full = build_model(sizes, "full", backbone=backbone)
    share = _macs(model, range(1, 2)) / _macs(full, range(1, 2))
    ours, other = requests(settings, model, compiled=graph), requests(settings, full, compiled=full_graph)
    return Sides.one_beside_another(ours, other, share=share, bound=None if full_graph else 2.0)


def _softmax(settings: KernelSettings, framework_attention: Attend, *, backward: bool = False) -> Sides:
    """Our softmax kernel over a causal attention of the framework's."""
    return Sides.fast_beside_plain(causal_softmax(settings, backward=backward, plain=framework_attention), inverse=True, bound=1.0)


def _ranking(settings: KernelSettings, width: int, bound: float) -> Sides:
    """Share of the matrix-product peak that ranking reaches: the time of as many FLOPs at the peak over its own."""
    ranks = ranking(settings, width)
    return Sides(
        ours=lambda: ranks(FAST),
        other=matrix_product(settings.device),
        checks=(ranks,),
        share=PEAK_SIZE[settings.device] ** 3 / (RANKED_ITEMS * RANKED_USERS * width),
        bound=bound,
    )


_ROWS: tuple[tuple[str, Callable[[KernelSettings], Sides]], ...] = (
    *_rows_of_forms(),
    ("hstu, peak bytes of a forward, segmented over naive", lambda s: _full(s, forward, bound=1 / 8, memory=True)),
    ("hstu, peak bytes of a training step, segmented over naive", lambda s: _full(s, training, bound=1 / 8, memory=True)),
    ("hstu, serve over full, time over FLOPs", lambda s: _share(s, "serve")),
    ("hstu, compress + serve over full, time over FLOPs", lambda s: _share(s, "both")),
    ("hstu, training step of 5 equal segments over full, time over FLOPs", lambda s: _share(s, "train", segments=4)),
    ("hstu, serving behind 4096 items over 256", lambda s: _serve_at(s, 4096)),
    ("hstu, serving behind 16384 items over 256", lambda s: _serve_at(s, 16_384)),
    ("hstu, compressing 4 segments over 1, a segment", lambda s: _compress_segments(s, 4)),
    ("hstu, compressing 16 segments over 1, a segment", lambda s: _compress_segments(s, 16)),
    ("softmax, full forward over the fused causal kernel", lambda s: _softmax(s, fused_causal)),
    ("softmax, full forward and backward over the fused causal kernel", lambda s: _softmax(s, fused_causal, backward=True)),
    (
        "silu without a bias, full forward over softmax",
        lambda s: Sides.one_beside_another(causal_silu(s), causal_softmax(s, backward=False)),
    ),
    (f"softmax, full forward over {FLEX}", lambda s: _softmax(s, flex_causal)),
    ("sasrec, serve over full, time over FLOPs", lambda s: _share(s, "serve", backbone="sasrec")),
    ("sasrec, compress + serve over full, time over FLOPs", lambda s: _share(s, "both", backbone="sasrec")),
    ("sasrec, training step of 5 equal segments over full, time over FLOPs", lambda s: _share(s, "train", backbone="sasrec", segments=4)),
    *((f"{kind}, {GRAPH} {CALL_BY_CALL}", partial(_compiled, backbone=kind)) for kind in ("hstu", "sasrec", "llama")),
    *(
        (
            f"{kind}, {comparison} the keys of 4096 items, time over FLOPs",
            partial(_request_share, backbone=kind, graph=graph, full_graph=full_graph),
        )
        for kind in ("hstu", "sasrec")
        for comparison, graph, full_graph in (
            (f"{GRAPH} from 4 tokens over one call by call from", True, False),
            (f"{GRAPH} from 4 tokens over one from", True, True),
            ("a request from 4 tokens over one from", False, False),
        )
    ),
    ("ranking 100000 items at width 64, share of the matrix-product peak", lambda s: _ranking(s, 64, 0.4)),
    ("ranking 100000 items at width 512, share of the matrix-product peak", lambda s: _ranking(s, 512, 0.7)),
)

# naive attention over 4096 items takes gigabytes a layer
_GPU_ROWS: tuple[tuple[str, Callable[[KernelSettings], Sides]], ...] = (
    ("hstu, training step of 4096 items in bfloat16, naive over segmented", _long_training),
    ("hstu, training step of 4096 items with times in bfloat16, naive over segmented", lambda s: _long_training(s, timed=True)),
    ("hstu, peak bytes of a training step of 4096 items in bfloat16, segmented over naive", lambda s: _long_training(s, memory=True)),
)


def _rows(device: str) -> tuple[tuple[str, Callable[[KernelSettings], Sides]], ...]:
    rows = _ROWS + _GPU_ROWS if device == "cuda" else _ROWS
    missing = [] if device == "cuda" or any(map(shutil.which, COMPILERS)) else [COMPILED, FLEX, GRAPH]
    missing += [] if device == "cpu" and hasattr(ctypes.CDLL(None), "mallopt") else [KEPT]  # torch keeps a GPU's freed memory anyway
    return tuple(row for row in rows if not any(part in row[0] for part in missing))

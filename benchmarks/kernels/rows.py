"""What the attention kernels cost beside their naive dense form and beside each other, as ratios in one process."""

import ctypes
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.probes.clock import interleaved
from benchmarks.probes.memory import peak_bytes
from persrec.backbones import BackboneSettings, build_backbone
from persrec.compression import CompressionSettings, build_compression
from persrec.evaluation.ranks import target_ranks
from persrec.items.ids import ItemEmbedding
from persrec.names import Kernel
from persrec.nn.attention import softmax_attention
from persrec.recommender import SequentialRecommender

USERS, HEADS, WIDTH, ITEMS = 4, 8, 64, 1000
HISTORY, RECENT, TOKENS = 1024, 256, 4
WINDOW = HISTORY + RECENT
LONG = 4096  # items of the rows that a GPU alone is measured by
PEAK_SIZE = 2048
KERNELS: tuple[Kernel, Kernel] = ("segmented", "naive")
KEPT = "hstu, serving, naive over segmented, freed memory kept by the process"
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of the GNU C library's mallopt
Call = Callable[[], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How to measure.

    Attributes:
        device: ``cpu`` or ``cuda``.
        threads: threads to compute with.
        rounds: measurements of each side.
        layers: of the HSTU and the SASRec.
    """

    device: str
    threads: int
    rounds: int
    layers: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, the sizes among them."""
        sizes = {"users": USERS, "heads": HEADS, "width": WIDTH, "history": HISTORY, "recent": RECENT, "tokens": TOKENS}
        return {**asdict(self), **sizes, "dtype": "float32"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """Two calls to time in turn: the ratio is other over ours, or its inverse, divided by ``share``, one's FLOPs over the other's."""

    ours: Call
    other: Call
    share: float = 1.0
    inverse: bool = False
    bound: float | None = None
    memory: bool = False


def names(device: str) -> list[str]:
    """The rows there are on a device."""
    return [name for name, _ in _rows(device)]


def measure_row(payload: Mapping[str, Any], report_phase: Callable[[str], None]) -> dict[str, Any]:
    """One row, as a job of `benchmarks.isolation`: ``payload`` has the ``settings`` and the row's ``name``.

    The row has ``ratio``, ``bound`` (what is asked, or None), ``higher_is_better``, and the raw seconds of both sides.
    """
    report_phase("measure")
    settings, name = payload["settings"], payload["name"]
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    sides = dict(_rows(settings.device))[name](settings)
    ratio_of = _peaks if sides.memory else _times
    return {"name": name, "bound": sides.bound, "higher_is_better": not sides.inverse, **ratio_of(sides, settings)}


def machine(settings: Settings) -> dict[str, Any]:
    """The machine's matrix-product peak in FLOP a second, float32, as measured here."""
    torch.set_num_threads(settings.threads)
    return {"matrix_product_flops_per_second": _matrix_product_peak(settings)}


def _times(sides: Sides, settings: Settings) -> dict[str, Any]:
    ours, other = interleaved([sides.ours, sides.other], rounds=settings.rounds, device=settings.device)
    ratio = statistics.median(other) / statistics.median(ours)
    ratio = (1 / ratio if sides.inverse else ratio) / sides.share
    return {"ratio": ratio, "share_of_flops": sides.share, "ours": list(ours), "other": list(other), "unit": "s"}


def _peaks(sides: Sides, settings: Settings) -> dict[str, Any]:
    peaks = [peak_bytes(call, settings.device) for call in (sides.ours, sides.other)]
    return {"ratio": peaks[0] / max(1, peaks[1]), "share_of_flops": 1.0, "ours": peaks[:1], "other": peaks[1:], "unit": "byte"}


def _model(
    settings: Settings, compression: str, *, backbone: str = "hstu", history: int = HISTORY, segments: int = 1, tokens: int = 0
) -> SequentialRecommender:
    chosen = build_compression(
        compression, CompressionSettings(history=history, recent=RECENT, segments=segments, tokens=tokens, width=WIDTH)
    )
    sizes = BackboneSettings(width=WIDTH, layers=settings.layers, heads=HEADS, length=chosen.layout.length)
    items = ItemEmbedding(count=ITEMS, width=WIDTH)
    model = SequentialRecommender(items=items, backbone=build_backbone(backbone, sizes), compression=chosen)
    return model.eval().to(settings.device)


def _items(settings: Settings, count: int) -> torch.Tensor:
    return torch.randint(1, ITEMS, (USERS, count), device=settings.device)


def _forward(settings: Settings, model: SequentialRecommender, kernel: Kernel = "segmented", count: int = WINDOW) -> Call:
    items = _items(settings, count)

    def call() -> None:
        model.use_kernel(kernel)
        with torch.inference_mode():
            model.user_states(items)

    return call


def _training(settings: Settings, model: SequentialRecommender, kernel: Kernel = "segmented", *, timed: bool = False) -> Call:
    items = _items(settings, model.layout.window)
    times = torch.randint(1, 100_000, items.shape, device=settings.device).cumsum(1) if timed else None

    def call() -> None:
        model.use_kernel(kernel)
        model.zero_grad(set_to_none=True)
        hidden, _ = model.hidden_states(items, times)
        hidden.square().mean().backward()  # type: ignore[no-untyped-call]

    return call


def _compress(settings: Settings, model: SequentialRecommender) -> Call:
    history = _items(settings, model.layout.history)

    def call() -> None:
        with torch.inference_mode():
            model.compress(history)

    return call


def _serve(settings: Settings, model: SequentialRecommender, kernel: Kernel = "segmented") -> Call:
    history, recent = _items(settings, model.layout.history), _items(settings, RECENT)
    with torch.inference_mode():
        cache = model.compress(history)

    def call() -> None:
        model.use_kernel(kernel)
        with torch.inference_mode():
            model.user_states(recent, cache=cache)

    return call


def _both(first: Call, second: Call) -> Call:
    def call() -> None:
        first()
        second()

    return call


def _macs(model: SequentialRecommender, segments: range, *, backward: bool = False) -> int:
    """Multiply-adds of some segments of the layout, visible pairs alone."""
    layout, backbone = model.layout, model.backbone
    parts = backbone.macs(positions=sum(layout.size(j) for j in segments), pairs=sum(layout.visible_pairs(j) for j in segments))
    attention = parts.pop("attention")
    if backward:
        return 3 * sum(parts.values()) + attention * (2 + backbone.backward_products) // 2
    return sum(parts.values()) + attention


def _with_freed_memory_kept(sides: Sides) -> Sides:
    """The row's process gives no freed memory back to the system, so that neither side pays for fresh pages at each call.

    Raises:
        RuntimeError: the C library refuses.
    """
    if not all(ctypes.CDLL(None).mallopt(threshold, 1 << 30) for threshold in (MMAP_THRESHOLD, TRIM_THRESHOLD)):
        raise RuntimeError("mallopt: refused; expected the C library to keep what is freed")
    return sides


def _against_naive(settings: Settings, make: Callable[..., Call], *, compression: str, bound: float, memory: bool = False) -> Sides:
    model = _model(settings, compression, tokens=TOKENS if compression == "experts" else 0)
    ours, naive = (make(settings, model, kernel) for kernel in KERNELS)
    return Sides(ours=ours, other=naive, bound=bound, memory=memory, inverse=memory)


def _long_training(settings: Settings, *, timed: bool = False, memory: bool = False) -> Sides:
    """A training step over `LONG` items in bfloat16, with HSTU's bias by time where ``timed``."""
    model = _model(settings, "full", history=LONG - RECENT).bfloat16()
    ours, naive = (_training(settings, model, kernel, timed=timed) for kernel in KERNELS)
    return Sides(ours=ours, other=naive, bound=1 / 10 if memory else 4.0, memory=memory, inverse=memory)


def _share(settings: Settings, phase: str, *, backbone: str = "hstu", segments: int = 1, tokens: int = TOKENS) -> Sides:
    """Time over full attention's time, divided by FLOPs over full attention's FLOPs."""
    full = _model(settings, "full", backbone=backbone)
    model = _model(settings, "experts", backbone=backbone, segments=segments, tokens=tokens)
    every = range(segments + 1)
    whole = _macs(full, range(2), backward=phase == "train")
    if phase == "train":
        share = _macs(model, every, backward=True) / whole
        return Sides(ours=_training(settings, model), other=_training(settings, full), share=share, inverse=True, bound=1.15)
    serve, other = _serve(settings, model), _forward(settings, full)
    if phase == "serve":
        return Sides(ours=serve, other=other, share=_macs(model, every[-1:]) / whole, inverse=True, bound=1.15)
    both = _both(_compress(settings, model), serve)
    return Sides(ours=both, other=other, share=_macs(model, every) / whole, inverse=True, bound=1.15)


def _serve_at(settings: Settings, history: int) -> Sides:
    """Serving behind a long history over serving behind a short one."""
    long, short = (_model(settings, "experts", history=count, tokens=TOKENS) for count in (history, RECENT))
    return Sides(ours=_serve(settings, long), other=_serve(settings, short), inverse=True)


def _compress_segments(settings: Settings, segments: int) -> Sides:
    """Compressing so many segments of 256 items over compressing one, divided by the number: 1 is linear."""
    many, one = (_model(settings, "experts", history=RECENT * n, segments=n, tokens=TOKENS * n) for n in (segments, 1))
    return Sides(ours=_compress(settings, many), other=_compress(settings, one), share=float(segments), inverse=True)


def _fused_softmax(settings: Settings, *, backward: bool) -> Sides:
    """Our softmax kernel over the framework's fused causal attention."""
    shape = (USERS, WINDOW, HEADS, WIDTH // HEADS)
    q, k, v = (torch.randn(shape, device=settings.device).transpose(1, 2).requires_grad_(backward) for _ in range(3))
    valid = torch.ones(USERS, WINDOW, dtype=torch.bool, device=settings.device)

    def finished(call: Callable[[], torch.Tensor]) -> Call:
        def run() -> None:
            if backward:
                call().sum().backward()  # type: ignore[no-untyped-call]
            else:
                with torch.inference_mode():
                    call()

        return run

    ours = finished(lambda: softmax_attention(q, k, v, prefix=0, valid=valid, kernel="segmented"))
    return Sides(ours=ours, other=finished(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)), inverse=True, bound=1.0)


def _ranking(settings: Settings, width: int, bound: float) -> Sides:
    """Share of the matrix-product peak that ranking reaches: the time of as many FLOPs at the peak over its own."""
    catalogue, users = 100_000, 2048
    vectors = F.normalize(torch.randn(catalogue, width, device=settings.device), dim=-1)
    states = F.normalize(torch.randn(users, width, device=settings.device), dim=-1)
    targets = np.random.default_rng(0).integers(1, catalogue, users)
    side = torch.randn(PEAK_SIZE, PEAK_SIZE, device=settings.device)
    share = PEAK_SIZE**3 / (catalogue * users * width)
    out = torch.empty_like(side)
    ours, peak = (lambda: target_ranks(states, vectors, targets)), (lambda: torch.mm(side, side, out=out))
    return Sides(ours=ours, other=peak, share=share, bound=bound)


def _matrix_product_peak(settings: Settings) -> float:
    side = torch.randn(PEAK_SIZE, PEAK_SIZE, device=settings.device)
    out = torch.empty_like(side)
    (seconds,) = interleaved([lambda: torch.mm(side, side, out=out)], rounds=settings.rounds, device=settings.device)
    return 2 * PEAK_SIZE**3 / min(seconds)


_ROWS: tuple[tuple[str, Callable[[Settings], Sides]], ...] = (
    ("hstu, full forward, naive over segmented", lambda s: _against_naive(s, _forward, compression="full", bound=10.0)),
    ("hstu, full training step, naive over segmented", lambda s: _against_naive(s, _training, compression="full", bound=6.0)),
    ("hstu, serving, naive over segmented", lambda s: _against_naive(s, _serve, compression="experts", bound=3.0)),
    (KEPT, lambda s: _with_freed_memory_kept(_against_naive(s, _serve, compression="experts", bound=3.0))),
    (
        "hstu, peak bytes of a forward, segmented over naive",
        lambda s: _against_naive(s, _forward, compression="full", bound=1 / 8, memory=True),
    ),
    (
        "hstu, peak bytes of a training step, segmented over naive",
        lambda s: _against_naive(s, _training, compression="full", bound=1 / 8, memory=True),
    ),
    ("hstu, serve over full, time over FLOPs", lambda s: _share(s, "serve")),
    ("hstu, compress + serve over full, time over FLOPs", lambda s: _share(s, "both")),
    ("hstu, training step of 5 equal segments over full, time over FLOPs", lambda s: _share(s, "train", segments=4)),
    ("hstu, serving behind 4096 items over 256", lambda s: _serve_at(s, 4096)),
    ("hstu, serving behind 16384 items over 256", lambda s: _serve_at(s, 16_384)),
    ("hstu, compressing 4 segments over 1, a segment", lambda s: _compress_segments(s, 4)),
    ("hstu, compressing 16 segments over 1, a segment", lambda s: _compress_segments(s, 16)),
    ("softmax, full forward over the fused causal kernel", lambda s: _fused_softmax(s, backward=False)),
    ("softmax, full forward and backward over the fused causal kernel", lambda s: _fused_softmax(s, backward=True)),
    ("sasrec, serve over full, time over FLOPs", lambda s: _share(s, "serve", backbone="sasrec")),
    ("sasrec, compress + serve over full, time over FLOPs", lambda s: _share(s, "both", backbone="sasrec")),
    ("sasrec, training step of 5 equal segments over full, time over FLOPs", lambda s: _share(s, "train", backbone="sasrec", segments=4)),
    ("ranking 100000 items at width 64, share of the matrix-product peak", lambda s: _ranking(s, 64, 0.4)),
    ("ranking 100000 items at width 512, share of the matrix-product peak", lambda s: _ranking(s, 512, 0.7)),
)

# naive attention over 4096 items takes gigabytes a layer
_GPU_ROWS: tuple[tuple[str, Callable[[Settings], Sides]], ...] = (
    ("hstu, training step of 4096 items in bfloat16, naive over segmented", _long_training),
    ("hstu, training step of 4096 items with times in bfloat16, naive over segmented", lambda s: _long_training(s, timed=True)),
    ("hstu, peak bytes of a training step of 4096 items in bfloat16, segmented over naive", lambda s: _long_training(s, memory=True)),
)


def _rows(device: str) -> tuple[tuple[str, Callable[[Settings], Sides]], ...]:
    rows = _ROWS + _GPU_ROWS if device == "cuda" else _ROWS
    return rows if hasattr(ctypes.CDLL(None), "mallopt") else tuple(row for row in rows if row[0] != KEPT)

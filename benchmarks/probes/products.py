"""How fast a process multiplies matrices at its best: what shares of the peak are shares of."""

from collections.abc import Callable

import torch

from benchmarks.probes.clock import interleaved

PEAK_SIZE = {"cpu": 1024, "cuda": 2048}  # rows and columns; larger ones are no faster here and take longer
PEAK_ROUNDS = 9


def matrix_product(device: str, dtype: torch.dtype = torch.float32) -> Callable[[], object]:
    """A product of two square matrices of `PEAK_SIZE` rows, ``2 PEAK_SIZE**3`` FLOPs."""
    side = torch.randn(PEAK_SIZE[device], PEAK_SIZE[device], device=device).to(dtype)
    out = torch.empty_like(side)
    return lambda: torch.mm(side, side, out=out)


def product_peak(device: str, dtype: torch.dtype = torch.float32, *, rounds: int = PEAK_ROUNDS) -> float:
    """FLOP a second of the fastest of ``rounds`` products, with the process's threads."""
    (seconds,) = interleaved([matrix_product(device, dtype)], rounds=rounds, device=device)
    return 2 * PEAK_SIZE[device] ** 3 / min(seconds)

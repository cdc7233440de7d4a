"""Repeats a call and keeps every time."""

import time
from collections.abc import Callable

import numpy as np
import torch

WARM_UP_CALLS = 2


def repeat(call: Callable[[], object], *, device: str, seconds: float, least: int) -> np.ndarray:
    """Seconds of each call, after a warm-up: at least ``least`` calls, then until ``seconds`` have passed.

    On CUDA each call is timed to its end on the device.
    """
    for _ in range(WARM_UP_CALLS):
        call()
    samples: list[float] = []
    total = 0.0
    while len(samples) < least or total < seconds:
        _settle(device)
        start = time.perf_counter()
        call()
        _settle(device)
        samples.append(time.perf_counter() - start)
        total += samples[-1]
    return np.array(samples)


def _settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()

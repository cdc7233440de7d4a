"""Repeats a call and keeps every time."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

MOST_WARM_UP_CALLS = 10
SETTLED = 1.5  # a call that takes this many times the next one was not warm yet
MOST_S, FEWEST = 10.0, 3  # behind so many seconds so few calls are enough


def warm_up(call: Callable[[], object], *, device: str) -> float:
    """Calls until two calls one after the other take about as long, since kernels may be compiled and tuned by the first ones.

    `MOST_WARM_UP_CALLS` are enough, and so are `MOST_S` behind the first, which may compile for long.

    Returns:
        Seconds of the last call.
    """
    seconds = timed(call, device=device, count=2)
    while seconds[-2] > SETTLED * seconds[-1] and len(seconds) < MOST_WARM_UP_CALLS and sum(seconds[1:]) < MOST_S:
        seconds += timed(call, device=device, count=1)
    return seconds[-1]


def repeat(call: Callable[[], object], *, device: str, seconds: float, least: int, warm: bool = False) -> np.ndarray:
    """Seconds of each call, after a warm-up: at least ``least`` calls, then until ``seconds`` have passed; of slow ones, `MOST_S` of them.

    On CUDA each call is timed to its end on the device. ``warm`` calls are not warmed up once more.
    """
    if not warm:
        warm_up(call, device=device)
    samples: list[float] = []
    total = 0.0
    while total < seconds or len(samples) < (least if total < MOST_S else FEWEST):
        samples += timed(call, device=device, count=1)
        total += samples[-1]
    return np.array(samples)


def interleaved(calls: Sequence[Callable[[], object]], *, rounds: int, device: str, warm: bool = False) -> list[list[float]]:
    """Seconds of each call, one after the other in turn, in an order that changes every round.

    Each is called once before, unless they are ``warm``.
    """
    for call in () if warm else calls:
        call()
    samples: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds):
        order = range(len(calls)) if turn % 2 == 0 else reversed(range(len(calls)))
        for index in order:
            samples[index] += timed(calls[index], device=device, count=1)
    return samples


def timed(call: Callable[[], object], *, device: str, count: int) -> list[float]:
    """Seconds of ``count`` calls; on CUDA each to its end on the device."""
    samples = []
    for _ in range(count):
        _settle(device)
        start = time.perf_counter()
        call()
        _settle(device)
        samples.append(time.perf_counter() - start)
    return samples


def _settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()

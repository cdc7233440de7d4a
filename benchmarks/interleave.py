"""Runs the processes of a timing comparison: a fresh one at a time, base and head in turn, in an order that a seed draws."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.commandline import one_line
from benchmarks.isolation import THREAD_VARIABLES

WORKER = Path(__file__).resolve().parent / "timing.py"
BASE, HEAD = "base", "head"
HOOK = "def untrained_subject("

Answer = Mapping[str, Any]
Measure = Callable[[Path, Mapping[str, Any]], Answer]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """The answers of one process each, and which of them ran first."""

    first: str
    base: Answer
    head: Answer

    def failures(self) -> list[str]:
        """What processes of it ended without an answer say."""
        return [str(answer["error"]) for answer in (self.base, self.head) if "error" in answer]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What every process of a comparison measures: per cell the settings that differ from the defaults.

    ``planted`` are the cells whose serving is also measured with a fifth more work in it.
    """

    cells: Mapping[str, Mapping[str, Any]]
    payload: Mapping[str, Any]
    threads: int
    affinity: Sequence[int]
    timeout_s: float
    planted: Sequence[str] = ()

    def of(self, root: Path, order: Sequence[str]) -> dict[str, Any]:
        """The order for one process."""
        return {
            "root": str(root),
            "cells": self.cells,
            "order": list(order),
            "payload": dict(self.payload),
            "threads": self.threads,
            "affinity": list(self.affinity),
            "planted": list(self.planted),
            "timeout_s": self.timeout_s,
        }


def checked_root(root: Path) -> Path:
    """The folder of a checkout that can be compared.

    Raises:
        ValueError: it is no checkout of this project, or older than timing comparisons.
    """
    execute = root / "benchmarks" / "execute.py"
    if not root.is_dir():
        raise ValueError(f"BASE_CHECKOUT: {root}: no such folder")
    if not execute.is_file() or not (root / "persrec").is_dir():
        raise ValueError(f"BASE_CHECKOUT: {root} is no checkout of this project: expected persrec/ and benchmarks/execute.py in it")
    if HOOK not in execute.read_text(errors="replace"):
        raise ValueError(f"BASE_CHECKOUT: {root} is older than timing comparisons: its benchmarks/execute.py has no untrained_subject")
    return root.resolve()


def run_pairs(
    roots: Mapping[str, Path], order: Order, *, pairs: int, seed: int, told: Callable[[int], None], measure: Measure | None = None
) -> list[Pair]:
    """Measures so many pairs, one process at a time; a process that ends without an answer ends the comparison.

    Each side runs first in half of the pairs, drawn by the seed; the cells' order is drawn per pair and the same for both of
    its processes.
    """
    run = measure or run_process
    draw = random.Random(seed)  # noqa: S311 - an order, not a secret
    firsts = [BASE, HEAD] * (pairs // 2) + [draw.choice([BASE, HEAD])] * (pairs % 2)
    draw.shuffle(firsts)
    found: list[Pair] = []
    for number, first in enumerate(firsts, start=1):
        cells = list(order.cells)
        draw.shuffle(cells)
        answers: dict[str, Answer] = {}
        for side in (first, HEAD if first == BASE else BASE):
            try:
                answers[side] = run(roots[side], order.of(roots[side], cells))
            except ProcessError as error:
                answers[side] = {"error": str(error)}
        found.append(Pair(first=first, base=answers[BASE], head=answers[HEAD]))
        if found[-1].failures():
            break
        told(number)
    return found


class ProcessError(RuntimeError):
    """A process of a comparison ended without an answer."""


def run_process(root: Path, order: Mapping[str, Any]) -> Answer:
    """The answer of one fresh process in a checkout; nothing is written into the checkout.

    Raises:
        ProcessError: it crashed, ran out of time or said nothing that can be read.
    """
    command = [sys.executable, "-P", str(WORKER)]
    surroundings = _environment(root, int(order["threads"]))
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command,
            cwd=root,
            env=surroundings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            out, _ = process.communicate(json.dumps(order).encode(), timeout=float(order["timeout_s"]))
        except subprocess.TimeoutExpired as error:
            raise ProcessError(f"{root}: not finished after {order['timeout_s']:g} s") from error
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode:
            log.seek(0)
            last = (log.read().decode(errors="replace").strip().splitlines() or ["no output"])[-1]
            raise ProcessError(f"{root}: a measuring process ended with exit code {process.returncode}: {one_line(last)}")
    try:
        answer: Answer = json.loads(out)
    except ValueError as error:
        raise ProcessError(f"{root}: a measuring process gave no answer ({error})") from error
    return answer


def _environment(root: Path, threads: int) -> dict[str, str]:
    """The checkout's own packages come first, and its compiled files stay out of it."""
    threaded = dict.fromkeys(THREAD_VARIABLES, str(threads))
    cache = Path(tempfile.gettempdir()) / f"persrec-compiled-{os.getuid()}"
    return {**os.environ, **threaded, "PYTHONPATH": str(root), "PYTHONPYCACHEPREFIX": str(cache)}

"""Runs the processes of a timing comparison: a fresh one of base and of head a pair, measuring cell by cell in turn.

Both processes of a pair live at the same time on the same processors, and one waits while the other measures. Each measures a
timing in turns of some hundredths of a second, as often before the other as behind it (`TURNS`). Its first turn stands beside the
other's first, and so on, and a pair's number is the median of the turns' ratios (`benchmarks.compare.judge`). So what slows the
machine for longer than two turns slows both of them, a steady drift cancels, and a moment's trouble is outvoted.
"""

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare.worker import PLANTED, SERVE
from benchmarks.isolation import THREAD_VARIABLES
from persrec.commandline import one_line

WORKER = Path(__file__).resolve().parent / "worker.py"
BASE, HEAD = "base", "head"
HOOK = "def untrained_subject("
TURNS = (0, 1, 1, 0) * 4  # of the side that goes first in a cell, and of the other

Answer = Mapping[str, Any]
Start = Callable[[Path, Mapping[str, Any]], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """What one process of each side answered, cell by cell; ``failure`` is what ended one of them without an answer."""

    firsts: Mapping[str, str]
    base: Mapping[str, Answer]
    head: Mapping[str, Answer]
    failure: str | None = None


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

    def of(self, root: Path) -> dict[str, Any]:
        """The order for one process."""
        return {
            "root": str(root),
            "cells": self.cells,
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


class ProcessError(RuntimeError):
    """A process of a comparison ended without an answer."""


class Process:
    """A fresh process in a checkout, which measures a cell at a time; nothing is written into the checkout."""

    def __init__(self, root: Path, order: Mapping[str, Any]) -> None:
        """Starts it; ``ready`` waits until it has loaded its code."""
        self._root, self._timeout_s = root, float(order["timeout_s"])
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by ``close``
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            cwd=root,
            env=_environment(root, int(order["threads"])),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        self._send(json.dumps(order))

    def ready(self) -> None:
        """Waits until it can measure.

        Raises:
            ProcessError: it cannot.
        """
        self._receive()

    def ask(self, key: str, timing: str | None = None) -> Answer:
        """Has a cell built, or one of its timings taken for a turn.

        Raises:
            ProcessError: it crashed, ran out of time or said nothing that can be read.
        """
        self._send(json.dumps({"cell": key} | ({} if timing is None else {"timing": timing})))
        return self._receive()

    def close(self) -> None:
        """Ends it and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _send(self, line: str) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it has ended; the answer that does not come says why
                self._process.stdin.write(line.encode() + b"\n")
                self._process.stdin.flush()

    def _receive(self) -> Answer:
        out = self._process.stdout
        if out is None or not select.select([out], [], [], self._timeout_s)[0]:
            raise ProcessError(f"{self._root}: no answer after {self._timeout_s:g} s")
        line = out.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            last = (self._log.read().decode(errors="replace").strip().splitlines() or ["no output"])[-1]
            raise ProcessError(f"{self._root}: a measuring process ended with exit code {code}: {one_line(last)}")
        try:
            answer: Answer = json.loads(line)
        except ValueError as error:
            raise ProcessError(f"{self._root}: a measuring process gave no answer ({error})") from error
        return answer


def run_pairs(
    roots: Mapping[str, Path], order: Order, *, pairs: int, seed: int, told: Callable[[int], None], start: Start | None = None
) -> list[Pair]:
    """Measures so many pairs of fresh processes; one that ends without an answer ends the comparison.

    The seed draws the cells' order in a pair, and per cell which side goes first: each does in half of the pairs.
    """
    draw = random.Random(seed)  # noqa: S311 - an order, not a secret
    firsts = {key: _balanced(pairs, draw) for key in order.cells}
    found: list[Pair] = []
    for number in range(pairs):
        keys = list(order.cells)
        draw.shuffle(keys)
        found.append(_pair(roots, order, {key: firsts[key][number] for key in keys}, start or Process))
        if found[-1].failure is not None:
            break
        told(number + 1)
    return found


def _balanced(pairs: int, draw: random.Random) -> list[str]:
    sides = [BASE, HEAD] * (pairs // 2) + [draw.choice([BASE, HEAD])] * (pairs % 2)
    draw.shuffle(sides)
    return sides


def _pair(roots: Mapping[str, Path], order: Order, firsts: Mapping[str, str], start: Start) -> Pair:
    answers: dict[str, dict[str, Answer]] = {BASE: {}, HEAD: {}}
    processes: dict[str, Any] = {}
    try:
        for side, root in roots.items():
            processes[side] = start(root, order.of(root))
        for process in processes.values():
            process.ready()
        for key, first in firsts.items():
            for side, answer in _cell(processes, (first, HEAD if first == BASE else BASE), key).items():
                answers[side][key] = answer
    except ProcessError as error:
        return Pair(firsts=firsts, base=answers[BASE], head=answers[HEAD], failure=str(error))
    finally:
        for process in processes.values():
            process.close()
    return Pair(firsts=firsts, base=answers[BASE], head=answers[HEAD])


def _cell(processes: Mapping[str, Any], sides: tuple[str, str], key: str) -> dict[str, Answer]:
    """What both sides say of a cell: timing by timing in turns; where one cannot build it, nothing is timed of the other."""
    built = {side: processes[side].ask(key) for side in sides}
    if any("error" in answer for answer in built.values()):
        return {side: answer if "error" in answer else {"turns": {}, "readings": answer["readings"]} for side, answer in built.items()}
    told: dict[str, dict[str, list[Answer]]] = {side: {name: [] for name in built[side]["timings"]} for side in sides}
    together = _together(dict.fromkeys(name for side in sides for name in told[side]))
    for name, side in ((name, sides[turn]) for names in together for turn in TURNS for name in names):
        if name in told[side]:
            told[side][name].append(processes[side].ask(key, name))
            if "error" in told[side][name][-1]:
                break
    return {side: _of_turns(told[side], built[side]["readings"]) for side in sides}


def _together(names: Iterable[str]) -> list[list[str]]:
    """Timings that share their turns: serving, with what is planted in it, which is held against the other side's; others alone."""
    shared = [name for name in names if name in (SERVE, PLANTED)]
    return [part for part in (shared, *([name] for name in names if name not in shared)) if part]


def _of_turns(told: Mapping[str, Sequence[Answer]], readings: Mapping[str, Any]) -> Answer:
    """One answer of a process's turns, seconds a call, turn by turn; or what one of them failed with."""
    failed = [answer for turns in told.values() for answer in turns if "error" in answer]
    if failed:
        return failed[0]
    return {"turns": {name: [turn["seconds"] for turn in turns] for name, turns in told.items()}, "readings": readings}


def _environment(root: Path, threads: int) -> dict[str, str]:
    """The checkout's own packages come first, and its compiled files stay out of it."""
    threaded = dict.fromkeys(THREAD_VARIABLES, str(threads))
    return {**os.environ, **threaded, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}

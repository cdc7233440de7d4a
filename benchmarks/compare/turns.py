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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare.worker import PLANTED, SERVE
from benchmarks.isolation import LONGEST_WAIT_S, THREAD_VARIABLES
from persrec.commandline import one_line

WORKER = Path(__file__).resolve().parent / "worker.py"
BASE, HEAD = "base", "head"
PLACES = ("PERSREC_DATA", "PERSREC_CACHE")  # of data, where the command line names none
HOOK = "def untrained_subject("
TURNS = (0, 1, 1, 0) * 4  # 0 is the side that goes first in a cell, 1 the other

Answer = Mapping[str, Any]  # of one process on one cell: its ``turns``, ``peaks`` and ``readings``, or its ``error``
Start = Callable[[Path, Mapping[str, Any]], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """What one process of each side answered, cell by cell; ``failure`` is what ended one of them without an answer."""

    firsts: Mapping[str, str]
    base: Mapping[str, Answer]
    head: Mapping[str, Answer]
    failure: str | None = None

    def answer(self, side: str, key: str) -> Answer:
        """What a side answered on a cell."""
        return (self.base if side == BASE else self.head)[key]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkOrder:
    """What every process of a comparison measures: per cell the settings that differ from the defaults.

    ``planted`` are the cells whose serving is also measured with a fifth more work in it.
    """

    cells: Mapping[str, Mapping[str, Any]]
    payload: Mapping[str, Any]
    threads: int
    affinity: Sequence[int]
    timeout_s: float
    planted: Sequence[str] = ()

    def to_dict(self, root: Path, side: str) -> dict[str, Any]:
        """The order for one process."""
        return {
            "root": str(root),
            "side": side,
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
    """A process of a comparison ended without an answer; the message begins with its side."""


class MeasuringProcess:
    """A fresh process in a checkout, which measures a cell at a time; nothing is written into the checkout."""

    def __init__(self, root: Path, order: Mapping[str, Any]) -> None:
        """Starts it; ``ready`` waits until it has loaded its code."""
        self._side, self._timeout_s = str(order["side"]), float(order["timeout_s"])
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

    def ask(self, key: str, timing: str | None = None, size: Sequence[int] | None = None) -> Answer:
        """Asks for a cell to be built, or for one of its timings for a turn of that size.

        Raises:
            ProcessError: it crashed, ran out of time or said nothing that can be read.
        """
        self._send(json.dumps({"cell": key} | ({} if timing is None else {"timing": timing, "size": size})))
        return self._receive()

    def peaks(self, key: str) -> Answer:
        """Asks for the peak memory of each of a cell's calls.

        Raises:
            ProcessError: it crashed, ran out of time or said nothing that can be read.
        """
        self._send(json.dumps({"cell": key, "peaks": True}))
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
        timeout = self._timeout_s if self._timeout_s < LONGEST_WAIT_S else None
        if out is None or not select.select([out], [], [], timeout)[0]:
            raise ProcessError(f"{self._side}: no answer after {self._timeout_s:g} s")
        line = out.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            last = (self._log.read().decode(errors="replace").strip().splitlines() or ["no output"])[-1]
            raise ProcessError(f"{self._side}: its measuring process ended with exit code {code}: {one_line(last)}")
        try:
            answer: Answer = json.loads(line)
        except ValueError as error:
            raise ProcessError(f"{self._side}: its measuring process gave no answer that can be read ({error})") from error
        return answer


def run_pairs(
    roots: Mapping[str, Path], order: WorkOrder, *, count: int, seed: int, on_pair: Callable[[int], None], start: Start | None = None
) -> list[Pair]:
    """Measures ``count`` pairs of fresh processes; one that ends without an answer ends the comparison.

    The seed draws the cells' order in a pair, and per cell which side goes first: each does in half of the pairs.

    Args:
        roots: the checkout of each side.
        order: what is measured.
        count: how many pairs.
        seed: draws the orders.
        on_pair: called with the number of pairs that are done, after each.
        start: starts a process; `MeasuringProcess` by default.
    """
    draw = random.Random(seed)  # noqa: S311 - an order, not a secret
    firsts = {key: _balanced(count, draw) for key in order.cells}
    pairs: list[Pair] = []
    for number in range(count):
        keys = list(order.cells)
        draw.shuffle(keys)
        pairs.append(_pair(roots, order, {key: firsts[key][number] for key in keys}, start or MeasuringProcess))
        if pairs[-1].failure is not None:
            break
        on_pair(number + 1)
    return pairs


def _balanced(count: int, draw: random.Random) -> list[str]:
    sides = [BASE, HEAD] * (count // 2) + [draw.choice([BASE, HEAD])] * (count % 2)
    draw.shuffle(sides)
    return sides


def _pair(roots: Mapping[str, Path], order: WorkOrder, firsts: Mapping[str, str], start: Start) -> Pair:
    answers: dict[str, dict[str, Answer]] = {BASE: {}, HEAD: {}}
    processes: dict[str, Any] = {}
    failure = None
    try:
        for side, root in roots.items():
            processes[side] = start(root, order.to_dict(root, side))
        for process in processes.values():
            process.ready()
        for key, first in firsts.items():
            for side, answer in _cell(processes, (first, HEAD if first == BASE else BASE), key).items():
                answers[side][key] = answer
    except ProcessError as error:
        failure = str(error)
    finally:
        for process in processes.values():
            process.close()
    return Pair(firsts=firsts, base=answers[BASE], head=answers[HEAD], failure=failure)


def _cell(processes: Mapping[str, Any], sides: tuple[str, str], key: str) -> dict[str, Answer]:
    """What both sides say of a cell, timed in turns; a side that fails is asked no more, and the other is timed all the same."""
    built = {side: processes[side].ask(key) for side in sides}
    errors = {side: answer["error"] for side, answer in built.items() if "error" in answer}
    turns: dict[str, dict[str, list[float]]] = {side: {name: [] for name in built[side].get("timings", ())} for side in sides}
    names = list(dict.fromkeys(name for of_side in turns.values() for name in of_side))
    sizes = _sizes([built[side] for side in sides if side not in errors], names)
    for name, side in _turns(sides, names):
        if name in turns[side] and side not in errors:
            answer = processes[side].ask(key, name, sizes[name])
            if "error" in answer:
                errors[side] = answer["error"]
            else:
                turns[side][name].append(answer["seconds"])
    peaks = {side: processes[side].peaks(key) for side in sides if side not in errors}
    return {
        side: {"error": errors[side]}
        if side in errors
        else {
            "turns": turns[side],
            "peaks": peaks[side].get("peaks", {}),
            "peaks_error": peaks[side].get("error", ""),
            "readings": built[side]["readings"],
        }
        for side in sides
    }


def _sizes(built: Sequence[Answer], names: Sequence[str]) -> dict[str, list[int]]:
    """The calls of a sample and the samples of a turn, by timing: the same on both sides, those of the slower one.

    A mean of several calls and one call alone would not be the same statistic. A planted slow-down is as large as serving.
    """
    sizes = {
        name: [min(own) for own in zip(*(one["sizes"][name] for one in built if name in one["timings"]), strict=True)] for name in names
    }
    if PLANTED in sizes:
        sizes[PLANTED] = sizes[SERVE] = [min(own) for own in zip(sizes[PLANTED], sizes[SERVE], strict=True)]
    return sizes


def _turns(sides: tuple[str, str], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Which timing is taken of which side, turn by turn.

    A planted slow-down shares the turns of serving, because it is compared with the other side's serving.
    """
    shared = [name for name in names if name in (SERVE, PLANTED)]
    for group in (shared, *([name] for name in names if name not in shared)):
        for turn in TURNS:
            for name in group:
                yield name, sides[turn]


def _environment(root: Path, threads: int) -> dict[str, str]:
    """The checkout's own packages come first, and its compiled files stay out of it."""
    threaded = dict.fromkeys(THREAD_VARIABLES, str(threads))
    places = {name: str(Path(place).absolute()) for name in PLACES if (place := os.environ.get(name))}
    return {**os.environ, **places, **threaded, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}

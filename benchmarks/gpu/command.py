"""Everything worth knowing of one NVIDIA card, in at most ten minutes: ``python -m benchmarks.gpu``.

A card is often lent for a short while. Steps run one after the other, what matters most first, each with its own part of the time:
the tests that need a GPU, the kernels, slices of `profile` and `paper`, a small sweep that trains. A step that runs out of its time is
interrupted as Ctrl-C would, so that what it has measured stays, and the next one begins. At the end every step says how it went.
"""

import argparse
import importlib.util
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import PROJECT, chosen_device
from persrec.commandline import DONE, INCOMPLETE, Parser, duration, guarded

PROGRAM = "benchmarks.gpu"
MINUTES = 10.0
GRACE_S = 20.0  # between Ctrl-C and the end
RUN = ("-m", "benchmarks.run", "--device", "cuda", "--no-report")
ENDED_BY_US = "out of time"
FOR_TESTS = ("pytest", "hypothesis")  # the extra `test` installs them


@dataclass(frozen=True, kw_only=True, slots=True)
class CardStep:
    """What a step runs with this Python, and its part of the time."""

    name: str
    arguments: tuple[str, ...]
    share: float


STEPS = (
    CardStep(name="GPU tests", arguments=("-m", "pytest", "tests/gpu", "-q", "--maxfail", "20"), share=0.25),
    CardStep(name="kernels", arguments=("-m", "benchmarks.kernels", "--device", "cuda"), share=0.2),
    CardStep(name="profile", arguments=(*RUN, "--grid", "profile", "--select", "history=1024|4096,backbone=hstu|sasrec"), share=0.25),
    CardStep(name="paper", arguments=(*RUN, "--grid", "paper", "--select", "backbone=hstu"), share=0.15),
    CardStep(name="a sweep that trains", arguments=(*RUN, "--grid", "smoke"), share=0.15),
)
Call = Callable[[Sequence[str], float], str]


def main(argv: Sequence[str] | None = None, *, call: Call | None = None) -> int:
    """The command line; returns the exit code.

    Args:
        argv: the arguments without the program's name; the process's own by default.
        call: runs a command for so many seconds at most and says how it ended, "" where well; tests put another in its place.
    """
    return guarded(PROGRAM, lambda: _all(parser().parse_args(argv), call or run_for))


def parser() -> Parser:
    """The options."""
    parser = Parser(prog=PROGRAM, description="Tests, kernels, slices of profile and paper, and a small sweep on one NVIDIA card.")
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="N", help=f"in all, at most (default: {MINUTES:g})")
    parser.add_argument("--list", action="store_true", help="print the steps and run nothing")
    return parser


def _all(options: argparse.Namespace, call: Call) -> int:
    if not 0 < options.minutes < 24 * 60:
        raise ValueError(f"--minutes: {options.minutes:g}; expected a number above 0 and below a day")
    if options.list:
        for step in STEPS:
            print(f"{step.share:4.0%}  {step.name}: {shlex.join(['python', *step.arguments])}")
        return DONE
    chosen_device("cuda")
    lacking = [package for package in FOR_TESTS if importlib.util.find_spec(package) is None]
    if lacking:
        raise ValueError(f"the GPU tests need {' and '.join(lacking)}; pip install --constraint constraints.txt --editable '.[test]'")
    began, results = time.monotonic(), []
    for number, step in enumerate(STEPS):
        rest = options.minutes * 60 - (time.monotonic() - began)
        seconds = rest * step.share / sum(later.share for later in STEPS[number:])  # what a quick step leaves goes to those behind it
        print(f"{step.name}: at most {duration(seconds)}", flush=True)
        start = time.monotonic()
        ending = call([sys.executable, *step.arguments], seconds)
        results.append((step, ending, time.monotonic() - start))
    for step, ending, took in results:
        print(f"{step.name}: {ending or 'done'}, {duration(took)}")
    for path in sorted(Path("results").glob("*-cuda")):
        print(f"{path}: {len(list(path.glob('cells/*.json')))} records")
    return INCOMPLETE if any(ending not in ("", ENDED_BY_US) for _, ending, _ in results) else DONE


def run_for(command: Sequence[str], seconds: float) -> str:
    """Runs a command from the project's root for so many seconds at most, then interrupts it; says how it ended, "" where well.

    Whatever ends this call, ends the command too.
    """
    process = subprocess.Popen(command, cwd=PROJECT)
    try:
        code = process.wait(timeout=max(0.0, seconds - GRACE_S))
    except subprocess.TimeoutExpired:
        return ENDED_BY_US
    finally:
        _end(process)
    return "" if code == 0 else f"exit code {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupts a command that runs, and kills one that goes on all the same."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

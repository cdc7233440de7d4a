"""A small grid, orders for the stand-ins of `fake_work`, and what they did: for all tests of ``benchmarks.run``."""

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.records import RunRecords, load_records

GRID = """
[dataset.synthetic]
dataset_size = "tiny"
[limits]
processes = 1
[[sweep]]
backbone = "hstu"
compression = ["full", "recent"]
[[sweep]]
backbone = "sasrec"
compression = "experts"
training = "elastic"
elastic_tokens = [0, 4]
tokens = [0, 4]
[[sweep]]
backbone = "popularity"
compression = "none"
training = "none"
"""
CELLS = 5
MODELS = 3  # the two expert cells share an elastic one, the floor has none
SHAPES = 4  # the floor has none
WITH_COST = ["hstu full 0", "hstu recent 0", "sasrec experts 0", "sasrec experts 4"]
ALL = sorted([*WITH_COST, "popularity none 0"])
COST_KINDS = ["flops", "memory", "throughput", "latency", "request", "training_cost"]

LONG_S = 300.0  # until a test gives up: no verdict hangs on how fast the machine is

Call = Callable[..., int]
Start = Callable[..., subprocess.Popen[str]]


def order(place: Path, *, fail: str = "", seconds: float = 0, **more: float) -> None:
    """What the stand-ins are to do from now on."""
    (place / "orders.json").write_text(json.dumps({"fail": fail, "seconds": seconds, **more}))


def done(place: Path) -> list[tuple[str, str]]:
    """What was done since the last look, as kind and cell: ``("quality", "hstu full 0")``."""
    lines = (place / "did").read_text().splitlines()
    (place / "did").write_text("")
    return [(kind, cell) for kind, _, cell in (line.partition(" ") for line in lines)]


def of_kind(entries: Iterable[tuple[str, str]], kind: str) -> list[str]:
    """The cells of one kind of job."""
    return sorted(cell for name, cell in entries if name.partition("[")[0] == kind)


def measured(place: Path) -> list[str]:
    """The cells whose quality was measured since the last look."""
    return of_kind(done(place), "quality")


def records(place: Path) -> RunRecords:
    return load_records(place / "out")


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)

"""Functions that stand in for training and measuring: isolation takes them by their dotted name."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cell import InvalidMeasurementError, UnsupportedError
from persrec import names

ReportPhase = Callable[[str], None]
Payload = dict[str, Any]


def echo(payload: Payload, report_phase: ReportPhase) -> Payload:
    sys.stdout.write("a line on the standard output\n")
    return {"payload": payload, "pid": os.getpid(), "affinity": sorted(os.sched_getaffinity(0)), "threads": os.environ["OMP_NUM_THREADS"]}


def fail(payload: Payload, report_phase: ReportPhase) -> None:
    """Fails as ``payload['how']`` says, in the phase ``flops``."""
    report_phase("flops")
    sys.stdout.write("about to fail\n")
    errors: dict[str, Exception] = {
        "memory": MemoryError("too much"),
        "allocator": RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."
        ),
        "value": ValueError("a wrong value"),
        "unsupported": UnsupportedError("no such kernel"),
        "invalid": InvalidMeasurementError("the clock was throttled"),
        "disk": OSError(28, "No space left on device", "weights"),
    }
    if payload["how"] == "signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    if payload["how"] == "exit":
        os._exit(7)
    if payload["how"] == "caused":
        raise RuntimeError("while measuring") from MemoryError("too much")
    raise errors[payload["how"]]


def allocate(payload: Payload, report_phase: ReportPhase) -> int:
    return len(bytearray(payload["bytes"]))


def chatter(payload: Payload, report_phase: ReportPhase) -> None:
    for number in range(200):
        sys.stdout.write(f"line {number}\n")
    raise ValueError("enough")


def sleep_with_child(payload: Payload, report_phase: ReportPhase) -> None:
    """Starts a process of its own, writes both ids down, and sleeps."""
    report_phase("latency")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pids = Path(payload["pids"])
    pids.with_suffix(".part").write_text(json.dumps([os.getpid(), child.pid]))
    pids.with_suffix(".part").rename(pids)
    time.sleep(600)


def crash_twice(payload: Payload, report_phase: ReportPhase) -> int:
    tries = Path(payload["tries"])
    count = int(tries.read_text()) + 1 if tries.exists() else 1
    tries.write_text(str(count))
    if count < 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    return count


def orders(payload: Payload) -> Payload:
    """What a test wants to happen: the file ``orders.json`` in the cache folder, which is the one that travels in the payload."""
    return json.loads((Path(payload["cache_dir"]) / "orders.json").read_text())


def train(payload: Payload, report_phase: ReportPhase) -> Payload:
    """Writes a model; fails where the orders name its backbone, as ``train:hstu``."""
    report_phase("training")
    folder, cell = Path(payload["model_dir"]), payload["cell"]
    if f"train:{cell['backbone']}" in orders(payload)["fail"]:
        raise MemoryError(f"no room to train {cell['backbone']}")
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"pid": os.getpid()}))
    return {"epochs": 1}


def measure(payload: Payload, report_phase: ReportPhase) -> Payload:
    """An answer of the right form; fails where the orders name the compression, as ``memory:recent``."""
    import numpy as np

    cell, wanted = payload["cell"], orders(payload)
    report_phase("quality")
    with (Path(payload["cache_dir"]) / "did").open("a") as log:
        log.write(f"{cell['backbone']} {cell['compression']} {cell['tokens']}\n")
    for entry in filter(None, wanted["fail"].split(",")):
        how, _, compression = entry.partition(":")
        if compression == cell["compression"] and how == "nan":
            return _answer(cell, ndcg=float("nan"), raw={})
        if compression == cell["compression"] and how != "train":
            fail({"how": how}, report_phase)
    if cell["backbone"] not in names.floors():
        assert (Path(payload["model_dir"]) / "model.json").is_file()
    time.sleep(wanted["seconds"])
    return _answer(cell, ndcg=0.1 + cell["tokens"] / 100, raw={"ranks": np.arange(10)})


def _answer(cell: Payload, *, ndcg: float, raw: Payload) -> Payload:
    return {
        "metrics": {
            "ndcg@10": {"value": ndcg, "method": "full catalogue", "n": 10, "low": ndcg, "high": 0.3},
            "serve_flops": {"value": 1000 * (1 + cell["tokens"]), "method": "closed formula", "n": 1, "low": None, "high": None},
            "serve_energy_j": {"value": None, "method": "no NVML device", "n": 0, "low": None, "high": None},
        },
        "replicates": {"seed": 0, "ndcg@10": [ndcg, ndcg]},
        "ledger": [],
        "model": None,
        "dataset": {"users": 10},
        "seconds": {"quality": 0.0},
        "raw": raw,
    }

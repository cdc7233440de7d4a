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
from benchmarks.measures import MEASURES
from persrec import names

ReportPhase = Callable[[str], None]
Payload = dict[str, Any]


def echo(payload: Payload, report_phase: ReportPhase) -> Payload:
    sys.stdout.write("a line on the standard output\n")
    process = {"pid": os.getpid(), "affinity": sorted(os.sched_getaffinity(0)), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
    return {"payload": payload, "threads": os.environ["OMP_NUM_THREADS"]} | process


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


def write_down(payload: Payload, what: str) -> int:
    """A line in the file ``did`` of the cache folder: what was done, and for which cell. Returns which of its kind it is, from 1.

    Counted up to the line's own end: two processes that write at once get two numbers, as one that counted the file would not.
    """
    cell, did = payload["cell"], Path(payload["cache_dir"]) / "did"
    with did.open("ab", buffering=0) as log:
        log.write(f"{what} {cell['backbone']} {cell['compression']} {cell['tokens']}\n".encode())
        end = log.tell()
    return did.read_bytes()[:end].count(f"{what} ".encode())


def note_span(payload: Payload, kind: str, began: float) -> None:
    """A line in the file ``spans`` of the cache folder: what was done, from when to when, and which processors and GPU it had."""
    facts = {"kind": kind, "began": began, "ended": time.monotonic(), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
    with (Path(payload["cache_dir"]) / "spans").open("a") as spans:
        spans.write(json.dumps(facts | {"affinity": sorted(os.sched_getaffinity(0))}) + "\n")


class CheckpointError(ValueError):
    """Named as that of `persrec.checkpoints`, which imports torch."""


WEIGHTS = "whole weights"


def train(payload: Payload, report_phase: ReportPhase) -> Payload:
    """Writes a model; fails where the orders name its backbone, as ``train:hstu``."""
    write_down(payload, "train")
    report_phase("training")
    folder, cell = Path(payload["model_dir"]), payload["cell"]
    if f"train:{cell['backbone']}" in orders(payload)["fail"]:
        raise MemoryError(f"no room to train {cell['backbone']}")
    for epoch in range(1, orders(payload).get("epochs", 0) + 1):
        report_phase(f"epoch {epoch} of at most 3, validation ndcg@10 0.1000, at most {3 - epoch}.0 s left")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_text(WEIGHTS)
    (folder / "model.json").write_text(json.dumps({"pid": os.getpid(), "code_digest": payload["code_digest"]}))
    return {"epochs": 1}


def quality(payload: Payload, report_phase: ReportPhase) -> Payload:
    """A quality of the right form; fails where the orders name the compression, as ``memory:recent``."""
    import numpy as np

    cell, wanted = payload["cell"], orders(payload)
    report_phase("quality")
    number = write_down(payload, "quality")
    ndcg = 0.1 + cell["tokens"] / 100
    for how in _failures(wanted, cell["compression"]):
        if how == "nan":
            ndcg = float("nan")
        elif how == "older":
            raise InvalidMeasurementError(f"dataset synthetic: planned with digest {payload['dataset_digest'][:12]}, loaded 0000")
        elif not how.startswith("cost-"):
            fail({"how": how}, report_phase)
    model = None
    if cell["backbone"] not in names.floors():
        folder = Path(payload["model_dir"])
        if not (folder / "model.json").is_file() or (folder / "weights.safetensors").read_text() != WEIGHTS:
            raise CheckpointError(f"checkpoint: {folder / 'weights.safetensors'} cannot be read")
        model = {"key": folder.name, "epochs": 1, "best_epoch": 1, "best_validation": 0.1, "train_seconds": 2.0}
    held = b"held" * (int(wanted.get("megabytes", 0)) << 18)
    began = time.monotonic()
    time.sleep(900 if number > wanted.get("most_qualities", number) else wanted["seconds"])
    del held
    note_span(payload, "quality", began)
    return {
        "metrics": {"ndcg@10": {"value": ndcg, "method": "full catalogue", "n": 10, "low": ndcg, "high": 0.3}},
        "replicates": {"seed": 0, "means": {"ndcg@10": [0.1, 0.1]}},
        "groups": [],
        "protocols": [],
        "model": model,
        "dataset": {"users": 10},
        "seconds": {"quality": 0.0},
        "raw": {"ranks": np.arange(10)},
    }


def cost(payload: Payload, report_phase: ReportPhase) -> Payload:
    """A cost of the right form, of the kinds asked for; fails where the orders name the compression, as ``cost-memory:recent``."""
    import numpy as np

    cell, wanted, kinds = payload["cell"], orders(payload), payload["kinds"]
    report_phase("flops")
    number = write_down(payload, f"cost[{','.join(kinds)}]")
    for how in _failures(wanted, cell["compression"]):
        if how.startswith("cost-"):
            fail({"how": how.removeprefix("cost-")}, report_phase)
    began = time.monotonic()
    time.sleep(900 if number > wanted.get("most_costs", number) else wanted.get("cost_seconds", 0))
    note_span(payload, "cost", began)
    metrics = {
        "serve_flops": {"value": 1000 * (1 + cell["tokens"]), "method": "closed formula", "n": 1, "low": None, "high": None},
        "serve_latency_p50_ms": {"value": wanted.get("milliseconds", 1.0), "method": "batch 1", "n": 50},
        "serve_energy_j": {"value": None, "method": "no NVML device", "n": 0, "low": None, "high": None},
        "train_flops": {"value": 3000, "method": "closed formula", "n": 1},
    }
    agrees = {"agrees": False} if wanted.get("disagree", 0) else {}
    rows = {"flops": {"phase": "serve", "part": "total", **agrees}, "training_cost": {"phase": "train", "part": "total", **agrees}}
    return {
        "metrics": {name: metric for name, metric in metrics.items() if MEASURES[name].kind in kinds},
        "ledger": [row for kind, row in rows.items() if kind in kinds],
        "load": {},
        "seconds": dict.fromkeys(kinds, 0.0),
        "raw": {f"{kind}/seconds": np.full(3, wanted.get("milliseconds", 1.0)) for kind in kinds},
    }


def _failures(wanted: Payload, compression: str) -> list[str]:
    """How the orders want measuring a compression to fail."""
    entries = (entry.partition(":") for entry in wanted["fail"].split(",") if entry)
    return [how for how, _, name in entries if name == compression and how != "train"]

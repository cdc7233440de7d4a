"""What a peer's shape costs: seconds of its requests by our clock in its own Python, and its parameters. Its passes are not counted."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cell import Cell
from benchmarks.measures import Kind, of_kinds
from benchmarks.peers.environment import interpreter
from benchmarks.peers.process import run_task
from benchmarks.peers.training import peer_task
from benchmarks.probes import latency
from benchmarks.probes.request import BEST
from benchmarks.probes.throughput import rate

NOT_COUNTED = "a peer's passes are not counted: no formula of ours describes them"
NOTHING_KEPT = "a peer keeps nothing between requests"
IN_ITS_PYTHON = "in its own Python, from tensors: what its library does with a caller's table is left out"


def measure_peer_cost(cell: Cell, items: int, *, cache_dir: str | None) -> tuple[dict[Kind, dict[str, Any]], dict[str, Any]]:
    """Metrics by kind, and raw samples.

    Args:
        cell: the cell of a shape.
        items: ``V``, padding included.
        cache_dir: where the peers' environment is; None is the default place.

    Raises:
        PeerEnvironmentError: there is no such environment.
    """
    python = interpreter(cache_dir)
    task = peer_task(cell, items, "cost", seconds=latency.SECONDS, least=latency.LEAST, best=BEST)
    with tempfile.TemporaryDirectory(prefix="persrec-peer-") as folder:
        facts, seconds = run_task(python, task, {"none": np.zeros(0)}, Path(folder), lambda _: None)
    metrics: dict[Kind, dict[str, Any]] = {
        "flops": _count_metrics(facts["parameters"]),
        "latency": _with_python_note(latency.percentiles("serve_latency", seconds["serve"])),
        "request": _with_python_note(
            latency.percentiles("request_latency", seconds["request"]) | {"requests_per_second": rate(seconds["batch"], cell.batch_size)}
        ),
    }
    raw = {"latency/serve_request_seconds": seconds["serve"], "request/request_seconds": seconds["request"]}
    return metrics, raw | {"request/request_batch_seconds": seconds["batch"]}


def _count_metrics(parameters: int) -> dict[str, Any]:
    counts = {name: _count(None, NOT_COUNTED) for name in sorted(of_kinds(["flops"]))}
    return counts | {"parameters": _count(parameters, "as its library holds them"), "cache_bytes": _count(0, NOTHING_KEPT)}


def _count(value: int | None, method: str) -> dict[str, Any]:
    return {"value": value, "low": None, "high": None, "n": 0 if value is None else 1, "method": method}


def _with_python_note(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: {**metric, "method": f"{metric['method']}, {IN_ITS_PYTHON}"} for name, metric in metrics.items()}

"""Plausible records for tests of the report: made up, paired over users, never measured."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.analysis.configurations import Configuration, configurations
from benchmarks.cell import Cell
from benchmarks.keys import Catalogue, cell_key, cost_key, cost_shape, quality_key
from benchmarks.peers.part import PEERS
from benchmarks.records import Record, record_of
from persrec import names

USERS, REPLICATES = 600, 500
DIGEST = "d" * 64
CODE = "c0de" * 16
_DRAWS = np.random.default_rng(0).integers(0, USERS, size=(REPLICATES, USERS))
_BACKBONE_LIFT = {"hstu": 0.03, "sasrec": 0.0, "llama": 0.02, "hllm": 0.01, "popularity": -0.16, "repeat_last": -0.19, "frequency": -0.17}


def hit_rate(cell: Cell) -> float:
    """The share of users whose next item is found, rising with what the model knows of them."""
    known = np.log2(cell.history + cell.recent) * 0.02
    kept = {"full": 1.0, "none": 0.0, "recent": 0.12, "pooling": 0.25 + 0.1 * np.log2(1 + cell.tokens)}
    share = kept.get(cell.compression, 0.15 + 0.17 * np.log2(1 + cell.tokens))
    return float(0.1 + _BACKBONE_LIFT.get(cell.backbone, 0.0) + known * min(share, 1.02))


def user_values(cell: Cell) -> dict[str, np.ndarray]:
    """Per-user recall and NDCG; a user easy for one configuration is easy for the others, too."""
    easiness = np.random.default_rng(7).random(USERS)
    seed = int(hashlib.sha256(json.dumps(cell.to_dict() | {"serving": ""}, sort_keys=True).encode()).hexdigest()[:8], 16)
    noise = np.random.default_rng(seed).normal(0, 0.02, USERS)
    found = easiness + noise < max(hit_rate(cell), 0.01)
    rank = np.random.default_rng(11).integers(1, 11, USERS)
    return {"recall@10": found.astype(float), "ndcg@10": found / np.log2(1 + rank)}


def metric(
    value: float | None,
    unit: str,
    *,
    direction: str = "lower",
    method: str = "counted",
    n: int = 1,
    low: float | None = None,
    high: float | None = None,
) -> dict[str, Any]:
    return {"value": value, "unit": unit, "direction": direction, "method": method, "n": n, "low": low, "high": high}


SCORING_MS = 0.5


def cost_metrics(cell: Cell) -> dict[str, dict[str, Any]]:
    if cell.compression == "none":
        return {}
    window, width = cell.history + cell.recent, cell.width
    dense = 24 if cell.backbone == "sasrec" else 14

    def pass_flops(queries: float, keys: float) -> float:
        return cell.layers * (dense * queries * width**2 + 4 * queries * keys * width)

    full = pass_flops(window, window)
    cached = cell.serving == "cache" and cell.compression == "full"
    kept = {"full": cell.history if cached else 0, "recent": 0}.get(cell.compression, cell.tokens)
    serve = full if cell.compression == "full" and not cached else pass_flops(cell.recent, cell.recent + kept)
    compress = (
        0.0
        if cell.compression == "recent" or (cell.compression == "full" and not cached)
        else pass_flops(cell.history + kept * (not cached), cell.history / cell.segments)
    )
    noise = np.random.default_rng(int(serve + compress) % 2**31).normal(1, 0.03)
    latency = (0.7 + serve / 4e7) * float(noise)
    made = {
        "parameters": metric(3000 * width + cell.layers * dense * width**2 / 2, "count"),
        "full_flops": metric(full, "flop"),
        "compress_flops": metric(compress, "flop"),
        "serve_flops": metric(serve, "flop"),
        "score_flops": metric(2.0 * 3000 * width, "flop"),
        "train_flops": metric(3 * full, "flop"),
        "cache_bytes": metric(cell.layers * 2 * width * 4 * kept, "byte"),
        "serve_peak_bytes": metric(2**20 * 1.5 + serve / 60, "byte", method="VmHWM"),
        "train_peak_bytes": metric(2**24 + full / 2, "byte", method="VmHWM"),
        "serve_users_per_second": metric(3e10 / serve, "1/s", direction="higher", n=9),
        "compress_users_per_second": metric(
            3e10 / compress if compress else None, "1/s", direction="higher", method="timed" if compress else "nothing to compress", n=9
        ),
        "train_sequences_per_second": metric(4e9 / full, "1/s", direction="higher", n=9),
        "train_share_of_peak": metric(0.3, "ratio", direction="higher", n=9),
        "serve_latency_p50_ms": metric(latency, "ms", method="batch 1", n=200, low=latency * 0.96, high=latency * 1.07),
        "serve_latency_p95_ms": metric(latency * 1.3, "ms", method="batch 1", n=200),
        "serve_latency_p99_ms": metric(latency * 1.6, "ms", method="batch 1", n=200),
        "request_latency_p50_ms": metric(
            latency + SCORING_MS, "ms", method="batch 1", n=200, low=latency * 0.96, high=latency * 1.07 + 0.7
        ),
        "request_latency_p95_ms": metric(latency * 1.3 + SCORING_MS, "ms", method="batch 1", n=200),
        "request_latency_p99_ms": metric(latency * 1.6 + SCORING_MS, "ms", method="batch 1", n=200),
        "serve_energy_j": metric(None, "joule", method="no device that reports its energy", n=0),
        "padding_share": metric(0.21, "ratio"),
    }
    if cell.is_peer:  # its passes are not counted
        return {name: one for name, one in made.items() if "_latency_" in name or name in ("parameters", "cache_bytes")}
    for name in ("full", "compress", "serve"):
        flops = made[f"{name}_flops"]["value"]
        made[f"{name}_visible_flops"] = metric(flops * 0.8, "flop")
        made[f"{name}_macs"] = metric(flops / 2, "mac")
    return made


def ledger(cell: Cell, *, agrees: bool = True) -> list[dict[str, Any]]:
    rows = []
    for phase in ("full", "compress", "serve"):
        total = (cost_metrics(cell).get(f"{phase}_flops") or {"value": 0})["value"]
        for part, share in (("projections", 0.55), ("attention", 0.25), ("feed_forward", 0.2), ("total", 1.0)):
            count = round(total * share)
            off = 1.0 if agrees or phase != "serve" else 1.2
            rows.append(
                {
                    "phase": phase,
                    "part": part,
                    "formula_flops": count,
                    "torch_flops": round(count * off),
                    "fvcore_flops": None if part == "attention" else count,
                    "visible_flops": round(count * 0.8),
                    "executed_flops": count,
                    "uncounted": {"aten::silu": 4, "aten::layer_norm": 2} if part == "total" else {},
                    "agrees": agrees or phase != "serve",
                }
            )
    return rows


def environment() -> dict[str, Any]:
    return {
        "fingerprint": "e" * 64,
        "python": "3.11.9",
        "packages": {"torch": "2.13.0", "numpy": "2.4.6", "fvcore": "0.1.5.post20221221"},
        "system": "Linux x86_64",
        "cpu": "AMD EPYC 7763 64-Core Processor",
        "cores": 2,
        "memory_bytes": 8 * 2**30,
        "gpu": None,
        "gpu_memory_bytes": None,
        "driver": None,
        "gpu_reason": "no NVIDIA driver",
        "threads": 2,
        "affinity": [0, 1],
        "readings": {"cpu_mhz": 2445.0},
    }


def origin(key: str, *, code: dict[str, str], seconds: dict[str, float]) -> dict[str, Any]:
    return {"key": key, "status": "ok", "code": code, "seconds": seconds, "environment": environment(), "provenance": provenance()}


def provenance() -> dict[str, Any]:
    return {
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": None,
        "argv": ["python", "-m", "benchmarks.run", "--grid", "full"],
        "utc": "2026-03-01T12:00:00Z",
    }


def parts_of(cell: Cell) -> dict[str, Any]:
    found = {"backbone": names.backbones(), "floor": names.floors(), "peer": PEERS, "dataset": names.datasets()}
    wanted = {"backbone": cell.backbone, "floor": cell.backbone, "peer": cell.backbone, "dataset": cell.dataset}
    parts = {kind: by_name[wanted[kind]].to_dict() for kind, by_name in found.items() if wanted[kind] in by_name}
    compression = names.compressions().get(cell.compression)
    return parts | ({"compression": compression.to_dict()} if compression else {})


def fabricate(
    cell: Cell, *, status: str = "ok", agrees: bool = True, dataset_digest: str = DIGEST, code: str = CODE, **changes: Any
) -> dict[str, Any]:
    """A record of a cell; ``changes`` replace fields as they are."""
    key = cell_key(cell, dataset_digest=dataset_digest, versions={})
    values = user_values(cell)
    replicates: dict[str, Any] = {name: per_user[_DRAWS].mean(axis=1).round(6).tolist() for name, per_user in values.items()}
    metrics = cost_metrics(cell)
    for name, per_user in values.items():
        low, high = np.percentile(replicates[name], (2.5, 97.5))
        mean = float(per_user.mean())
        metrics[name] = metric(mean, "ratio", direction="higher", method="full catalogue", n=USERS, low=float(low), high=float(high))
        stem = name.removesuffix("@10")
        metrics |= {
            f"{stem}@{k}": metric(min(1.0, mean * lift), "ratio", direction="higher", method="full catalogue", n=USERS)
            for k, lift in ((5, 0.7), (50, 1.8), (200, 2.7))
        }
    metrics["mrr"] = metric(float(values["ndcg@10"].mean()) * 0.8, "ratio", direction="higher", method="full catalogue", n=USERS)
    trained = cell.training != "none"
    best = round(cell.epochs * 0.6) or 1
    record = {
        "schema_version": 2,
        "cell_key": key,
        "status": status,
        "cell": cell.to_dict(),
        "parts": parts_of(cell),
        "quality": origin(
            quality_key(cell, dataset_digest=dataset_digest),
            code={"training": code, "evaluation": code},
            seconds={"load": 0.4, "quality": 1.2, "overhead": 0.4},
        ),
        "cost": origin(
            cost_key(cost_shape(cell, Catalogue(items=3002))),  # padding is one more
            code={"flops": code, "latency": code},
            seconds={"flops": 0.9, "memory": 0.6, "throughput": 2.2, "latency": 1.1, "overhead": 0.3},
        )
        | {"processes": 3}
        if cell.compression != "none"
        else None,
        "metrics": metrics,
        "replicates": {"seed": 0, "means": replicates},
        "ledger": ledger(cell, agrees=agrees) if cell.compression != "none" else [],
        "model": {
            "key": "m" * 8 + key[:56],
            "epochs": cell.epochs,
            "best_epoch": best,
            "best_validation": 0.11,
            "validation": float(values["ndcg@10"].mean()),
            "train_seconds": 31.7,
            "converged": True,
            "steps": 100 * cell.epochs,
            "best_step": 100 * best,
            "decay_steps": 20 * cell.epochs,
            "targets": 820_000 * cell.epochs,
            "learning_rate_at_best": cell.learning_rate / 2,
            "seconds_per_million_targets": 38.7,
            "curve": [{"epoch": e + 1, "loss": 5 / (e + 1), "validation": 0.11 - 0.002 * abs(e + 1 - best)} for e in range(cell.epochs)],
        }
        if trained
        else None,
        "dataset": {
            "name": cell.dataset,
            "size": cell.dataset_size,
            "digest": dataset_digest,
            "users": USERS,
            "items": 3001,
            "interactions": 141_230,
            "notes": {"rows": 141_230},
            "ceiling": {"whole_past": {"recall@10": 0.37, "ndcg@10": 0.22}, "last_recent": {"recall@10": 0.21, "ndcg@10": 0.118}},
        },
        "error": None,
        "environment": environment(),
        "provenance": {
            **provenance(),
            "rerun": f"python -m benchmarks.run --grid full --select 'backbone={cell.backbone},tokens={cell.tokens}'",
        },
    }
    if status != "ok":
        record |= {
            "metrics": {},
            "replicates": None,
            "ledger": [],
            "dataset": None if status == "crash" else record["dataset"],
            "error": {
                "phase": "training",
                "type": "MemoryError",
                "message": f"{status}: could not allocate 1,234 MiB",
                "log_tail": 'Traceback (most recent call last):\n  File "x.py", line 1\nMemoryError',
            },
        }
    return record | changes


def records_of(*values: dict[str, Any]) -> list[Record]:
    """As they are read from disk."""
    return [record_of(value) for value in values]


def configured(values: Iterable[dict[str, Any]]) -> list[Configuration]:
    """The configurations of records."""
    return configurations(records_of(*values))


def slim(record: dict[str, Any]) -> dict[str, Any]:
    """The record with one cost alone, so that its report has one frontier to draw."""
    kept = {name: entry for name, entry in record["metrics"].items() if entry["direction"] == "higher" and entry["unit"] == "ratio"}
    return record | {"metrics": kept | {name: entry for name, entry in record["metrics"].items() if name == "serve_flops"}}


def grid_cells(
    *,
    seeds: Iterable[int] = (1,),
    histories: Iterable[int] = (64, 128, 224),
    backbones: Iterable[str] = ("hstu", "sasrec"),
    **settings: Any,
) -> list[Cell]:
    """A grid as ``full`` is: backbones x histories x compressions x tokens."""
    cells = []
    common = {"dataset": "synthetic", "dataset_size": "small", "recent": 32, "epochs": 10} | settings
    for seed in seeds:
        for backbone in backbones:
            for history in histories:
                base = common | {"backbone": backbone, "history": history, "seed": seed}
                cells += [Cell(**base, compression="full", serving=serving) for serving in ("recompute", "cache")]
                cells.append(Cell(**base, compression="recent"))
                cells += [
                    Cell(**base, compression="experts", tokens=tokens, training="elastic", elastic_tokens=(0, 1, 2, 4, 8, 16))
                    for tokens in (0, 1, 2, 4, 8, 16)
                ]
                cells += [Cell(**base, compression="pooling", tokens=tokens) for tokens in (1, 4, 16)]
            cells.append(
                Cell(
                    **(common | {"backbone": backbone, "history": max(histories), "seed": seed}),
                    compression="experts",
                    segments=2,
                    tokens=4,
                )
            )
        cells += [
            Cell(**(common | {"seed": seed, "history": max(histories)}), backbone=name, compression="none", training="none")
            for name in ("popularity", "repeat_last")
        ]
    return cells


def write(out: Path, records: Iterable[dict[str, Any]]) -> Path:
    """Lays records out as a run does."""
    (out / "cells").mkdir(parents=True, exist_ok=True)
    for record in records:
        (out / "cells" / f"{record['cell_key']}.json").write_text(json.dumps(record, sort_keys=True))
    return out

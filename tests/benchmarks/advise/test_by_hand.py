"""The answers of ``advise`` on committed runs, worked out again from the bare JSON of their records, without the harness's own analysis."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from benchmarks.advise.command import main

RESULTS = Path(__file__).resolve().parents[3] / "results"
KIB = 1024
Records = list[dict[str, Any]]


def served(run: str) -> list[Records]:
    """The records of every configuration that one would serve, its seeds together."""
    together: dict[str, Records] = {}
    for path in sorted((RESULTS / run / "cells").glob("*.json")):
        record = json.loads(path.read_text())
        cell = {name: value for name, value in record["cell"].items() if name != "seed"}
        if cell["compression"] != "none" and cell.get("ablation", "none") == "none" and not cell.get("staleness"):
            together.setdefault(json.dumps(cell, sort_keys=True), []).append(record)
    return list(together.values())


def value(records: Records, metric: str) -> float | None:
    """The mean over seeds of a quality; of a cost, which the seeds of these runs share, its value."""
    known = [record["metrics"].get(metric, {}).get("value") for record in records]
    return None if None in known else statistics.mean(known)


def full_history(groups: list[Records]) -> float:
    """The quality of the best on validation among full attention at the longest window."""
    full = [group for group in groups if group[0]["cell"]["compression"] == "full"]
    longest = max(group[0]["cell"]["history"] + group[0]["cell"]["recent"] for group in full)
    full = [group for group in full if group[0]["cell"]["history"] + group[0]["cell"]["recent"] == longest]
    best = max(full, key=lambda group: statistics.mean(record["model"]["validation"] or -math.inf for record in group))
    return value(best, "ndcg@10")


def answer(tmp_path: Path, run: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main([str(RESULTS / run), *arguments, "--top", "1000", "--json", str(tmp_path / "answer.json")])
    (only,) = json.loads((tmp_path / "answer.json").read_text())["answers"]
    return code, only


def keys(groups: list[Records]) -> list[set[str]]:
    return [{record["cell_key"] for record in group} for group in groups]


@pytest.mark.parametrize(
    ("run", "latency", "kib", "share", "requests"), [("quick-synthetic-cpu", 6, 64, 0.93, 10), ("full-synthetic-cpu", 5, 16, 0.97, 1)]
)
def test_what_fits_is_what_the_records_say_in_the_order_of_their_flops(tmp_path, capsys, run, latency, kib, share, requests):
    groups = served(run)
    level = full_history(groups)
    timed = "request" if all(value(group, "request_latency_p95_ms") is not None for group in groups) else "serve"

    def flops(group: Records) -> float:
        return value(group, "compress_flops") / requests + value(group, "serve_flops")

    fitting = [
        group
        for group in groups
        if value(group, f"{timed}_latency_p95_ms") <= latency
        and value(group, "cache_bytes") <= kib * KIB
        and value(group, "ndcg@10") / level >= share
    ]
    bounds = ["--max-latency-ms", str(latency), "--max-cache-kb", str(kib), "--min-retention", str(share)]
    code, said = answer(tmp_path, run, *bounds, "--requests-per-refresh", str(requests))
    assert code == (0 if fitting else 5)
    assert sorted(map(sorted, keys(fitting))) == sorted(sorted(one["cell_keys"]) for one in said["fits"])
    assert [one["flops_per_request"] for one in said["fits"]] == pytest.approx(sorted(map(flops, fitting)))


def test_a_fleet_on_cost_alone_is_what_the_records_say(tmp_path, capsys):
    (tmp_path / "prices.toml").write_text('[machine]\nname = "m"\ncores = 8\nmemory_gib = 32\nprice_per_hour = 0.4\n')
    users, rate, refreshes = 10_000_000, 3000, 1
    demand = ["--users", str(users), "--requests-per-second", str(rate), "--refreshes-per-day", str(refreshes)]
    run = "profile-synthetic-cpu"
    _, said = answer(tmp_path, run, "--max-latency-ms", "3", *demand, "--prices", str(tmp_path / "prices.toml"))
    names = [f"{what}_latency_p{percentile}_ms" for percentile in (95, 50) for what in ("request", "serve")]
    timed = next(name for name in names if all(value(group, name) is not None for group in served(run)))
    fitting = [group for group in served(run) if value(group, timed) <= 3]
    assert len(said["fits"]) == len(fitting) > 10
    by_key = {min(record["cell_key"] for record in group): group for group in fitting}
    for one, fleet in zip(said["fits"], said["fleet"]["configurations"], strict=True):
        group = by_key[min(one["cell_keys"])]
        kept, compress = value(group, "cache_bytes"), value(group, "compress_users_per_second")
        busy = rate * value(group, "request_latency_p50_ms") / 1000 + (users * refreshes / 86_400 / compress if compress else 0)
        fixed = 4 * value(group, "parameters") + 8 * value(group, "serve_peak_bytes")
        by_time, by_memory = math.ceil(busy / 0.6 / 8), math.ceil(users / ((32 * 2**30 - fixed) // kept)) if kept else 0
        assert (fleet["machines_for_time"]["value"], fleet["machines_for_memory"]) == (by_time, by_memory), one["name"]
        assert fleet["per_month"]["value"] == pytest.approx(max(by_time, by_memory, 1) * 0.4 * 730)

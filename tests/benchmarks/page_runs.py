"""Runs of every kind that a page must stand, for tests in a browser."""

import copy
import dataclasses

from fabricated_records import fabricate, grid_cells, slim

from benchmarks.cell import Cell

EVIL = "\"'><img src=x onerror=alert(1)><script>alert(2)</script><!--"
HSTU = {"backbone": "hstu", "dataset_size": "small", "history": 64, "recent": 32}


def hostile(value):
    """Every text of a record that may be any text, exchanged for one that a careless page would run."""
    free = {
        "cpu",
        "system",
        "commit",
        "rerun",
        "method",
        "message",
        "log_tail",
        "type",
        "phase",
        "gpu_reason",
        "title",
        "explanation",
        "notes",
        "name",
    }
    if isinstance(value, dict):
        return {key: EVIL if key in free and isinstance(each, str) else hostile(each) for key, each in value.items()}
    return [hostile(each) for each in value] if isinstance(value, list) else value


def evil_records():
    cell = Cell(**HSTU, compression="experts", tokens=4, dataset=EVIL)
    shown = slim(fabricate(cell))
    names = {part: declaration["name"] for part, declaration in shown["parts"].items()}
    shown = hostile(shown)
    for part, name in names.items():
        shown["parts"][part]["name"] = name
    failed = hostile(fabricate(dataclasses.replace(cell, tokens=8), status="crash"))
    for part in failed["parts"]:
        failed["parts"][part]["name"] = names[part]
    return [shown, failed, slim(fabricate(dataclasses.replace(cell, dataset="synthetic")))]  # of two data sets, which every name then has


def runs():
    """Runs of every kind that a page must stand; a grid with failures, a disagreeing ledger and a model that had not converged first."""
    statuses = {3: "oom", 14: "crash", 15: "unsupported"}
    grid = [
        fabricate(cell, status=statuses.get(place, "ok"), agrees=place != 6)
        for place, cell in enumerate(grid_cells(histories=(64,), seeds=(1, 2)))
    ]
    grid[17]["model"]["converged"] = False
    one = slim(fabricate(Cell(**HSTU, compression="experts", tokens=4)))
    costs = [
        fabricate(Cell(**HSTU, compression=name, tokens=4 * (name == "experts"), training="none"), replicates=None)
        for name in ("full", "experts")
    ]
    for record in costs:
        record["metrics"] = {name: entry for name, entry in record["metrics"].items() if "@" not in name and name != "mrr"}
    worthless = [
        slim(fabricate(Cell(**HSTU, compression=name, tokens=tokens))) for name, tokens in (("full", 0), ("experts", 0), ("experts", 4))
    ]
    worthless[0]["metrics"], worthless[0]["replicates"] = worthless[1]["metrics"], copy.deepcopy(worthless[1]["replicates"])
    worthless[0]["replicates"]["means"]["ndcg@10"] = [
        mean + 0.001 * (-1) ** at for at, mean in enumerate(worthless[1]["replicates"]["means"]["ndcg@10"])
    ]
    return {
        "grid": grid, "one": [one], "none-ok": [fabricate(Cell(**HSTU, compression="full"), status="crash")],
        "costs": costs, "worthless": worthless, "evil": evil_records(),
    }  # fmt: skip

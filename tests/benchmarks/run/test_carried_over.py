"""What is not measured again is carried over: nothing that a call was not asked to renew is lost."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
from places import ALL, CELLS, COST_KINDS, WITH_COST, Call, done, of_kind, records
from tiny_cells import costs_of

from benchmarks import digests, measures, store
from benchmarks.records import Metric, Record

TWO_SEEDS = """
[limits]
processes = 1
[[sweep]]
dataset_size = "tiny"
backbone = "hstu"
compression = "full"
seed = [1, 2]
"""
OF_QUALITY = {"ndcg@10"}
OF_LATENCY = {"serve_latency_p50_ms", "serve_energy_j"}
OF_COST = {"serve_flops", "train_flops"} | OF_LATENCY


def with_version(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As if a measure were taken another way from now on."""
    monkeypatch.setitem(measures.MEASURES, name, replace(measures.MEASURES[name], version=2))


def with_code(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """As if the code of one kind of number had changed."""
    own = digests.code_digests
    monkeypatch.setattr(digests, "code_digests", lambda cell, of: own(cell, of) | ({kind: "f" * 64} if kind in of else {}))


def by_key(place: Path) -> dict[str, Record]:
    return {record.cell_key: record for record in records(place)}


def ranks(place: Path) -> dict[str, bytes]:
    """The raw samples of qualities, by the key of their record."""
    paths = {key: store.raw_path(place / "out", key) for key in by_key(place)}
    return {key: path.read_bytes() for key, path in paths.items() if path.is_file()}


def costs_of_record(record: Record) -> Mapping[str, Metric]:
    return {name: metric for name, metric in record.metrics.items() if name in OF_COST}


def no_cost_is_orphaned(place: Path) -> bool:
    return set(costs_of(place / "out")) == {record.cost.key for record in records(place) if record.cost is not None}


def test_costs_alone_keep_a_quality_whose_measure_changed_until_it_is_taken_anew(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    call()
    old, raw = by_key(place), ranks(place)
    assert len(raw) == CELLS
    with_version(monkeypatch, "mrr")
    for _ in range(2):
        assert call("--only", "cost") == 0
        now = by_key(place)
        assert {key: now[key] for key in old} == old
        assert {key: content for key, content in ranks(place).items() if key in old} == raw
    done(place)
    assert call() == 0
    did = done(place)
    assert (of_kind(did, "quality"), of_kind(did, "cost"), of_kind(did, "train")) == (ALL, [], [])
    new = by_key(place)
    assert (len(new), set(new) & set(old), set(ranks(place))) == (CELLS, set(), set(new))
    assert sum(record.cost is not None for record in new.values()) == len(WITH_COST)


def test_qualities_alone_keep_a_cost_whose_measure_changed_until_it_is_taken_anew(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    call()
    done(place)
    old = {record.cell: record for record in records(place)}
    with_version(monkeypatch, "serve_flops")
    for _ in range(2):
        assert call("--only", "quality") == 0
        assert done(place) == []
        for cell, record in old.items():
            halves = [one for one in records(place) if one.cell == cell]
            assert record.quality in [one.quality for one in halves]
            assert record.cost in [one.cost for one in halves]
        assert no_cost_is_orphaned(place)
    assert call() == 0
    did = done(place)
    assert (of_kind(did, "quality"), of_kind(did, "cost"), of_kind(did, "train")) == ([], WITH_COST, [])
    assert len(records(place)) == CELLS
    assert {record.cell: record.quality for record in records(place)} == {cell: record.quality for cell, record in old.items()}
    assert no_cost_is_orphaned(place)
    assert call() == 0
    assert done(place) == []


def test_a_record_keeps_its_cost_where_the_file_of_the_cost_is_gone(place: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call()
    old = by_key(place)
    rmtree(place / "out" / "costs")
    with_code(monkeypatch, "evaluation")
    done(place)
    assert call("--only", "quality") == 0
    assert of_kind(done(place), "quality") == ALL
    now = by_key(place)
    assert set(now) == set(old)
    for key, record in old.items():
        assert now[key].quality.code["evaluation"] == "f" * 64
        assert (now[key].cost, now[key].ledger, costs_of_record(now[key])) == (record.cost, record.ledger, costs_of_record(record))


def test_a_quality_is_carried_over_with_its_ranks_where_a_measure_of_cost_changed(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    call()
    old = {record.cell: record for record in records(place)}
    raw = {record.cell: ranks(place)[record.cell_key] for record in old.values()}
    old_costs = set(costs_of(place / "out"))
    with_version(monkeypatch, "serve_flops")
    done(place)
    assert call() == 0
    did = done(place)
    assert (of_kind(did, "quality"), of_kind(did, "cost"), of_kind(did, "train")) == ([], WITH_COST, [])
    new = {record.cell: record for record in records(place)}
    assert len(records(place)) == len(new) == CELLS
    assert {cell: record.quality for cell, record in new.items()} == {cell: record.quality for cell, record in old.items()}
    assert all(new[cell].cell_key != old[cell].cell_key for cell in old)
    assert {cell: ranks(place)[record.cell_key] for cell, record in new.items()} == raw
    # the costs that no record names any more are gone, and their samples
    new_costs = set(costs_of(place / "out"))
    assert new_costs & old_costs == set()
    assert no_cost_is_orphaned(place)
    assert {path.stem for path in (place / "out" / "raw").iterdir()} == {record.cell_key for record in new.values()} | new_costs


def test_a_cost_that_is_taken_anew_for_one_seed_is_that_of_every_seed(place: Path, call: Call) -> None:
    (place / "own.toml").write_text(TWO_SEEDS)
    call()
    before = {record.cell.seed: record for record in records(place)}
    done(place)
    assert call("--only", "cost", "--resume", "always", "--select", "seed=1", milliseconds=2.0) == 0
    assert done(place) == [(f"cost[{','.join(COST_KINDS)}]", "hstu full 0")]
    after = {record.cell.seed: record for record in records(place)}
    assert len({record.cost.key for record in after.values()}) == 1
    assert after[1].cost == after[2].cost != before[2].cost
    for seed, record in after.items():
        assert record.value("serve_latency_p50_ms") == 2.0
        assert costs_of_record(record) == costs_of_record(after[1])
        assert (record.quality, record.metrics["ndcg@10"]) == (before[seed].quality, before[seed].metrics["ndcg@10"])
        assert (record.cell_key, record.replicates, record.model) == (before[seed].cell_key, before[seed].replicates, before[seed].model)


@pytest.mark.parametrize(("how", "status", "code"), [("value", "crash", 3), ("memory", "oom", 0)])
def test_a_probe_that_fails_when_it_is_taken_anew_takes_no_other_number_along(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch, how: str, status: str, code: int
) -> None:
    call("--select", "compression=full")
    (old,) = records(place)
    with_code(monkeypatch, "latency")
    done(place)
    assert call("--select", "compression=full", fail=f"cost-{how}:full", milliseconds=2.0) == code
    assert {kind for kind, _ in done(place)} == {"cost[latency]"}
    (new,) = records(place)
    (cost,) = costs_of(place / "out").values()
    assert (new.status, new.cost.status, cost.status) == (status,) * 3
    assert new.error == new.cost.error == cost.error
    assert cost.error is not None
    kept = {name: metric for name, metric in costs_of_record(old).items() if name not in OF_LATENCY}
    assert dict(cost.metrics) == costs_of_record(new) == kept
    assert cost.ledger == new.ledger == old.ledger
    assert [set(process.metrics) for process in cost.processes] == [set(kept)]
    assert new.metrics["ndcg@10"] == old.metrics["ndcg@10"]
    with np.load(store.raw_path(place / "out", cost.cost_key)) as raw:
        assert {name: raw[name].tolist() for name in raw.files} == {
            f"{kind}/seconds": [1.0] * 3 for kind in COST_KINDS if kind != "latency"
        }
    # it is taken again when what failed is asked for
    assert call("--select", "compression=full", "--resume", "failed", milliseconds=3.0) == 0
    (again,) = records(place)
    assert (again.status, again.value("serve_latency_p50_ms")) == ("ok", 3.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # numpy leaves a file that is no archive open
def test_raw_samples_that_cannot_be_read_are_no_reason_to_end(place: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call("--select", "compression=full")
    (record,) = records(place)
    path = store.raw_path(place / "out", record.cost.key)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with_code(monkeypatch, "latency")
    assert call("--select", "compression=full", milliseconds=2.0) == 0
    with np.load(path) as raw:
        assert {name: raw[name].tolist() for name in raw.files} == {"latency/seconds": [2.0] * 3}
    (record,) = records(place)
    assert (record.status, record.value("serve_latency_p50_ms")) == ("ok", 2.0)


@pytest.mark.parametrize(("only", "cells", "models"), [("cost", len(WITH_COST), 0), ("quality", CELLS, 3)])
def test_a_list_of_one_half_where_nothing_is_yet_counts_what_has_that_half(
    place: Path, call: Call, capsys: pytest.CaptureFixture[str], only: str, cells: int, models: int
) -> None:
    assert call("--list", "--only", only) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("missing ") for line in lines) == cells
    assert sum(line.startswith(f"no {only} ") for line in lines) == CELLS - cells
    assert lines[-1].startswith(f"{CELLS} cells, {cells} to measure, {models} models to train; ")
    assert not (place / "out").exists()


def test_the_exit_code_speaks_of_the_half_that_was_asked_for(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--select", "compression=full")
    assert call(*arguments, fail="cost-value:full") == 3
    capsys.readouterr()
    assert call(*arguments, "--only", "quality") == 0
    assert capsys.readouterr().err == ""
    assert call(*arguments, "--only", "cost") == 3
    assert call(*arguments) == 3

"""The two halves of a cell are measured, kept and renewed apart; a cost is shared by all cells of one shape."""

import json
import signal
import types
from pathlib import Path

import numpy as np
import pytest
from places import ALL, CELLS, COST_KINDS, LONG_S, MODELS, SHAPES, WITH_COST, Call, Start, done, of_kind, records, wait_for
from tiny_cells import costs_of

from benchmarks import digests, store
from benchmarks.isolation import Outcome
from benchmarks.records import Origin, Record, Status, load_records
from benchmarks.run import assemble, sweep
from benchmarks.run import command as run
from benchmarks.run.jobs import Work
from tests.soak.kills import relatives

EVERY_COST = f"cost[{','.join(COST_KINDS)}]"


def with_code(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> None:
    """As if the code of these kinds of number had changed."""
    own = digests.code_digests
    changed = dict.fromkeys(kinds, "f" * 64)
    monkeypatch.setattr(digests, "code_digests", lambda cell, of: own(cell, of) | {kind: changed[kind] for kind in of if kind in changed})


def halves(place: Path) -> dict[str, tuple[Origin | None, Origin | None]]:
    return {record.cell_key: (record.quality, record.cost) for record in records(place)}


def of_quality(record: Record) -> tuple[object, ...]:
    kept = {name: metric for name, metric in record.metrics.items() if name == "ndcg@10"}
    return record.quality, kept, record.replicates, record.model, record.dataset


def test_a_changed_probe_is_taken_anew_alone_and_nothing_is_trained(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call()
    done(place)
    before = list(records(place))
    ranks = {path: path.read_bytes() for path in (place / "out" / "raw").iterdir() if path.stem in {record.cell_key for record in before}}
    capsys.readouterr()
    with_code(monkeypatch, "latency")
    assert call(milliseconds=2.0) == 0
    assert sorted(done(place)) == [("cost[latency]", cell) for cell in WITH_COST]
    out = capsys.readouterr().out
    assert "4 of 5 cells measured by other code before, so again now" in out
    assert "of 4 of these the costs alone (latency); nothing is trained" in out
    for old, new in zip(before, records(place), strict=True):
        assert of_quality(new) == of_quality(old)
        if new.cost is None:
            continue
        assert new.cost.code == old.cost.code | {"latency": "f" * 64}
        assert (old.value("serve_latency_p50_ms"), new.value("serve_latency_p50_ms")) == (1.0, 2.0)
        assert {name: metric for name, metric in new.metrics.items() if "latency" not in name and name != "serve_energy_j"} == {
            name: metric for name, metric in old.metrics.items() if "latency" not in name and name != "serve_energy_j"
        }
        assert new.ledger == old.ledger
        with np.load(store.raw_path(place / "out", new.cost.key)) as raw:  # samples of the other kinds stay
            assert {name: raw[name][0] for name in raw.files} == {f"{kind}/seconds": 1.0 + (kind == "latency") for kind in COST_KINDS}
        first, second = costs_of(place / "out")[new.cost.key].processes
        assert "serve_latency_p50_ms" not in first.metrics
        assert set(second.metrics) == {"serve_latency_p50_ms", "serve_energy_j"}
    assert all(path.read_bytes() == content for path, content in ranks.items())
    assert call() == 0
    assert done(place) == []


def test_costs_that_no_record_names_yet_outlive_a_call_for_other_cells(place: Path, call: Call) -> None:
    """As of a run that was ended between the processes of its costs."""
    call()
    done(place)
    costs = sorted(path.name for path in (place / "out" / "costs").iterdir())
    for path in (place / "out" / "cells").iterdir():
        path.unlink()
    assert call("--select", "backbone=popularity") == 0
    assert sorted(path.name for path in (place / "out" / "costs").iterdir()) == costs
    done(place)
    assert call() == 0
    assert not [entry for entry in done(place) if entry[0].startswith("cost")]


def test_nothing_to_measure_ends_alike_with_a_report_and_without(place: Path, call: Call) -> None:
    for more in ((), ("--no-report",)):
        arguments = [
            "--grid",
            "own.toml",
            "--out",
            f"out{len(more)}",
            "--cache-dir",
            str(place),
            "--only",
            "cost",
            "--select",
            "backbone=popularity",
        ]
        assert run.main([*arguments, *more], work=Work()) == 3
        assert not list((place / f"out{len(more)}").glob("results.*"))


def test_changed_training_trains_and_ranks_anew_and_times_its_step(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call()
    done(place)
    with_code(monkeypatch, "training", "training_cost")
    assert call() == 0
    did = done(place)
    assert len(of_kind(did, "train")) == MODELS
    assert of_kind(did, "quality") == WITH_COST  # a floor is not trained
    assert sorted(entry for entry in did if entry[0].startswith("cost")) == [("cost[training_cost]", cell) for cell in WITH_COST]
    assert f"{MODELS} models here were trained by other code: trained anew" in capsys.readouterr().out
    assert call() == 0
    assert done(place) == []


def test_changed_evaluation_ranks_anew_with_the_models_there(place: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call()
    done(place)
    with_code(monkeypatch, "evaluation")
    assert call("--select", "backbone=hstu|popularity") == 0
    assert sorted(done(place)) == [("quality", "hstu full 0"), ("quality", "hstu recent 0"), ("quality", "popularity none 0")]


@pytest.mark.parametrize("order_of", [("quality", "cost"), ("cost", "quality")])
def test_one_half_is_measured_and_the_other_stays_and_a_plain_run_completes(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch, order_of: tuple[str, str]
) -> None:
    first, second = order_of
    assert call("--only", first) == 0
    did = done(place)
    assert of_kind(did, "quality") == (ALL if first == "quality" else [])
    assert of_kind(did, "cost") == (WITH_COST if first == "cost" else [])
    assert len(of_kind(did, "train")) == (MODELS if first == "quality" else 0)
    one = halves(place)
    assert len(one) == (CELLS if first == "quality" else len(WITH_COST))  # a floor has no cost, and so no record
    assert all((quality is not None, cost is not None) == (first == "quality", first == "cost") for quality, cost in one.values())
    assert call("--only", first) == 0
    assert done(place) == []
    # the other half of two cells, while the code of the first has changed: it keeps its record and its digest
    with_code(monkeypatch, "evaluation" if first == "quality" else "latency")
    assert call("--only", second, "--select", "backbone=hstu") == 0
    assert of_kind(done(place), second) == ["hstu full 0", "hstu recent 0"]
    two = halves(place)
    assert sum(quality is not None and cost is not None for quality, cost in two.values()) == 2
    column = ("quality", "cost").index(first)
    assert all(two[key][column] == one[key][column] for key in one)
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert call() == 0
    assert all(quality is not None for quality, _ in halves(place).values())
    assert sum(cost is not None for _, cost in halves(place).values()) == len(WITH_COST)
    assert of_kind(done(place), first) == []
    assert call() == 0
    assert done(place) == []


SHARED = """
[limits]
processes = 1
[defaults]
dataset_size = "tiny"
backbone = "hstu"
compression = "experts"
[[sweep]]
tokens = 4
seed = [1, 2]
[[sweep]]
tokens = 4
learning_rate = 0.01
epochs = 2
[[sweep]]
tokens = [2, 8]
[[sweep]]
tokens = 4
width = 64
"""


def test_cells_of_one_shape_share_one_cost_and_never_disagree(place: Path, call: Call) -> None:
    (place / "own.toml").write_text(SHARED)
    assert call() == 0
    did = done(place)
    assert len(of_kind(did, "quality")) == 6
    assert of_kind(did, "cost") == ["hstu experts 2", "hstu experts 4", "hstu experts 4", "hstu experts 8"]
    alike = [record for record in records(place) if (record.cell.tokens, record.cell.width) == (4, 48)]
    assert len(alike) == 3
    assert len({record.quality.key for record in alike}) == 3
    (key,) = {record.cost.key for record in alike}
    assert all(record.cost == alike[0].cost and record.ledger == alike[0].ledger for record in alike)
    assert len({record.metrics["serve_flops"].value for record in alike}) == 1
    assert {path.stem for path in (place / "out" / "costs").iterdir()} == {record.cost.key for record in records(place)}
    assert key in costs_of(place / "out")
    # a cell of a known shape that comes later costs nothing
    (place / "own.toml").write_text(SHARED.replace("[1, 2]", "[1, 2, 3]"))
    assert call() == 0
    assert {kind for kind, _ in done(place)} == {"train", "quality"}


@pytest.mark.parametrize(("fail", "half"), [("memory:full", "quality"), ("cost-memory:full", "cost"), ("train:hstu", "quality")])
def test_what_fails_when_it_is_measured_again_keeps_no_old_samples(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch, fail: str, half: str
) -> None:
    call("--select", "compression=full")
    (record,) = records(place)
    own = {"quality": record.cell_key, "cost": record.cost.key}
    assert all(store.raw_path(place / "out", key).is_file() for key in own.values())
    if fail.startswith("train"):
        with_code(monkeypatch, "training")
    assert call("--select", "compression=full", "--resume", "always", fail=fail) == 0
    assert [store.raw_path(place / "out", own[name]).is_file() for name in own] == [name != half for name in own]
    (record,) = records(place)
    assert record.status == "oom"
    assert getattr(record, half).status == "oom"


def test_data_that_changed_since_they_were_planned_are_invalid_and_not_tried_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("persrec.data.dataset_digest", lambda name, **where: "0" * 64)
    work = Work(preload=())
    arguments = ["--grid", "own.toml", "--out", "out", "--cache-dir", str(place), "--no-report", "--select", "backbone=popularity"]
    assert run.main(arguments, work=work) == 3
    (record,) = records(place)
    assert record.status == "invalid"
    assert record.error.message.startswith("dataset synthetic: planned with digest 000000000000, loaded ")
    out, err = capsys.readouterr()
    assert "trying again" not in out
    assert "planned with digest 000000000000, loaded" in err


def test_a_run_killed_between_quality_and_cost_keeps_the_quality(place: Path, start: Start) -> None:
    running = start(cost_seconds=600)
    wait_for(lambda: "cost[" in (place / "did").read_text())
    running.send_signal(signal.SIGKILL)
    running.communicate()
    wait_for(lambda: not relatives(place))
    before = {record.cell_key: record.quality for record in load_records(place / "out")}
    assert len(before) == CELLS
    done(place)
    again = start()
    assert again.communicate(timeout=LONG_S)[1] == ""
    assert again.returncode == 0
    assert sorted(done(place)) == [(EVERY_COST, cell) for cell in WITH_COST]
    assert {record.cell_key: record.quality for record in records(place)} == before


def test_a_training_in_a_pipe_prints_a_line_an_epoch(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--select", "compression=full", epochs=3) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line]
    assert [line.partition(": ")[2] for line in lines] == [
        f"epoch {epoch} of at most 3, validation ndcg@10 0.1000, at most {3 - epoch}.0 s left" for epoch in (1, 2, 3)
    ]


def test_records_hold_no_folder_of_this_machine(place: Path, call: Call) -> None:
    assert call(fail="value:full,cost-value:recent,train:sasrec") == 3
    for path in (*(place / "out" / "cells").iterdir(), *(place / "out" / "costs").iterdir()):
        text = json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "cell"})
        assert str(place) not in text
        assert str(Path(__file__).parents[3]) not in text


@pytest.mark.parametrize(
    ("outcome", "again"),
    [
        (types.SimpleNamespace(status=Status.CRASH, type="ValueError", retry=True), True),
        (types.SimpleNamespace(status=Status.CRASH, type="ValueError", retry=False), False),
        (types.SimpleNamespace(status=Status.OOM, type="MemoryError", retry=True), False),
    ],
)
def test_what_ends_the_same_way_again_is_tried_once(outcome: Outcome, again: bool) -> None:
    assert sweep._may_be_bad_luck(outcome) == again


def test_overhead_is_what_a_process_took_beside_its_phases() -> None:
    outcome = Outcome(status=Status.OK, value={"seconds": {"load": 1.0, "latency": 2.5}}, seconds=4.25)
    assert assemble._seconds(outcome) == {"load": 1.0, "latency": 2.5, "overhead": 0.75}
    assert assemble._seconds(Outcome(status=Status.CRASH, seconds=9.0)) == {}


# Several processes of a shape


def with_processes(place: Path, count: int) -> None:
    grid = place / "own.toml"
    grid.write_text(grid.read_text().replace("processes = 1", f"processes = {count}"))


def test_each_timed_cost_is_taken_in_as_many_processes_as_the_grid_says_round_by_round(place: Path, call: Call) -> None:
    with_processes(place, 3)
    assert call() == 0
    costs = [(kind, cell) for kind, cell in done(place) if kind.startswith("cost")]
    first, second, third = (costs[start : start + SHAPES] for start in range(0, 3 * SHAPES, SHAPES))
    assert {kind for kind, _ in first} == {EVERY_COST}
    assert {kind for kind, _ in second + third} == {f"cost[{','.join(kind for kind in COST_KINDS if kind != 'flops')}]"}
    assert all(sorted(cell for _, cell in one) == WITH_COST for one in (first, second, third))
    for record in records(place):
        if record.cost is not None:
            assert record.cost.processes == 3
            assert record.metrics["serve_latency_p50_ms"].method.startswith("median of 3 processes, ")
    assert all(len(cost.processes) == 3 for cost in costs_of(place / "out").values())
    assert call() == 0
    assert done(place) == []


def test_processes_that_are_missing_are_added_to_those_that_are_there(place: Path, call: Call) -> None:
    assert call() == 0
    before = costs_of(place / "out")
    done(place)
    with_processes(place, 3)
    assert call() == 0
    added = done(place)
    assert len(added) == 2 * SHAPES
    assert not any("flops" in kind for kind, _ in added)
    for key, cost in costs_of(place / "out").items():
        assert cost.processes[0] == before[key].processes[0]
        assert len(cost.processes) == 3
        assert cost.metrics["serve_flops"] == before[key].metrics["serve_flops"]


def test_a_cost_of_too_few_processes_that_another_machine_began_is_measured_anew(place: Path, call: Call) -> None:
    assert call() == 0
    for path in (place / "out" / "costs").glob("*.json"):
        values = json.loads(path.read_text())
        values["environment"]["fingerprint"] = "f" * 64
        path.write_text(json.dumps(values))
    done(place)
    with_processes(place, 3)
    assert call() == 0
    assert len(done(place)) == 3 * SHAPES
    assert all(len(cost.processes) == 3 for cost in costs_of(place / "out").values())


def test_a_run_killed_between_two_processes_goes_on_with_those_that_are_missing(place: Path, start: Start) -> None:
    with_processes(place, 2)
    running = start(most_costs=SHAPES + 1)  # the next one never comes to its end
    wait_for(lambda: (place / "did").read_text().count("cost[") == SHAPES + 2)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    wait_for(lambda: not relatives(place))
    known = sum(len(cost.processes) for cost in costs_of(place / "out").values())
    assert SHAPES < known < 2 * SHAPES
    done(place)
    again = start()
    assert again.communicate(timeout=LONG_S)[1] == ""
    assert len(done(place)) == 2 * SHAPES - known
    assert all(len(cost.processes) == 2 for cost in costs_of(place / "out").values())


def test_a_process_that_fails_fails_its_shape_and_no_other_is_started_of_it(place: Path, call: Call) -> None:
    with_processes(place, 3)
    assert call(fail="cost-memory:full") == 0  # out of memory is a finding
    failing = [cell for kind, cell in done(place) if kind.startswith("cost") and cell == "hstu full 0"]
    assert len(failing) == 1

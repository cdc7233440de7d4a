"""Merging the records of machines: qualities pool, timings stay apart, and what contradicts itself is refused."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from fabricated_records import environment, fabricate, provenance, slim, write
from gated_run import GatedRun, machine, record

from benchmarks import store
from benchmarks.advise.command import main as advise
from benchmarks.analysis.configurations import configurations
from benchmarks.cell import Cell
from benchmarks.measures import MEASURES
from benchmarks.merge.command import main
from benchmarks.records import load_records, read_cost
from benchmarks.report.command import main as report

FULL = Cell(backbone="hstu", compression="full")
TOKENS = Cell(backbone="hstu", compression="experts", tokens=4)
RESULTS = Path(__file__).resolve().parents[3] / "results"
HERE, THERE = "e" * 64, "b" * 64
TIMED = ("serve_latency_p50_ms", "serve_latency_p95_ms", "compress_users_per_second")


def on(cell: Cell, fingerprint: str = HERE, *, factor: float = 1.0, **changes: Any) -> dict[str, Any]:
    """A record of a cell from a machine whose times are so many times longer."""
    values = fabricate(cell, **changes)
    for half in (values["quality"], values["cost"]):
        if half:
            half["environment"] = environment() | {"fingerprint": fingerprint}
    for name in ("serve_latency_p50_ms", "serve_latency_p95_ms"):
        for bound in ("value", "low", "high"):
            if name in values["metrics"] and values["metrics"][name][bound] is not None:
                values["metrics"][name][bound] *= factor
    return values


def folder(place: Path, *records: dict[str, Any], processes: tuple[float, ...] = ()) -> Path:
    """A run's folder; with ``processes`` each shape has a cost file whose processes had these latencies."""
    write(place, records)
    for values in records:
        if not processes or values["cost"] is None:
            continue
        of_cost = {name: metric for name, metric in values["metrics"].items() if metric["unit"] != "ratio"}
        latency = of_cost["serve_latency_p50_ms"]
        cost = {
            "schema_version": 2,
            "cost_key": values["cost"]["key"],
            "status": "ok",
            "shape": {"backbone": values["cell"]["backbone"]},
            "metrics": of_cost,
            "processes": [
                {"metrics": {"serve_latency_p50_ms": {**latency, "value": value}}, "environment": values["cost"]["environment"],
                 "provenance": {**provenance(), "utc": f"2026-03-01T12:00:0{second}Z"}}
                for second, value in enumerate(processes)
            ],
            **{name: values["cost"][name] for name in ("code", "seconds", "environment", "provenance")},
        }  # fmt: skip
        values["cost"]["processes"] = len(processes)
        (place / "costs").mkdir(exist_ok=True)
        (place / "costs" / f"{cost['cost_key']}.json").write_text(json.dumps(cost))
        write(place, [values])
    return place


def merged(tmp_path: Path, *folders: Path) -> Path:
    assert main([*map(str, folders), "--out", str(tmp_path / "C")]) == 0
    return tmp_path / "C"


def refused(tmp_path: Path, capsys, *folders: Path) -> str:
    """The one line of a refusal, which leaves nothing behind."""
    before = sorted(tmp_path.rglob("*"))
    assert main([*map(str, folders), "--out", str(tmp_path / "C")]) == 2
    assert sorted(tmp_path.rglob("*")) == before
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_seeds_of_two_machines_are_one_configuration(tmp_path):
    seeds = [dataclasses.replace(TOKENS, seed=seed) for seed in (1, 2, 3)]
    a = folder(tmp_path / "A", on(seeds[0]))
    b = folder(tmp_path / "B", on(seeds[1], THERE), on(seeds[2], THERE))
    (one,) = configurations(load_records(merged(tmp_path, a, b)))
    assert one.quality("ndcg@10").seeds == (1, 2, 3)


def test_timings_stay_apart_and_each_machine_has_a_view(tmp_path, capsys):
    a = folder(tmp_path / "A", on(FULL), on(TOKENS))
    b = folder(tmp_path / "B", on(dataclasses.replace(TOKENS, seed=2), THERE, factor=100.0))
    out = merged(tmp_path, a, b)
    assert f"those of environment {THERE[:12]} stay apart" in capsys.readouterr().out
    views = {"ours": configurations(load_records(out)), "theirs": configurations(load_records(out / "machines" / THERE[:12]))}
    tokens = {name: next(one for one in view if one.is_tokens).cost("serve_latency_p50_ms") for name, view in views.items()}
    expected = fabricate(TOKENS)["metrics"]["serve_latency_p50_ms"]["value"]
    assert tokens["ours"].value == pytest.approx(expected)
    assert tokens["theirs"].value == pytest.approx(100 * expected)


def test_of_a_shape_that_another_machine_alone_timed_the_counts_are_kept(tmp_path):
    out = merged(tmp_path, folder(tmp_path / "A", on(FULL)), folder(tmp_path / "B", on(TOKENS, THERE)))
    one = next(one for one in configurations(load_records(out)) if one.is_tokens)
    (known,) = one.records
    assert [known.metrics[name].value for name in TIMED] == [None] * 3
    assert THERE[:12] in one.cost("serve_latency_p50_ms").reason
    assert one.cost("serve_peak_bytes").value is not None  # the gate holds a peak of any machine against its baseline
    assert one.cost("serve_flops").value == fabricate(TOKENS)["metrics"]["serve_flops"]["value"]
    assert one.quality("ndcg@10").value == pytest.approx(fabricate(TOKENS)["metrics"]["ndcg@10"]["value"])
    (theirs,) = [one for one in configurations(load_records(out / "machines" / THERE[:12])) if one.is_tokens]
    assert theirs.cost("serve_latency_p50_ms").value is not None


def test_devices_are_machines_of_their_own_and_need_no_view(tmp_path):
    card = dataclasses.replace(TOKENS, device="cuda")
    out = merged(tmp_path, folder(tmp_path / "A", on(TOKENS)), folder(tmp_path / "B", on(card, THERE)))
    assert all(one.cost("serve_latency_p50_ms").value is not None for one in configurations(load_records(out)))
    assert not (out / "machines").exists()


def test_a_further_machine_has_one_view_with_all_its_devices(tmp_path):
    card, other = dataclasses.replace(TOKENS, device="cuda"), dataclasses.replace(TOKENS, seed=2)
    a = folder(tmp_path / "A", on(TOKENS), on(card))
    b = folder(tmp_path / "B", on(other, THERE, factor=100.0), on(dataclasses.replace(card, seed=2), THERE, factor=100.0))
    (view,) = (merged(tmp_path, a, b) / "machines").iterdir()
    expected = fabricate(TOKENS)["metrics"]["serve_latency_p50_ms"]["value"]
    for one in configurations(load_records(view)):
        assert one.cost("serve_latency_p50_ms").value > 50 * expected


def test_a_fingerprint_that_is_none_is_no_path(tmp_path):
    out = merged(tmp_path, folder(tmp_path / "A", on(TOKENS)), folder(tmp_path / "B", on(dataclasses.replace(TOKENS, seed=2), "../../up")))
    (view,) = (out / "machines").iterdir()
    assert len(load_records(view)) == 2
    assert not (tmp_path / "up").exists()


def test_processes_of_one_machine_and_code_are_pooled_and_none_counts_twice(tmp_path):
    a = folder(tmp_path / "A", on(TOKENS), processes=(1.0, 2.0))
    b = folder(tmp_path / "B", on(dataclasses.replace(TOKENS, seed=2)), processes=(1.0, 2.0, 9.0, 10.0, 11.0))
    out = merged(tmp_path, a, b)
    (path,) = (out / "costs").glob("*.json")
    assert len(read_cost(path).processes) == 5
    for known in load_records(out):
        assert known.metrics["serve_latency_p50_ms"].value == 9.0
        assert known.cost.processes == 5


def test_processes_of_other_code_are_not_pooled(tmp_path):
    a = folder(tmp_path / "A", on(TOKENS), processes=(1.0, 2.0, 3.0))
    newer = on(dataclasses.replace(TOKENS, seed=2))
    newer["cost"] |= {"code": {"latency": "new"}, "provenance": {**provenance(), "utc": "2027-01-01T00:00:00Z"}}
    newer["metrics"]["serve_latency_p50_ms"]["value"] = 20.0
    out = merged(tmp_path, a, folder(tmp_path / "B", newer, processes=(10.0, 20.0, 30.0)))
    assert {known.metrics["serve_latency_p50_ms"].value for known in load_records(out)} == {20.0}


def test_a_quality_and_a_cost_of_two_folders_make_a_whole_record(tmp_path):
    quality, cost = on(TOKENS), on(TOKENS)
    of_quality = {name for name, metric in quality["metrics"].items() if (metric["unit"] == "ratio" and "@" in name) or name == "mrr"}
    quality |= {"cost": None, "ledger": [], "metrics": {name: quality["metrics"][name] for name in of_quality}}
    cost |= {"quality": None, "model": None, "replicates": None}
    cost["metrics"] = {name: metric for name, metric in cost["metrics"].items() if name not in of_quality}
    out = merged(tmp_path, folder(tmp_path / "A", cost), folder(tmp_path / "B", quality))
    (known,) = load_records(out)
    assert known.value("ndcg@10") is not None
    assert known.value("serve_flops") is not None
    assert known.ok


def test_what_ended_well_goes_before_what_failed(tmp_path):
    failed = on(TOKENS, status="crash")
    failed["quality"]["status"] = "crash"
    out = merged(tmp_path, folder(tmp_path / "A", failed | {"cost": None}), folder(tmp_path / "B", on(TOKENS)))
    (known,) = load_records(out)
    assert known.ok


def test_a_count_that_differs_is_refused(tmp_path, capsys):
    other = on(dataclasses.replace(TOKENS, seed=2), THERE)
    other["metrics"]["serve_flops"]["value"] *= 1.01
    error = refused(tmp_path, capsys, folder(tmp_path / "A", on(TOKENS)), folder(tmp_path / "B", other))
    assert "serve_flops is" in error
    assert f"in {tmp_path / 'A'}" in error
    assert "nothing is merged" in error


@pytest.mark.parametrize(
    ("fingerprint", "trained_on", "factor", "accepted"),
    [
        (HERE, None, 1 + 1e-9, False), (HERE, HERE, 1 + 1e-9, False), (HERE, THERE, 1 + 1e-9, True), (HERE, THERE, 1.5, False),
        (THERE, None, 1.02, True), (THERE, THERE, 1.02, True), (THERE, None, 1.5, False),
    ],
)  # fmt: skip
def test_a_quality_of_both_is_the_same_on_one_machine_and_near_on_another(tmp_path, capsys, fingerprint, trained_on, factor, accepted):
    other = copy.deepcopy(on(TOKENS, fingerprint))
    other["model"]["machine"] = trained_on
    other["metrics"]["ndcg@10"]["value"] *= factor
    folders = folder(tmp_path / "A", on(TOKENS)), folder(tmp_path / "B", other)
    if accepted:
        (known,) = load_records(merged(tmp_path, *folders))
        assert known.value("ndcg@10") == fabricate(TOKENS)["metrics"]["ndcg@10"]["value"]
    else:
        assert "ndcg@10 is" in refused(tmp_path, capsys, *folders)


def test_the_first_folder_comes_through_byte_by_byte_and_twice_the_same(tmp_path):
    a, b = RESULTS / "twice-synthetic-cpu", RESULTS / "elastic-synthetic-cpu"
    for name in ("C", "D"):
        assert main([str(a), str(b), "--out", str(tmp_path / name)]) == 0
    for path in (a / "cells").glob("*.json"):
        assert (tmp_path / "C" / "cells" / path.name).read_bytes() == path.read_bytes()
    assert store.records_digest(tmp_path / "C") == store.records_digest(tmp_path / "D")
    assert (tmp_path / "C" / "results.csv").read_bytes() == (tmp_path / "D" / "results.csv").read_bytes()


def test_ranks_come_with_the_quality(tmp_path):
    a, b = folder(tmp_path / "A", on(TOKENS)), folder(tmp_path / "B", on(dataclasses.replace(TOKENS, seed=2), THERE))
    key = load_records(b)[0].cell_key
    store.write_raw(b, key, {"ranks": [1, 2]})
    assert store.raw_path(merged(tmp_path, a, b), key).is_file()


def timed(record: dict[str, Any]) -> dict[str, Any]:
    """A slim record with one time more, which no figure is drawn of."""
    rate = fabricate(FULL)["metrics"]["serve_users_per_second"]
    return record | {"metrics": record["metrics"] | {"serve_users_per_second": rate}}


def test_a_report_renders_a_merged_folder(tmp_path):
    slim_ones = (timed(slim(on(FULL))), timed(slim(on(TOKENS, THERE))))
    out = merged(tmp_path, *(folder(tmp_path / name, one) for name, one in zip("AB", slim_ones, strict=True)))
    assert report([str(out), "--out", str(tmp_path / "page.html")]) == 0
    times = [record.metrics["serve_users_per_second"].value for record in load_records(out)]
    assert sum(time is not None for time in times) == 1  # of one machine alone


def test_the_main_machine_is_one_that_timed_something(tmp_path):
    untimed = on(FULL)
    for name in [
        name for name in untimed["metrics"] if name in MEASURES and not MEASURES[name].is_gated and MEASURES[name].group == "cost"
    ]:
        untimed["metrics"][name] = {**untimed["metrics"][name], "value": None, "low": None, "high": None, "method": "counted alone"}
    out = merged(tmp_path, folder(tmp_path / "A", untimed), folder(tmp_path / "B", on(TOKENS, THERE)))
    times = {record.cell.compression: record.metrics["serve_latency_p50_ms"].value for record in load_records(out)}
    assert times[TOKENS.compression] is not None


def test_advise_says_what_was_timed_elsewhere(tmp_path, capsys):
    out = merged(tmp_path, folder(tmp_path / "A", on(FULL)), folder(tmp_path / "B", on(TOKENS, THERE)))
    capsys.readouterr()
    assert advise([str(out), "--max-latency-ms", "1000"]) == 0
    assert f"no latency (timed on another machine alone, environment {THERE[:12]})" in capsys.readouterr().out
    store.check_out(out)  # a later run may go on in it


def test_the_gate_takes_a_merged_folder(tmp_path):
    run = GatedRun.of(tmp_path)
    there = record(16)
    for half in (there["quality"], there["cost"]):
        half["environment"] = machine("another cpu")
    other = GatedRun(folder=tmp_path / "other", baseline=run.baseline)
    other.add(there)
    whole = GatedRun(folder=merged(tmp_path, run.folder, other.folder), baseline=run.baseline)
    code, findings = whole.findings()
    assert (code, {verdict for verdict, tokens, _ in findings if tokens == 16}) == (0, {"NEW"})
    assert [finding for finding in findings if finding[1] != 16] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["A", "--out", "C"], "one folder alone"),
        (["A", "A", "--out", "C"], "stands twice"),
        (["A", "nowhere", "--out", "C"], "nowhere: no such folder"),
        (["A", "empty", "--out", "C"], "no record, so there is nothing to merge"),
        (["A", "B", "--out", "A"], "is there already"),
        (["A", "B", "--out", "file/C"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    folder(Path("A"), on(TOKENS))
    folder(Path("B"), on(FULL))
    Path("empty").mkdir()
    Path("file").write_text("")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not Path("C").exists()

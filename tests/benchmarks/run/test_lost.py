from pathlib import Path

import pytest
from drive_run import FAKE
from places import ALL, GRID, WITH_COST, Call, done, measured, of_kind, order, records

from benchmarks.run import command as run


@pytest.mark.parametrize(("how", "kind"), [("value", "ValueError"), ("signal", "SIGSEGV"), ("exit", "SystemExit")])
def test_failures_become_records_and_the_sweep_goes_on(
    place: Path, call: Call, capsys: pytest.CaptureFixture[str], how: str, kind: str
) -> None:
    assert call(fail=f"{how}:full,memory:recent,unsupported:none") == 3
    did = done(place)
    again = [] if how == "value" else ["hstu full 0"] * 2  # what may be bad luck is tried three times, what must fail again once
    assert of_kind(did, "quality") == sorted([*ALL, *again])
    assert of_kind(did, "cost") == WITH_COST  # what a quality came to says nothing of a cost
    found = {(record.cell.compression, record.cell.tokens): record for record in records(place)}
    assert {key: record.status for key, record in found.items()} == {
        ("full", 0): "crash",
        ("recent", 0): "oom",
        ("none", 0): "unsupported",
        ("experts", 0): "ok",
        ("experts", 4): "ok",
    }
    failed = found["full", 0]
    assert failed.error == failed.quality.error
    assert failed.error.phase == "flops"
    assert failed.error.type == kind
    assert "about to fail" in failed.error.log_tail
    assert set(failed.metrics) == {"serve_flops", "serve_latency_p50_ms", "serve_energy_j", "train_flops"}
    err = capsys.readouterr().err
    assert "1 of 5 cells have no measurement" in err
    assert "crash: HSTU" in err


@pytest.mark.parametrize(
    ("fail", "code"),
    [
        ("memory:full", 0),
        ("unsupported:full", 0),
        ("invalid:full", 3),
        ("nan:full", 3),
        ("value:full", 3),
        ("cost-memory:full", 0),
        ("cost-unsupported:full", 0),
        ("cost-invalid:full", 3),
        ("cost-value:full", 3),
    ],
)
def test_findings_are_fine_and_lost_measurements_are_not(call: Call, fail: str, code: int) -> None:
    assert call("--select", "compression=full", fail=fail) == code


def test_a_number_that_is_not_finite_is_invalid(place: Path, call: Call) -> None:
    call("--select", "compression=full", fail="nan:full")
    (record,) = records(place)
    assert record.status == "invalid"
    assert record.error.message.startswith("ndcg@10: value is nan")


def test_a_cell_out_of_time_is_a_record_and_the_sweep_goes_on(place: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "own.toml").write_text(GRID.replace("[limits]\n", "[limits]\ncell_seconds = 0.5\n"))
    order(place, seconds=900)
    arguments = ["--grid", "own.toml", "--out", "out", "--cache-dir", str(place), "--no-report", "--select", "backbone=hstu"]
    assert run.main(arguments, work=FAKE) == 3
    assert [record.status for record in records(place)] == ["timeout"] * 2
    assert "trying again" not in capsys.readouterr().out  # more time would not have come


def test_a_model_that_fails_is_the_failure_of_its_cells(place: Path, call: Call) -> None:
    assert call(fail="train:sasrec") == 0
    assert measured(place) == ["hstu full 0", "hstu recent 0", "popularity none 0"]
    failed = [record for record in records(place) if record.cell.backbone == "sasrec"]
    assert [(record.status, record.error.phase, record.error.message) for record in failed] == [
        ("oom", "training", "no room to train sasrec")
    ] * 2


def test_resume_failed_measures_the_failed_alone(place: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call(fail="value:full,train:sasrec")
    measured(place)
    assert call() == 3
    assert measured(place) == []
    capsys.readouterr()
    assert call("--resume", "failed") == 0
    assert measured(place) == ["hstu full 0", "sasrec experts 0", "sasrec experts 4"]
    assert "3 of 5 cells failed before, so again now" in capsys.readouterr().out


def test_resume_always_measures_all(place: Path, call: Call) -> None:
    call()
    measured(place)
    assert call("--resume", "always") == 0
    assert measured(place) == ALL


def test_counts_that_disagree_are_said_when_the_run_ends(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    assert "disagree" not in capsys.readouterr().err
    assert call("--resume", "always", disagree=1) == 0
    err = capsys.readouterr().err
    assert "the counts of FLOPs of 4 of 5 cells disagree, so no frontier takes any of these:" in err
    assert "Popularity" not in err.partition("disagree")[2]
    for asked in (("--only", "quality"), ("--quiet",)):
        assert call(*asked, disagree=1) == 0
        assert "disagree" not in capsys.readouterr().err

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drive_run import FAKE

from benchmarks import environment, store
from benchmarks.cell import LLAMA_NAMES, Cell
from benchmarks.grids import load_grid, select
from benchmarks.measures import versions
from benchmarks.run import command as run
from benchmarks.run.sweep import Work
from tests.soak.kills import MARK, relatives

HERE = Path(__file__).parent.parent
ROOT = HERE.parent.parent
GRID = """
[dataset.synthetic]
dataset_size = "tiny"
[[sweep]]
backbone = "hstu"
compression = ["full", "recent"]
[[sweep]]
backbone = "sasrec"
compression = "experts"
training = "elastic"
elastic_tokens = [0, 4]
tokens = [0, 4]
[[sweep]]
backbone = "popularity"
compression = "none"
training = "none"
"""
CELLS = 5
MODELS = 3  # the two expert cells share an elastic one, the floor has none


Call = Callable[..., int]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a grid and orders for the stand-ins; what they did is in its file ``did``."""
    (tmp_path / "own.toml").write_text(GRID)
    (tmp_path / "did").write_text("")
    order(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def order(place: Path, *, fail: str = "", seconds: float = 0) -> None:
    (place / "orders.json").write_text(json.dumps({"fail": fail, "seconds": seconds}))


@pytest.fixture
def call(place: Path) -> Call:
    """The command line in this process; ``fail`` is for the stand-ins."""

    def calling(*arguments: str, fail: str = "") -> int:
        order(place, fail=fail)
        return run.main(["--grid", "own.toml", "--out", "out", "--cache-dir", str(place), "--no-report", *arguments], work=FAKE)

    return calling


def measured(place: Path) -> list[str]:
    """The cells that were measured since the last look."""
    lines = (place / "did").read_text().splitlines()
    (place / "did").write_text("")
    return sorted(lines)


def records(place: Path) -> list[dict[str, Any]]:
    return store.load_records(place / "out")


ALL = ["hstu full 0", "hstu recent 0", "popularity none 0", "sasrec experts 0", "sasrec experts 4"]


def test_every_cell_gets_its_record_and_a_second_run_does_nothing(place: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    assert measured(place) == ALL
    lines = capsys.readouterr().out.splitlines()
    assert [line[:5] for line in lines] == [f"[{number}/{CELLS}]" for number in range(1, CELLS + 1)]
    assert all(re.search(r"ok .*ndcg@10 0\.1\d00 serve \d kFLOP.* left$", line) for line in lines[:-1])
    assert lines[-1].endswith("  done")
    assert {record["status"] for record in records(place)} == {"ok"}
    assert len(list((place / "out" / "models").iterdir())) == MODELS
    assert len(list((place / "out" / "raw").glob("*.npz"))) == CELLS
    before = {path: path.stat().st_mtime_ns for path in (place / "out").rglob("*") if path.is_file()}
    assert call() == 0
    assert measured(place) == []
    assert capsys.readouterr().out == f"{CELLS} of {CELLS} cells done already\n"
    assert {path: path.stat().st_mtime_ns for path in (place / "out").rglob("*") if path.is_file()} == before


def test_hugging_face_is_imported_once_and_only_for_cells_of_a_llama() -> None:
    work = Work()
    assert "persrec.backbones.llama" not in work.modules(["hstu", "sasrec", "popularity"])
    for backbone in LLAMA_NAMES:
        assert work.modules(["hstu", backbone, backbone]).count("persrec.backbones.llama") == 1


def test_a_record_holds_what_the_contract_names(place: Path, call: Call) -> None:
    call("--select", "tokens=4", "--seeds", "3,4")
    for record in records(place):
        assert record["schema_version"] == 1
        assert record["metrics"]["ndcg@10"] == {
            "value": 0.14,
            "unit": "ratio",
            "direction": "higher",
            "method": "full catalogue",
            "n": 10,
            "low": 0.14,
            "high": 0.3,
        }
        assert record["metrics"]["serve_energy_j"]["value"] is None
        assert record["cell"]["tokens"] == 4
        assert record["dataset"]["digest"]
        assert record["dataset"]["users"] == 10
        assert 0 <= record["seconds"]["overhead"] < 2
        assert record["environment"]["threads"] == record["cell"]["threads"]
        assert record["code_digest"]
        assert "raw" not in record
        assert record["provenance"]["argv"][:3] == ["python", "-m", "benchmarks.run"]


def test_the_rerun_command_measures_that_cell_alone(place: Path, call: Call) -> None:
    call("--seeds", "3,4")
    measured(place)
    for record in records(place):
        words = shlex.split(record["provenance"]["rerun"])
        assert words[:3] == ["python", "-m", "benchmarks.run"]
        assert run.main([*words[3:], "--no-report", "--quiet"], work=FAKE) == 0
        cell = record["cell"]
        assert measured(place) == [f"{cell['backbone']} {cell['compression']} {cell['tokens']}"]
    assert len(records(place)) == 2 * CELLS


@pytest.mark.parametrize(("how", "kind"), [("value", "ValueError"), ("signal", "SIGSEGV"), ("exit", "SystemExit")])
def test_failures_become_records_and_the_sweep_goes_on(
    place: Path, call: Call, capsys: pytest.CaptureFixture[str], how: str, kind: str
) -> None:
    assert call(fail=f"{how}:full,memory:recent,unsupported:none") == 3
    assert measured(place) == sorted([*ALL, "hstu full 0", "hstu full 0"])  # a crash is tried three times, memory once
    found = {(record["cell"]["compression"], record["cell"]["tokens"]): record for record in records(place)}
    assert {key: record["status"] for key, record in found.items()} == {
        ("full", 0): "crash",
        ("recent", 0): "oom",
        ("none", 0): "unsupported",
        ("experts", 0): "ok",
        ("experts", 4): "ok",
    }
    assert found["full", 0]["error"]["phase"] == "flops"
    assert found["full", 0]["error"]["type"] == kind
    assert "about to fail" in found["full", 0]["error"]["log_tail"]
    assert found["full", 0]["metrics"] == {}
    err = capsys.readouterr().err
    assert "1 of 5 cells have no measurement" in err
    assert "crash: hstu/full" in err


@pytest.mark.parametrize(
    ("fail", "code"), [("memory:full", 0), ("unsupported:full", 0), ("invalid:full", 3), ("nan:full", 3), ("value:full", 3)]
)
def test_findings_are_fine_and_lost_measurements_are_not(call: Call, fail: str, code: int) -> None:
    assert call("--select", "compression=full", fail=fail) == code


def test_a_number_that_is_not_finite_is_invalid(place: Path, call: Call) -> None:
    call("--select", "compression=full", fail="nan:full")
    (record,) = records(place)
    assert record["status"] == "invalid"
    assert record["error"]["message"].startswith("ndcg@10: value is nan")


def test_a_cell_out_of_time_is_a_record_and_the_sweep_goes_on(place: Path, call: Call) -> None:
    (place / "own.toml").write_text(GRID + "[limits]\ncell_seconds = 0.5\n")
    order(place, seconds=60)
    assert (
        run.main(["--grid", "own.toml", "--out", "out", "--cache-dir", str(place), "--no-report", "--select", "backbone=hstu"], work=FAKE)
        == 3
    )
    assert [(record["status"], record["error"]["phase"]) for record in records(place)] == [("timeout", "quality")] * 2
    assert measured(place) == ["hstu full 0", "hstu recent 0"]  # once each: more time would not have come


def test_a_model_that_fails_is_the_failure_of_its_cells(place: Path, call: Call) -> None:
    assert call(fail="train:sasrec") == 0
    assert measured(place) == ["hstu full 0", "hstu recent 0", "popularity none 0"]
    failed = [record for record in records(place) if record["cell"]["backbone"] == "sasrec"]
    assert [(record["status"], record["error"]["phase"], record["error"]["message"]) for record in failed] == [
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


def test_what_other_code_measured_is_measured_again_and_said(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call()
    measured(place)
    capsys.readouterr()
    monkeypatch.setattr(run, "code_digest", lambda: "f" * 64)
    assert call("--select", "backbone=hstu") == 0
    assert measured(place) == ["hstu full 0", "hstu recent 0"]
    assert "2 of 2 cells measured by other code before, so again now" in capsys.readouterr().out
    assert sum(record["code_digest"] == "f" * 64 for record in records(place)) == 2


@pytest.mark.parametrize("what", ["measure", "data"])
def test_what_was_measured_another_way_or_on_other_data_is_measured_again_and_said_and_replaced(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    call()
    measured(place)
    before = {record["cell_key"] for record in records(place)}
    capsys.readouterr()
    if what == "measure":
        monkeypatch.setattr(run, "versions", lambda **which: versions(**which) | {"ndcg@10": 2})
    else:
        monkeypatch.setattr("persrec.data.dataset_digest", lambda name, **where: "0" * 64)
    assert call("--list") == 0
    assert capsys.readouterr().out.count("superseded ") == CELLS
    assert call("--select", "backbone=hstu") == 0
    assert "2 of 2 cells measured before with other data or measures of another version" in capsys.readouterr().out
    assert measured(place) == ["hstu full 0", "hstu recent 0"]
    now = {record["cell_key"] for record in records(place)}
    assert (len(now), len(now & before)) == (CELLS, CELLS - 2)
    assert {path.stem for path in (place / "out" / "raw").iterdir()} == now
    assert call("--select", "backbone=hstu") == 0
    assert measured(place) == []


def test_a_run_ended_before_it_removed_the_record_it_replaced_leaves_no_double(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    call()
    old = {path.name: path.read_bytes() for path in store.record_files(place / "out")}
    monkeypatch.setattr(run, "versions", lambda **which: versions(**which) | {"ndcg@10": 2})
    call()
    for name, content in old.items():
        (place / "out" / "cells" / name).write_bytes(content)
    measured(place)
    assert call() == 0
    assert measured(place) == []
    assert len(records(place)) == CELLS
    assert not old.keys() & {path.name for path in store.record_files(place / "out")}


def test_a_changed_setting_is_another_cell_and_the_old_one_stays_and_is_told(
    place: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    call("--select", "compression=full")
    assert "settings that the grid does not hold" not in capsys.readouterr().out
    measured(place)
    (place / "own.toml").write_text(GRID + "[defaults]\nlearning_rate = 0.0010000001\n")
    assert call("--select", "compression=full") == 0
    assert measured(place) == ["hstu full 0"]
    assert "records here of settings that the grid does not hold: 1; they stay" in capsys.readouterr().out
    assert sorted(record["cell"]["learning_rate"] for record in records(place)) == [0.001, 0.0010000001]


def test_a_truncated_record_is_measured_again(place: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call()
    measured(place)
    path = store.record_files(place / "out")[0]
    path.write_bytes(path.read_bytes()[:50])
    assert call() == 0
    assert len(measured(place)) == 1
    assert "1 of 5 cells with a record that cannot be read" in capsys.readouterr().out


def test_a_broken_record_of_another_cell_is_named_before_anything_runs(place: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call("--select", "compression=recent")
    measured(place)
    path = store.record_files(place / "out")[0]
    path.write_text("{")
    assert call("--select", "compression=full") == 2
    assert path.name in capsys.readouterr().err
    assert measured(place) == []


def test_a_record_of_a_newer_program_is_not_replaced(place: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call()
    path = store.record_files(place / "out")[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2}))
    before = path.read_bytes()
    assert call("--resume", "always") == 2
    assert "schema version 2" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_workers_share_the_work(place: Path, call: Call) -> None:
    assert call("--workers", "3") == 0
    assert measured(place) == ALL
    assert len(records(place)) == CELLS


def test_the_table_is_rebuilt_from_all_records(place: Path, call: Call) -> None:
    call("--select", "backbone=hstu")
    call("--select", "backbone=sasrec")
    lines = (place / "out" / "results.csv").read_text().splitlines()
    assert len(lines) == 1 + 4


def test_list_prints_cells_and_an_estimate_and_creates_nothing(place: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--list", "--workers", "2") == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == CELLS + 1
    assert all(line.startswith("missing ") for line in out[:-1])
    assert out[-1] == "5 cells, 5 to measure, 3 models to train; about 1 min 10 s by the grid's own estimate"
    assert not (place / "out").exists()
    call("--select", "backbone=hstu")
    capsys.readouterr()
    assert call("--list") == 0
    assert "5 cells, 3 to measure, 1 models to train" in capsys.readouterr().out


def test_quiet_says_nothing(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--quiet") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--grid", "smok"], "unknown grid 'smok'.*known: smoke, quick, full"),
        (["--grid", "smoke", "--dataset", "ml-1"], "unknown 'ml-1'; known: synthetic, ml-1m"),
        (["--grid", "smoke", "--dataset", "ml-1m", "--data-dir", "nowhere"], "nowhere"),
        (
            ["--grid", "smoke", "--select", "backbone=gru"],
            "no cell of grid smoke matches.*backbone is one of: frequency, hllm, hstu, llama, popularity, repeat_last, sasrec",
        ),
        (["--grid", "smoke", "--select", "bakbone=hstu"], "unknown setting 'bakbone'.*known: backbone"),
        (["--grid", "smoke", "--seeds", "1,x"], "expected whole numbers"),
        (["--grid", "smoke", "--workers", "0"], "expected a whole number from 1"),
        (["--grid", "smoke", "--resume", "maybe"], "invalid choice: 'maybe'"),
        (["--grid", "smoke", "--executor", "slurm"], "unrecognized arguments: --executor"),
        ([], "--grid"),
        (["--grid", "smoke", "--out", "own.toml"], "own.toml is a file"),
        (["--grid", "smoke", "--out", "own.toml/out"], "own.toml/out: cannot be written"),
    ],
)
def test_a_refused_call_is_one_line_and_creates_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], pattern: str
) -> None:
    before = sorted(place.rglob("*"))
    try:
        code = run.main(arguments, work=FAKE)
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(pattern, err)
    assert err.count("\n") == 1
    assert sorted(place.rglob("*")) == before


def test_cuda_where_there_is_none_is_refused(call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(environment, "cuda_device_count", lambda: (0, "no driver"))
    assert call("--device", "cuda") == 2
    assert "no CUDA device here: no driver" in capsys.readouterr().err


def test_the_device_is_found(monkeypatch: pytest.MonkeyPatch, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(environment, "cuda_device_count", lambda: (1, ""))
    assert run.main(["--grid", "own.toml", "--list"], work=FAKE) == 0
    assert run.main(["--grid", "own.toml", "--list", "--device", "cpu"], work=FAKE) == 0
    assert capsys.readouterr().out.count("5 to measure") == 2


def test_a_full_disk_ends_the_run_in_one_line(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call("--select", "compression=full")
    before = store.records_digest(place / "out")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert call() == 2
    monkeypatch.undo()
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert err.count("\n") == 1
    assert store.records_digest(place / "out") == before


def test_the_report_is_rendered_once_for_the_same_records(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rendered: list[Path] = []

    def render_report(results_dir: Path, out_path: Path) -> None:
        rendered.append(out_path)
        out_path.parent.mkdir(parents=True, exist_ok=True)
        out_path.write_text(f'<meta name="records-digest" content="{store.records_digest(results_dir)}">')

    monkeypatch.setitem(sys.modules, "benchmarks.report.page", types.SimpleNamespace(render_report=render_report))
    for expected in (1, 1):
        assert run.main(["--grid", "own.toml", "--cache-dir", ".", "--quiet"], work=FAKE) == 0
        assert rendered == [Path("reports/own-synthetic-cpu.html")] * expected
        assert capsys.readouterr().out == "report: reports/own-synthetic-cpu.html\n"
    run.main(["--grid", "own.toml", "--cache-dir", ".", "--quiet", "--resume", "always"], work=FAKE)
    assert len(rendered) == 2


def start(place: Path, *arguments: str, seconds: float) -> subprocess.Popen[str]:
    order(place, seconds=seconds)
    surroundings = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", MARK: str(place)}
    command = [sys.executable, str(HERE / "drive_run.py"), "--grid", "own.toml", "--out", "out", "--cache-dir", str(place), "--no-report"]
    return subprocess.Popen([*command, *arguments], cwd=place, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], object], *, within: float = 30.0) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_killed_run_leaves_whole_records_and_no_process_and_the_next_one_finishes(place: Path) -> None:
    running = start(place, seconds=0.4)
    wait_for(lambda: len(list((place / "out" / "cells").glob("*.json"))) >= 2)
    wait_for(lambda: len(relatives(place)) >= 3)  # the run, its fork server, a cell
    running.send_signal(signal.SIGKILL)
    running.communicate()
    wait_for(lambda: not relatives(place), within=10)
    survived = len(records(place))
    assert 2 <= survived < CELLS
    assert (place / "out" / ".lock").exists()
    measured(place)
    again = start(place, seconds=0)
    out, err = again.communicate(timeout=60)
    assert (again.returncode, err) == (0, "")
    assert f"took over from process {running.pid}" in out
    assert f"{survived} of {CELLS} cells done already" in out
    assert len(measured(place)) == CELLS - survived
    assert len(records(place)) == CELLS
    assert not (place / "out" / ".lock").exists()


def test_a_second_run_is_refused_and_an_interrupted_one_ends_clean(place: Path) -> None:
    running = start(place, seconds=600)
    wait_for((place / "did").read_text)
    second = start(place, seconds=0)
    out, err = second.communicate(timeout=60)
    assert (second.returncode, out) == (2, "")
    assert f"process {running.pid} is writing to it" in err
    assert err.count("\n") == 1
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "ended by SIGINT" in err
    assert "Traceback" not in err
    wait_for(lambda: not relatives(place), within=10)
    assert not (place / "out" / ".lock").exists()


def test_a_terminated_run_says_so(place: Path) -> None:
    running = start(place, seconds=600)
    wait_for((place / "did").read_text)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 143
    assert err.count("\n") == 1


def test_a_hangup_ends_a_run_unless_nohup_started_it(place: Path) -> None:
    for before, code in ((signal.SIG_DFL, 129), (signal.SIG_IGN, 0)):
        handler = signal.signal(signal.SIGHUP, before)
        try:
            running = start(place, seconds=1)
        finally:
            signal.signal(signal.SIGHUP, handler)
        wait_for((place / "did").read_text)
        running.send_signal(signal.SIGHUP)
        running.communicate(timeout=60)
        assert running.returncode == code
        (place / "did").write_text("")


def test_a_reader_that_goes_away_does_not_end_the_sweep(place: Path) -> None:
    with start(place, seconds=0) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 0
    assert len(records(place)) == CELLS


def test_expressions_of_the_rerun_find_cells_of_the_whole_grid(place: Path, call: Call) -> None:
    call("--select", "compression=full")
    (record,) = records(place)
    expression = re.search(r"--select (\S+)", record["provenance"]["rerun"])
    assert expression is not None
    whole = load_grid("own.toml", device="cpu").cells
    assert select(whole, expression.group(1), grid="own") == (Cell.from_dict(record["cell"]),)

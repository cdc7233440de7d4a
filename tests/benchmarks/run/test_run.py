"""``benchmarks.run`` with stand-ins for training and measuring: records, failures, what is measured again, and what is refused."""

import json
import os
import re
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest
from drive_run import FAKE
from places import ALL, CELLS, COST_KINDS, GRID, MODELS, SHAPES, WITH_COST, Call, done, measured, of_kind, records

from benchmarks import environment, measures, store
from benchmarks.advise.lines import dataset_argument
from benchmarks.cell import Cell
from benchmarks.grids import ORDER_SEED, load_grid, shuffled
from benchmarks.grids.selection import select
from benchmarks.records import Status, record_files
from benchmarks.run import command as run
from benchmarks.run import progress
from benchmarks.run.call import validated
from benchmarks.run.jobs import Work
from benchmarks.run.options import parser
from persrec import names


def test_every_cell_gets_its_record_and_a_second_run_does_nothing(place: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    did = done(place)
    assert of_kind(did, "quality") == ALL
    assert of_kind(did, "cost") == WITH_COST
    assert {kind for kind, _ in did if kind.startswith("cost")} == {f"cost[{','.join(COST_KINDS)}]"}
    assert len(of_kind(did, "train")) == MODELS
    lines = capsys.readouterr().out.splitlines()
    assert [line[:5] for line in lines] == [f"[{number}/{CELLS}]" for number in range(1, CELLS + 1)]
    assert all(re.search(r"ok .*ndcg@10 0\.1\d00 ", line) for line in lines)
    assert sum(re.search(r" serve \d\.00 kFLOP ", line) is not None for line in lines) == len(WITH_COST)
    assert all(line.endswith(" left") for line in lines[:-1])
    assert lines[-1].endswith("  done")
    assert {record.status for record in records(place)} == {Status.OK}
    assert len(list((place / "out" / "models").iterdir())) == MODELS
    assert len(list((place / "out" / "costs").iterdir())) == SHAPES
    assert len(list((place / "out" / "raw").glob("*.npz"))) == CELLS + SHAPES
    before = {path: path.stat().st_mtime_ns for path in (place / "out").rglob("*") if path.is_file()}
    assert call() == 0
    assert done(place) == []
    assert capsys.readouterr().out == f"{CELLS} of {CELLS} cells done already\n"
    assert {path: path.stat().st_mtime_ns for path in (place / "out").rglob("*") if path.is_file()} == before


def test_what_is_to_do_counts_down_to_nothing(
    place: Path, call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    assert call() == 0
    tasks = [int(line.split()[0]) for line in capsys.readouterr().out.splitlines() if " to go  " in line]
    assert tasks == list(range(MODELS + CELLS + SHAPES - 1, 0, -1))
    assert call("--resume", "always", "--only", "cost") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if " to go  " in line] == ["3", "2", "1"]


def cell_of(backbone: str) -> Cell:
    return Cell(backbone=backbone, compression="full")


def test_hugging_face_is_imported_once_and_only_for_cells_of_a_llama() -> None:
    work = Work()
    floor = Cell(backbone="popularity", compression="none", training="none")
    assert "persrec.backbones.llama" not in work.modules([cell_of("hstu"), cell_of("sasrec"), floor])
    llamas = [name for name, part in names.backbones().items() if part.slow_imports]
    assert llamas == ["llama", "hllm"]
    for backbone in llamas:
        assert work.modules([cell_of("hstu"), cell_of(backbone), cell_of(backbone)]).count("persrec.backbones.llama") == 1


def test_a_record_holds_what_the_contract_names(place: Path, call: Call) -> None:
    call("--select", "tokens=4", "--seeds", "3,4")
    assert len(record_files(place / "out")) == 2
    for path in record_files(place / "out"):
        record = json.loads(path.read_text())
        assert record["schema_version"] == 2
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
        for half, kinds in (("quality", ["training", "evaluation"]), ("cost", COST_KINDS)):
            assert record[half]["seconds"]["overhead"] >= 0
            assert list(record[half]["code"]) == sorted(kinds)
            assert all(record[half]["code"].values())
            assert record[half]["environment"]["threads"] == record["cell"]["threads"]
            assert record[half]["provenance"]["order"]["position"] > 0
        assert record["environment"]["threads"] == record["cell"]["threads"]
        assert "raw" not in record
        assert record["provenance"]["argv"][:3] == ["python", "-m", "benchmarks.run"]


def test_the_rerun_command_of_a_table_of_ones_own_names_its_toml(place: Path, call: Call) -> None:
    rows = [f"{user},{(user * 7 + item) % 11},{1_600_000_000 + item}" for user in range(12) for item in range(9)]
    (place / "events.csv").write_text("\n".join(["user,item,time", *rows]))
    (place / "shop.toml").write_text('file="events.csv"\n[columns]\nuser="user"\nitem="item"\ntime="time"\n[time]\nunit="s"\n')
    assert call("--dataset", "shop.toml", "--select", "tokens=4") == 0
    done(place)
    (record,) = records(place)
    assert (record.cell.dataset, dataset_argument(record)) == ("shop", "shop.toml")
    assert run.main([*as_a_shell_reads(record.provenance.rerun, place)[3:], "--no-report", "--quiet"], work=FAKE) == 0
    assert measured(place) == ["sasrec experts 4"]


def test_shapes_are_measured_in_an_order_that_is_drawn_and_each_round_in_another(place: Path, call: Call) -> None:
    grid = place / "own.toml"
    grid.write_text(grid.read_text().replace("processes = 1", "processes = 3"))
    assert call("--only", "cost") == 0
    costs = [cell for kind, cell in done(place) if kind.startswith("cost")]
    rounds = [costs[start : start + SHAPES] for start in range(0, 3 * SHAPES, SHAPES)]
    drawn = [f"{cell.backbone} {cell.compression} {cell.tokens}" for cell in shuffled(load_grid(str(grid), device="cpu").cells)]
    assert rounds[0] == [name for name in dict.fromkeys(drawn) if not name.startswith("popularity")]
    assert len(set(map(tuple, rounds))) == 3
    assert all(sorted(one) == WITH_COST for one in rounds)
    orders = {record.cost.provenance.order for record in records(place) if record.cost is not None}
    assert {order.seed for order in orders} == {ORDER_SEED}


def as_a_shell_reads(line: str, cache_dir: Path) -> list[str]:
    """The words that a program gets of a line that someone pastes into a shell."""
    surroundings = os.environ | {"PERSREC_CACHE": str(cache_dir)}
    printed = subprocess.run(["sh", "-c", f"printf '%s\\n' {line}"], env=surroundings, capture_output=True, text=True, check=True)
    return printed.stdout.splitlines()


def test_the_rerun_command_measures_that_cell_alone(place: Path, call: Call) -> None:
    call("--seeds", "3,4")
    done(place)
    for record in records(place):
        words = as_a_shell_reads(record.provenance.rerun, place)
        assert words[:3] == ["python", "-m", "benchmarks.run"]
        assert run.main([*words[3:], "--no-report", "--quiet"], work=FAKE) == 0
        cell = record.cell
        assert measured(place) == [f"{cell.backbone} {cell.compression} {cell.tokens}"]
    assert len(records(place)) == 2 * CELLS


def with_versions(monkeypatch: pytest.MonkeyPatch, **changed: int) -> None:
    """As if measures were taken another way from now on."""
    for name, version in changed.items():
        monkeypatch.setitem(measures.MEASURES, name, replace(measures.MEASURES[name], version=version))


@pytest.mark.parametrize("what", ["quality", "cost", "data"])
def test_what_was_measured_another_way_or_on_other_data_is_measured_again_and_said_and_replaced(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    call()
    done(place)
    before = {record.cell_key for record in records(place)}
    capsys.readouterr()
    if what == "data":
        monkeypatch.setattr("persrec.data.dataset_digest", lambda name, **where: "0" * 64)
    else:
        with_versions(monkeypatch, **{"mrr" if what == "quality" else "serve_flops": 2})
    assert call("--list") == 0
    assert capsys.readouterr().out.count("superseded ") == CELLS
    assert call("--select", "backbone=hstu") == 0
    assert "2 of 2 cells measured before with other data or measures of another version" in capsys.readouterr().out
    did = done(place)
    both = ["hstu full 0", "hstu recent 0"]
    assert of_kind(did, "quality") == (both if what != "cost" else [])  # a quality that still holds is carried over
    assert of_kind(did, "cost") == (both if what == "cost" else [])  # a shape knows neither ranks nor interactions
    assert of_kind(did, "train") == (both if what == "data" else [])
    now = {record.cell_key for record in records(place)}
    assert (len(now), len(now & before)) == (CELLS, CELLS - 2)
    assert {path.stem for path in (place / "out" / "raw").iterdir()} == now | {path.stem for path in (place / "out" / "costs").iterdir()}
    assert call("--select", "backbone=hstu") == 0
    assert done(place) == []


def test_a_run_ended_before_it_removed_the_record_it_replaced_leaves_no_double(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    call()
    old = {path.name: path.read_bytes() for path in record_files(place / "out")}
    with_versions(monkeypatch, mrr=2)
    call()
    for name, content in old.items():
        (place / "out" / "cells" / name).write_bytes(content)
    done(place)
    assert call() == 0
    assert done(place) == []
    assert len(records(place)) == CELLS
    assert not old.keys() & {path.name for path in record_files(place / "out")}


@pytest.mark.parametrize(("only", "lone"), [("quality", "training=none,backbone=hstu"), ("cost", "backbone=popularity")])
def test_a_record_is_removed_only_where_another_takes_its_place(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], only: str, lone: str
) -> None:
    (place / "own.toml").write_text(GRID + '[[sweep]]\nbackbone = "hstu"\ncompression = "full"\ntraining = "none"\n')
    assert call("--select", lone) == 0
    before = record_files(place / "out")
    assert len(before) == 1
    with_versions(monkeypatch, mrr=2, serve_flops=2)
    done(place)
    capsys.readouterr()
    assert call("--select", lone, "--only", only) == 3
    assert f"1 of 1 cells have no {only}, so nothing of them is measured" in capsys.readouterr().out
    assert done(place) == []
    assert record_files(place / "out") == before


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
    assert sorted(record.cell.learning_rate for record in records(place)) == [0.001, 0.0010000001]


def test_a_truncated_record_is_measured_again(place: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call()
    measured(place)
    path = record_files(place / "out")[0]
    path.write_bytes(path.read_bytes()[:50])
    assert call() == 0
    assert len(measured(place)) == 1
    assert "1 of 5 cells with a record that cannot be read" in capsys.readouterr().out


def test_a_broken_record_of_another_cell_is_named_before_anything_runs(place: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call("--select", "compression=recent")
    measured(place)
    path = record_files(place / "out")[0]
    path.write_text("{")
    assert call("--select", "compression=full") == 2
    assert path.name in capsys.readouterr().err
    assert measured(place) == []


def test_a_record_of_a_newer_program_is_not_replaced(place: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    call()
    path = record_files(place / "out")[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 3}))
    before = path.read_bytes()
    assert call("--resume", "always") == 2
    assert "schema version 3" in capsys.readouterr().err
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
    assert out[-1] == "5 cells, 5 to measure, 3 models to train; about 1 min 25 s by the grid's own estimate"
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
        (["--grid", "smoke", "--dataset", "ml-1"], "unknown 'ml-1' .*known: synthetic, ml-100k, ml-1m"),
        (["--grid", "smoke", "--dataset", "ml-1m", "--data-dir", "nowhere"], "nowhere"),
        (
            ["--grid", "smoke", "--select", "backbone=gru"],
            "no cell of grid smoke matches.*backbone is one of: frequency, hllm, hstu, llama, popularity, repeat_last, sasrec",
        ),
        (["--grid", "smoke", "--select", "bakbone=hstu"], "unknown setting 'bakbone'.*known: backbone"),
        (["--grid", "smoke", "--seeds", "1,x"], "expected whole numbers"),
        (["--grid", "smoke", "--seeds", "1_0"], "expected whole numbers"),
        (["--grid", "smoke", "--select", ","], "'' is not setting=value"),
        (["--grid", "smoke", "--select", "backbone=hstu,"], "'' is not setting=value"),
        (["--grid", "smoke", "--workers", "0"], "expected a whole number from 1"),
        (["--grid", "smoke", "--resume", "maybe"], "invalid choice: 'maybe'"),
        (["--grid", "smoke", "--executor", "pbs"], "invalid choice: 'pbs'"),
        ([], "--grid"),
        (["--grid", "smoke", "--out", "own.toml"], "--out: own.toml: Not a directory"),
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
    for chosen, device in ([], "cuda"), (["--device", "cpu"], "cpu"):
        arguments = ["--grid", "own.toml", "--list", *chosen]
        call = validated(parser().parse_args(arguments))
        assert {call.device, *(cell.device for cell in call.cells)} == {device}
        assert call.out.name == f"own-synthetic-{device}"
        assert run.main(arguments, work=FAKE) == 0
        assert "5 to measure" in capsys.readouterr().out


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


def test_expressions_of_the_rerun_find_cells_of_the_whole_grid(place: Path, call: Call) -> None:
    call("--select", "compression=full")
    (record,) = records(place)
    expression = re.search(r"--select (\S+)", record.provenance.rerun)
    assert expression is not None
    whole = load_grid("own.toml", device="cpu").cells
    assert select(whole, expression.group(1), grid="own") == (record.cell,)

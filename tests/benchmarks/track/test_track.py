"""What a tracker is told of a run, and that a real MLflow keeps it."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
from fabricated_records import fabricate, records_of, slim, write

from benchmarks.cell import Cell
from benchmarks.track.command import main
from benchmarks.track.entries import entries, number_name

TOKENS = Cell(backbone="hstu", compression="experts", tokens=4, epochs=3)
FLOOR = Cell(backbone="popularity", compression="none", training="none")
INSTALLED = all(importlib.util.find_spec(name) for name in ("mlflow", "sqlalchemy", "alembic"))
needs_mlflow = pytest.mark.skipif(not INSTALLED, reason="mlflow is not installed; the extra mlflow installs it")


def test_an_entry_has_the_settings_the_numbers_and_where_they_come_from():
    (entry,) = entries(records_of(fabricate(TOKENS)))
    known = fabricate(TOKENS)["metrics"]
    assert entry.numbers["ndcg_at_10"] == known["ndcg@10"]["value"]
    assert entry.numbers["ndcg_at_10_low"] == known["ndcg@10"]["low"]
    assert "serve_energy_j" not in entry.numbers  # it could not be measured: no number in its place
    assert (entry.settings["tokens"], entry.settings["epochs"], entry.settings["seed"]) == ("4", "3", "1")
    assert "dropout" not in entry.settings  # as by default
    assert (entry.tags["status"], entry.tags["converged"]) == ("ok", "true")


def test_a_number_that_is_none_is_not_sent():
    (record,) = records_of(fabricate(TOKENS))
    endless = dataclasses.replace(record.metrics["mrr"], value=float("inf"))
    (entry,) = entries([dataclasses.replace(record, metrics={"mrr": endless})])
    assert entry.numbers == {}


def test_cells_that_differ_are_called_apart():
    names = [entry.name for entry in entries(records_of(*(fabricate(Cell(**(TOKENS.to_dict() | {"seed": s}))) for s in (1, 2))))]
    assert len(set(names)) == 2


def test_names_hold_what_a_tracker_takes():
    assert number_name("recall@10_novel") == "recall_at_10_novel"
    assert number_name("odd\u00e9(%)") == "odd____"


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["nowhere", "--uri", "sqlite:///x.db"], 2, "nowhere: no such folder"),
        (["run"], 2, "--uri: missing"),
        (["empty", "--uri", "sqlite:///x.db"], 3, "nothing to send"),
        (["run", "--uri", "sqlite:///no/folder/x.db"], 2, "no such folder no/folder"),
        (["run", "--uri", "sqlite:///x.db"], 2, "mlflow is not installed"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, code, expected):
    monkeypatch.chdir(tmp_path)
    for module in ("mlflow", "mlflow.tracking"):
        monkeypatch.setitem(sys.modules, module, None)  # as where the extra is not installed
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write(Path("run"), [fabricate(FLOOR)])
    Path("empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@needs_mlflow
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of packages that are not ours
def test_a_real_store_keeps_the_numbers_and_the_report_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = write(tmp_path / "run", [slim(fabricate(TOKENS)), fabricate(FLOOR, status="crash")])
    arguments = [str(run), "--uri", f"sqlite:///{tmp_path}/mlflow.db"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert "holds these records of run already" in capsys.readouterr().out

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=arguments[2])
    kept = client.search_runs([client.get_experiment_by_name("persrec").experiment_id])
    (parent,) = [one for one in kept if "mlflow.parentRunId" not in one.data.tags]
    cells = {one.data.tags["status"]: one for one in kept if one.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    assert cells["ok"].data.metrics["ndcg_at_10"] == fabricate(TOKENS)["metrics"]["ndcg@10"]["value"]
    assert cells["ok"].data.params["tokens"] == "4"
    assert (cells["crash"].info.status, cells["crash"].data.metrics) == ("FAILED", {})
    assert {"run.html", "run"} <= {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    page = client.download_artifacts(parent.info.run_id, "run.html", str(tmp_path))
    assert "records-digest" in Path(page).read_text()

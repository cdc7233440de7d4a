import dataclasses
import json
import re
from pathlib import Path

import msgspec
import pytest
from fabricated_records import fabricate, grid_cells, write

from benchmarks.cell import Cell
from benchmarks.records import RecordError, Status, load_records, read_json, read_record, record_of, schema, to_dict, to_json

ROOT = Path(__file__).parent.parent.parent.parent
CELL = Cell(backbone="hstu", compression="experts", tokens=4)


def test_the_schema_in_the_docs_is_that_of_the_types():
    assert json.loads((ROOT / "docs" / "records.schema.json").read_text()) == json.loads(json.dumps(schema()))


@pytest.mark.parametrize("status", list(Status))
def test_a_record_comes_back_from_its_bytes_as_it_was(status):
    record = record_of(fabricate(CELL, status=status.value))
    again = record_of(json.loads(to_json(record)))
    assert again == record
    assert to_json(again) == to_json(record)


def test_the_types_hold_all_that_a_record_says():
    values = fabricate(CELL)
    kept = to_dict(record_of(values))
    for name, metric in values["metrics"].items():
        assert {key: kept["metrics"][name][key] for key in metric} == metric
    assert kept["cell"] == values["cell"]


def test_all_committed_records_are_read_and_written_to_the_same_bytes():
    files = sorted(ROOT.glob("results/*/cells/*.json"))
    assert files
    for path in files:
        assert to_json(read_record(path)) == path.read_bytes(), path


def test_no_committed_record_holds_a_path_of_the_machine_that_made_it():
    files = sorted(ROOT.glob("results/**/*.json"))
    assert {path.parent.name for path in files} >= {"cells", "costs", "audits", "kernels", "noise", "compare", "scale", "baselines"}
    for path in files:
        assert re.search(r"(?<![\w.\]\)*-])/(home|root|tmp|work|mnt|data|usr|opt|var|Users)/", path.read_text()) is None, path


def test_the_frame_has_a_row_per_record_and_a_column_per_number(tmp_path):
    cells = grid_cells(histories=(64,), backbones=("hstu",))
    run = load_records(write(tmp_path, map(fabricate, cells)))
    table = run.frame()
    assert len(table) == len(run) == len(cells)
    row = table[table["cell_key"] == run[3].cell_key].iloc[0]
    assert row["ndcg@10"] == run[3].metrics["ndcg@10"].value
    assert row["ndcg@10_low"] == run[3].metrics["ndcg@10"].low
    assert row["tokens"] == run[3].cell.tokens
    assert row["cost_key"] == run[3].cost.key


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema_version": 3}, "written in schema version 3; this program knows version 2, update it"),
        ({"schema_version": 1}, "written in schema version 1, this program knows version 2"),
        ({"schema_version": "2"}, "expected a table with a schema_version"),
        ({"status": "fine"}, "Invalid enum value 'fine' - at `$.status`"),
        ({"metrics": {"mrr": {"value": "high"}}}, "at `$.metrics[...].value`"),
        ({"cell": fabricate(CELL)["cell"] | {"history": -1}}, "history: -1 is less than 0"),
        ({"cell": fabricate(CELL)["cell"] | {"colour": "red"}}, "no such setting 'colour'"),
        ({"cell_key": "0" * 64}, "as the file's name"),
    ],
)
def test_what_is_no_record_is_one_line_that_names_the_file_and_the_field(tmp_path, change, says):
    values = fabricate(CELL)
    path = write(tmp_path, [values]) / "cells" / f"{values['cell_key']}.json"
    path.write_text(json.dumps(values | change))
    with pytest.raises(RecordError) as refused:
        read_record(path)
    assert str(path) in str(refused.value)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"NaN", b"[" * 5000 + b"]" * 5000, b"\xff"])
def test_what_is_no_json_is_one_line(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match="x.json: "):
        read_record(path)


def test_a_part_that_is_not_installed_is_read_with_its_declaration():
    values = fabricate(CELL)
    values["cell"]["compression"] = values["parts"]["compression"]["name"] = "unheard_of"
    record = record_of(values)
    assert record.parts.compression is not None
    assert record.parts.compression.name == record.cell.compression == "unheard_of"


def test_a_record_is_frozen():
    record = record_of(fabricate(CELL))
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.status = Status.OK
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"value": []}, type(record.metrics["mrr"]))


@pytest.mark.parametrize("number", [2**63, -(10**40), 10**400])
def test_a_number_beyond_64_bits_is_refused(tmp_path, number):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"a": [{"b": number}], "digits": "12345678901234567890"}))
    with pytest.raises(RecordError, match=r"x\.json: holds the number .*beyond 64 bits"):
        read_json(path, again="run")


def test_digits_in_a_text_or_behind_a_point_are_no_such_number(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"text": "12345678901234567890", "share": 0.12345678901234568, "largest": 2**63 - 1}))
    assert read_json(path, again="run")["largest"] == 2**63 - 1

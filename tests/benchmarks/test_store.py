import csv
import errno
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import store
from benchmarks.cell import Cell


def record(tokens: int = 0, *, key: str = "", status: str = "ok", **metrics: float | None) -> dict[str, Any]:
    cell = Cell(backbone="hstu", compression="experts", tokens=tokens)
    return {
        "schema_version": 1,
        "cell_key": key or f"key{tokens}",
        "status": status,
        "cell": cell.to_dict(),
        "metrics": {name: {"value": value, "low": None, "high": None} for name, value in metrics.items()},
        "error": None,
        "environment": {},
        "provenance": {},
    }


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    store.write_record(tmp_path, record(4, mrr=0.5))
    assert store.load_records(tmp_path) == [record(4, mrr=0.5)]
    assert [path.name for path in (tmp_path / "cells").iterdir()] == ["key4.json"]


def test_records_come_in_the_order_of_their_settings(tmp_path: Path) -> None:
    for tokens, key in ((16, "a"), (4, "b"), (8, "c")):
        store.write_record(tmp_path, record(tokens, key=key))
    assert [loaded["cell"]["tokens"] for loaded in store.load_records(tmp_path)] == [4, 8, 16]


def changed(**fields: object) -> bytes:
    return json.dumps(record(4) | fields).encode()


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (json.dumps(record(4)).encode()[:-20], "not a whole JSON file"),
        (b"", "not a whole JSON file"),
        (b"\xff\xfe", "not a whole JSON file"),
        (b"[1]", "holds list, expected a record"),
        (changed(schema_version=99), "schema version 99.*versions up to 1"),
        (changed(status="fine"), "status is 'fine'; expected one of ok"),
        (changed(cell_key="other"), "cell_key is 'other'; expected key4"),
        (changed(metrics={"mrr": 0.5}), "metrics is"),
        (b'{"schema_version": 1}', "no field 'cell_key'"),
    ],
)
def test_a_broken_record_is_named_in_one_line_and_the_rest_stays(tmp_path: Path, content: bytes, pattern: str) -> None:
    store.write_record(tmp_path, record(0))
    intact = store.record_path(tmp_path, "key0").read_bytes()
    store.record_path(tmp_path, "key4").write_bytes(content)
    with pytest.raises(store.StoreError, match=pattern) as caught:
        store.load_records(tmp_path)
    assert "key4.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert store.record_path(tmp_path, "key0").read_bytes() == intact


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(store.StoreError, match="nowhere: no such folder"):
        store.load_records(tmp_path / "nowhere")


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_full_disk_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    store.write_record(tmp_path, record(4, mrr=0.5))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(store.StoreError, match=r"key4.json: cannot be written: No space left on device"):
        store.write_record(tmp_path, record(4, mrr=0.6))
    monkeypatch.undo()
    assert store.load_records(tmp_path) == [record(4, mrr=0.5)]
    assert len(list((tmp_path / "cells").iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(store.StoreError, match="cannot be written"):
        store.write_record(tmp_path / "file", record(4))


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_record(tmp_path, record(4, mrr=float("nan")))
    assert not (tmp_path / "cells").exists()


def test_raw_samples_hold_no_objects(tmp_path: Path) -> None:
    path = store.write_raw(tmp_path, "key", {"ranks": [1, 2], "ms": np.array([0.5])})
    with np.load(path, allow_pickle=False) as arrays:
        assert {name: arrays[name].tolist() for name in arrays.files} == {"ranks": [1, 2], "ms": [0.5]}
    with pytest.raises(ValueError, match="'ranks' hold Python objects"):
        store.write_raw(tmp_path, "other", {"ranks": [object()]})
    assert not store.raw_path(tmp_path, "other").exists()


def test_the_table_is_flat_and_the_same_for_any_order(tmp_path: Path) -> None:
    first, second = record(4, mrr=0.5), record(0, parameters=7, mrr=None)
    first["metrics"]["mrr"] |= {"low": 0.4, "high": 0.6}
    second["cell"]["elastic_tokens"] = [0, 4]
    store.write_csv(tmp_path, [first, second])
    content = (tmp_path / "results.csv").read_bytes()
    store.write_csv(tmp_path, [second, first])
    assert (tmp_path / "results.csv").read_bytes() == content
    rows = list(csv.DictReader(content.decode().splitlines()))
    assert [(row["tokens"], row["mrr"], row["mrr_low"], row["mrr_high"], row["parameters"]) for row in rows] == [
        ("0", "", "", "", "7"),
        ("4", "0.5", "0.4", "0.6", ""),
    ]
    assert rows[0]["elastic_tokens"] == "0+4"
    assert "parameters_low" not in rows[0]


def test_the_digest_follows_the_bytes_of_the_records(tmp_path: Path) -> None:
    digests = [store.records_digest(tmp_path)]
    store.write_record(tmp_path, record(0))
    digests.append(store.records_digest(tmp_path))
    store.write_record(tmp_path, record(4))
    digests.append(store.records_digest(tmp_path))
    store.write_record(tmp_path, record(4, mrr=0.1))
    digests.append(store.records_digest(tmp_path))
    assert len(set(digests)) == 4
    store.write_record(tmp_path, record(4))
    assert store.records_digest(tmp_path) == digests[2]


def test_the_lock_keeps_a_second_run_out(tmp_path: Path) -> None:
    with store.locked(tmp_path) as dead:
        assert dead is None
        with pytest.raises(store.LockedError, match=f"process {os.getpid()} is writing"), store.locked(tmp_path):
            pass
    assert not (tmp_path / ".lock").exists()
    with store.locked(tmp_path) as dead:
        assert dead is None


HOLD_AND_DIE = """
import os, pathlib, signal, sys
from benchmarks.store import locked
with locked(pathlib.Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lock_of_a_dead_run_is_taken_over(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD_AND_DIE, str(tmp_path)])
    assert holder.wait() == -9
    assert (tmp_path / ".lock").exists()
    with store.locked(tmp_path) as dead:
        assert dead == holder.pid


WRITE_ON = """
import itertools, json, pathlib, sys
from benchmarks import store
out = pathlib.Path(sys.argv[1])
record = json.loads(sys.argv[2])
for number in itertools.count():
    record["metrics"] = {f"m{place}": {"value": number} for place in range(300)}
    store.write_record(out, record)
    store.write_raw(out, "key4", {"ranks": [number] * 5000})
    if number == 0:
        print("begun", flush=True)
"""


def test_a_record_survives_a_kill_at_any_moment_of_its_writing(tmp_path: Path) -> None:
    moments = random.Random(1)
    for _ in range(8):
        command = [sys.executable, "-c", WRITE_ON, str(tmp_path), json.dumps(record(4))]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"begun\n"
        time.sleep(moments.uniform(0, 0.05))
        writer.kill()
        writer.communicate()
        (loaded,) = store.load_records(tmp_path)
        assert len({metric["value"] for metric in loaded["metrics"].values()}) == 1
        with np.load(store.raw_path(tmp_path, "key4")) as arrays:
            assert len(set(arrays["ranks"].tolist())) == 1
        store.remove_leftovers(tmp_path)
        assert len(list((tmp_path / "cells").iterdir())) == len(list((tmp_path / "raw").iterdir())) == 1


def test_unfinished_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    store.write_record(tmp_path, record(4))
    (tmp_path / "cells" / ".key4.json.abc.tmp").write_text("{")
    models = tmp_path / "models"
    for name in ("whole/model.json", "trains/state.safetensors", "trains/.state.safetensors.abc.tmp", ".whole-abc/weights.safetensors"):
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).write_text("")
    assert len(store.load_records(tmp_path)) == 1
    store.remove_leftovers(tmp_path)
    assert [path.name for path in (tmp_path / "cells").iterdir()] == ["key4.json"]
    left = sorted(str(path.relative_to(models)) for path in models.rglob("*") if path.is_file())
    assert left == ["trains/state.safetensors", "whole/model.json"]


def test_reports_of_results_go_to_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store.report_path(Path("results/smoke-synthetic-cpu")) == Path("reports/smoke-synthetic-cpu.html")
    assert store.report_path(tmp_path / "results" / "mine") == Path("reports/mine.html")
    assert store.report_path(Path("elsewhere/results/mine")) == Path("elsewhere/results/mine/report.html")

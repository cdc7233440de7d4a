import csv
import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_cells import costs_of

from benchmarks import store
from benchmarks.cell import Cell
from benchmarks.records import Cost, Metric, Record, RecordError, RunRecords, Status, load_records
from persrec.files import WriteError


def key(number: int) -> str:
    return f"{number:064x}"


def record(tokens: int = 0, *, number: int | None = None, elastic: tuple[int, ...] = (), **metrics: float | Metric | None) -> Record:
    return Record(
        cell_key=key(tokens if number is None else number),
        status=Status.OK,
        cell=Cell(backbone="hstu", compression="experts", tokens=tokens, elastic_tokens=elastic),
        metrics={name: value if isinstance(value, Metric) else Metric(value=value) for name, value in metrics.items()},
    )


def cost(number: int = 1, *, value: float = 1.0) -> Cost:
    metrics = {"serve_flops": Metric(value=value)}
    return Cost(cost_key=key(number), status=Status.OK, shape={"items": 10}, metrics=metrics)


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    store.write_record(tmp_path, record(4, mrr=0.5))
    assert list(load_records(tmp_path)) == [record(4, mrr=0.5)]
    assert [path.name for path in (tmp_path / "cells").iterdir()] == [f"{key(4)}.json"]


def test_costs_come_back_by_their_key(tmp_path: Path) -> None:
    assert costs_of(tmp_path) == {}
    for number in (2, 1):
        assert store.write_cost(tmp_path, cost(number)) == store.cost_path(tmp_path, key(number))
    assert costs_of(tmp_path) == {key(1): cost(1), key(2): cost(2)}
    store.cost_path(tmp_path, key(2)).write_text("{")
    with pytest.raises(RecordError, match=rf"{key(2)}\.json: not a whole JSON file"):
        costs_of(tmp_path)


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_full_disk_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    store.write_record(tmp_path, record(4, mrr=0.5))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(WriteError, match=rf"{key(4)}.json: cannot be written: No space left on device"):
        store.write_record(tmp_path, record(4, mrr=0.6))
    monkeypatch.undo()
    assert list(load_records(tmp_path)) == [record(4, mrr=0.5)]
    assert len(list((tmp_path / "cells").iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
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
    first, second = record(4, mrr=Metric(value=0.5, low=0.4, high=0.6)), record(0, elastic=(0, 4), parameters=7, mrr=None)
    store.write_csv(tmp_path, RunRecords([first, second]))
    content = (tmp_path / "results.csv").read_bytes()
    store.write_csv(tmp_path, RunRecords([second, first]))
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
    store.write_cost(tmp_path, cost())
    assert store.records_digest(tmp_path) != digests[2]


WRITE_ON = """
import dataclasses, itertools, pathlib, sys
from benchmarks import records, store
out = pathlib.Path(sys.argv[1])
record = records.read_record(pathlib.Path(sys.argv[2]))
for number in itertools.count():
    metrics = {f"m{place}": records.Metric(value=number) for place in range(300)}
    store.write_record(out, dataclasses.replace(record, metrics=metrics))
    store.write_raw(out, record.cell_key, {"ranks": [number] * 5000})
    if number == 0:
        print("begun", flush=True)
"""


def test_a_record_survives_a_kill_at_any_moment_of_its_writing(tmp_path: Path) -> None:
    moments = random.Random(1)
    first = store.write_record(tmp_path / "first", record(4))
    out = tmp_path / "out"
    for _ in range(8):
        command = [sys.executable, "-c", WRITE_ON, str(out), str(first)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"begun\n"
        time.sleep(moments.uniform(0, 0.05))
        writer.kill()
        writer.communicate()
        (loaded,) = load_records(out)
        assert len({metric.value for metric in loaded.metrics.values()}) == 1
        with np.load(store.raw_path(out, key(4))) as arrays:
            assert len(set(arrays["ranks"].tolist())) == 1
        store.remove_leftovers(out)
        assert len(list((out / "cells").iterdir())) == len(list((out / "raw").iterdir())) == 1


UNFINISHED = "0123456789abcdef.tmp"


def fill(folder: Path, *names: str) -> dict[str, bytes]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    return content_of(folder)


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_unfinished_files_of_a_killed_run_are_removed_and_nothing_else(tmp_path: Path) -> None:
    whole = fill(
        tmp_path, f"models/{key(1)}/model.json", f"models/{key(2)}/state.safetensors", f"models/{key(2)}/.notes.tmp", ".notes.tmp",
        "models/.git/HEAD", "models/.cache/weights", f"models/.git/.index.{UNFINISHED}", "cells/.hidden", f"mine/.note.{UNFINISHED}",
    )  # fmt: skip
    fill(
        tmp_path, f".results.csv.{UNFINISHED}", f"cells/.{key(4)}.json.{UNFINISHED}", f"costs/.{key(4)}.json.{UNFINISHED}",
        f"raw/.{key(4)}.npz.{UNFINISHED}", f"models/.{key(3)}.{UNFINISHED}/model.json", f"models/{key(2)}/.state.safetensors.{UNFINISHED}",
    )  # fmt: skip
    store.remove_leftovers(tmp_path)
    assert content_of(tmp_path) == whole


def test_a_key_that_is_no_files_name_removes_nothing(tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text("mine")
    store.write_cost(tmp_path / "out", cost())
    store.remove_costs(tmp_path / "out", ["../../mine", str(tmp_path / "mine"), ""])
    assert mine.read_text() == "mine"
    store.remove_costs(tmp_path / "out", [key(1)])
    assert list((tmp_path / "out" / "costs").iterdir()) == []


def test_what_jobs_left_is_removed_and_what_is_the_users_stays(tmp_path: Path) -> None:
    jobs = tmp_path / "slurm"
    ours = [f"{key(1)}.answers", f"{'a' * 32}.pkl", "12_0_log.out", "12_submission.sh", "queue"]
    jobs.mkdir()
    for name in ours:
        (jobs / name).touch()
    (jobs / "my_job.sbatch").write_text("mine")
    store.remove_jobs(tmp_path)
    assert [path.name for path in jobs.iterdir()] == ["my_job.sbatch"]
    (jobs / "my_job.sbatch").unlink()
    store.remove_jobs(tmp_path)
    assert not jobs.exists()
    store.remove_jobs(tmp_path)


def test_a_name_that_is_too_long_while_it_is_written_is_refused(tmp_path: Path) -> None:
    store.check_file("--out", tmp_path / ("n" * 200))
    with pytest.raises(ValueError, match="--out: .*: File name too long"):
        store.check_file("--out", tmp_path / ("n" * 240))


def test_a_run_takes_a_folder_that_is_not_there_or_empty(tmp_path: Path) -> None:
    store.check_out(tmp_path)
    store.check_out(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "names",
    [
        [f"cells/{key(1)}.json", "notes.md", "models/.git/HEAD", ".notes.tmp", "report.html"],
        [f"costs/{key(1)}.json", "report/summary.md"],
        [f"models/{key(1)}/state.safetensors", f"logs/model-{key(1)}.log", f"logs/{key(2)}.log"],  # ended before its first record
        [f"cells/.{key(1)}.json.{UNFINISHED}", f"raw/{key(1)}.npz"],
    ],
)
def test_a_run_takes_a_folder_of_a_run(tmp_path: Path, names: list[str]) -> None:
    before = fill(tmp_path, *names)
    store.write_csv(tmp_path, RunRecords([record(4)]))
    store.check_out(tmp_path)
    assert content_of(tmp_path).keys() == {*before, "results.csv"}


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["models/.git/HEAD", "models/.cache/weights"], "models/.cache"),
        (["models/mine/weights"], "models/mine"),
        (["models/.git/HEAD", "notes.txt"], "models/.git"),
        ([".notes.tmp"], r"\.notes\.tmp"),
        (["cells/a.json"], "cells/a.json"),
        (["cells"], "cells"),
        (["photo.jpg", f"logs/{key(1)}.log"], "photo.jpg"),
        (["results.csv"], r"results\.csv was not written by a run"),
        ([f"cells/{key(1)}.json", "results.csv"], r"results\.csv was not written by a run"),
        ([f"cells/{key(1)}.json", ".lock"], r"\.lock was not written by a run"),
        ([".lock"], r"\.lock was not written by a run"),
    ],
)
def test_a_folder_that_is_not_a_runs_is_refused_by_what_it_holds(tmp_path: Path, names: list[str], named: str) -> None:
    before = fill(tmp_path, *names)
    with pytest.raises(ValueError, match=named) as caught:
        store.check_out(tmp_path)
    assert "--out: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert content_of(tmp_path) == before


def test_a_place_where_no_folder_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("gone")
    for name in ("file", "file/out", "loop", "nowhere", "n" * 300):
        with pytest.raises(ValueError, match=f"^--out: [^\n]*{name[:20]}"):
            store.check_out(tmp_path / name)


HOLD_AND_DIE = """
import os, pathlib, signal, sys
from benchmarks.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_folder_of_a_run_that_died_before_it_wrote_anything_is_a_runs(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", HOLD_AND_DIE, str(tmp_path)], check=False)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    store.check_out(tmp_path)
    (tmp_path / "notes").write_text("put there since")
    store.check_out(tmp_path)


def test_reports_of_results_go_to_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store.report_path(Path("results/smoke-synthetic-cpu")) == Path("reports/smoke-synthetic-cpu.html")
    assert store.report_path(tmp_path / "results" / "mine") == Path("reports/mine.html")
    assert store.report_path(Path("elsewhere/results/mine")) == Path("elsewhere/results/mine/report.html")


@pytest.mark.parametrize("place", ["cells/new.json", "costs/new.json", "results.csv", ".lock", "models/x/weights", "logs/a.log"])
def test_no_file_that_is_asked_for_lies_where_a_run_keeps_its_own(tmp_path: Path, place: str) -> None:
    run = tmp_path / "run"
    store.write_record(run, record(4))
    with pytest.raises(ValueError, match="--out: .* lies where the run run keeps its own files"):
        store.check_file("--out", run / place)
    linked = tmp_path / "link"
    linked.symlink_to(run)
    with pytest.raises(ValueError, match="keeps its own files"):
        store.check_file("--out", linked / place)


def test_a_file_beside_a_run_s_own_and_one_below_a_folder_that_is_no_run_are_taken(tmp_path: Path) -> None:
    run = tmp_path / "run"
    store.write_record(run, record(4))
    (tmp_path / "cells").mkdir()
    for place in (run / "report.html", tmp_path / "run.html", tmp_path / "cells" / "page.html", tmp_path / "new" / "deep" / "x.json"):
        store.check_file("--out", place)
    assert not (tmp_path / "new").exists()


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"--out: .*x.json: .*file is no folder that can be written to"):
        store.check_file("--out", tmp_path / "file" / "x" / "x.json")
    with pytest.raises(ValueError, match="--out: .* is a folder"):
        store.check_file("--out", tmp_path)

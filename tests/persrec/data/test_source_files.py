"""What is missing, damaged or in the way is one line that names the file, before anything is made."""

import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persrec.data import SourceError, check_sources, dataset_digest, load_dataset
from persrec.data.__main__ import main
from persrec.data.sources import movielens
from persrec.data.tables import preparation

LONG = "x" * 300


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A folder with ``sequences.parquet`` of 2 rows, which is a whole data set here."""
    monkeypatch.setitem(movielens.ROWS, "ml-1m", 2)
    monkeypatch.delenv("PERSREC_DATA", raising=False)
    folder = tmp_path / "data" / "ml-1m"
    folder.mkdir(parents=True)
    pq.write_table(
        pa.table({"user": [1, 1], "item": [5, 6], "ts_est": [978_300_007, 978_300_008], "ts_src": [0, 0]}), folder / "sequences.parquet"
    )
    return folder


def gone(folder):
    (folder / "sequences.parquet").unlink()


def a_folder(folder):
    gone(folder)
    (folder / "sequences.parquet").mkdir()


def a_loop(folder):
    gone(folder)
    (folder / "sequences.parquet").symlink_to("sequences.parquet")


def cut(folder):
    path = folder / "sequences.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def empty(folder):
    (folder / "sequences.parquet").write_bytes(b"")


def without_a_column(folder):
    pq.write_table(pa.table({"user": [1, 1], "item": [5, 6]}), folder / "sequences.parquet")


def calls(data_dir, cache_dir):
    yield lambda: check_sources("ml-1m", None, data_dir, cache_dir)
    yield lambda: load_dataset("ml-1m", data_dir=data_dir, cache_dir=cache_dir)


@pytest.mark.parametrize("damage", [gone, a_folder, a_loop, cut, empty, without_a_column], ids=lambda damage: damage.__name__)
def test_a_file_that_is_missing_or_damaged_is_named_and_nothing_is_made(source, tmp_path, damage):
    damage(source)
    for call in calls(source.parent, tmp_path / "cache"):
        with pytest.raises(SourceError, match=r"sequences\.parquet") as refused:
            call()
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "cache").exists()


def test_a_file_that_may_not_be_read_is_named(source, tmp_path, monkeypatch):
    def refusing(self, *_args, **_kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(source), "open", refusing)
    for call in (*calls(source.parent, tmp_path / "cache"), lambda: dataset_digest("ml-1m", data_dir=source.parent)):
        with pytest.raises(SourceError, match=r"^dataset 'ml-1m': .*sequences\.parquet: Permission denied$"):
            call()


@pytest.mark.parametrize("place", ["file", "file/deeper", "loop", LONG, f"{LONG}/deeper"])
def test_a_cache_that_cannot_be_is_refused_before_anything_is_prepared(source, tmp_path, place, monkeypatch):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setattr(preparation, "write_table", lambda *_: pytest.fail("prepared"))
    for call in calls(source.parent, tmp_path / place):
        with pytest.raises(SourceError, match=place.split("/", maxsplit=1)[0]):
            call()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file", "loop"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_cache_that_may_not_be_written_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for call in calls(source.parent, tmp_path / "cache"):
        with pytest.raises(SourceError, match=r"^cache: .*cache cannot be written, .* is protected"):
            call()


def test_what_is_prepared_already_needs_no_writing(source, tmp_path, monkeypatch):
    load_dataset("ml-1m", data_dir=source.parent, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for call in calls(source.parent, tmp_path / "cache"):
        call()


def test_a_check_of_whole_sources_makes_nothing(source, tmp_path):
    check_sources("ml-1m", None, source.parent, tmp_path / "cache" / "deep")
    check_sources("synthetic", "tiny", None, tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    with pytest.raises(ValueError, match="dataset: unknown 'ml-2m'"):
        check_sources("ml-2m", None, None, None)
    with pytest.raises(ValueError, match="size: unknown 'huge'"):
        check_sources("synthetic", "huge", None, None)


def test_without_a_home_the_cache_has_to_be_named(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PERSREC_CACHE", raising=False)
    monkeypatch.setattr("persrec.data.prepared.Path.home", homeless)
    with pytest.raises(ValueError, match=r"^cache: there is no home folder .*; name a place with --cache-dir or \$PERSREC_CACHE$"):
        check_sources("synthetic", "tiny", None, None)


@pytest.mark.parametrize(
    "argv",
    [
        ["prepare", "ml-1m", "--source", LONG],
        ["prepare", "synthetic", "--size", "tiny", "--cache-dir", LONG],
        ["describe", "ml-1m", "--cache-dir", LONG],
        ["prepare", LONG],
        ["prepare", "ml-1m", "--source", "loop"],
        ["prepare", "ml-1m", "--source", "a\0b"],
    ],
)
def test_names_that_no_file_can_have_are_bad_input(argv, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    assert main(argv) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


def test_an_error_that_nobody_foresaw_has_its_own_code(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("persrec.data.__main__._list", lambda _: 1 // 0)
    assert main(["list"]) == 70
    assert capsys.readouterr().err.startswith("python -m persrec.data: an unforeseen error, ZeroDivisionError")


def test_nobody_has_to_read_what_is_printed():
    for module, call in (("persrec.data", "list"), ("persrec.checkpoints", "--help")):
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {sys.executable} -m {module} {call} | true"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")

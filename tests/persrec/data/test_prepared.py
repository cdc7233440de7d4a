import datetime
import errno
import hashlib
import json
import os
import time

import numpy as np
import pytest

from persrec.data import prepared as module
from persrec.data.interactions import InteractionLog
from persrec.data.prepared import default_cache_dir, open_prepared, prepared_folders, raw_ids, read_prepared, write_log
from persrec.data.protocol import Protocol
from persrec.data.statistics import statistics

DIGEST = "ab" * 32


def made(**changes):
    fields = {
        "name": "x",
        "offsets": np.array([0, 2, 3]),
        "items": np.array([1, 2, 2]),
        "times": np.array([5, 0, 7]),
        "num_items": 3,
        "protocol": Protocol(
            seen_items="excluded", groups=(5, 9), test_from=datetime.date(2020, 2, 3), validation_from=datetime.date(2020, 1, 2)
        ),
        "item_texts": ("", "caf\u00e9", "b"),
        "item_categories": np.array([0, 2, 1]),
        "digest": DIGEST,
        "notes": {"file": "f", "nested": {"a": [1, 2]}},
    }
    return InteractionLog(**(fields | changes))


def keep(cache, digest=DIGEST, log=None):
    return open_prepared(cache, "x", digest, lambda folder: write_log(log or made(), folder))


def assert_same(log, other):
    for name in ("offsets", "items", "times", "item_categories"):
        assert np.array_equal(getattr(log, name), getattr(other, name)), name
    for name in ("name", "num_items", "protocol", "item_texts", "digest"):
        assert getattr(log, name) == getattr(other, name), name
    assert log.notes == {**other.notes, "statistics": statistics(other)}


def test_what_is_kept_is_what_was_made_and_is_made_once(tmp_path):
    cache, calls = tmp_path / "not" / "there", []
    for _ in range(3):
        assert_same(open_prepared(cache, "x", DIGEST, lambda folder: calls.append(1) or write_log(made(), folder)), made())
    assert calls == [1]
    assert [path.name for path in cache.iterdir()] == [f"x-{DIGEST[:32]}-v3"]


@pytest.mark.parametrize(("hours", "stays"), [(1, True), (25, False)])
def test_what_a_killed_process_left_aside_is_removed_after_a_day(tmp_path, hours, stays):
    aside = tmp_path / f".x-{DIGEST[:32]}-v3.0123456789abcdef.tmp"
    (aside / "half").mkdir(parents=True)
    os.utime(aside, (time.time() - 3600 * hours,) * 2)
    keep(tmp_path)
    assert aside.exists() == stays


def test_a_source_without_texts_and_categories_comes_back_without(tmp_path):
    bare = made(item_texts=None, item_categories=None)
    keep(tmp_path, log=bare)
    log = open_prepared(tmp_path, "x", DIGEST, lambda folder: pytest.fail("made twice"))
    assert log.item_texts is None
    assert log.item_categories is None


def test_another_digest_is_made_anew(tmp_path):
    keep(tmp_path)
    log = keep(tmp_path, "cd" * 32, made(digest="cd" * 32, protocol=Protocol()))
    assert not log.exclude_seen
    assert len(prepared_folders(tmp_path, "x", dataset="x")) == 2


def test_a_folder_that_holds_another_digest_is_refused(tmp_path):
    keep(tmp_path)
    with pytest.raises(ValueError, match="holds data of digest abab"):
        keep(tmp_path, DIGEST[:-1] + "0")


def test_nothing_is_left_when_making_fails(tmp_path):
    def fails(folder):
        raise ValueError("no such file")

    with pytest.raises(ValueError, match="no such file"):
        open_prepared(tmp_path / "cache", "x", DIGEST, fails)
    assert not (tmp_path / "cache").exists()


def test_nothing_half_written_is_left_when_writing_fails(tmp_path, monkeypatch):
    def full(path, batches):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "_write_parquet", full)
    with pytest.raises(ValueError, match=r"cannot be written: .*no space left.*--cache-dir"):
        keep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_processes_wins(tmp_path):
    def slow(folder):
        keep(tmp_path)  # another process was quicker
        write_log(made(), folder)

    assert_same(open_prepared(tmp_path, "x", DIGEST, slow), made())
    assert len(list(tmp_path.iterdir())) == 1


def test_columns_are_mapped_and_not_read(tmp_path):
    log = keep(tmp_path)
    assert isinstance(log.items.base, np.memmap) or isinstance(log.items, np.memmap)
    assert log.items.dtype == np.int32
    with pytest.raises(ValueError, match="read-only"):
        log.items[0] = 2


def test_a_cache_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="cannot be written"):
        keep(tmp_path / "file")


@pytest.mark.parametrize("error", [MemoryError("none left"), OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_data_that_there_is_no_memory_for_are_not_to_be_deleted(tmp_path, monkeypatch, error):
    def load(*_, **__):
        raise error

    keep(tmp_path)
    monkeypatch.setattr(np, "load", load)
    with pytest.raises(ValueError, match="there is no memory to read it") as caught:
        keep(tmp_path)
    assert "delete" not in str(caught.value)


@pytest.mark.parametrize("damage", ["json", "arrays", "missing", "field", "range"])
def test_a_damaged_cache_is_refused_by_its_path(tmp_path, damage):
    keep(tmp_path)
    [folder] = prepared_folders(tmp_path, "x", dataset="x")
    if damage == "json":
        (folder / "manifest.json").write_text("{")
    elif damage == "arrays":
        (folder / "items.npy").write_bytes(b"NUMPY half")
    elif damage == "missing":
        (folder / "times.npy").unlink()
    else:
        facts = json.loads((folder / "manifest.json").read_text()) | ({"protocol": {}} if damage == "field" else {"num_items": 2})
        (folder / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=f"{folder.name}: cannot be read as prepared data .*; delete it"):
        keep(tmp_path)
    assert prepared_folders(tmp_path, "x", dataset="x") == [folder]  # so that who reads it names it
    (tmp_path / f"x-eu-{'ab' * 16}-v3").mkdir()
    (tmp_path / f"x-eu-{'ab' * 16}-v3" / "manifest.json").write_text("[")
    assert prepared_folders(tmp_path, "x", dataset="x") == [folder]


def test_a_pickle_in_the_cache_is_never_loaded(tmp_path):
    keep(tmp_path)
    [folder] = prepared_folders(tmp_path, "x", dataset="x")
    np.save(folder / "items.npy", np.array([{"an": "object"}], dtype=object))
    with pytest.raises(ValueError, match="(?i)pickle|object"):
        read_prepared(folder)


def test_files_are_plain_arrays_tables_and_json_with_their_digests(tmp_path):
    keep(tmp_path)
    [folder] = prepared_folders(tmp_path, "x", dataset="x")
    assert sorted(path.name for path in folder.iterdir()) == ["items.npy", "items.parquet", "manifest.json", "offsets.npy", "times.npy"]
    content = json.loads((folder / "manifest.json").read_text())["content"]
    assert content["items.npy"] == hashlib.sha256(np.array([1, 2, 2], np.int32).tobytes()).hexdigest()
    assert content["items.parquet"] == hashlib.sha256((folder / "items.parquet").read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="holds no ids of its source"):
        raw_ids(folder, "items.parquet")


def test_the_default_cache_is_the_environments_then_the_homes(monkeypatch, tmp_path):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("PERSREC_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_dir() == tmp_path / "home" / ".cache" / "persrec"

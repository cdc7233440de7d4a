import json
import os
import time
import zipfile

import numpy as np
import pytest

from persrec.data import prepared as module
from persrec.data.interactions import InteractionLog
from persrec.data.prepared import default_cache_dir, prepared, prepared_folders, read_prepared

DIGEST = "ab" * 32


def made(**changes):
    fields = {
        "name": "x",
        "users": np.array([0, 0, 1]),
        "items": np.array([1, 2, 2]),
        "times": np.array([5, 0, 7]),
        "num_users": 2,
        "num_items": 3,
        "exclude_seen": True,
        "item_texts": ("", "caf\u00e9", "b"),
        "item_categories": np.array([0, 2, 1]),
        "digest": DIGEST,
        "notes": {"file": "f", "nested": {"a": [1, 2]}},
    }
    return InteractionLog(**(fields | changes))


def assert_same(log, other):
    for name in ("users", "items", "times", "item_categories"):
        assert np.array_equal(getattr(log, name), getattr(other, name)), name
    for name in ("name", "num_users", "num_items", "exclude_seen", "item_texts", "digest", "notes"):
        assert getattr(log, name) == getattr(other, name), name


def test_what_is_kept_is_what_was_made_and_is_made_once(tmp_path):
    cache, calls = tmp_path / "not" / "there", []
    for _ in range(3):
        assert_same(prepared(cache, "x", DIGEST, lambda: calls.append(1) or made()), made())
    assert calls == [1]
    assert [path.name for path in cache.iterdir()] == [f"x-{DIGEST[:32]}-v2"]


@pytest.mark.parametrize(("hours", "stays"), [(1, True), (25, False)])
def test_what_a_killed_process_left_aside_is_removed_after_a_day(tmp_path, hours, stays):
    aside = tmp_path / f".x-{DIGEST[:32]}-v2.0123456789abcdef.tmp"
    (aside / "half").mkdir(parents=True)
    os.utime(aside, (time.time() - 3600 * hours,) * 2)
    prepared(tmp_path, "x", DIGEST, made)
    assert aside.exists() == stays


def test_a_source_without_texts_and_categories_comes_back_without(tmp_path):
    bare = made(item_texts=None, item_categories=None)
    prepared(tmp_path, "x", DIGEST, lambda: bare)
    log = prepared(tmp_path, "x", DIGEST, lambda: pytest.fail("made twice"))
    assert log.item_texts is None
    assert log.item_categories is None


def test_another_digest_is_made_anew(tmp_path):
    prepared(tmp_path, "x", DIGEST, made)
    log = prepared(tmp_path, "x", "cd" * 32, lambda: made(digest="cd" * 32, exclude_seen=False))
    assert not log.exclude_seen
    assert len(prepared_folders(tmp_path, "x")) == 2


def test_a_folder_that_holds_another_digest_is_refused(tmp_path):
    prepared(tmp_path, "x", DIGEST, made)
    with pytest.raises(ValueError, match="holds data of digest abab"):
        prepared(tmp_path, "x", DIGEST[:-1] + "0", made)


def test_nothing_is_left_when_making_fails(tmp_path):
    def fails():
        raise ValueError("no such file")

    with pytest.raises(ValueError, match="no such file"):
        prepared(tmp_path / "cache", "x", DIGEST, fails)
    assert not (tmp_path / "cache").exists()


def test_nothing_half_written_is_left_when_writing_fails(tmp_path, monkeypatch):
    def full(path, **arrays):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(module.np, "savez_compressed", full)
    with pytest.raises(ValueError, match=r"cannot be written: .*no space left.*--cache-dir"):
        prepared(tmp_path, "x", DIGEST, made)
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_processes_wins_and_the_second_returns_its_own(tmp_path):
    def slow():
        prepared(tmp_path, "x", DIGEST, made)  # another process was quicker
        return made()

    assert_same(prepared(tmp_path, "x", DIGEST, slow), made())
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="cannot be written"):
        prepared(tmp_path / "file", "x", DIGEST, made)


@pytest.mark.parametrize("damage", ["json", "arrays", "missing", "field", "range"])
def test_a_damaged_cache_is_refused_by_its_path(tmp_path, damage):
    prepared(tmp_path, "x", DIGEST, made)
    [folder] = prepared_folders(tmp_path, "x")
    if damage == "json":
        (folder / "log.json").write_text("{")
    elif damage == "arrays":
        (folder / "log.npz").write_bytes(b"PK half")
    elif damage == "missing":
        (folder / "log.npz").unlink()
    else:
        facts = json.loads((folder / "log.json").read_text()) | ({"unknown": 1} if damage == "field" else {"num_items": 2})
        (folder / "log.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=f"{folder.name}: cannot be read as prepared data .*; delete it"):
        prepared(tmp_path, "x", DIGEST, made)


def test_a_pickle_in_the_cache_is_never_loaded(tmp_path):
    prepared(tmp_path, "x", DIGEST, made)
    [folder] = prepared_folders(tmp_path, "x")
    np.savez(folder / "log.npz", users=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_prepared(folder)


def test_files_are_plain_arrays_and_json(tmp_path):
    prepared(tmp_path, "x", DIGEST, made)
    [folder] = prepared_folders(tmp_path, "x")
    assert sorted(path.name for path in folder.iterdir()) == ["log.json", "log.npz"]
    with zipfile.ZipFile(folder / "log.npz") as archive:
        assert sorted(archive.namelist()) == ["item_categories.npy", "items.npy", "times.npy", "users.npy"]


def test_the_default_cache_is_the_environments_then_the_homes(monkeypatch, tmp_path):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("PERSREC_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_dir() == tmp_path / "home" / ".cache" / "persrec"

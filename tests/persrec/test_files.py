"""The atomic writer: the old content or the new, never a part, and nothing left beside."""

import errno
import os
from pathlib import Path

import pytest

from persrec.files import WriteError, atomic, atomic_folder, is_leftover, unwritable, write_atomically


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(params=["fsync", "replace"])
def full_disk(request, monkeypatch):
    """A disk that is full when the content is synced, or when it is put in its place."""
    if request.param == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
        monkeypatch.setattr(Path, "rename", full)


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path):
    path = tmp_path / "new" / "file"
    for content in (b"one", b"two"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_library_may_put_another_file_in_the_place_of_the_open_one(tmp_path, monkeypatch):
    # as safetensors does, which gives it rights of its own
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_ino), fsync(descriptor)))
    with atomic(tmp_path / "file") as file:
        assert is_leftover(Path(file.name))
        (tmp_path / "other").write_bytes(b"by path")
        (tmp_path / "other").chmod(0o600)
        (tmp_path / "other").replace(file.name)
    write_atomically(tmp_path / "plain", b"")
    assert (tmp_path / "file").read_bytes() == b"by path"
    assert synced[0] == (tmp_path / "file").stat().st_ino
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_file_and_is_one_line(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(WriteError, match=rf"^{path}: cannot be written: No space left on device$"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_a_block_that_fails_leaves_the_old_content(tmp_path, kind):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("old")

    def fail_half_way(write):
        write("half")
        raise kind

    with pytest.raises(kind), atomic(tmp_path / "file") as file:
        fail_half_way(lambda text: file.write(text.encode()))
    with pytest.raises(kind), atomic_folder(tmp_path / "folder") as folder:
        fail_half_way((folder / "a").write_text)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert (tmp_path / "folder" / "a").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_is_written_with_its_folders_and_replaced(tmp_path):
    path = tmp_path / "new" / "folder"
    for content in ("one", "two"):
        with atomic_folder(path) as folder:
            assert is_leftover(folder)
            (folder / "deep").mkdir()
            (folder / "deep" / content).write_text(content)
        assert [file.name for file in path.rglob("*")] == ["deep", content]
    assert list(path.parent.iterdir()) == [path]


def test_an_earlier_folder_stays_where_it_is_not_replaced(tmp_path):
    for content in ("one", "two"):
        with atomic_folder(tmp_path / "folder", replace=False) as folder:
            (folder / "a").write_text(content)
    assert (tmp_path / "folder" / "a").read_text() == "one"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "a").write_text("old")
    with pytest.raises(WriteError, match=rf"^{path}: cannot be written: No space left on device$"), atomic_folder(path) as folder:
        (folder / "a").write_text("new")
    assert (path / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "a").write_text("old")
    rename, left = Path.rename, []

    def second_try_fails(self, target):
        left.append(target)
        return full() if len(left) == 3 else rename(self, target)

    monkeypatch.setattr(Path, "rename", second_try_fails)
    with pytest.raises(WriteError), atomic_folder(path) as folder:
        (folder / "a").write_text("new")
    assert (path / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [lambda path: write_atomically(path, b""), lambda path: atomic_folder(path).__enter__()])
def test_a_place_below_a_file_is_one_line(tmp_path, write):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=rf"^{tmp_path}/file/below: cannot be written: [^\n]+$"):
        write(tmp_path / "file" / "below")


def test_what_was_written_is_synced_before_it_takes_its_place(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_ino), fsync(descriptor)))
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "a").write_text("a")
        (folder / "b").write_text("b")
    write_atomically(tmp_path / "file", b"c")
    places = [tmp_path / "folder" / "a", tmp_path / "folder" / "b", tmp_path / "folder", tmp_path, tmp_path / "file", tmp_path]
    assert sorted(synced[:2]) == sorted(path.stat().st_ino for path in places[:2])
    assert synced[2:] == [path.stat().st_ino for path in places[2:]]


@pytest.mark.parametrize("name", [".tmp", ".a.tmp", "a.0123456789abcdef.tmp", ".a.0123456789abcdeg.tmp", ".a.0123456789abcdef.tmp.txt"])
def test_what_others_wrote_is_no_leftover(tmp_path, name):
    assert not is_leftover(tmp_path / name)


def test_a_folder_that_must_be_new_is_no_other_writers(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "theirs").write_text("theirs")
    with pytest.raises(WriteError, match=rf"^{path}: cannot be written: "), atomic_folder(path, new=True) as folder:
        (folder / "mine").write_text("mine")
    assert [part.name for part in tmp_path.rglob("*")] == ["folder", "theirs"]


def test_what_keeps_a_folder_from_being_written_is_the_nearest_place_that_is_there(tmp_path):
    (tmp_path / "file").write_text("")
    assert unwritable(tmp_path / "new" / "deep") is None
    assert unwritable(tmp_path) is None
    assert unwritable(tmp_path / "file" / "deep" / "deeper") == tmp_path / "file"

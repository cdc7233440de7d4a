import os
from pathlib import Path

import pytest

from persrec.files import whole_file, whole_folder


@pytest.fixture
def events(monkeypatch):
    """Every sync and every renaming, in order, by name; a temporary name is a dot."""
    events = []
    names = {}
    fsync, open_, rename, replace = os.fsync, os.open, os.rename, os.replace

    def name_of(path):
        name = Path(path).name
        return "." if name.startswith(".") else name

    def opening(path, *args, **kwargs):
        descriptor = open_(path, *args, **kwargs)
        names[descriptor] = name_of(path)
        return descriptor

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "fsync", lambda descriptor: events.append(f"sync {names[descriptor]}") or fsync(descriptor))
    monkeypatch.setattr(os, "rename", lambda old, new: events.append(f"name {name_of(new)}") or rename(old, new))
    monkeypatch.setattr(os, "replace", lambda old, new: events.append(f"name {name_of(new)}") or replace(old, new))
    return events


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_afterwards(tmp_path, events):
    with whole_file(tmp_path / "to" / "file") as part:
        part.write_text("new")
    assert events == ["sync .", "name file", "sync to"]
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["file"]


def test_a_folder_is_on_the_disk_before_it_has_its_name_and_its_name_afterwards(tmp_path, events):
    with whole_folder(tmp_path / "to" / "folder") as part:
        (part / "a").write_text("a")
        (part / "b").write_text("b")
    assert sorted(events[:2]) == ["sync a", "sync b"]
    assert events[2:] == ["sync .", "name folder", "sync to"]
    assert sorted(path.name for path in (tmp_path / "to" / "folder").iterdir()) == ["a", "b"]


def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("old")

    def fail(part):
        part.write_text("new")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "file") as part:
        fail(part)
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "folder") as part:
        fail(part / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert ((tmp_path / "file").read_text(), (tmp_path / "folder" / "a").read_text()) == ("old", "old")


def test_an_earlier_one_is_replaced(tmp_path):
    for content in ("old", "new"):
        with whole_file(tmp_path / "file") as part:
            part.write_text(content)
        with whole_folder(tmp_path / "folder") as part:
            (part / content).write_text(content)
    assert (tmp_path / "file").read_text() == "new"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]

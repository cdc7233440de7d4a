"""The commit of the program, and nothing that only looks like it."""

import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.environment.checkout import repository_state


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "-q")
    (root / "code.py").write_text("1\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "a")
    return root


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    assert repository_state(checkout) == {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": None}


def test_every_change_of_the_code_is_another_state_and_what_runs_write_is_none(checkout: Path) -> None:
    (checkout / "results").mkdir()
    (checkout / "results" / "record.json").write_text("{}")
    states = [repository_state(checkout)["dirty"]]
    assert states == [None]
    for name, content in (("code.py", "2\n"), ("new.py", "3\n"), ("new.py", "4\n")):
        (checkout / name).write_text(content)
        states.append(repository_state(checkout)["dirty"])
    assert len(set(states)) == 4


@pytest.mark.parametrize("inside", [".venv/lib/python3.11/site-packages", "vendored"])
def test_a_program_inside_another_repository_has_no_commit_of_that_one(checkout: Path, inside: str) -> None:
    root = checkout / inside
    root.mkdir(parents=True)
    state = repository_state(root)
    assert (state["commit"], state["dirty"]) == (None, None)
    assert "inside another git repository" in state["commit_reason"]
    assert state["dirty_reason"]


def test_outside_of_any_repository_the_reason_is_gits(tmp_path: Path) -> None:
    state = repository_state(tmp_path)
    assert state["commit"] is None
    assert "not a git repository" in state["commit_reason"]
    assert str(tmp_path) not in state["commit_reason"]


def test_without_git_the_reason_says_so(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert repository_state(checkout)["commit_reason"] == "git is not installed"


def test_a_repository_without_a_commit_is_a_reason(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    state = repository_state(tmp_path)
    assert state["commit"] is None
    assert "rev-parse" in state["commit_reason"]


def test_an_index_that_git_cannot_read_is_a_reason(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout / ".git" / "index").write_bytes(b"damaged")
    state = repository_state(checkout)
    assert (state["commit"], state["dirty"]) == (commit, None)
    assert "index file" in state["dirty_reason"]
    assert "\n" not in state["dirty_reason"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_new_file_that_cannot_be_read_is_a_reason(checkout: Path) -> None:
    (checkout / "secret.py").write_text("")
    (checkout / "secret.py").chmod(0)
    assert "cannot be read" in repository_state(checkout)["dirty_reason"]


def test_a_hook_that_points_git_elsewhere_changes_nothing(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = repository_state(checkout)
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert repository_state(checkout) == before

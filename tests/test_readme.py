"""What the README shows runs, and what the pages name is there."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("one_thread")

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text()
CODE = ("persrec", "benchmarks")
MADE_BY_RUNS = ("results/", "reports/")  # a fresh clone may not have them


def first_block(language):
    found = re.search(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    return found.group(1)


def paths_of_tree():
    """The tree's paths; a line two spaces further in lies in the folder above it."""
    parents, paths = [], []
    for line in first_block("text").splitlines():
        name = line.split()[0]
        del parents[(len(line) - len(line.lstrip())) // 2 :]
        paths.append("".join(parents) + name)
        if name.endswith("/"):
            parents.append(name)
    return paths


def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path))
    names = {}
    exec(compile(first_block("python"), "README.md", "exec"), names)  # noqa: S102 - our own page
    assert names["scores"].shape == (1, 24 * 12 + 1)  # the categories and items of the size "tiny", and padding
    # 4 tokens, 2 layers, keys and values of 32 numbers of 4 bytes
    assert names["cache"].nbytes_per_user == 4 * 2 * 2 * 32 * 4
    assert list(tmp_path.iterdir()), "the example's data did not go to $PERSREC_CACHE"


def test_the_example_would_notice_a_history_that_is_lost(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path))
    example = first_block("python")
    kept = "cache = model.extend(cache, window[:, 24:48])"
    assert kept in example
    with pytest.raises(AssertionError):
        exec(compile(example.replace(kept, "cache = model.extend(cache, window[:, :24])"), "README.md", "exec"), {})  # noqa: S102


def test_every_path_of_the_tree_is_there():
    assert [path for path in paths_of_tree() if path not in MADE_BY_RUNS and not (PROJECT / path).exists()] == []


def test_every_module_has_its_line():
    modules = {path.relative_to(PROJECT).as_posix() for name in CODE for path in (PROJECT / name).rglob("*.py")}
    listed = set(paths_of_tree())
    assert sorted(path for path in modules - listed if not path.endswith("__init__.py")) == []


def test_every_test_that_a_page_names_is_there():
    named = [
        (page.name, file, function)
        for page in (PROJECT / "docs").glob("*.md")
        for file, function in re.findall(r"`(tests/\S+\.py)::(test_\w+)`", page.read_text())
    ]
    assert "differences.md" in {page for page, _, _ in named}
    assert [name for name in named if f"def {name[2]}(" not in (PROJECT / name[1]).read_text()] == []

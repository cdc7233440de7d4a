"""The architecture page names every module, and nothing that is not there; the harness's folder stays small."""

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PAGE = (PROJECT / "docs" / "architecture.md").read_text()
PACKAGES = ("persrec", "benchmarks")
LEFT_OUT = ("__init__.py", "__main__.py")
MOST_LINES = 400
MOST_ENTRIES = 30  # what one reads at a glance: a new subject is a room, or goes into one that is there


def tree_paths() -> list[str]:
    """The paths of the page's tree; a line two spaces further in lies in the folder above it."""
    tree = re.search(r"^```text\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert tree is not None
    parents: list[str] = []
    paths = []
    for line in tree[1].splitlines():
        name = line.split()[0]
        del parents[(len(line) - len(line.lstrip())) // 2 :]
        paths.append("".join(parents) + name)
        if name.endswith("/"):
            parents.append(name)
    return paths


def test_every_module_is_in_the_tree():
    modules = {path.relative_to(PROJECT).as_posix() for package in PACKAGES for path in (PROJECT / package).rglob("*.py")}
    assert sorted(path for path in modules - set(tree_paths()) if not path.endswith(LEFT_OUT)) == []


def test_every_path_of_the_tree_is_there_and_stands_once():
    paths = tree_paths()
    assert [path for path in paths if not (PROJECT / path).exists()] == []
    assert sorted(set(paths)) == sorted(paths)


def test_every_line_of_the_tree_says_something():
    lines = PAGE.partition("```text\n")[2].partition("```")[0].splitlines()
    assert [line for line in lines if len(line.split()) < 2] == []


def test_every_question_of_the_table_has_one_home_that_is_there():
    table = PAGE.partition("## If you look for")[2].partition("\n## ")[0]
    rows = [row.split(" | ") for row in table.splitlines() if row.startswith("| ") and "`" in row]
    assert len(rows) > 20
    for question, home in rows:
        path = re.fullmatch(r"`(\S+\.py)` \|", home)
        assert path is not None, question
        assert (PROJECT / path[1]).is_file(), question


def test_the_harness_folder_stays_small():
    entries = [path for path in (PROJECT / "benchmarks").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES, sorted(path.name for path in entries)


def test_no_file_is_too_long_to_be_read_at_once():
    files = [path for folder in (*PACKAGES, "tests") for path in (PROJECT / folder).rglob("*.py")]
    assert [path.relative_to(PROJECT).as_posix() for path in files if len(path.read_text().splitlines()) > MOST_LINES] == []


def test_no_two_classes_have_one_name():
    classes = [
        name
        for package in PACKAGES
        for path in (PROJECT / package).rglob("*.py")
        for name in re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE)
    ]
    assert sorted({name for name in classes if classes.count(name) > 1}) == []

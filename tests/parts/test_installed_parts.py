"""Parts of installed packages are built, run and tested as this package's own; a broken one is one line that names its package."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_package import LATEST, RESIDUAL, write_package, write_tiny_package

PROJECT = Path(__file__).resolve().parents[2]


def run(folder, *arguments):
    """A fresh process that has a folder of packages on its path."""
    path = os.pathsep.join([str(PROJECT), str(folder)])
    return subprocess.run(
        [sys.executable, *arguments], env=os.environ | {"PYTHONPATH": path}, cwd=PROJECT, capture_output=True, text=True, check=False
    )


def error_of(folder, call):
    """The last line of what a call into `persrec.names` raises."""
    result = run(folder, "-c", f"from persrec import names; {call}")
    assert result.returncode == 1, result.stdout
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("ValueError: "), result.stderr
    return lines[-1].removeprefix("ValueError: ")


def test_an_installed_part_is_known_with_its_package_and_its_version(tmp_path):
    code = """
import sys
from persrec import names
latest, residual = names.compressions()["latest"], names.backbones()["residual"]
print(latest.package, latest.version, residual.package, residual.version)
print(list(names.compressions())[-1], list(names.backbones())[-1], names.CompressionPart.from_dict(latest.to_dict()) == latest)
print("torch" in sys.modules, "tiny_parts.latest" in sys.modules)
"""
    result = run(write_tiny_package(tmp_path), "-c", code)
    assert result.stdout.splitlines() == ["tiny-parts 1.2 tiny-parts 1.2", "latest residual True", "False False"], result.stderr


@pytest.mark.slow
def test_the_contract_suites_take_installed_parts_up_by_themselves(tmp_path):
    suites = [f"tests/contracts/{name}.py" for name in ("test_served_equals_joint", "test_causality", "test_padding", "test_learning")]
    chosen = "(residual and latest) or (hstu and latest) or (residual and unequal)"
    result = run(write_tiny_package(tmp_path), "-m", "pytest", "-q", "-p", "no:cacheprovider", *suites, "-k", chosen)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed is not None
    assert int(passed.group(1)) > 40


@pytest.mark.parametrize(("page", "source"), [("adding_a_compression", LATEST), ("adding_a_backbone", RESIDUAL)])
def test_the_pages_show_the_parts_that_are_tested(page, source):
    assert f"```python\n{source}```" in (PROJECT / "docs" / f"{page}.md").read_text()


NOT_A_PART = "LATEST = 3\n"
TAKEN = """
from persrec.names import CompressionPart
LATEST = CompressionPart(name="experts", title="mine", target="broken_parts:build", tokens="any", keeps="nothing")
"""
UNKNOWN_TRAIT = TAKEN.replace('"experts"', '"mine"').replace('"any"', '"few"')
UNKNOWN_ITEMS = """
from persrec.names import BackbonePart
LATEST = BackbonePart(name="mine", title="mine", target="broken_parts:build", items="pictures")
"""


UNNAMED, NONE, PEER, FLOOR = (
    TAKEN.replace('"experts"', '"a,b|c"'),
    TAKEN.replace('"experts"', '"none"'),
    TAKEN.replace('"experts"', '"peer"'),
    UNKNOWN_ITEMS.replace('"mine", title', '"popularity", title').replace('"pictures"', '"ids"'),
)
SAME_TITLE = TAKEN.replace('"experts"', '"mine"').replace('title="mine"', 'title="PerSRec"')
COLOURED = TAKEN.replace('"experts"', '"mine"').replace('"nothing"', '"nothing", colour="purple-ish"')


CANNOT_LOAD = r"^entry point 'latest' of broken-parts: broken_parts:LATEST cannot be loaded: "


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", CANNOT_LOAD + r"AttributeError: [^\n]+$"),
        ("import nowhere", CANNOT_LOAD + r"ModuleNotFoundError: .*nowhere'$"),
        ("def (", CANNOT_LOAD + r"SyntaxError: [^\n]+$"),
        (UNKNOWN_TRAIT, CANNOT_LOAD + r"ValueError: compression 'mine': tokens: 'few'; expected none, some, any$"),
        (UNKNOWN_ITEMS, CANNOT_LOAD + r"ValueError: backbone 'mine': items: 'pictures'; expected ids, mapped_ids, texts$"),
        (NOT_A_PART, r"^entry point 'latest' of broken-parts: broken_parts:LATEST is int; expected a part's declaration$"),
        (TAKEN, r"^compression 'experts' of broken-parts: the name is taken by persrec$"),
        (UNNAMED, r"^entry point 'latest' of broken-parts: name: 'a,b\|c'; expected letters, digits, "),
        (NONE, r"^entry point 'latest' of broken-parts: compression 'none': the name is taken by persrec$"),
        (PEER, r"^entry point 'latest' of broken-parts: compression 'peer': the name is taken by persrec$"),
        (FLOOR, r"^entry point 'latest' of broken-parts: backbone 'popularity': the name is taken by persrec$"),
        (SAME_TITLE, r"^entry point 'latest' of broken-parts: title: 'PerSRec'; expected one that tells it from "),
        (COLOURED, r"^entry point 'latest' of broken-parts: colour: 'purple-ish'; expected '#' and six lower-case hexadecimal digits$"),
    ],
)
def test_a_broken_entry_point_is_one_line_that_names_the_package(tmp_path, source, message):
    write_package(tmp_path, name="broken-parts", modules={"__init__": source}, entry_points={"latest": "broken_parts:LATEST"})
    assert re.search(message, error_of(tmp_path, "names.compressions(), names.backbones()"))


def test_two_packages_cannot_bring_one_name(tmp_path):
    write_tiny_package(tmp_path)
    source = TAKEN.replace('"experts"', '"latest"')
    write_package(tmp_path, name="other-parts", modules={"__init__": source}, entry_points={"latest": "other_parts:LATEST"})
    message = error_of(tmp_path, "names.compressions()")
    assert re.fullmatch(r"compression 'latest' of (tiny|other)-parts: the name is taken by (tiny|other)-parts", message)


def test_a_part_whose_target_is_not_there_is_one_line_when_it_is_built(tmp_path):
    source = TAKEN.replace('"experts"', '"mine"')
    write_package(tmp_path, name="broken-parts", modules={"__init__": source}, entry_points={"mine": "broken_parts:LATEST"})
    message = error_of(tmp_path, "names.compressions()['mine'].load()")
    assert message.startswith("compression 'mine' of broken-parts: broken_parts:build cannot be loaded: AttributeError: ")

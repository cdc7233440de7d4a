"""How configurations are named and drawn: as parts are declared here, else as their records declare them."""

import copy
import itertools
import re

import pytest
from fabricated_records import configured, fabricate, grid_cells, slim, write

from benchmarks.cell import Cell
from benchmarks.report import names as families
from benchmarks.report.page import render_report
from persrec import names

PLAIN = Cell(backbone="hstu", compression="pooling", tokens=4)
THEIR_NET = names.BackbonePart(name="their_net", title="Their net", target="their.net:build", package="theirs", version="1.2")
FOLDING = names.CompressionPart(
    name="folding", title="Folding", target="their.folding:build", explanation="folds the history in halves", tokens="some",
    keeps="vectors", colour="#123456", dark="#abcdef", marker="8", glyph="\N{WHITE DIAMOND}", package="theirs", version="1.2",
)  # fmt: skip


def foreign(**looks):
    """A record of a backbone and a compression that are not installed here."""
    record = copy.deepcopy(slim(fabricate(PLAIN)))
    record["cell_key"] = "f" * 64
    record["cell"] |= {"backbone": THEIR_NET.name, "compression": FOLDING.name}
    record["parts"] |= {"backbone": THEIR_NET.to_dict(), "compression": FOLDING.to_dict() | looks}
    return record


def rendered(tmp_path, *records):
    out = tmp_path / "page.html"
    render_report(write(tmp_path / "run", records), out)
    return out.read_text()


def test_parts_that_are_not_installed_are_drawn_as_their_record_declares_them(tmp_path):
    (one,) = configured([foreign()])
    assert (families.backbone_name(one), families.name_all([one])(one)) == ("Their net", "Their net · Folding, 4 tokens")
    kind = families.family(one)
    looks = (kind.key, kind.name, kind.colour, kind.dark, kind.marker, kind.glyph, kind.explanation)
    assert looks == ("folding", "Folding", "#123456", "#abcdef", "8", "\N{WHITE DIAMOND}", "folds the history in halves")
    text = rendered(tmp_path, foreign(), slim(fabricate(PLAIN)))
    assert "Their net · Folding, 4 tokens" in text
    assert "folds the history in halves" in text
    assert "--c-123456: #123456" in text
    assert "--c-123456: #abcdef" in text
    assert "var(--c-123456, #123456)" in text
    assert ".f-folding { color: var(--c-123456); }" in text


def test_a_part_that_nobody_declares_has_its_plain_name(tmp_path):
    record = foreign()
    record["parts"] = {}
    (one,) = configured([record])
    assert families.name_all([one])(one) == "their_net · folding, 4 tokens"
    assert "their_net" in rendered(tmp_path, record)


@pytest.mark.parametrize(
    "looks",
    [
        {"colour": "red;} body {display: none", "dark": "url(http://x)", "marker": "$x$", "glyph": "</style><script>"},
        {"colour": "", "marker": "", "glyph": "", "title": "<script>", "explanation": "</style>"},
        {"colour": "#GGGGGG", "marker": "None", "glyph": "\n"},
    ],
)
def test_a_declaration_cannot_write_into_the_page(tmp_path, looks):
    (one,) = configured([foreign(**looks)])
    kind = families.family(one)
    assert re.fullmatch("#[0-9a-f]{6}", kind.colour)
    assert re.fullmatch("#[0-9a-f]{6}", kind.dark)
    text = rendered(tmp_path, foreign(**looks))
    assert len(re.findall("<script>", text)) == len(re.findall("</style", text)) == 1
    assert len(re.findall("<script", text)) == 2  # the compact table and the script
    assert "display: none;} " not in text


def test_installed_declarations_go_before_those_of_records():
    record = fabricate(PLAIN)
    record["parts"]["compression"] |= {"title": "older title", "colour": "#000000"}
    (one,) = configured([record])
    assert (families.family(one).name, families.family(one).colour) == ("pooling", names.compressions()["pooling"].colour)


def test_data_of_two_versions_part_two_namesakes():
    among = configured([fabricate(PLAIN), fabricate(PLAIN, dataset_digest="e" * 64)])
    assert [families.name_all(among)(one) for one in among] == [
        "HSTU · pooling, 4 tokens · data dddddddd", "HSTU · pooling, 4 tokens · data eeeeeeee",
    ]  # fmt: skip


def test_every_configuration_of_a_grid_has_a_name_of_its_own():
    among = configured([fabricate(cell) for cell in grid_cells()])
    names = families.name_all(among)
    for of in (names, names.brief):
        assert not [pair for pair in itertools.combinations([of(one) for one in among], 2) if pair[0] == pair[1]]

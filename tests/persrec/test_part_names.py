"""Declarations of parts: one file a part, imported when it is built."""

import dataclasses
import subprocess
import sys

import pytest

from persrec import names

ALL = [part for known in (names.backbones(), names.floors(), names.compressions(), names.datasets()) for part in known.values()]


@pytest.mark.parametrize("part", ALL, ids=lambda part: f"{part.kind} {part.name}")
def test_every_declaration_names_something_that_can_be_called(part):
    assert callable(part.load())
    assert type(part).from_dict(part.to_dict()) == part


@pytest.mark.parametrize("name", names.ITEM_ENCODERS)
def test_every_item_encoder_can_be_loaded(name):
    assert callable(names.load(names.ITEM_ENCODERS[name], name))


def test_building_one_part_imports_no_other():
    code = """
import sys
import persrec.names
assert "torch" not in sys.modules
import persrec.backbones, persrec.items
from persrec.compression import CompressionSettings, build_compression
build_compression("experts", CompressionSettings(history=9, recent=4, segments=1, tokens=2, width=8))
persrec.backbones.build_backbone("sasrec", persrec.backbones.BackboneSettings(width=8, layers=1, heads=1, length=15))
rooms = ("persrec.backbones.", "persrec.compression.", "persrec.items.")
print(*sorted(name for name in sys.modules if name.startswith(rooms)))
"""
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert modules == [
        "persrec.backbones.base",
        "persrec.backbones.sasrec",
        "persrec.compression.base",
        "persrec.compression.experts",
        "persrec.compression.summaries",  # no part: the means that tokens may start from
        "persrec.items.base",
    ]


def test_an_unknown_name_is_one_line_with_the_nearest_and_the_known():
    with pytest.raises(ValueError, match=r"^floor: unknown 'popular' \(did you mean 'popularity'\?\); known: popularity, repeat_last"):
        names.find(names.floors(), "popular")
    with pytest.raises(ValueError, match=r"^dataset: unknown 'zzz'; known: synthetic, ml-100k, ml-1m, "):
        names.find(names.datasets(), "zzz")


def test_a_target_that_is_not_there_is_one_line():
    for target in ("persrec.nowhere:build", "persrec.names:nothing", ""):
        part = dataclasses.replace(names.floors()["popularity"], target=target)
        with pytest.raises(ValueError, match=rf"^floor 'popularity': {target} cannot be loaded: \w+: [^\n]+$"):
            part.load()


def test_a_record_of_another_kind_or_without_a_field_is_refused():
    with pytest.raises(ValueError, match="^kind: 'floor'; expected 'backbone'$"):
        names.BackbonePart.from_dict(names.floors()["popularity"].to_dict())
    with pytest.raises(ValueError, match="^floor: .*title"):
        names.FloorPart.from_dict({"name": "a", "target": "b"})


def test_numbers_follow_traits_and_neither_looks_nor_defaults():
    part = names.compressions()["pooling"]
    expected = {"tokens": "some", "keeps": "keys_values", "one_segment": True, "target": "persrec.compression.pooling:build"}
    assert part.numbers() == {"kind": "compression", "name": "pooling", "package": "persrec", **expected}
    assert dataclasses.replace(part, title="means", colour="#000000", version="9").numbers() == part.numbers()
    assert dataclasses.replace(part, takes_plans=True).numbers() != part.numbers()


def test_a_trait_that_came_later_is_left_out_of_a_record_as_it_was_before_it_came():
    """Whatever its default is by now: a record is written to the bytes that it was read from."""
    assert dict(names.LATER_TRAITS) == {"takes_elastic_history": False}
    part = names.compressions()["experts"]
    then = dataclasses.replace(part, takes_elastic_history=False)
    assert part.to_dict() == then.to_dict() | {"takes_elastic_history": True}
    assert "takes_elastic_history" not in then.to_dict()
    for one in (part, then):
        assert names.CompressionPart.from_dict(one.to_dict()) == one


def test_one_model_serves_every_length_of_what_reads_the_history_item_by_item():
    assert [name for name, part in names.compressions().items() if part.takes_elastic_history] == ["experts", "full"]


def test_a_trait_that_is_unknown_is_refused_by_name():
    with pytest.raises(ValueError, match="^backbone 'hstu': optional_sizes: 'depth'; expected key_value_heads, feed_forward, divisor$"):
        dataclasses.replace(names.backbones()["hstu"], optional_sizes=("depth",))
    with pytest.raises(ValueError, match="^compression 'full': keeps: 'all'; expected nothing, keys_values, vectors$"):
        dataclasses.replace(names.compressions()["full"], keeps="all")

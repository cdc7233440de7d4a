"""What a backbone is built with: every setting that it has is the one that was asked for."""

import dataclasses

import pytest

from persrec.backbones import BackboneSettings, build_backbone

ASKED = BackboneSettings(width=8, layers=3, heads=2, length=20, dropout=0.25, copying_start=True)
OWN = {"hstu": {"divisor": 0, "request_time": False}, "sasrec": {}}


@pytest.mark.parametrize("name", OWN)
def test_a_backbone_has_the_settings_that_were_asked_for(name):
    asked = dataclasses.replace(ASKED, **OWN[name])
    config = build_backbone(name, asked).config
    shared = {field.name for field in dataclasses.fields(config)} & {field.name for field in dataclasses.fields(asked)}
    assert shared == {"width", "layers", "heads", "length", "dropout", "copying_start", *OWN[name]}
    for setting in shared:
        assert getattr(config, setting) == getattr(asked, setting), setting


def test_a_feed_forward_is_as_wide_as_was_asked_for_or_as_the_model():
    widths = [build_backbone("sasrec", dataclasses.replace(ASKED, feed_forward=width)).config.inner for width in (24, None)]
    assert widths == [24, 8]

"""Backbones: one file each, one line here."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from persrec.backbones.base import Backbone
from persrec.backbones.hstu import HSTU, HSTUConfig
from persrec.backbones.sasrec import SASRec, SASRecConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneSettings:
    """The sizes a sweep varies.

    Attributes:
        width: ``D``.
        layers: blocks.
        heads: heads a block.
        length: slots of the joint layout, ``N``.
        dropout: share dropped in training.
    """

    width: int
    layers: int
    heads: int
    length: int
    dropout: float = 0.0


def _hstu(s: BackboneSettings) -> nn.Module:
    return HSTU(HSTUConfig(width=s.width, layers=s.layers, heads=s.heads, length=s.length, dropout=s.dropout))


def _sasrec(s: BackboneSettings) -> nn.Module:
    # the feed-forward is as wide as the model, as in the paper
    return SASRec(SASRecConfig(width=s.width, layers=s.layers, heads=s.heads, inner=s.width, length=s.length, dropout=s.dropout))


BACKBONES: dict[str, Callable[[BackboneSettings], nn.Module]] = {"hstu": _hstu, "sasrec": _sasrec}


def build_backbone(name: str, settings: BackboneSettings) -> nn.Module:
    """The backbone called ``name``; it is a `Backbone`.

    Raises:
        ValueError: the name is unknown; the message lists the known.
    """
    if name not in BACKBONES:
        raise ValueError(f"backbone: unknown {name!r}; known: {', '.join(BACKBONES)}")
    return BACKBONES[name](settings)


__all__ = ["BACKBONES", "Backbone", "BackboneSettings", "build_backbone"]

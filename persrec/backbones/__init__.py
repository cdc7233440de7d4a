"""Backbones: one file each, one line here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
        key_value_heads: of a Llama; None is half as many as heads, or as many where ``heads`` is odd.
        feed_forward: width inside the feed-forward of a Llama (None: 8/3 of the width) or a SASRec (None: the width).
        copying_start: attention passes on what it attends to from the first step on (`start_copying`); of random weights alone.
        weights: a folder of Hugging Face's form that a Llama starts from; None starts from random ones.
    """

    width: int
    layers: int
    heads: int
    length: int
    dropout: float = 0.0
    key_value_heads: int | None = None
    feed_forward: int | None = None
    copying_start: bool = False
    weights: Path | None = None


def _hstu(s: BackboneSettings) -> Backbone:
    return HSTU(
        HSTUConfig(width=s.width, layers=s.layers, heads=s.heads, length=s.length, dropout=s.dropout, copying_start=s.copying_start)
    )


def _sasrec(s: BackboneSettings) -> Backbone:
    sizes = SASRecConfig(
        width=s.width,
        layers=s.layers,
        heads=s.heads,
        inner=s.feed_forward or s.width,  # as wide as the model, as in the paper
        length=s.length,
        dropout=s.dropout,
        copying_start=s.copying_start,
    )
    return SASRec(sizes)


def _llama(s: BackboneSettings) -> Backbone:
    # imported here, since Hugging Face transformers takes seconds to import and the other backbones do without it
    from persrec.backbones.llama import Llama, check_shape, small_llama_config  # noqa: PLC0415

    if s.weights is not None:
        llama, _ = Llama.from_folder(s.weights, length=s.length, dropout=s.dropout)
        check_shape(llama.config, folder=s.weights, width=s.width, layers=s.layers, heads=s.heads)
        return llama
    config = small_llama_config(
        width=s.width,
        layers=s.layers,
        heads=s.heads,
        positions=s.length,
        key_value_heads=s.key_value_heads,
        feed_forward=s.feed_forward,
    )
    return Llama(config, length=s.length, dropout=s.dropout, copying_start=s.copying_start)


# hllm is a Llama over the vectors of a text item encoder (persrec.items.ITEMS)
BACKBONES: dict[str, Callable[[BackboneSettings], Backbone]] = {"hstu": _hstu, "sasrec": _sasrec, "llama": _llama, "hllm": _llama}


def build_backbone(name: str, settings: BackboneSettings) -> Backbone:
    """The backbone called ``name``.

    Raises:
        ValueError: the name is unknown (the message lists the known), or a size is not one that it has.
    """
    if name not in BACKBONES:
        raise ValueError(f"backbone: unknown {name!r}; known: {', '.join(BACKBONES)}")
    if settings.key_value_heads is not None and BACKBONES[name] is not _llama:
        raise ValueError(f"key_value_heads: {settings.key_value_heads} for a {name}; expected None, but for a Llama")
    if settings.feed_forward is not None and BACKBONES[name] is _hstu:
        raise ValueError(f"feed_forward: {settings.feed_forward} for a {name}, which has none; expected None")
    if settings.weights is not None and BACKBONES[name] is not _llama:
        raise ValueError(f"weights: {settings.weights} for a {name}; a folder of Hugging Face's form holds a Llama alone")
    return BACKBONES[name](settings)


__all__ = ["BACKBONES", "Backbone", "BackboneSettings", "build_backbone"]

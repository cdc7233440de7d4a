"""Compressions of a long history: one file each, one line here."""

from collections.abc import Callable
from dataclasses import dataclass

from persrec.compression.base import Compression
from persrec.compression.experts import Experts
from persrec.compression.full import Full
from persrec.compression.pooling import Pooling
from persrec.compression.recent import Recent
from persrec.layout import SegmentLayout


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressionSettings:
    """What a compression may need to know.

    Attributes:
        history: item slots before the recent ones, ``P``.
        recent: item slots of the recent segment, ``R``.
        segments: history segments.
        tokens: vectors kept of the history, over all segments; of an elastic model, the largest count.
        width: the model's width ``D``.
    """

    history: int
    recent: int
    segments: int
    tokens: int
    width: int


def _experts(settings: CompressionSettings) -> Compression:
    layout = SegmentLayout.equal(history=settings.history, recent=settings.recent, segments=settings.segments, tokens=settings.tokens)
    return Experts(layout=layout, width=settings.width)


COMPRESSIONS: dict[str, Callable[[CompressionSettings], Compression]] = {
    "full": lambda s: Full(history=s.history, recent=s.recent, segments=s.segments),
    "recent": lambda s: Recent(recent=s.recent),
    "experts": _experts,
    "pooling": lambda s: Pooling(history=s.history, recent=s.recent, tokens=s.tokens),
}


def build_compression(name: str, settings: CompressionSettings) -> Compression:
    """The compression called ``name``.

    Raises:
        ValueError: the name is unknown; the message lists the known.
    """
    if name not in COMPRESSIONS:
        raise ValueError(f"compression: unknown {name!r}; known: {', '.join(COMPRESSIONS)}")
    return COMPRESSIONS[name](settings)

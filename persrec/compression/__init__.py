"""Compressions of a long history: one file each, one line here."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from persrec.compression.base import Compression
from persrec.compression.category import Category
from persrec.compression.experts import Experts
from persrec.compression.full import Full
from persrec.compression.memory import Memory
from persrec.compression.pooling import Pooling
from persrec.compression.random import Random
from persrec.compression.recent import Recent
from persrec.compression.retrieval import Retrieval
from persrec.compression.strided import Strided
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
        plan: where expert blocks stand: ``equal`` segments, ``growing`` ones (`SegmentLayout.growing`), or their offsets and
            counts, ``((offset, count), ...)``, which then say what ``segments`` and ``tokens`` are.
        categories: int64 ``[V]``, the category of each item, or None where the dataset has none.
    """

    history: int
    recent: int
    segments: int
    tokens: int
    width: int
    plan: str | tuple[tuple[int, int], ...] = "equal"
    categories: NDArray[np.int64] | None = field(default=None, repr=False, compare=False)


def _experts(settings: CompressionSettings) -> Compression:
    return Experts(layout=_planned(settings), width=settings.width)


def _planned(settings: CompressionSettings) -> SegmentLayout:
    if not isinstance(settings.plan, str):
        layout = SegmentLayout.from_plan(settings.plan, window=settings.history + settings.recent)
        if layout.history != settings.history:
            raise ValueError(f"plan: ends at item {layout.history}; expected {settings.history}, the history's end")
        return layout
    if settings.plan not in PLANS:
        raise ValueError(f"plan: unknown {settings.plan!r}; known: {', '.join(PLANS)}, or a list of offsets and counts")
    rule = PLANS[settings.plan]
    return rule(history=settings.history, recent=settings.recent, segments=settings.segments, tokens=settings.tokens)


PLANS: dict[str, Callable[..., SegmentLayout]] = {"equal": SegmentLayout.equal, "growing": SegmentLayout.growing}


COMPRESSIONS: dict[str, Callable[[CompressionSettings], Compression]] = {
    "full": lambda s: Full(history=s.history, recent=s.recent, segments=s.segments),
    "recent": lambda s: Recent(recent=s.recent),
    "experts": _experts,
    "pooling": lambda s: Pooling(history=s.history, recent=s.recent, tokens=s.tokens),
    "category": lambda s: Category(history=s.history, recent=s.recent, tokens=s.tokens, categories=s.categories),
    "retrieval": lambda s: Retrieval(history=s.history, recent=s.recent, tokens=s.tokens),
    "memory": lambda s: Memory(history=s.history, recent=s.recent, segments=s.segments, tokens=s.tokens, width=s.width),
    "strided": lambda s: Strided(history=s.history, recent=s.recent, tokens=s.tokens),
    "random": lambda s: Random(history=s.history, recent=s.recent, tokens=s.tokens),
}


def build_compression(name: str, settings: CompressionSettings) -> Compression:
    """The compression called ``name``.

    Raises:
        ValueError: the name is unknown; the message lists the known.
    """
    if name not in COMPRESSIONS:
        raise ValueError(f"compression: unknown {name!r}; known: {', '.join(COMPRESSIONS)}")
    return COMPRESSIONS[name](settings)

"""Recurrent memory (as Rec2PM, arXiv 2602.11605): a few vectors that each history segment reads and writes anew."""

import dataclasses

import torch
from torch import nn

from persrec.compression.base import CompressionSettings, ItemSlots, with_tokens
from persrec.layout import SegmentLayout
from persrec.nn.cache import Chunk


class Memory(nn.Module):
    """Behind each history segment stand the same ``tokens`` learnable vectors; their outputs are the first inputs of the next.

    What is kept of a user is these outputs, ``tokens`` vectors of the model's width, however many segments and layers
    there are. Whoever reads them runs them through the layers again: every segment but the first, and the recent one at
    each request, has ``tokens`` more positions. A segment without items leaves the memory as it was.

    Args:
        history: item slots before the recent ones.
        recent: item slots of the recent segment.
        segments: history segments.
        tokens: vectors of the memory, at least 1.
        width: the model's width ``D``.

    Differs: the paper trains all segments in parallel, against memories of the whole history as the teacher; here the loss
    of later segments goes back through the memory, one segment after the other.
    """

    def __init__(self, *, history: int, recent: int, segments: int, tokens: int, width: int) -> None:
        super().__init__()
        plan = SegmentLayout.equal(history=history, recent=recent, segments=segments, tokens=segments * tokens)
        self.layout = dataclasses.replace(plan, recurrent=True)
        self.tokens = nn.Parameter(torch.empty(tokens, width).normal_(std=0.02))

    def history_chunk(self, segment: int, items: ItemSlots) -> Chunk:
        """The items and, behind them, the tokens, whose outputs are kept."""
        return with_tokens(self.layout, segment, items, self.tokens, visible=items.valid.any(1, keepdim=True))


def build(settings: CompressionSettings) -> Memory:
    """A memory of ``settings.tokens`` vectors."""
    return Memory(
        history=settings.history, recent=settings.recent, segments=settings.segments, tokens=settings.tokens, width=settings.width
    )

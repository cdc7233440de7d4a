"""Truncation: a model trained on, and served from, recent windows alone."""

from persrec.compression.base import CompressionSettings, ItemSlots
from persrec.layout import SegmentLayout
from persrec.nn.cache import Chunk


class Recent:
    """The recent items, and no history."""

    def __init__(self, *, recent: int) -> None:
        self.layout = SegmentLayout(segments=(), recent=recent)

    def history_chunk(self, segment: int, items: ItemSlots) -> Chunk:
        """There is no history segment to run."""
        raise ValueError(f"segment: {segment} of {items.ids.shape[1]} items; the recent compression has no history")


def build(settings: CompressionSettings) -> Recent:
    """The recent items alone."""
    return Recent(recent=settings.recent)

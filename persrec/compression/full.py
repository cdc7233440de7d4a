"""Full attention over the whole window: nothing is compressed. Its cache is the history's whole key-value cache."""

from persrec.compression.base import CompressionSettings, ItemSlots, item_chunk
from persrec.layout import Segment, SegmentLayout
from persrec.nn.cache import Chunk


class Full:
    """Every position sees every earlier one; served by recomputing the window, or from the cache of the history.

    The history ends where the cached part does, and a position there is not told the time of what follows, so that both
    ways of serving are the same model.
    """

    def __init__(self, *, history: int, recent: int, segments: int = 1) -> None:
        plain = SegmentLayout.equal(history=history, recent=recent, segments=segments, tokens=0)
        self.layout = SegmentLayout(segments=tuple(Segment(items=s.items, stays_visible=True) for s in plain.segments), recent=recent)

    def history_chunk(self, segment: int, items: ItemSlots) -> Chunk:
        """The items, all of them kept."""
        return item_chunk(self.layout, segment, items, kept=items.ids.shape[1])


def build(settings: CompressionSettings) -> Full:
    """Full attention over the whole window."""
    return Full(history=settings.history, recent=settings.recent, segments=settings.segments)

"""Mean pooling: the history as the means of k chunks of its items' vectors."""

from persrec.compression.base import CompressionSettings, ItemSlots
from persrec.compression.summaries import chunk_of, mean_chunk, summary_layout
from persrec.nn.cache import Chunk


class Pooling:
    """The user's items, padding apart, are cut into ``tokens`` chunks of nearly equal size; a chunk's mean is one input.

    The means stand before the recent items in the backbone, so a cache holds their keys and values. A mean takes the time
    of the latest item in it. Fewer items than chunks leave the first chunks empty and hidden.
    """

    def __init__(self, *, history: int, recent: int, tokens: int) -> None:
        self.layout = summary_layout(history=history, recent=recent, tokens=tokens)

    def history_chunk(self, segment: int, items: ItemSlots) -> Chunk:
        """The means, all of them kept."""
        return mean_chunk(self.layout, segment, items, chunk_of(items.valid, self.layout.segments[segment].item_positions))


def build(settings: CompressionSettings) -> Pooling:
    """As many means as ``settings.tokens`` says."""
    return Pooling(history=settings.history, recent=settings.recent, tokens=settings.tokens)

"""Retrieval (as SIM, arXiv 2006.05639): the history items nearest to the recent ones, chosen when a request comes."""

import torch
import torch.nn.functional as F

from persrec.compression.base import CompressionSettings, ItemSlots
from persrec.compression.summaries import highest, sample_chunk, summary_layout, take
from persrec.nn.cache import Chunk


class Retrieval:
    """The ``tokens`` history items of the highest cosine with the recent items' mean direction, in time order.

    They stand before the recent items. Of equally near ones the later goes first. The choice follows the item vectors as
    they are learnt and carries no gradient itself.

    The recent items are those of the first half of the recent slots, or what is there of them. Only positions from the
    last of these slots on predict: so a model is trained on every position it may be trained on, and none is told of an
    item that comes after it.

    Nothing can be compressed before a request: `SequentialRecommender.compress` refuses it, and a request costs the search
    and the pass over sample and recent items.

    Differs: SIM searches with the candidate item, once per candidate, or by its category; a catalogue that is ranked whole
    has no candidate.
    """

    def __init__(self, *, history: int, recent: int, tokens: int) -> None:
        self.layout = summary_layout(history=history, recent=recent, tokens=tokens, query_items=(recent + 1) // 2)

    @torch.no_grad()
    def _nearness(self, items: ItemSlots, asking: ItemSlots) -> torch.Tensor:
        """``[B, s]`` cosines with the asking items' mean direction, exactly equal for equal items.

        A matrix product gives the same item other last bits at another place, which would decide ties.
        """
        question = (F.normalize(asking.vectors, dim=-1) * asking.valid[..., None]).sum(1)
        cosines = (F.normalize(items.vectors, dim=-1)[:, None] @ question[:, None, :, None])[:, 0, :, 0]
        sorted_cosines, order = cosines.sort(dim=1, descending=True)
        ids = items.ids.gather(1, order)
        places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        # neighbours with one id all get the cosine of the first of them
        first_places = places.masked_fill(F.pad(ids[:, 1:] == ids[:, :-1], (1, 0)), 0).cummax(1).values
        return torch.zeros_like(cosines).scatter(1, order, sorted_cosines.gather(1, first_places))

    def chosen(self, items: ItemSlots, asking: ItemSlots) -> ItemSlots:
        """The items nearest to ``asking``."""
        tokens = self.layout.segments[0].item_positions
        return take(items, highest(self._nearness(items, asking), items.valid, tokens), tokens)

    def history_chunk(self, segment: int, items: ItemSlots) -> Chunk:
        """The chosen items."""
        return sample_chunk(self.layout, segment, items)


def build(settings: CompressionSettings) -> Retrieval:
    """As many items as ``settings.tokens`` says."""
    return Retrieval(history=settings.history, recent=settings.recent, tokens=settings.tokens)

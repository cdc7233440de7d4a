"""SegmentedModel: an item encoder, a backbone and a compression, composed; it runs a segment behind a cache, or whole windows."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from persrec.backbones import Backbone
from persrec.compression.base import Compression, ItemSlots, Searching, item_chunk
from persrec.inputs import columns_of, known_empty
from persrec.items import ItemEncoder
from persrec.layout import SegmentLayout, layout_id
from persrec.names import Kernel
from persrec.nn.cache import Chunk, KVCache, empty_cache
from persrec.schedule import is_side_by_side, joint_runs


class SegmentedModel(nn.Module):
    """What `SequentialRecommender` predicts with: its parts, and the passes over segments of a layout.

    Every pass is a chain of one call of `Backbone`. The joint pass runs several segments at once where it can, as `persrec.schedule` says.

    Shapes: ``B`` users, ``L`` items of a window, ``D`` width.

    Args:
        items: the item encoder.
        backbone: the sequence model.
        compression: how a history is kept.

    Raises:
        ValueError: the backbone has fewer positions than the layout has slots.
    """

    def __init__(self, *, items: ItemEncoder, backbone: Backbone, compression: Compression) -> None:
        super().__init__()
        if backbone.length < compression.layout.length:
            raise ValueError(f"backbone: positions for {backbone.length} slots; expected {compression.layout.length}, as the layout has")
        self.items = items
        self.backbone = backbone
        self.compression = compression

    @property
    def layout(self) -> SegmentLayout:
        """The layout in use."""
        return self.compression.layout

    def use_kernel(self, kernel: Kernel) -> None:
        """Computes attention by ``kernel``: ``segmented``, ``blocks`` (the same but for a GPU's own), or ``naive``, the reference."""
        self.backbone.kernel = kernel

    def hidden_states(
        self,
        items: torch.Tensor,
        times: torch.Tensor | None = None,
        query_time: torch.Tensor | None = None,
        *,
        item_features: torch.Tensor | None = None,
        experts: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The joint pass over windows ``[B, L]``.

        A batch whose first columns are padding in every row may leave them out, down to one item of the first segment:
        what is missing is not computed, unless it is little of a segment that runs beside others. Nor is a history segment that
        is empty in every row, where its experts are hidden.

        Returns:
            Hidden states ``[B, C, D]`` of the positions that predict, and their columns in ``items``, ``[C]``: column ``c`` predicts
            the item at ``c + 1``. With ``experts``, those of expert tokens come after, each in the column of its segment's last item.
        """
        hidden, columns = self._joint_pass(items, times, query_time, item_features, experts=experts)
        silent_count = max(0, self.layout.query_items - 1)  # recent positions before the last item that chooses for them
        return (hidden[:, silent_count:], columns[silent_count:]) if silent_count else (hidden, columns)

    def _joint_pass(
        self,
        items: torch.Tensor,
        times: torch.Tensor | None,
        query_time: torch.Tensor | None,
        item_features: torch.Tensor | None,
        *,
        experts: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `hidden_states`, of every item that has a position."""
        layout = self.layout
        missing = layout.window - int(items.shape[1])
        if not 0 <= missing < max([1, *layout.offsets[:1]]):
            raise ValueError(f"items: {items.shape[1]} wide; expected {layout.window}, or less by a part of the first segment")
        slots, last = self._slots(items, times, item_features), len(layout.segments)
        edges = [*(max(0, edge - missing) for edge in (0, *layout.offsets)), int(items.shape[1])]
        parts = [columns_of(slots, start, stop) for start, stop in itertools.pairwise(edges)]
        cache = self._empty_cache(items, times)
        item_states, item_columns, expert_states, expert_columns = [], [], [], []
        empty = [segment for segment in range(last) if layout.hide_empty_experts and known_empty(parts[segment])]
        for run in joint_runs(layout, self.backbone.kernel, left_out=missing, empty=empty):
            chunks = [self._joint_chunk(segment, parts, query_time) for segment in run]
            run_chunk = Chunk.side_by_side(chunks) if is_side_by_side(layout, run) else Chunk.joined(chunks)
            hidden, cache = self._run(run[-1], run_chunk, cache.skip(run[0] - cache.segments))
            widths = [chunk.width for chunk in chunks]
            chunk_states = torch.split(hidden, widths if run_chunk.segments == 1 else widths[-1], dim=1)
            for segment, chunk, padded in zip(run, chunks, chunk_states, strict=True):
                own_states = padded[:, padded.shape[1] - chunk.width :]
                item_columns.append(torch.arange(edges[segment], edges[segment] + chunk.items, device=items.device))
                item_states.append(own_states[:, : chunk.items])
                if experts:
                    expert_states.append(own_states[:, chunk.items :])
                    expert_columns.append(item_columns[-1][-1:].expand(chunk.width - chunk.items))
        return torch.cat([*item_states, *expert_states], dim=1), torch.cat([*item_columns, *expert_columns])

    def _joint_chunk(self, segment: int, parts: Sequence[ItemSlots], query_time: torch.Tensor | None) -> Chunk:
        recent = len(self.layout.segments)
        if segment == recent:
            return self._recent_chunk(parts[recent], query_time)
        if isinstance(self.compression, Searching):
            query_slots = columns_of(parts[recent], 0, self.layout.query_items)
            return self.compression.history_chunk(segment, self.compression.chosen(parts[segment], query_slots))
        return self.compression.history_chunk(segment, parts[segment])

    def _run(self, segment: int, chunk: Chunk, cache: KVCache) -> tuple[torch.Tensor, KVCache]:
        """Runs a segment, or several at once: the states of their own positions, and the cache with what is kept of them."""
        if not self.layout.recurrent:
            hidden, layers = self.backbone(chunk, cache)
            return hidden, cache.append(chunk, layers) if chunk.kept else cache.skip(chunk.segments)
        start = self.layout.starts[segment]
        positions = torch.arange(start - cache.length, start, device=chunk.positions.device)
        hidden, _ = self.backbone(chunk.behind(cache, positions), cache.without_positions())
        own_states = hidden[:, cache.length :]
        return own_states, cache.remember(chunk, own_states) if chunk.kept else cache

    def _recent_chunk(self, slots: ItemSlots, query_time: torch.Tensor | None) -> Chunk:
        return item_chunk(self.layout, len(self.layout.segments), slots, kept=0, query_time=query_time)

    def _slots(self, items: torch.Tensor, times: torch.Tensor | None, item_features: torch.Tensor | None) -> ItemSlots:
        vectors = self.items.lookup(items) if item_features is None else F.embedding(items, item_features)
        return ItemSlots(ids=items, vectors=vectors, times=times)

    def _empty_cache(self, items: torch.Tensor, times: torch.Tensor | None) -> KVCache:
        facts = {"layout": layout_id(self.layout), "backbone": type(self.backbone).__name__}
        return empty_cache(users=items.shape[0], timed=times is not None, device=items.device, **facts)

"""SequentialRecommender: an item encoder, a backbone and a compression, composed."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from persrec.backbones import Backbone
from persrec.compression.base import Compression, OfCatalogue, item_chunk
from persrec.counting import CountingOutput
from persrec.inputs import at_last_item, check_items, check_query_time, check_rows_hold_items, columns_of, count_of_features
from persrec.items import ItemEncoder, TextEncoder
from persrec.layout import layout_id
from persrec.nn.cache import KVCache
from persrec.nn.cache_checks import KeptSizes, check_cache, check_kept
from persrec.segments import SegmentedModel


class SequentialRecommender(SegmentedModel):
    """Predicts the next item of a window; scores are cosines over the whole catalogue, and of a model that counts a sum beside them.

    The joint pass, `compress`, `extend` and serving from a cache all are chains of one call of `Backbone`, so they are the same
    numbers (arXiv 2601.03479, section 3; METHOD "Serving"). `compress` and `extend` run one segment a call.

    Shapes: ``B`` users, ``L`` items of a window, ``V`` items of the catalogue (0 pads), ``D`` width.

    Args:
        items: the item encoder.
        backbone: the sequence model.
        compression: how a history is kept.
        counting: what is added to the scores of a user's own items (`persrec.counting`), or None: scores then are cosines.

    Raises:
        ValueError: the backbone has fewer positions than the layout has slots, or the compression knows other items than the encoder.
    """

    def __init__(self, *, items: ItemEncoder, backbone: Backbone, compression: Compression, counting: CountingOutput | None = None) -> None:
        super().__init__(items=items, backbone=backbone, compression=compression)
        if isinstance(compression, OfCatalogue) and compression.catalogue != items.count:
            raise ValueError(f"compression: of a catalogue of {compression.catalogue} items; expected {items.count}, as the item encoder")
        self.counting = counting

    def item_features(self) -> torch.Tensor:
        """``[V, D]`` unit rows."""
        return F.normalize(self.items.vectors(), dim=-1)

    def encode_items(self, token_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Raw vectors ``[n, D]`` of texts ``[n, T]`` of ``lengths`` ``[n]``, as ``item_features`` takes them (`TextEncoder.encode`).

        Raises:
            ValueError: the model reads ids, or a shape, a token or a length does not fit.
        """
        if not isinstance(self.items, TextEncoder):
            encoder = type(self.items).__name__
            raise ValueError(f"token_ids: given to a model of {encoder}; expected one that reads texts")  # noqa: TRY004 - bad input is one kind of error
        return self.items.encode(token_ids, lengths)

    def score(
        self,
        items: torch.Tensor,
        times: torch.Tensor | None = None,
        query_time: torch.Tensor | None = None,
        *,
        cache: KVCache | None = None,
        item_features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Scores of every item as the next one: cosines, and for a model that counts what `repeats` adds.

        Args:
            items: ``[B, L]`` int64, 0 pads; a narrower window is padded on its left. Where means or samples stand for the history, a row
                without a recent item has no state to be answered from, and its scores mean nothing. With ``cache``: the recent
                items ``[B, r]``, ``r <= R``, which take the first ``r`` positions of the recent segment.
            times: seconds, shaped as ``items``, 0 unknown; without them the time bias is off.
            query_time: ``[B]`` seconds, the time of the request.
            cache: the history, from `compress` or `extend`; each row then needs at least one recent item.
            item_features: ``[V, D]`` raw vectors of a text model.

        Returns:
            ``[B, V]``.

        Raises:
            ValueError: a shape, an id or a cache that does not fit; the message names the argument.
        """
        users = self.user_states(items, times, query_time, cache=cache, item_features=item_features)
        features = self.item_features() if item_features is None else F.normalize(item_features, dim=-1)
        scores, repeats = users @ features.T, self.repeats(users, items, cache=cache)
        return scores if repeats is None else scores.scatter_add(1, *repeats)

    def repeats(
        self, users: torch.Tensor, items: torch.Tensor, *, cache: KVCache | None = None
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """What a model that counts adds to the cosines of the users' own items; None of one that does not.

        Args:
            users: ``[B, D]``, as `user_states` or `append` gave them; ``items`` and ``cache`` are as they took them.
            items: see ``users``.
            cache: see ``users``.

        Returns:
            Ids ``[B, n]``, 0 pads, and what is added ``[B, n]``.
        """
        if self.counting is None:
            return None
        if cache is None:
            own_items = items if self.counting.counts_history else items[:, -self.layout.recent :]
        else:
            own_items = items if cache.items is None else torch.cat([cache.items.long(), items], dim=1)
        return self.counting(users, own_items)  # type: ignore[no-any-return] # a module's call has no type

    def repeats_in_window(self, states: torch.Tensor, items: torch.Tensor, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `CountingOutput.at_positions`, for ``items`` ``[B, n]`` as `hidden_states` took them.

        Raises:
            ValueError: the model does not count.
        """
        if self.counting is None:
            raise ValueError("model: it has no counting output; expected one that counts")
        missing = self.layout.window - items.shape[1]
        offsets = torch.tensor(self.layout.offsets, device=items.device)
        segments = torch.bucketize(torch.arange(missing, self.layout.window, device=items.device), offsets, right=True)
        return self.counting.at_positions(states, items, columns, segments)

    def user_states(
        self,
        items: torch.Tensor,
        times: torch.Tensor | None = None,
        query_time: torch.Tensor | None = None,
        *,
        cache: KVCache | None = None,
        item_features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Unit vectors ``[B, D]`` at each row's last item; arguments as `score`."""
        if cache is not None:
            cache = self.checked_cache(items, times, query_time, cache=cache, item_features=item_features)
            return self.answer(items, times, query_time, cache=cache, item_features=item_features)
        self._check_items("items", items, times, item_features)
        check_query_time(query_time, items)
        missing = self.layout.window - items.shape[1]
        if missing < 0:
            raise ValueError(f"items: {items.shape[1]} wide; the layout's window is {self.layout.window}")
        # what is missing of the first segment is not computed; more than that is padded
        pad = max(0, missing - self.layout.segments[0].items + 1) if self.layout.segments else missing
        items, times = F.pad(items, (pad, 0)), None if times is None else F.pad(times, (pad, 0))
        hidden, columns = self._joint_pass(items, times, query_time, item_features)
        return F.normalize(at_last_item(hidden, items[:, columns]), dim=-1)

    def checked_cache(
        self,
        items: torch.Tensor,
        times: torch.Tensor | None = None,
        query_time: torch.Tensor | None = None,
        *,
        cache: KVCache,
        item_features: torch.Tensor | None = None,
    ) -> KVCache:
        """The cache as `answer` takes it, all segments in it, where a request and its cache fit the model; arguments as `score`.

        Raises:
            ValueError: as `score` says.
        """
        self._check_items("items", items, times, item_features)
        check_query_time(query_time, items)
        self._check_compresses("cache")
        self._check_cache(cache, items.shape[0], times)
        if items.shape[1] > self.layout.recent:
            raise ValueError(f"items: {items.shape[1]} recent items with a cache; expected at most {self.layout.recent}")
        if cache.of_requests:
            raise ValueError(f"cache: holds {cache.recent} recent items; expected one of the history alone, or a call of append")
        check_rows_hold_items(items)
        return self._with_empty_segments(cache, item_features)

    def answer(
        self,
        items: torch.Tensor,
        times: torch.Tensor | None = None,
        query_time: torch.Tensor | None = None,
        *,
        cache: KVCache,
        item_features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """As `user_states` of a request with a `checked_cache`, and nothing is checked: tensors alone decide what is computed."""
        chunk = self._recent_chunk(self._slots(items, times, item_features), query_time)
        hidden, _ = self._run(len(self.layout.segments), chunk, cache)
        return F.normalize(at_last_item(hidden, items), dim=-1)

    def compress(self, history: torch.Tensor, times: torch.Tensor | None = None, *, item_features: torch.Tensor | None = None) -> KVCache:
        """The cache of a history ``[B, o_j]`` that ends at any offset of the plan; ``times`` are shaped alike.

        Raises:
            ValueError: the width is not an offset of the plan, or ids or times do not fit.
        """
        self._check_compresses("history")
        self._check_items("history", history, times, item_features)
        self.layout.segments_at(history.shape[1])
        return self._run_history(self._empty_cache(history, times), history, times, item_features)

    def extend(
        self, cache: KVCache, segment: torch.Tensor, times: torch.Tensor | None = None, *, item_features: torch.Tensor | None = None
    ) -> KVCache:
        """The cache with the next segment ``[B, s]`` behind; nothing earlier is computed again.

        Raises:
            ValueError: the cache is of another layout or full, or the segment is not as wide as the plan's next.
        """
        self._check_compresses("segment")
        self._check_items("segment", segment, times, item_features)
        self._check_cache(cache, segment.shape[0], times)
        if cache.of_requests:
            raise ValueError(f"cache: holds {cache.recent} recent items; expected the one that the history was kept in")
        if cache.segments == len(self.layout.segments):
            raise ValueError(f"cache: holds all {cache.segments} segments of the layout; compress a moved window instead")
        expected = self.layout.segments[cache.segments].items
        if segment.shape[1] != expected:
            raise ValueError(f"segment: {segment.shape[1]} items wide; expected {expected}, segment {cache.segments + 1} of the plan")
        return self._run_history(cache, segment, times, item_features)

    def append(
        self,
        items: torch.Tensor,
        times: torch.Tensor | None = None,
        query_time: torch.Tensor | None = None,
        *,
        cache: KVCache,
        item_features: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, KVCache]:
        """Serves a request from what is kept of the history and of the recent items before, and keeps what is settled.

        Between two refreshes a server keeps recent items too, and computes the new one alone. A backbone that reads times reads at each
        item when the next one came, which is not known of the last item yet. So with times HSTU's last item is not kept, and is given
        again with the item behind it.

        Args:
            items: ``[B, m]`` int64, the recent items that are not kept yet, the newest last; every user has as many, none is padding.
            times: seconds, shaped as ``items``, 0 unknown.
            query_time: ``[B]`` seconds, the time of the request.
            cache: the history from `compress` or `extend`, or what `append` gave; `with_room` saves the copying.
            item_features: as `score`.

        Returns:
            Unit vectors ``[B, D]``, as `user_states` gives them from all recent items, and the cache for the next request: with all of
            these items behind, or all but the last where the backbone reads the times given; ``cache.recent`` tells.

        Raises:
            ValueError: a shape, an id or a cache that does not fit, or more recent items than the layout has: refresh the history.
        """
        self._check_compresses("cache")
        self._check_items("items", items, times, item_features)
        check_query_time(query_time, items)
        self._check_cache(cache, items.shape[0], times)
        count = items.shape[1]
        if cache.recent + count > self.layout.recent:
            raise ValueError(
                f"items: {count} behind {cache.recent} recent ones; expected {self.layout.recent} in all at most, then a refresh"
            )
        if bool((items == 0).any()):
            raise ValueError("items: padding among them; expected as many recent items of every user")
        cache = cache if cache.recent else self._with_empty_segments(cache, item_features)
        slots, last = self._slots(items, times, item_features), len(self.layout.segments)
        chunk = item_chunk(self.layout, last, slots, kept=count, query_time=query_time, after=cache.recent)
        base = cache
        if cache.states is not None and not cache.keyed:  # a memory's states are run with the first recent items, and kept as keys
            start = self.layout.starts[last]
            with_states = chunk.behind(cache, torch.arange(start - cache.length, start, device=items.device))
            chunk, base = replace(with_states, kept=with_states.width), replace(cache.without_positions(), states=cache.states)
        hidden, layers = self.backbone(chunk, base)
        kept_count = chunk.width - (1 if times is not None and self.backbone.reads_next_times else 0)
        next_cache = base.with_recent(chunk, layers, count=kept_count)
        if self.counting is not None:
            next_cache = next_cache.with_items(items[:, : next_cache.recent - cache.recent])
        return F.normalize(hidden[:, -1], dim=-1), next_cache

    def with_room(self, cache: KVCache) -> KVCache:
        """The cache with room for the recent items: requests without gradients then copy nothing of the history.

        They write their keys and values behind the history's, so one request at a time uses it, and one chain of `append`. A cache made
        in torch's inference mode is used in that mode alone.
        """
        heads, width = self.backbone.cache_heads()
        states = cache.length - cache.keyed
        template = cache.states if cache.states is not None else next(iter(cache.tensors), next(self.backbone.parameters()))
        positions = self.layout.recent - cache.recent + states
        return cache.with_room(positions, layers=len(self.backbone.layers), heads=heads, width=width, like=template)

    def _run_history(self, cache: KVCache, items: torch.Tensor, times: torch.Tensor | None, item_features: torch.Tensor | None) -> KVCache:
        """Runs the segments that ``items`` fill, from the cache's next one on; room is for recent items, and ends here."""
        slots, start, cache = self._slots(items, times, item_features), 0, replace(cache, rooms=())
        while start < items.shape[1]:
            segment = cache.segments
            stop = start + self.layout.segments[segment].items
            if self.layout.segments[segment].kept:
                chunk = self.compression.history_chunk(segment, columns_of(slots, start, stop))
                _, cache = self._run(segment, chunk, cache)
            else:  # nothing of it will be seen
                cache = cache.skip(1)
            start = stop
        if self.counting is not None and self.counting.counts_history:
            cache = cache.with_items(items)
        return cache.detached_from_segments()

    def _with_empty_segments(self, cache: KVCache, item_features: torch.Tensor | None) -> KVCache:
        """The cache with the segments behind its last, which are empty: where empty experts are shown, they are seen too."""
        start = self.layout.offset_at(cache.segments)
        if self.layout.hide_empty_experts or start == self.layout.history:
            return cache
        padding = cache.positions.new_zeros(cache.valid.shape[0], self.layout.history - start)
        return self._run_history(cache, padding, None if cache.times is None else padding, item_features)

    def _check_items(self, name: str, items: torch.Tensor, times: torch.Tensor | None, item_features: torch.Tensor | None) -> None:
        count = self.items.count
        if item_features is not None:
            given = count_of_features(item_features, width=self.backbone.width)
            count = min(given, count) if isinstance(self.compression, OfCatalogue) else given
        check_items(name, items, times, count=count)

    def _check_compresses(self, name: str) -> None:
        if self.layout.query_items:
            kind = type(self.compression).__name__
            raise ValueError(f"{name}: {kind} chooses by the recent items, so nothing is kept; expected a whole window, without a cache")

    def _check_cache(self, cache: KVCache, users: int, times: torch.Tensor | None) -> None:
        check_cache(cache, layout=layout_id(self.layout), users=users, timed=times is not None)
        if self.counting is not None and cache.items is None and (cache.recent or (self.counting.counts_history and cache.segments)):
            raise ValueError("cache: holds no ids of its items; expected one of a model that counts them")
        if cache.tensors:
            heads, width = self.backbone.cache_heads()
            sizes = KeptSizes(layers=len(self.backbone.layers), heads=heads, width=width, states=self.backbone.width)
            check_kept(cache, kind=type(self.backbone).__name__, sizes=sizes)

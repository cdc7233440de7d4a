"""What the queries of a chunk attend to. Attention knows one segment a row; segments that run side by side are rows of their own.

Axis legend:  B users   S segments side by side, 1 where one runs alone   R = B * S rows, users first   H heads
              n positions of a segment   k kept of them   p prefix keys, seen by every query   d width of a head
"""

from functools import cached_property

import torch
import torch.nn.functional as F

from persrec.names import Kernel
from persrec.nn.attention import pointwise_attention, softmax_attention
from persrec.nn.attention.bias import Bias
from persrec.nn.attention.few import POINTWISE_PAIRS, SOFTMAX_PAIRS, are_few, few_mask, few_pointwise, few_softmax, few_weights
from persrec.nn.cache import Chunk, KeysValues, KVCache, Past


class Context:
    """The keys that a chunk's queries see: what earlier segments left, then, causally, those of their own segment.

    Where segments run side by side, each has room for what all the others leave: ``p = (S - 1) k``, the nearest segment last. Where
    no segment lies that far back, the room is padding.

    Attributes:
        prefix: ``p``.
        valid: ``[R, p + n]``.
        query_times: ``[R, n]`` seconds, or None without times.
        key_times: ``[R, p + n]`` seconds, or None.
        query_positions: ``[n]`` slot indices, of the last row; in every row a key is as far from its query.
        key_positions: ``[p + n]`` slot indices, of the last row.

    Raises:
        ValueError: segments side by side behind positions that are kept already.
    """

    def __init__(self, chunk: Chunk, cache: KVCache) -> None:
        if chunk.segments > 1 and cache.length:
            raise ValueError(f"cache: {cache.length} positions before {chunk.segments} segments side by side; expected none")
        self._chunk = chunk
        self._few_weights: torch.Tensor | None = None
        self._few_mask: torch.Tensor | None = None
        self.prefix = cache.length + (chunk.segments - 1) * chunk.kept
        self.valid = self._per_key(chunk.valid, cache.valid)
        self.query_times, self.key_times = None, None
        if chunk.key_times is not None and chunk.query_times is not None and cache.times is not None:
            self.query_times = chunk.query_times.reshape(-1, chunk.width // chunk.segments)
            self.key_times = self._per_key(chunk.key_times, cache.times)
        positions = chunk.positions.view(chunk.segments, -1)
        self.query_positions = positions[-1]
        self.key_positions = torch.cat([cache.positions, positions[:-1, positions.shape[1] - chunk.kept :].flatten(), positions[-1]])

    @cached_property
    def is_few_for_pointwise(self) -> bool:
        """Whether the chunk has so few pairs that `few_pointwise` computes its attention."""
        return are_few(self.valid, len(self.query_positions), self._chunk.inputs.device, pairs=POINTWISE_PAIRS)

    @cached_property
    def is_few_for_softmax(self) -> bool:
        """As `is_few_for_pointwise`, of `few_softmax`."""
        return are_few(self.valid, len(self.query_positions), self._chunk.inputs.device, pairs=SOFTMAX_PAIRS)

    def pointwise(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, bias: Bias | None, divisor: float, kernel: Kernel
    ) -> torch.Tensor:
        """HSTU's attention of what `rows` gave, ``[R, H, n, d]``."""
        if kernel == "naive" or not self.is_few_for_pointwise:
            return pointwise_attention(q, k, v, prefix=self.prefix, valid=self.valid, bias=bias, divisor=divisor, kernel=kernel)
        if self._few_weights is None:  # the same for every layer, as the mask below is
            self._few_weights = few_weights(self.valid, divisor, q)
        return few_pointwise(q, k, v, self._few_weights, bias)

    def softmax(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, kernel: Kernel) -> torch.Tensor:
        """Softmax attention of what `rows` gave, ``[R, H, n, d]``."""
        if kernel == "naive" or not self.is_few_for_softmax:
            return softmax_attention(q, k, v, prefix=self.prefix, valid=self.valid, kernel=kernel)
        if self._few_mask is None:
            self._few_mask = few_mask(self.valid, q)
        return few_softmax(q, k, v, self._few_mask)

    @cached_property
    def keys_seen(self) -> torch.Tensor:
        """``[R, n]`` keys that each query sees; 1 where it is padding and sees none."""
        return self.valid.cumsum(1)[:, self.prefix :].clamp(min=1)

    def rows(self, q: torch.Tensor, keys_values: KeysValues, past: Past | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries ``[R, H, n, d]``, keys and values ``[R, H, p + n, d]`` from the chunk's ``[B, H, S n, d]`` and the cache's, if any."""
        if self._chunk.segments == 1:
            return q, *(keys_values if past is None else past.followed_by(keys_values))
        return self._by_segment(q).flatten(0, 1), self._key_rows(keys_values[0], None), self._key_rows(keys_values[1], None)

    def merged(self, attended: torch.Tensor) -> torch.Tensor:
        """``[R, H, n, d]`` as ``[B, S n, H d]``, the form of what layers pass on."""
        rows = attended.transpose(1, 2).flatten(2)
        return rows.reshape(-1, self._chunk.segments * rows.shape[1], rows.shape[2])

    def _key_rows(self, tensor: torch.Tensor, cached: torch.Tensor | None) -> torch.Tensor:
        """``[R, H, p + n, d]`` from the chunk's ``[B, H, S n, d]`` and the cache's ``[B, H, p, d]``, if any."""
        if self._chunk.segments == 1:
            return tensor if cached is None else torch.cat([cached, tensor], dim=2)
        rows = self._by_segment(tensor)
        return torch.cat([self._earlier_kept(rows), rows], dim=3).flatten(0, 1) if self.prefix else rows.flatten(0, 1)

    def _per_key(self, values: torch.Tensor, cached: torch.Tensor) -> torch.Tensor:
        """``[R, p + n]`` from a value for each of the chunk's positions, ``[B, S n]``, and for each of the cache's, ``[B, p]``."""
        return self._key_rows(values[:, None, :, None], cached[:, None, :, None])[:, 0, :, 0]

    def _by_segment(self, tensor: torch.Tensor) -> torch.Tensor:
        """``[B, H, S n, d]`` as ``[B, S, H, n, d]``."""
        return torch.unflatten(tensor, 2, (self._chunk.segments, -1)).transpose(1, 2)

    def _earlier_kept(self, rows: torch.Tensor) -> torch.Tensor:
        """``[B, S, H, p, d]``: of each segment, the kept positions of those before it."""
        count = self._chunk.segments - 1
        kept = rows[:, :-1, :, rows.shape[3] - self._chunk.kept :]
        earlier = F.pad(kept, (0, 0, 0, 0, 0, 0, count, 0)).unfold(1, count, 1)  # [B, S, H, k, d, S - 1]
        return earlier.permute(0, 1, 2, 5, 3, 4).flatten(3, 4)

"""HSTU (arXiv 2402.17152, section 3): pointwise attention with a gate, and a relative bias by distance and time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from persrec.backbones.base import Backbone, BackboneSettings, start_copying
from persrec.names import Kernel
from persrec.nn.attention.bias import Bias, Pairs
from persrec.nn.cache import Chunk, KeysValues, KVCache, Past, kept_keys_values
from persrec.nn.context import Context
from persrec.nn.positions import RelativeBias, pairs_of

START_SCALE, START_BIAS = 0.2, 1.0  # of queries and keys, and of every distance, where a model starts by copying


@dataclass(frozen=True, kw_only=True, slots=True)
class HSTUConfig:
    """Sizes of an HSTU.

    Attributes:
        width: ``D``, split over the heads for u, v, q and k alike.
        length: slots of the joint layout, ``N``, which is the number of positions.
        divisor: of attention, a constant; None is ``length``, as in the paper. 0 divides by the number of keys that a query sees, so that
            a query early in a window, and one behind few tokens, gets a mean too.
        relative_bias: by distance, and by time where times are given.
        request_time: whether the time of a query is that of the next event, as in the paper; else it is its item's own.
        copying_start: layers begin by passing on the mean of what they see, gated, rather than nothing; with the relative bias alone.
    """

    width: int
    layers: int
    heads: int
    length: int
    divisor: int | None = None
    dropout: float = 0.0
    relative_bias: bool = True
    request_time: bool = True
    copying_start: bool = False
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width: {self.width} cannot be split over {self.heads} heads")
        if self.divisor is not None and self.divisor < 0:
            raise ValueError(f"divisor: {self.divisor}; expected 0, which is the number of keys that a query sees, or more")
        if self.copying_start and not self.relative_bias:
            raise ValueError("copying_start: true without the relative bias, whose start makes the weights alike; expected it on")


class HSTULayer(nn.Module):
    """``x + dropout(u * layernorm(attention(v))) @ W_o + b_o`` with ``u, v, q, k = silu(layernorm(x) @ W_uvqk)``."""

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        self.config = config
        self.uvqk = nn.Parameter(torch.empty(config.width, 4 * config.width).normal_(std=config.width**-0.5))
        self.output = nn.Linear(config.width, config.width)
        nn.init.zeros_(self.output.weight)  # a layer starts as the identity, so that item vectors find their places first
        nn.init.zeros_(self.output.bias)
        self.bias = RelativeBias(config.length) if config.relative_bias else None
        self.constant_divisor = config.length if config.divisor is None else max(1, config.divisor)
        if config.copying_start:
            self._start_copying()

    @torch.no_grad()
    def _start_copying(self) -> None:
        """`start_copying`, from nearly equal weights: a pointwise weight has no sum to divide by, so random scores drown the rest.

        The layer's activation of values and its gate stay, so what is passed on is that of a mean, channel by channel gated.
        """
        width = self.config.width
        start_copying(self.uvqk.T[width : 2 * width], self.output.weight)
        self.uvqk[:, 2 * width :] *= START_SCALE
        if self.bias is not None:
            self.bias.distance.add_(START_BIAS)

    def forward(
        self, x: torch.Tensor, past: Past | None, context: Context, pairs: Pairs | None, kernel: Kernel
    ) -> tuple[torch.Tensor, KeysValues]:
        """``x`` ``[B, n, D]``; returns the output and all of the chunk's own keys and values."""
        u, v, q, k = self._projected(self._norm(x), in_one=kernel != "naive" and context.is_few_for_pointwise)
        q, k, v = (self._heads(part) for part in (q, k, v))
        queries, keys, values = context.rows(q, (k, v), past)
        bias: Bias | None = self.bias(pairs) if self.bias is not None and pairs is not None else None
        attended = context.pointwise(queries, keys, values, bias=bias, divisor=self.constant_divisor, kernel=kernel)
        if self.config.divisor == 0:
            attended = attended / context.keys_seen[:, None, :, None]
        gated = u * self._norm(context.merged(attended))
        return x + self.output(F.dropout(gated, self.config.dropout, self.training)), (k, v)

    def _projected(self, normed: torch.Tensor, *, in_one: bool) -> Sequence[torch.Tensor]:
        """``u, v, q, k``, each ``[B, n, D]``; ``in_one`` product where calls cost more than numbers."""
        if in_one:
            return F.silu(normed @ self.uvqk, inplace=True).chunk(4, dim=2)
        # four products: activations of a wide one's columns, and their gradients, would not lie together
        return [F.silu(normed @ weight, inplace=not torch.is_grad_enabled()) for weight in self.uvqk.chunk(4, dim=1)]

    def _norm(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (self.config.width,), eps=self.config.norm_eps)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:-1], self.config.heads, self.config.width // self.config.heads).transpose(1, 2)


class HSTU(Backbone):
    """A stack of HSTU layers over item vectors with learnable absolute positions; no final norm.

    Differs: attention is divided by the joint layout's length everywhere, or by what each query sees, so a cached pass equals the
    joint one (the public code divides by the number of queries at hand).
    """

    reads_times: ClassVar[bool] = True

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.length = config.length
        self.kernel: Kernel = "segmented"
        self.positions = nn.Embedding(config.length, config.width)
        nn.init.zeros_(self.positions.weight)
        self.layers = nn.ModuleList(HSTULayer(config) for _ in range(config.layers))

    def forward(self, chunk: Chunk, cache: KVCache) -> tuple[torch.Tensor, tuple[KeysValues, ...]]:
        """As `Backbone` says."""
        if not self.config.request_time:
            chunk = replace(chunk, query_times=chunk.key_times)
        x = F.dropout(chunk.inputs + self.positions(chunk.positions), self.config.dropout, self.training)
        context = Context(chunk, cache)
        pairs = pairs_of(context) if self.config.relative_bias else None
        keys_values = []
        for index, layer in enumerate(self.layers):
            x, (k, v) = layer(x, cache.past(index), context, pairs, self.kernel)
            keys_values.append(kept_keys_values(k, v, chunk))
        return x, tuple(keys_values)

    def macs(self, *, positions: int, pairs: int) -> dict[str, int]:
        """As `Backbone` says: 5 D^2 a position (u, v, q, k and the output map), 2 D a pair."""
        layers, width = self.config.layers, self.config.width
        return {"projections": layers * positions * 5 * width**2, "attention": layers * pairs * 2 * width, "feed_forward": 0}

    @property
    def reads_next_times(self) -> bool:
        """As `Backbone` says."""
        return self.config.request_time

    def cache_heads(self) -> tuple[int, int]:
        """As `Backbone` says."""
        return self.config.heads, self.config.width // self.config.heads


def build(settings: BackboneSettings) -> HSTU:
    """An HSTU of these sizes."""
    s = settings
    flags = {"copying_start": s.copying_start, "request_time": s.request_time}
    return HSTU(HSTUConfig(width=s.width, layers=s.layers, heads=s.heads, length=s.length, divisor=s.divisor, dropout=s.dropout, **flags))

"""SASRec (arXiv 1808.09781): a small post-norm transformer with learnable positions."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from persrec.backbones.base import Backbone, BackboneSettings, start_copying
from persrec.names import Kernel
from persrec.nn.cache import Chunk, KeysValues, KVCache, Past, kept_keys_values
from persrec.nn.context import Context


@dataclass(frozen=True, kw_only=True, slots=True)
class SASRecConfig:
    """Sizes of a SASRec.

    Attributes:
        width: ``D``.
        inner: width of the feed-forward's hidden layer.
        length: slots of the joint layout, ``N``.
        copying_start: attention begins by passing on the mean of what it sees (`start_copying`).
    """

    width: int
    layers: int
    heads: int
    inner: int
    length: int
    dropout: float = 0.0
    norm_eps: float = 1e-12
    copying_start: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width: {self.width} cannot be split over {self.heads} heads")


class SASRecLayer(nn.Module):
    """Attention, add & norm; feed-forward with erf-gelu, add & norm."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.config = config
        self.query, self.key, self.value, self.output = (nn.Linear(config.width, config.width) for _ in range(4))
        self.attention_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.expand, self.shrink = nn.Linear(config.width, config.inner), nn.Linear(config.inner, config.width)
        self.feed_forward_norm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, x: torch.Tensor, past: Past | None, context: Context, kernel: Kernel) -> tuple[torch.Tensor, KeysValues]:
        """``x`` ``[B, n, D]``; returns the output and all of the chunk's own keys and values."""
        q, k, v = (self._heads(part(x)) for part in (self.query, self.key, self.value))
        queries, keys, values = context.rows(q, (k, v), past)
        attended = context.softmax(queries, keys, values, kernel=kernel)
        x = self.attention_norm(x + self._drop(self.output(context.merged(attended))))
        return self.feed_forward_norm(x + self._drop(self.shrink(F.gelu(self.expand(x))))), (k, v)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:-1], self.config.heads, self.config.width // self.config.heads).transpose(1, 2)

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, self.config.dropout, self.training)


class SASRec(Backbone):
    """Embedding + position, layernorm, dropout, then the layers."""

    feed_forward = ("expand", "shrink")

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.length = config.length
        self.kernel: Kernel = "segmented"
        self.positions = nn.Embedding(config.length, config.width)
        self.input_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        layers = [SASRecLayer(config) for _ in range(config.layers)]
        self.layers = nn.ModuleList(layers)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        if config.copying_start:
            for layer in layers:
                start_copying(layer.value.weight, layer.output.weight)

    def forward(self, chunk: Chunk, cache: KVCache) -> tuple[torch.Tensor, tuple[KeysValues, ...]]:
        """As `Backbone` says."""
        x = F.dropout(self.input_norm(chunk.inputs + self.positions(chunk.positions)), self.config.dropout, self.training)
        context, keys_values = Context(chunk, cache), []
        for index, layer in enumerate(self.layers):
            x, (k, v) = layer(x, cache.past(index), context, self.kernel)
            keys_values.append(kept_keys_values(k, v, chunk))
        return x, tuple(keys_values)

    def macs(self, *, positions: int, pairs: int) -> dict[str, int]:
        """As `Backbone` says: 4 D^2 a position for projections, 2 D x inner for the feed-forward, 2 D a pair."""
        layers, width, inner = self.config.layers, self.config.width, self.config.inner
        return {
            "projections": layers * positions * 4 * width**2,
            "attention": layers * pairs * 2 * width,
            "feed_forward": layers * positions * 2 * width * inner,
        }

    def cache_heads(self) -> tuple[int, int]:
        """As `Backbone` says."""
        return self.config.heads, self.config.width // self.config.heads


def build(settings: BackboneSettings) -> SASRec:
    """A SASRec of these sizes; its feed-forward is as wide as the model where no width is given, as in the paper."""
    s = settings
    sizes = SASRecConfig(
        width=s.width,
        layers=s.layers,
        heads=s.heads,
        inner=s.feed_forward or s.width,
        length=s.length,
        dropout=s.dropout,
        copying_start=s.copying_start,
    )
    return SASRec(sizes)

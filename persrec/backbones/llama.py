"""Llama (arXiv 2302.13971): rotary positions, RMSNorm, grouped queries, SwiGLU.

The layers are those of Hugging Face transformers, so its weights fit by name (``layers.*``, ``norm.weight``); what runs
them is ours, segment by segment, because a segment attends to a cache that holds expert positions alone.

Axis legend:  B users   n positions   H query heads   G key-value heads   d width of a head
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import nn
from transformers import LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
    repeat_kv,
)

from persrec.backbones.base import Backbone, BackboneSettings, start_copying
from persrec.names import Kernel
from persrec.nn.attention.naive import naive_softmax
from persrec.nn.cache import Chunk, KeysValues, KVCache, kept_keys_values
from persrec.nn.context import Context

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # of q and a layer's own k and v, heads merged
Rotation = tuple[torch.Tensor, torch.Tensor]

INNER_RATIO = 8 / 3  # three maps of this width cost what two of 4 D do
INNER_MULTIPLE = 8
LENGTH_DEPENDENT_ROTATIONS = ("dynamic", "longrope")


class AskedSizes(Protocol):
    """The settings of a backbone or of an item encoder, as far as they say what sizes a Llama has."""

    @property
    def width(self) -> int: ...  # noqa: D102 - as of `BackboneSettings`, like the others
    @property
    def layers(self) -> int: ...  # noqa: D102
    @property
    def heads(self) -> int: ...  # noqa: D102
    @property
    def key_value_heads(self) -> int | None: ...  # noqa: D102
    @property
    def feed_forward(self) -> int | None: ...  # noqa: D102


def small_llama_config(
    *, width: int, layers: int, heads: int, positions: int, key_value_heads: int | None = None, feed_forward: int | None = None
) -> LlamaConfig:
    """The shape of a Llama; where nothing else is said, of a small one.

    Args:
        width: ``D``.
        layers: blocks.
        heads: query heads a block.
        positions: slots it has positions for.
        key_value_heads: None is half as many as heads, or as many where ``heads`` is odd.
        feed_forward: width inside the feed-forward; None is 8/3 of the width.

    Raises:
        ValueError: the width does not split into heads of an even width, which rotation needs, or the heads do not split over
            the key-value heads.
    """
    if key_value_heads is None:
        key_value_heads = heads if heads % 2 else heads // 2
    if heads % key_value_heads:
        raise ValueError(f"key_value_heads: {key_value_heads} do not divide the heads, {heads}")
    if width % (2 * heads):
        raise ValueError(f"width: {width} over {heads} heads; rotary positions need heads of an even width")
    inner = INNER_MULTIPLE * round(INNER_RATIO * width / INNER_MULTIPLE)
    return LlamaConfig(
        vocab_size=1,  # the embedding of tokens is the reader's, not the decoder's
        hidden_size=width,
        intermediate_size=feed_forward or max(INNER_MULTIPLE, inner),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=positions,
        bos_token_id=None,
        eos_token_id=None,
    )


def llama_config(values: dict[str, Any]) -> LlamaConfig:
    """The configuration of a decoder's shape under Hugging Face's names.

    Raises:
        ValueError: a value does not fit.
    """
    try:
        return LlamaConfig(**values)
    except Exception as error:  # Hugging Face's validation errors derive from Exception alone
        raise ValueError(f"llama: {' '.join(str(error).split())}") from error


def check_shape(config: LlamaConfig, *, folder: Path, asked: AskedSizes) -> None:
    """Checks that a folder's model has the sizes that were asked for; a size of None is not checked.

    Raises:
        ValueError: it has others.
    """
    folder_sizes = {
        "width": config.hidden_size, "layers": config.num_hidden_layers, "heads": config.num_attention_heads,
        "key_value_heads": config.num_key_value_heads, "feed_forward": config.intermediate_size,
    }  # fmt: skip
    expected = {name: size for name in folder_sizes if (size := getattr(asked, name)) is not None}
    sizes = {name: folder_sizes[name] for name in expected}
    if sizes != expected:
        sizes_text, expected_text = (", ".join(f"{name} {size}" for name, size in values.items()) for values in (sizes, expected))
        raise ValueError(f"weights: {folder} holds a Llama of {sizes_text}; expected {expected_text}")


class Llama(Backbone):
    """A Llama decoder over vectors, with its final norm; item vectors come in place of token embeddings.

    Args:
        config: the shape, of Hugging Face transformers.
        length: positions that are reserved, ``N`` of the joint layout.
        dropout: of the input and of what a block adds; Llama itself has none.
        branch_scale: size of what a block adds at first, against maps that keep a variance; 0 adds nothing, so that item
            vectors find their places first.
        copying_start: attention passes on what it attends to from the first step on, whatever ``branch_scale``.

    Raises:
        ValueError: the rotation depends on the length at hand, so that a cached key would not be the joint pass's.
    """

    feed_forward = ("mlp",)
    cosines: torch.Tensor
    sines: torch.Tensor

    def __init__(
        self, config: LlamaConfig, *, length: int, dropout: float = 0.0, branch_scale: float = 0.0, copying_start: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.width: int = config.hidden_size
        self.length = length
        self.dropout = dropout
        self.kernel: Kernel = "segmented"
        self.layers = nn.ModuleList(LlamaDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        cosines, sines = _rotation_table(config, length)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)
        self._initialise(branch_scale)
        if copying_start:
            for attention in (module for module in self.modules() if isinstance(module, LlamaAttention)):
                start_copying(attention.v_proj.weight, attention.o_proj.weight)

    def _initialise(self, branch_scale: float) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                scale = branch_scale if name.endswith(("o_proj", "down_proj")) else 1.0
                nn.init.normal_(module.weight, std=scale * module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @classmethod
    def from_folder(cls, folder: Path, *, length: int, dropout: float = 0.0) -> tuple[Self, nn.Embedding]:
        """The decoder in a folder of Hugging Face's form, and its embedding of tokens. Nothing is downloaded.

        Raises:
            ValueError: the folder is not there or does not hold a Llama, whole and with nothing else but an output over tokens.
        """
        if not (folder / "config.json").is_file():
            raise ValueError(f"folder: {folder} holds no config.json; expected a model of Hugging Face transformers")
        try:
            _check_is_llama(folder / "config.json")
            model, loading_info = LlamaModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32, output_loading_info=True)
        except (OSError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"folder: {folder} cannot be read as a Llama: {' '.join(str(error).split())}") from error
        unexpected = [name for name in loading_info["unexpected_keys"] if not name.startswith("lm_head.")]
        for verb, weights in (("lacks", loading_info["missing_keys"]), ("also holds", unexpected)):
            if weights:
                raise ValueError(f"folder: {folder} is no whole Llama: it {verb} {sorted(weights)[0]}, and {len(weights) - 1} more")
        decoder = cls(model.config, length=length, dropout=dropout)
        decoder.layers, decoder.norm = model.layers, model.norm
        return decoder, model.embed_tokens

    def forward(self, chunk: Chunk, cache: KVCache) -> tuple[torch.Tensor, tuple[KeysValues, ...]]:
        """As `Backbone` says; keys are kept rotated, and as many as there are key-value heads."""
        context = Context(chunk, cache)
        keys_values: list[KeysValues] = []

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            past = cache.past(len(keys_values))
            keys_values.append(kept_keys_values(k, v, chunk))
            q, k, v = context.rows(q, (k, v), past)
            k, v = self._repeated(k), self._repeated(v)
            return context.merged(context.softmax(q, k, v, kernel=self.kernel))

        return self._decode(chunk.inputs, chunk.positions[None], attend), tuple(keys_values)

    def masked(self, inputs: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Hidden states ``[R, S, D]`` of rows under a mask of their own, without a cache.

        Args:
            inputs: ``[R, S, D]``.
            positions: ``[R, S]``.
            mask: bool ``[R, S, S]``, True where a query (row) sees a key (column); every query must see one.
        """
        visible = mask[:, None]

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            k, v = self._repeated(k), self._repeated(v)
            if self.kernel == "naive":
                attended = naive_softmax(q, k, v, visible)
            else:
                attended = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
            return attended.transpose(1, 2).flatten(2)

        return self._decode(inputs, positions, attend)

    def macs(self, *, positions: int, pairs: int) -> dict[str, int]:
        """As `Backbone` says: q and o ``2 D H d`` a position, k and v ``2 D G d``, SwiGLU ``3 D inner``; ``2 H d`` a pair."""
        layers, inner = self.config.num_hidden_layers, self.config.intermediate_size
        queries, keys = (heads * self.config.head_dim for heads in (self.config.num_attention_heads, self.config.num_key_value_heads))
        return {
            "projections": layers * positions * 2 * self.width * (queries + keys),
            "attention": layers * pairs * 2 * queries,
            "feed_forward": layers * positions * 3 * self.width * inner,
        }

    def cache_heads(self) -> tuple[int, int]:
        """As `Backbone` says: key-value heads, before they are repeated."""
        return self.config.num_key_value_heads, self.config.head_dim

    def _decode(self, inputs: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Runs all layers and the final norm; ``positions`` ``[n]`` or ``[B, n]``."""
        rotation = self.cosines[positions], self.sines[positions]
        x = self._drop(inputs)
        for layer in self.layers:
            x = self._run_layer(layer, x, rotation, attend)
        hidden: torch.Tensor = self.norm(x)
        return hidden

    def _run_layer(self, layer: Any, x: torch.Tensor, rotation: Rotation, attend: Attend) -> torch.Tensor:
        attention, normed = layer.self_attn, layer.input_layernorm(x)
        q, k, v = (self._heads(part(normed)) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
        q, k = apply_rotary_pos_emb(q, k, *rotation)
        x = x + self._drop(attention.o_proj(attend(q, k, v)))
        mlp_output: torch.Tensor = self._drop(layer.mlp(layer.post_attention_layernorm(x)))
        return x + mlp_output

    def _repeated(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, G, n, d]`` as ``[B, H, n, d]``."""
        repeated: torch.Tensor = repeat_kv(x, self.config.num_attention_heads // self.config.num_key_value_heads)
        return repeated

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:-1], x.shape[-1] // self.config.head_dim, self.config.head_dim).transpose(1, 2)

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, self.dropout, self.training)


def _check_is_llama(config: Path) -> None:
    kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    if kind != LlamaConfig.model_type:
        raise ValueError(f"its model_type is {kind!r}; expected {LlamaConfig.model_type!r}")


def _rotation_table(config: LlamaConfig, length: int) -> Rotation:
    """Cosines and sines, ``[N, d]``, computed in float32 once: a model in bfloat16 would lose the angles of far positions."""
    rotary = LlamaRotaryEmbedding(config)
    if rotary.rope_type in LENGTH_DEPENDENT_ROTATIONS:
        raise ValueError(f"rope_type: {rotary.rope_type!r} depends on the length at hand; expected one that does not")
    angles = torch.arange(length).float()[:, None] * rotary.inv_freq.float()
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos() * rotary.attention_scaling, angles.sin() * rotary.attention_scaling


def build(settings: BackboneSettings) -> Llama:
    """A Llama of these sizes, or the one in the folder ``settings.weights``, which must have them.

    Raises:
        ValueError: as `small_llama_config`, `Llama.from_folder` and `check_shape` say.
    """
    s = settings
    if s.weights is not None:
        llama, _ = Llama.from_folder(s.weights, length=s.length, dropout=s.dropout)
        check_shape(llama.config, folder=s.weights, asked=s)
        return llama
    config = small_llama_config(
        width=s.width,
        layers=s.layers,
        heads=s.heads,
        positions=s.length,
        key_value_heads=s.key_value_heads,
        feed_forward=s.feed_forward,
    )
    return Llama(config, length=s.length, dropout=s.dropout, copying_start=s.copying_start)

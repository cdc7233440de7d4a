"""Models of the public PerSRec code (facebookresearch/PerSRec, commit 7525e6b), from their configuration and weights.

An imported model is the public code's joint pass: windows are padded on the left as a whole, the experts of a segment
without items are shown, HSTU has no relative bias (there it is built and never applied). Its cached pass is ours.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from persrec.backbones import Backbone
from persrec.backbones.hstu import HSTU, HSTUConfig
from persrec.backbones.sasrec import SASRec, SASRecConfig
from persrec.checkpoints.folder import check_shapes, check_state, load_facts, read_weights
from persrec.checkpoints.settings import (
    MOST_LAYERS,
    MOST_POSITIONS,
    Config,
    Plan,
    flag,
    llama_shape,
    only_supported,
    plan_of,
    setting,
    share,
    shown,
    whole,
)
from persrec.compression.experts import Experts
from persrec.compression.recent import Recent
from persrec.items.ids import ItemEmbedding
from persrec.layout import SegmentLayout
from persrec.recommender import SequentialRecommender

EXPERTS = "user_embedding"
REFERENCE = "reference"  # where a converted folder keeps the configuration it was made from


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """How one model of the public code becomes ours.

    Attributes:
        build: the model with fresh weights.
        names: parts of our tensors' names and theirs, replaced in order.
        unused: patterns of tensors that play no part in a score.
        personalized: whether there are expert tokens.
        spare_positions: rows of its position table behind the joint layout's.
    """

    build: Callable[[Config, Plan], SequentialRecommender]
    names: tuple[tuple[str, str], ...]
    unused: tuple[str, ...]
    personalized: bool = False
    spare_positions: int = 0


def import_reference(config: dict[str, Any], state: dict[str, torch.Tensor]) -> SequentialRecommender:
    """A model of the public code: HSTU, PersonalizedHSTU, SASRec, LLMIDRec, HLLM or PersonalizedHLLM.

    Args:
        config: the configuration under the public code's names; ``model`` and ``item_num`` among them, and ``llama``, the
            decoder's shape, for those that have one.
        state: the weights under the public code's names.

    Returns:
        The model, in float32 and out of training mode.

    Raises:
        ValueError: a setting is missing or not supported, or tensors are missing, extra or misshapen; the message names them.
    """
    kind = _kind(config)
    our_state = _meta_model(config).state_dict()
    their_state = _scoring_tensors(state, kind)
    their_names = {name: _their_name(name, kind) for name in our_state}
    check_shapes(their_state, _their_shapes(our_state, their_names, kind))
    model = _build(config)
    model.load_state_dict({name: _our_part(name, their_names[name], their_state, our_state) for name in our_state})
    return model.eval()


def load_imported(folder: Path) -> SequentialRecommender:
    """The model in a folder that ``python -m persrec.checkpoints convert`` wrote.

    Raises:
        ValueError: the folder cannot be read, or was not written so.
    """
    config = load_facts(folder).get(REFERENCE)
    if config is None:
        raise ValueError(f"folder: {folder} is not a converted model; expected {REFERENCE!r} among its facts")
    weights = read_weights(folder)
    check_state(weights, _meta_model(config))
    model = _build(config)
    model.load_state_dict(weights)
    return model.eval()


def _build(config: Config) -> SequentialRecommender:
    """The model of a configuration, with fresh weights.

    Raises:
        ValueError: there is none.
    """
    kind = _kind(config)
    try:
        return kind.build(config, plan_of(config) if kind.personalized else [])
    except ValueError:
        raise
    except Exception as error:  # sizes that layers cannot be made of fail in any way, a Llama's above all
        part = "llama" if "llama" in config else "a size"
        raise ValueError(f"config: {part} is not one of a {config['model']} ({type(error).__name__}: {error})") from error


def _meta_model(config: Config) -> SequentialRecommender:
    """The model's shapes alone, so that absurd sizes take no memory before they are compared with the tensors."""
    with torch.device("meta"):
        return _build(config)


def _scoring_tensors(state: Mapping[str, torch.Tensor], kind: _Kind) -> dict[str, torch.Tensor]:
    """The tensors that play a part in a score.

    Raises:
        ValueError: something else than a tensor of floating-point numbers is among them.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"state: {type(state).__name__}; expected tensors by name")  # noqa: TRY004 - one kind of error for bad input
    not_tensors = sorted(str(name) for name, value in state.items() if not (isinstance(name, str) and isinstance(value, torch.Tensor)))
    if not_tensors:
        raise ValueError(f"state: not tensors: {', '.join(not_tensors)}")
    tensors = {name: value for name, value in state.items() if not any(re.fullmatch(pattern, name) for pattern in kind.unused)}
    for name, value in sorted(tensors.items()):
        if not value.is_floating_point() or value.is_meta or value.layout != torch.strided:
            form = f"{value.dtype}, {value.layout}, on {value.device.type}"
            raise ValueError(f"state: {name} is {form}; expected dense floating-point numbers")
    return tensors


def _kind(config: Config) -> _Kind:
    if not isinstance(config, Mapping):
        raise ValueError(f"config: {type(config).__name__}; expected a table of settings")  # noqa: TRY004 - one kind of error for bad input
    name = setting(config, "model")
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(f"config: model {shown(name)} is not one that can be imported; known: {', '.join(KINDS)}")
    return KINDS[name]


# Models


def _compression(config: Config, plan: Plan, width: int) -> Experts | Recent:
    window = whole(config, "MAX_ITEM_LIST_LENGTH", most=MOST_POSITIONS)
    if not plan:
        return Recent(recent=window)
    recent = config.get("recent_item_num")
    if recent is not None and config.get("insert_method") is None and recent != window - plan[-1][0]:
        raise ValueError(f"config: recent_item_num is {shown(recent)}; expected {window - plan[-1][0]}, what MAX_ITEM_LIST_LENGTH leaves")
    return Experts(layout=SegmentLayout.from_plan(plan, window=window, hide_empty_experts=False), width=width)


def _hstu(config: Config, plan: Plan) -> SequentialRecommender:
    only_supported(config, "hidden_act", "silu")
    width, item_width = whole(config, "hstu_embedding_size"), whole(config, "item_embedding_size")
    compression = _compression(config, plan, width)
    backbone = HSTU(
        HSTUConfig(
            width=width,
            layers=whole(config, "n_layers", most=MOST_LAYERS),
            heads=whole(config, "n_heads"),
            length=compression.layout.length,
            dropout=share(config, "hidden_dropout_prob"),
            relative_bias=False,
        )
    )
    items = ItemEmbedding(count=whole(config, "item_num"), width=width, item_width=None if item_width == width else item_width)
    return SequentialRecommender(items=items, backbone=backbone, compression=compression)


def _sasrec(config: Config, plan: Plan) -> SequentialRecommender:
    only_supported(config, "hidden_act", "gelu")
    width = whole(config, "embedding_size")
    compression = _compression(config, plan, width)
    backbone = SASRec(
        SASRecConfig(
            width=width,
            layers=whole(config, "n_layers", most=MOST_LAYERS),
            heads=whole(config, "n_heads"),
            inner=whole(config, "inner_size") * width,
            length=compression.layout.length,
            dropout=share(config, "hidden_dropout_prob"),
            norm_eps=share(config, "layer_norm_eps"),
        )
    )
    items = ItemEmbedding(count=whole(config, "item_num"), width=width)
    return SequentialRecommender(items=items, backbone=backbone, compression=compression)


def _llama_over_ids(config: Config, plan: Plan) -> SequentialRecommender:
    backbone, compression = _llama(config, plan)
    count, item_width = whole(config, "item_num"), whole(config, "item_embed_dim")
    items = ItemEmbedding(count=count, width=backbone.width, item_width=None if item_width == backbone.width else item_width)
    return SequentialRecommender(items=items, backbone=backbone, compression=compression)


def _hllm(config: Config, plan: Plan) -> SequentialRecommender:
    # imported here, since Hugging Face transformers takes seconds to import
    from persrec.backbones.llama import Llama  # noqa: PLC0415
    from persrec.items.texts import TextItems  # noqa: PLC0415

    only_supported(config, "item_emb_token_n", 1)
    shape = llama_shape(config)
    text_length = shape.max_position_embeddings if config.get("MAX_TEXT_LENGTH") is None else whole(config, "MAX_TEXT_LENGTH") + 1
    backbone, compression = _llama(config, plan)
    items = TextItems(
        decoder=Llama(shape, length=text_length),
        vocabulary=shape.vocab_size,
        count=whole(config, "item_num"),
        causal=flag(config, "use_ft_flash_attn"),  # without it the public code gives the item Llama no mask
    )
    return SequentialRecommender(items=items, backbone=backbone, compression=compression)


def _llama(config: Config, plan: Plan) -> tuple[Backbone, Experts | Recent]:
    # imported here, since Hugging Face transformers takes seconds to import
    from persrec.backbones.llama import Llama  # noqa: PLC0415

    shape = llama_shape(config)
    compression = _compression(config, plan, shape.hidden_size)
    return Llama(shape, length=compression.layout.length), compression


# Tensors


def _their_name(our_name: str, kind: _Kind) -> str:
    if our_name.startswith("compression.tokens."):
        return EXPERTS
    name = our_name
    for ours, theirs in kind.names:
        name = name.replace(ours, theirs)
    return name


def _their_shapes(our_state: Mapping[str, torch.Tensor], their_names: Mapping[str, str], kind: _Kind) -> dict[str, tuple[int, ...]]:
    shapes = {their_names[name]: tuple(tensor.shape) for name, tensor in our_state.items()}
    if "position_embedding.weight" in shapes:
        rows, width = shapes["position_embedding.weight"]
        shapes["position_embedding.weight"] = (rows + kind.spare_positions, width)
    if "item_emb_tokens" in shapes:
        shapes["item_emb_tokens"] = (1, 1, *shapes["item_emb_tokens"])
    blocks = [our_state[name] for name in our_state if their_names[name] == EXPERTS]
    if blocks:
        shapes[EXPERTS] = (1, sum(len(block) for block in blocks), blocks[0].shape[1])
    return shapes


def _our_part(name: str, their_name: str, their_state: Mapping[str, torch.Tensor], our_state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The part of a tensor of theirs that is ours."""
    tensor = their_state[their_name]
    if their_name == EXPERTS:
        start = sum(len(our_state[f"compression.tokens.{index}"]) for index in range(int(name.rsplit(".", 1)[1])))
        return tensor[0, start : start + len(our_state[name])]
    if their_name == "position_embedding.weight":
        return tensor[: len(our_state[name])]
    return tensor.view(our_state[name].shape)


_LOSS = ("logit_scale",)
_HSTU_NAMES = (
    ("items.embedding.", "item_embedding."),
    ("items.projection.", "item_id_proj_tower."),
    ("backbone.positions.", "position_embedding."),
    ("backbone.layers.", "_hstu._attention_layers."),
    (".uvqk", "._uvqk"),
    (".output.", "._o."),
)
_HSTU_UNUSED = (*_LOSS, "_attn_mask", r"_hstu\._attention_layers\.\d+\._rel_attn_bias\.(_ts_w|_pos_w)")
_SASREC_NAMES = (
    ("items.embedding.", "item_embedding."),
    ("backbone.positions.", "position_embedding."),
    ("backbone.input_norm.", "LayerNorm."),
    ("backbone.layers.", "trm_encoder.layer."),
    (".query.", ".multi_head_attention.query."),
    (".key.", ".multi_head_attention.key."),
    (".value.", ".multi_head_attention.value."),
    (".output.", ".multi_head_attention.dense."),
    (".attention_norm.", ".multi_head_attention.LayerNorm."),
    (".expand.", ".feed_forward.dense_1."),
    (".shrink.", ".feed_forward.dense_2."),
    (".feed_forward_norm.", ".feed_forward.LayerNorm."),
)
_LLAMA_NAMES = (
    ("items.embedding.", "item_embedding."),
    ("items.projection.", "item_id_proj_tower."),
    ("items.item_token", "item_emb_tokens"),
    ("items.embed_tokens.", "item_llm.model.embed_tokens."),
    ("items.decoder.", "item_llm.model."),
    ("backbone.", "user_llm.model."),
)
_LLAMA_UNUSED = (
    *_LOSS,
    r"user_llm\.model\.embed_tokens\.weight",  # the user Llama reads item vectors
    r"(item|user)_llm\.lm_head\.weight",
    r"(item|user)_llm\.model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",  # kept by older transformers; computed here
)

KINDS: dict[str, _Kind] = {
    "HSTU": _Kind(build=_hstu, names=_HSTU_NAMES, unused=_HSTU_UNUSED, spare_positions=1),
    "PersonalizedHSTU": _Kind(build=_hstu, names=_HSTU_NAMES, unused=_HSTU_UNUSED, spare_positions=1, personalized=True),
    "SASRec": _Kind(build=_sasrec, names=_SASREC_NAMES, unused=_LOSS),
    "LLMIDRec": _Kind(build=_llama_over_ids, names=_LLAMA_NAMES, unused=_LLAMA_UNUSED),
    "HLLM": _Kind(build=_hllm, names=_LLAMA_NAMES, unused=_LLAMA_UNUSED),
    "PersonalizedHLLM": _Kind(build=_hllm, names=_LLAMA_NAMES, unused=_LLAMA_UNUSED, personalized=True),
}

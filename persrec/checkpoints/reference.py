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
from persrec.checkpoints.folder import check_shapes, load_facts, load_weights
from persrec.compression.experts import Experts
from persrec.compression.recent import Recent
from persrec.items.ids import ItemEmbedding
from persrec.layout import SegmentLayout
from persrec.recommender import SequentialRecommender

Config = Mapping[str, Any]
Plan = list[tuple[int, int]]

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
    model = _build(config)
    wrong = sorted(str(name) for name, value in state.items() if not isinstance(value, torch.Tensor))
    if wrong:
        raise ValueError(f"state: not tensors: {', '.join(wrong)}")
    needed = {name: value for name, value in state.items() if not any(re.fullmatch(pattern, name) for pattern in kind.unused)}
    own = model.state_dict()
    theirs = {name: _their_name(name, kind) for name in own}
    check_shapes(needed, _their_shapes(own, theirs, kind))
    model.load_state_dict({name: _take(name, theirs[name], needed, own) for name in own})
    return model.eval()


def load_imported(folder: Path) -> SequentialRecommender:
    """The model in a folder that ``python -m persrec.checkpoints convert`` wrote.

    Raises:
        ValueError: the folder cannot be read, or was not written so.
    """
    config = load_facts(folder).get(REFERENCE)
    if config is None:
        raise ValueError(f"folder: {folder} is not a converted model; expected {REFERENCE!r} among its facts")
    model = _build(config)
    load_weights(folder, model)
    return model.eval()


def _build(config: Config) -> SequentialRecommender:
    kind = _kind(config)
    return kind.build(config, _plan(config) if kind.personalized else [])


def _kind(config: Config) -> _Kind:
    if not isinstance(config, Mapping):
        raise ValueError(f"config: {type(config).__name__}; expected a table of settings")  # noqa: TRY004 - one kind of error for bad input
    name = _setting(config, "model")
    if name not in KINDS:
        raise ValueError(f"config: model {name!r} is not one that can be imported; known: {', '.join(KINDS)}")
    return KINDS[name]


# Settings


def _setting(config: Config, name: str) -> Any:
    if config.get(name) is None:
        raise ValueError(f"config: {name} is missing")
    return config[name]


def _whole(config: Config, name: str) -> int:
    value = _setting(config, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"config: {name} is {value!r}; expected a whole number from 1 on")
    return value


def _share(config: Config, name: str) -> float:
    value = config.get(name) or 0.0
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"config: {name} is {value!r}; expected a share from 0 to less than 1")
    return float(value)


def _plan(config: Config) -> Plan:
    """Offsets and counts of the experts; one block behind ``pretrain_item_num`` items where no list says otherwise."""
    plan = config.get("insert_method")
    if plan is None:
        plan = [(_whole(config, "pretrain_item_num"), _whole(config, "number_of_user_tokens"))]
    try:
        pairs = [(int(offset), int(count)) for offset, count in plan]
    except (TypeError, ValueError) as error:
        raise ValueError(f"config: insert_method is {plan!r}; expected a list of (offset, count)") from error
    tokens = sum(count for _, count in pairs)
    stated = config.get("number_of_user_tokens", tokens)
    if tokens != stated:
        raise ValueError(f"config: insert_method {plan!r} holds {tokens} tokens; number_of_user_tokens says {stated}")
    return pairs


def _compression(config: Config, plan: Plan, width: int) -> Experts | Recent:
    window = _whole(config, "MAX_ITEM_LIST_LENGTH")
    if not plan:
        return Recent(recent=window)
    recent = config.get("recent_item_num")
    if recent is not None and config.get("insert_method") is None and recent != window - plan[-1][0]:
        raise ValueError(f"config: recent_item_num is {recent!r}; expected {window - plan[-1][0]}, what MAX_ITEM_LIST_LENGTH leaves")
    return Experts(layout=SegmentLayout.from_plan(plan, window=window, hide_empty_experts=False), width=width)


def _activation(config: Config, known: str) -> None:
    value = config.get("hidden_act") or known
    if value != known:
        raise ValueError(f"config: hidden_act is {value!r}; expected {known!r}, the one that is supported")


# Models


def _hstu(config: Config, plan: Plan) -> SequentialRecommender:
    _activation(config, "silu")
    width, item_width = _whole(config, "hstu_embedding_size"), _whole(config, "item_embedding_size")
    compression = _compression(config, plan, width)
    backbone = HSTU(
        HSTUConfig(
            width=width,
            layers=_whole(config, "n_layers"),
            heads=_whole(config, "n_heads"),
            length=compression.layout.length,
            dropout=_share(config, "hidden_dropout_prob"),
            relative_bias=False,
        )
    )
    items = ItemEmbedding(count=_whole(config, "item_num"), width=width, item_width=None if item_width == width else item_width)
    return SequentialRecommender(items=items, backbone=backbone, compression=compression)


def _sasrec(config: Config, plan: Plan) -> SequentialRecommender:
    _activation(config, "gelu")
    width = _whole(config, "embedding_size")
    compression = _compression(config, plan, width)
    backbone = SASRec(
        SASRecConfig(
            width=width,
            layers=_whole(config, "n_layers"),
            heads=_whole(config, "n_heads"),
            inner=_whole(config, "inner_size") * width,
            length=compression.layout.length,
            dropout=_share(config, "hidden_dropout_prob"),
            norm_eps=_share(config, "layer_norm_eps"),
        )
    )
    items = ItemEmbedding(count=_whole(config, "item_num"), width=width)
    return SequentialRecommender(items=items, backbone=backbone, compression=compression)


def _llama_over_ids(config: Config, plan: Plan) -> SequentialRecommender:
    backbone, compression = _llama(config, plan)
    count, item_width = _whole(config, "item_num"), _whole(config, "item_embed_dim")
    items = ItemEmbedding(count=count, width=backbone.width, item_width=None if item_width == backbone.width else item_width)
    return SequentialRecommender(items=items, backbone=backbone, compression=compression)


def _hllm(config: Config, plan: Plan) -> SequentialRecommender:
    # imported here, since Hugging Face transformers takes seconds to import
    from persrec.backbones.llama import Llama, llama_config  # noqa: PLC0415
    from persrec.items.texts import TextItems  # noqa: PLC0415

    if config.get("item_emb_token_n", 1) != 1:
        raise ValueError(f"config: item_emb_token_n is {config['item_emb_token_n']!r}; expected 1, the one that is supported")
    shape = llama_config(_setting(config, "llama"))
    longest = shape.max_position_embeddings if config.get("MAX_TEXT_LENGTH") is None else _whole(config, "MAX_TEXT_LENGTH") + 1
    backbone, compression = _llama(config, plan)
    items = TextItems(
        decoder=Llama(shape, length=longest),
        vocabulary=shape.vocab_size,
        count=_whole(config, "item_num"),
        causal=bool(config.get("use_ft_flash_attn")),  # without it the public code gives the item Llama no mask
    )
    return SequentialRecommender(items=items, backbone=backbone, compression=compression)


def _llama(config: Config, plan: Plan) -> tuple[Backbone, Experts | Recent]:
    # imported here, since Hugging Face transformers takes seconds to import
    from persrec.backbones.llama import Llama, llama_config  # noqa: PLC0415

    shape = llama_config(_setting(config, "llama"))
    compression = _compression(config, plan, shape.hidden_size)
    return Llama(shape, length=compression.layout.length), compression


# Tensors


def _their_name(own: str, kind: _Kind) -> str:
    if own.startswith("compression.tokens."):
        return EXPERTS
    name = own
    for ours, theirs in kind.names:
        name = name.replace(ours, theirs)
    return name


def _their_shapes(own: Mapping[str, torch.Tensor], theirs: Mapping[str, str], kind: _Kind) -> dict[str, tuple[int, ...]]:
    shapes = {theirs[name]: tuple(tensor.shape) for name, tensor in own.items()}
    if "position_embedding.weight" in shapes:
        rows, width = shapes["position_embedding.weight"]
        shapes["position_embedding.weight"] = (rows + kind.spare_positions, width)
    if "item_emb_tokens" in shapes:
        shapes["item_emb_tokens"] = (1, 1, *shapes["item_emb_tokens"])
    blocks = [own[name] for name in own if theirs[name] == EXPERTS]
    if blocks:
        shapes[EXPERTS] = (1, sum(len(block) for block in blocks), blocks[0].shape[1])
    return shapes


def _take(name: str, their_name: str, state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The part of a tensor of theirs that is ours."""
    tensor = state[their_name]
    if their_name == EXPERTS:
        before = sum(len(own[f"compression.tokens.{index}"]) for index in range(int(name.rsplit(".", 1)[1])))
        return tensor[0, before : before + len(own[name])]
    if their_name == "position_embedding.weight":
        return tensor[: len(own[name])]
    return tensor.view(own[name].shape)


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

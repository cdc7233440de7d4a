"""Small models of the public PerSRec code: its configurations, and states with its names and shapes."""

from typing import Any

import torch

ITEMS, WIDTH, WINDOW = 9, 4, 7

_COMMON = {"item_num": ITEMS, "MAX_ITEM_LIST_LENGTH": WINDOW}
_PLAN = {"number_of_user_tokens": 3, "pretrain_item_num": 5, "recent_item_num": 2, "insert_method": [[2, 1], [5, 2]]}
_HSTU = {"item_embedding_size": WIDTH, "hstu_embedding_size": WIDTH, "n_layers": 1, "n_heads": 2, "hidden_act": "silu"}
_LLAMA = {
    "llama": {
        "vocab_size": 11,
        "hidden_size": WIDTH,
        "intermediate_size": 6,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 16,
        "rope_theta": 10000.0,
        "bos_token_id": None,
        "eos_token_id": None,
    }
}

CONFIGS: dict[str, dict[str, Any]] = {
    "HSTU": {**_COMMON, **_HSTU},
    "PersonalizedHSTU": {**_COMMON, **_HSTU, **_PLAN},
    "SASRec": {
        **_COMMON, "embedding_size": WIDTH, "n_layers": 1, "n_heads": 2, "inner_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    },
    "LLMIDRec": {**_COMMON, **_LLAMA, "item_embed_dim": 3},
    "HLLM": {**_COMMON, **_LLAMA, "item_emb_token_n": 1},
    "PersonalizedHLLM": {
        **_COMMON, **_LLAMA, "item_emb_token_n": 1, "number_of_user_tokens": 2, "pretrain_item_num": 5, "recent_item_num": 2,
    },
}  # fmt: skip


def config(name: str, **changes: Any) -> dict[str, Any]:
    return {"model": name, **CONFIGS[name], **changes}


def _hstu(tokens: int) -> dict[str, tuple[int, ...]]:
    layer = "_hstu._attention_layers.0."
    return {
        "logit_scale": (),
        "_attn_mask": (WINDOW + tokens, WINDOW + tokens),
        "item_embedding.weight": (ITEMS, WIDTH),
        "position_embedding.weight": (WINDOW + tokens + 1, WIDTH),
        f"{layer}_uvqk": (WIDTH, 4 * WIDTH),
        f"{layer}_o.weight": (WIDTH, WIDTH),
        f"{layer}_o.bias": (WIDTH,),
        f"{layer}_rel_attn_bias._ts_w": (129,),
        f"{layer}_rel_attn_bias._pos_w": (27,),
    }


def _sasrec() -> dict[str, tuple[int, ...]]:
    attention, feed_forward = "trm_encoder.layer.0.multi_head_attention.", "trm_encoder.layer.0.feed_forward."
    square = {f"{attention}{part}.weight": (WIDTH, WIDTH) for part in ("query", "key", "value", "dense")}
    biases = {f"{attention}{part}.bias": (WIDTH,) for part in ("query", "key", "value", "dense", "LayerNorm")}
    return {
        **square,
        **biases,
        "logit_scale": (),
        "item_embedding.weight": (ITEMS, WIDTH),
        "position_embedding.weight": (WINDOW, WIDTH),
        "LayerNorm.weight": (WIDTH,),
        "LayerNorm.bias": (WIDTH,),
        f"{attention}LayerNorm.weight": (WIDTH,),
        f"{feed_forward}dense_1.weight": (2 * WIDTH, WIDTH),
        f"{feed_forward}dense_1.bias": (2 * WIDTH,),
        f"{feed_forward}dense_2.weight": (WIDTH, 2 * WIDTH),
        f"{feed_forward}dense_2.bias": (WIDTH,),
        f"{feed_forward}LayerNorm.weight": (WIDTH,),
        f"{feed_forward}LayerNorm.bias": (WIDTH,),
    }


def _llama(name: str) -> dict[str, tuple[int, ...]]:
    layer = f"{name}.model.layers.0."
    return {
        f"{name}.lm_head.weight": (11, WIDTH),
        f"{name}.model.embed_tokens.weight": (11, WIDTH),
        f"{name}.model.norm.weight": (WIDTH,),
        f"{layer}self_attn.q_proj.weight": (WIDTH, WIDTH),
        f"{layer}self_attn.k_proj.weight": (2, WIDTH),
        f"{layer}self_attn.v_proj.weight": (2, WIDTH),
        f"{layer}self_attn.o_proj.weight": (WIDTH, WIDTH),
        f"{layer}self_attn.rotary_emb.inv_freq": (1,),
        f"{layer}mlp.gate_proj.weight": (6, WIDTH),
        f"{layer}mlp.up_proj.weight": (6, WIDTH),
        f"{layer}mlp.down_proj.weight": (WIDTH, 6),
        f"{layer}input_layernorm.weight": (WIDTH,),
        f"{layer}post_attention_layernorm.weight": (WIDTH,),
    }


def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    hllm = {"logit_scale": (), "item_emb_tokens": (1, 1, WIDTH), **_llama("item_llm"), **_llama("user_llm")}
    ids = {"logit_scale": (), "item_embedding.weight": (ITEMS, 3), "item_id_proj_tower.weight": (WIDTH, 3), **_llama("user_llm")}
    return {
        "HSTU": _hstu(0),
        "PersonalizedHSTU": _hstu(3) | {"user_embedding": (1, 3, WIDTH)},
        "SASRec": _sasrec(),
        "LLMIDRec": ids,
        "HLLM": hllm,
        "PersonalizedHLLM": hllm | {"user_embedding": (1, 2, WIDTH)},
    }[name]


def state(name: str, *, seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=random) for key, shape in _shapes(name).items()}

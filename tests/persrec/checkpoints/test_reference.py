import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from public_models import CONFIGS, ITEMS, WIDTH, WINDOW, config, state

from persrec.checkpoints import import_reference
from persrec.losses import sampled_softmax

pytestmark = pytest.mark.usefixtures("one_thread")

CONFORMANCE = Path(__file__).parents[3].parent / "shared" / "conformance"
TOLERANCE = 1e-5
PERSONALIZED = ("PersonalizedHSTU", "PersonalizedHLLM")
recorded = pytest.mark.skipif(not CONFORMANCE.is_dir(), reason=f"the recorded vectors are not at {CONFORMANCE}")


def vector(name):
    """Configuration, weights, and the rest of one recorded vector."""
    arrays = np.load(CONFORMANCE / f"{name}.npz")
    tensors = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    weights = {key.removeprefix("param/"): tensor for key, tensor in tensors.items() if key.startswith("param/")}
    return json.loads((CONFORMANCE / f"{name}.json").read_text()), weights, tensors


def offsets(settings):
    plan = settings.get("insert_method") or [(settings["pretrain_item_num"], settings["number_of_user_tokens"])]
    return [offset for offset, _ in plan]


def given(model, seed=5):
    """What a model of texts needs besides."""
    if not hasattr(model.items, "encode"):
        return {}
    return {"item_features": torch.randn(ITEMS, WIDTH, generator=torch.Generator().manual_seed(seed))}


# Recorded from the public code


@recorded
@pytest.mark.parametrize("kernel", ["segmented", "naive"])
@pytest.mark.parametrize(
    "name", ["hllm", "hllm_personalized", "hstu", "hstu_personalized", "hstu_personalized_multi", "hstu_projected", "llama_id", "sasrec"]
)
@torch.no_grad()
def test_scores_are_the_public_codes(name, kernel):
    settings, weights, tensors = vector(name)
    model = import_reference(settings, weights)
    model.use_kernel(kernel)
    extra = {}
    if "in/item_tokens" in tensors:
        tokens = tensors["in/item_tokens"]
        extra = {"item_features": model.encode_items(tokens, torch.full((len(tokens),), tokens.shape[1]))}
    features = extra.get("item_features", None if extra else model.item_features())
    torch.testing.assert_close(features, tensors["out/item_features"], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(model.score(tensors["in/item_seq"], **extra), tensors["out/scores"], rtol=0, atol=TOLERANCE)


@recorded
@pytest.mark.parametrize("name", ["hstu", "sasrec"])
@torch.no_grad()
def test_losses_are_the_public_codes(name):
    settings, weights, tensors = vector(name)
    model = import_reference(settings, weights)
    sequence, mask = tensors["in/train_seq"], tensors["in/train_mask"].bool()
    hidden, columns = model.hidden_states(sequence[:, :-1])
    assert columns.tolist() == list(range(settings["MAX_ITEM_LIST_LENGTH"]))
    negatives = tensors["in/train_neg"].flatten()
    lookup = model.items.lookup
    # its rule leaves a negative out by a cosine above 0.99 with the positive: no two items of these weights are so near
    near = model.item_features() @ model.item_features().T
    assert (near - torch.eye(len(near))).max() < 0.99
    loss = sampled_softmax(
        hidden[mask], lookup(sequence[:, 1:][mask]), lookup(negatives), sequence[:, 1:][mask], negatives, temperature=1 / 20
    )
    torch.testing.assert_close(loss, tensors["out/loss"], rtol=0, atol=TOLERANCE)


# Without the recordings


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_every_model_is_imported_with_its_weights(name):
    weights = state(name)
    model = import_reference(config(name), weights)
    assert not model.training
    kept = {id(weight): weight for weight in model.state_dict().values()}
    imported = sum(weight.numel() for weight in kept.values())
    unused = ("logit_scale", "_attn_mask", "rel_attn_bias", "lm_head", "user_llm.model.embed_tokens", "inv_freq")
    used = sum(weight.numel() for key, weight in weights.items() if not any(part in key for part in unused))
    spare = WIDTH if "HSTU" in name else 0  # the last row of its position table
    assert imported == used - spare
    items = torch.tensor([[1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 0, 0, 8, 2]])
    assert model.score(items, **given(model)).isfinite().all()


LANDS = {  # where some tensors of the public code, many of one shape, are in ours
    "SASRec": {
        **{f"trm_encoder.layer.0.multi_head_attention.{part}": f"backbone.layers.0.{part}" for part in ("query", "key", "value")},
        "trm_encoder.layer.0.multi_head_attention.dense": "backbone.layers.0.output",
        "trm_encoder.layer.0.multi_head_attention.LayerNorm": "backbone.layers.0.attention_norm",
        "trm_encoder.layer.0.feed_forward.dense_1": "backbone.layers.0.expand",
        "trm_encoder.layer.0.feed_forward.dense_2": "backbone.layers.0.shrink",
        "trm_encoder.layer.0.feed_forward.LayerNorm": "backbone.layers.0.feed_forward_norm",
        "LayerNorm": "backbone.input_norm",
    },
    "HSTU": {"_hstu._attention_layers.0._o": "backbone.layers.0.output"},
    "HLLM": {
        **{f"user_llm.model.layers.0.self_attn.{part}_proj": f"backbone.layers.0.self_attn.{part}_proj" for part in "qkvo"},
        **{f"item_llm.model.layers.0.mlp.{part}_proj": f"items.decoder.layers.0.mlp.{part}_proj" for part in ("gate", "up", "down")},
        "user_llm.model.layers.0.input_layernorm": "backbone.layers.0.input_layernorm",
        "user_llm.model.layers.0.post_attention_layernorm": "backbone.layers.0.post_attention_layernorm",
        "user_llm.model.norm": "backbone.norm",
    },
}


@pytest.mark.parametrize("name", LANDS)
def test_each_tensor_lands_in_the_layer_that_has_its_part(name):
    weights = state(name)
    ours = import_reference(config(name), weights).state_dict()
    for their_layer, our_layer in LANDS[name].items():
        parts = [part for part in ("weight", "bias") if f"{their_layer}.{part}" in weights]
        assert parts, their_layer
        for part in parts:
            assert torch.equal(ours[f"{our_layer}.{part}"], weights[f"{their_layer}.{part}"]), their_layer


@pytest.mark.parametrize("name", CONFIGS)
def test_a_missing_tensor_is_named(name):
    for key in ("position_embedding.weight", "user_llm.model.layers.0.mlp.up_proj.weight"):
        weights = state(name)
        if weights.pop(key, None) is not None:
            with pytest.raises(ValueError, match=f"state: missing: {key}"):
                import_reference(config(name), weights)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_extra_tensor_is_named(name):
    with pytest.raises(ValueError, match=r"state: extra: item_embedding\.bias, user_llm\.lm_head\.bias"):
        import_reference(config(name), state(name) | {"user_llm.lm_head.bias": torch.zeros(1), "item_embedding.bias": torch.zeros(1)})


@pytest.mark.parametrize(
    ("name", "key", "shape", "expected"),
    [
        ("HSTU", "position_embedding.weight", (WINDOW, WIDTH), r"\[7, 4\], expected \[8, 4\]"),
        ("SASRec", "position_embedding.weight", (WINDOW + 1, WIDTH), r"\[8, 4\], expected \[7, 4\]"),
        ("PersonalizedHSTU", "user_embedding", (1, 2, WIDTH), r"\[1, 2, 4\], expected \[1, 3, 4\]"),
        ("PersonalizedHLLM", "item_emb_tokens", (1, 2, WIDTH), r"\[1, 2, 4\], expected \[1, 1, 4\]"),
        ("LLMIDRec", "item_id_proj_tower.weight", (3, WIDTH), r"\[3, 4\], expected \[4, 3\]"),
    ],
)
def test_a_misshapen_tensor_is_named(name, key, shape, expected):
    with pytest.raises(ValueError, match=f"state: misshapen: {key} {expected}"):
        import_reference(config(name), state(name) | {key: torch.zeros(shape)})


def test_what_is_no_tensor_is_named():
    with pytest.raises(ValueError, match="state: not tensors: epoch"):
        import_reference(config("HSTU"), state("HSTU") | {"epoch": 3})


def test_tensors_that_play_no_part_change_nothing():
    items = torch.tensor([[1, 2, 3, 4, 5, 6, 7]])
    for name in CONFIGS:
        weights = state(name)
        without = {key: weight for key, weight in weights.items() if "lm_head" not in key and key not in ("logit_scale", "_attn_mask")}
        full, bare = (import_reference(config(name), part) for part in (weights, without))
        torch.testing.assert_close(full.score(items, **given(full)), bare.score(items, **given(full)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("HSTU", {"model": "BERT4Rec"}, "model 'BERT4Rec' is not one that can be imported; known: HSTU, PersonalizedHSTU, SASRec"),
        ("HSTU", {"model": None}, "config: model is missing"),
        ("HSTU", {"item_num": None}, "config: item_num is missing"),
        ("HSTU", {"n_layers": 0}, "config: n_layers is 0; expected a whole number"),
        ("HSTU", {"n_layers": True}, "config: n_layers is True"),
        ("HSTU", {"n_heads": 3}, "width: 4 cannot be split over 3 heads"),
        ("HSTU", {"hidden_act": "relu"}, "config: hidden_act is 'relu'; expected 'silu'"),
        ("HSTU", {"hidden_dropout_prob": 1}, "config: hidden_dropout_prob is 1"),
        ("SASRec", {"hidden_act": "relu"}, "config: hidden_act is 'relu'; expected 'gelu'"),
        ("SASRec", {"layer_norm_eps": "small"}, "config: layer_norm_eps is 'small'"),
        ("PersonalizedHSTU", {"insert_method": "late"}, "config: insert_method is 'late'; expected a list"),
        ("PersonalizedHSTU", {"insert_method": [[5, 2]]}, "holds 2 tokens; number_of_user_tokens says 3"),
        ("PersonalizedHSTU", {"insert_method": [[5, 1], [2, 2]]}, r"plan: offsets \[5, 2\] must rise"),
        ("PersonalizedHLLM", {"recent_item_num": 3}, "config: recent_item_num is 3; expected 2"),
        ("HLLM", {"llama": None}, "config: llama is missing"),
        ("HLLM", {"llama": {"hidden_size": "wide"}}, r"llama\.hidden_size is 'wide'; expected a whole number"),
        ("HLLM", {"item_emb_token_n": 0}, "config: item_emb_token_n is 0; expected 1"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(name, changes, says):
    with pytest.raises(ValueError, match=says):
        import_reference(config(name, **changes), state(name))


def test_the_configuration_is_a_table():
    with pytest.raises(ValueError, match="config: list; expected a table"):
        import_reference([], {})


@pytest.mark.parametrize("name", PERSONALIZED)
@torch.no_grad()
def test_an_imported_cache_gives_the_joint_pass(name):
    settings = config(name)
    model = import_reference(settings, state(name))
    extra, cuts = given(model), offsets(settings)
    items = torch.tensor([[1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 0, 0, 8, 2], [0, 0, 0, 4, 5, 1, 3]])
    joint = model.score(items, **extra)
    cache = model.compress(items[:, : cuts[0]], **extra)
    for start, stop in itertools.pairwise(cuts):
        cache = model.extend(cache, items[:, start:stop], **extra)
    torch.testing.assert_close(model.score(items[:, cuts[-1] :], cache=cache, **extra), joint, rtol=0, atol=TOLERANCE)


@torch.no_grad()
def test_the_experts_of_an_empty_segment_are_shown():
    model, items = import_reference(config("PersonalizedHSTU"), state("PersonalizedHSTU")), torch.tensor([[0, 0, 3, 4, 5, 6, 7]])
    before = model.score(items)
    model.compression.tokens[0].neg_()  # the one behind the first two items, which this row has not
    assert (model.score(items) - before).abs().max() > 1e-3


def test_one_block_is_the_plan_where_no_list_is_given():
    settings = config("PersonalizedHSTU", insert_method=None)
    model = import_reference(settings, state("PersonalizedHSTU"))
    assert model.layout.offsets == (5,)
    assert model.layout.tokens == 3


@pytest.mark.parametrize(("flash", "causal"), [({}, False), ({"use_ft_flash_attn": False}, False), ({"use_ft_flash_attn": True}, True)])
def test_the_item_llama_is_causal_where_the_public_code_uses_flash_attention(flash, causal):
    assert import_reference(config("HLLM", **flash), state("HLLM")).items.causal is causal

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

from persrec.backbones import BackboneSettings, build_backbone
from persrec.backbones.llama import Llama, llama_config, small_llama_config
from persrec.nn.cache import Chunk, empty_cache

pytestmark = pytest.mark.usefixtures("one_thread")

USERS, LENGTH = 3, 11
CLOSE = {"rtol": 0, "atol": 1e-5}
SHAPE = {
    "vocab_size": 13,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3["original_max_position_embeddings"] = 16


def hugging_face(**changes):
    """A model of Hugging Face with weights of trained-like size."""
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**(SHAPE | changes))).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(std=weight.shape[-1] ** -0.5 if weight.dim() > 1 else 0.3).add_(float(name.endswith("norm.weight")))
    return model


def ours(theirs, *, length=64):
    llama = Llama(theirs.config, length=length).eval()
    llama.load_state_dict({name: weight for name, weight in theirs.state_dict().items() if not name.startswith("embed_tokens")})
    return llama


def vectors(*, seed=1, count=LENGTH):
    return torch.randn(USERS, count, SHAPE["hidden_size"], generator=torch.Generator().manual_seed(seed))


def chunk(inputs, *, positions=None, valid=None, kept=0):
    count = inputs.shape[1]
    return Chunk(
        inputs=inputs,
        positions=torch.arange(count) if positions is None else positions,
        valid=torch.ones(len(inputs), count, dtype=torch.bool) if valid is None else valid,
        key_times=None,
        query_times=None,
        kept=kept,
        items=count,
    )


def nothing_yet(users=USERS):
    return empty_cache(users=users, layout="", timed=False, device=torch.device("cpu"))


def their_hidden(model, inputs, *, valid=None, positions=None):
    count = inputs.shape[1]
    positions = torch.arange(count) if positions is None else positions
    mask = None if valid is None else valid.long()
    return model(inputs_embeds=inputs, attention_mask=mask, position_ids=positions.expand(len(inputs), -1)).last_hidden_state


@pytest.mark.parametrize("kernel", ["segmented", "naive"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"num_key_value_heads": 4}, {"num_key_value_heads": 1}, {"head_dim": 10}, {"attention_bias": True, "mlp_bias": True},
     {"rope_parameters": LLAMA3}],
    ids=["grouped", "not grouped", "one key head", "wide heads", "biases", "scaled rotation"],
)  # fmt: skip
@torch.no_grad()
def test_the_whole_forward_equals_hugging_face(changes, kernel):
    theirs = hugging_face(**changes)
    llama = ours(theirs)
    llama.kernel = kernel
    hidden, kept = llama(chunk(vectors()), nothing_yet())
    torch.testing.assert_close(hidden, their_hidden(theirs, vectors()), **CLOSE)
    assert len(kept) == SHAPE["num_hidden_layers"]


@pytest.mark.parametrize("kernel", ["segmented", "naive"])
@pytest.mark.parametrize("side", ["left", "right", "holes"])
@torch.no_grad()
def test_padding_is_masked_as_in_hugging_face(side, kernel):
    theirs = hugging_face()
    llama = ours(theirs)
    llama.kernel = kernel
    valid = torch.ones(USERS, LENGTH, dtype=torch.bool)
    padded = {"left": slice(0, 4), "right": slice(7, None), "holes": [1, 4, 5]}[side]
    valid[1, padded] = False
    hidden, _ = llama(chunk(vectors(), valid=valid), nothing_yet())
    expected = their_hidden(theirs, vectors(), valid=valid)
    torch.testing.assert_close(hidden[valid], expected[valid], **CLOSE)
    assert hidden.isfinite().all()
    matters = not torch.allclose(hidden[1, valid[1]], their_hidden(theirs, vectors())[1, valid[1]], atol=1e-3)
    assert matters == (side != "right")  # what lies behind is never seen


@torch.no_grad()
def test_positions_are_the_slots_not_the_order():
    theirs = hugging_face()
    slots = torch.tensor([0, 1, 2, 3, 9, 10, 11, 20, 21, 40, 63])
    hidden, _ = ours(theirs)(chunk(vectors(), positions=slots), nothing_yet())
    torch.testing.assert_close(hidden, their_hidden(theirs, vectors(), positions=slots), **CLOSE)
    assert not torch.allclose(hidden, their_hidden(theirs, vectors()), atol=1e-3)


@torch.no_grad()
def test_a_chunk_against_a_cache_of_everything_equals_the_whole():
    theirs = hugging_face()
    llama, inputs, cache, hidden = ours(theirs), vectors(), nothing_yet(), []
    for start, stop in ((0, 4), (4, 5), (5, LENGTH)):
        part = chunk(inputs[:, start:stop], positions=torch.arange(start, stop), kept=stop - start)
        states, kept = llama(part, cache)
        cache = cache.append(part, kept)
        hidden.append(states)
    torch.testing.assert_close(torch.cat(hidden, dim=1), their_hidden(theirs, inputs), **CLOSE)


@torch.no_grad()
def test_only_the_last_kept_positions_are_cached_and_heads_are_not_repeated():
    theirs = hugging_face()
    llama, part = ours(theirs), chunk(vectors(), kept=2)
    cache = nothing_yet().append(part, llama(part, nothing_yet())[1])
    assert [tuple(keys.shape) for keys, _ in cache.layers] == [(USERS, 2, 2, 6)] * 3
    assert cache.nbytes_per_user == 2 * llama.cache_width() * 4
    assert llama.cache_width() == 3 * 2 * 2 * 6  # layers x (K, V) x key-value heads x width of a head
    after = chunk(vectors(seed=2, count=3), positions=torch.arange(LENGTH, LENGTH + 3))
    visible = torch.ones(LENGTH + 3, LENGTH + 3).tril().bool()
    visible[LENGTH:, : LENGTH - 2] = False  # what follows sees the kept two and itself
    joint = torch.cat([vectors(), vectors(seed=2, count=3)], dim=1)
    expected = llama.masked(joint, torch.arange(LENGTH + 3)[None], visible.expand(USERS, -1, -1))
    torch.testing.assert_close(llama(after, cache)[0], expected[:, LENGTH:], **CLOSE)


@pytest.mark.parametrize("prefix", [0, 5])
def test_the_formula_equals_the_counter(prefix):
    llama, users = ours(hugging_face()), 1
    cache = nothing_yet(users)
    if prefix:
        before = chunk(vectors()[:users, :prefix], kept=prefix)
        cache = cache.append(before, llama(before, cache)[1])
    part = chunk(vectors()[:users], positions=torch.arange(prefix, prefix + LENGTH))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        llama(part, cache)
    macs = llama.macs(positions=LENGTH, pairs=llama.executed_pairs(queries=LENGTH, prefix=prefix))
    assert counter.get_total_flops() == 2 * sum(macs.values())
    # one layer by hand: q and o 24 x 24, k and v 24 x 12, three maps of 24 x 40, two products of 24 a pair
    assert macs["projections"] == 3 * LENGTH * (2 * 24 * 24 + 2 * 24 * 12)
    assert macs["feed_forward"] == 3 * LENGTH * 3 * 24 * 40
    assert macs["attention"] == 3 * LENGTH * (prefix + LENGTH) * 2 * 24


@pytest.mark.parametrize(("heads", "key_heads"), [(1, 1), (2, 1), (3, 3), (4, 2)])
def test_a_small_llama_groups_its_heads_by_two(heads, key_heads):
    config = small_llama_config(width=24, layers=1, heads=heads, positions=8)
    assert config.num_key_value_heads == key_heads
    assert config.intermediate_size == 64  # 8 / 3 of the width


def test_a_width_that_cannot_be_rotated_is_refused():
    with pytest.raises(ValueError, match="width: 12 over 4 heads"):
        small_llama_config(width=12, layers=1, heads=4, positions=8)


@torch.no_grad()
def test_a_fresh_llama_hands_its_inputs_on():
    llama = Llama(small_llama_config(width=24, layers=2, heads=2, positions=LENGTH), length=LENGTH).eval()
    hidden, _ = llama(chunk(vectors()), nothing_yet())
    torch.testing.assert_close(hidden, torch.nn.functional.rms_norm(vectors(), (24,), eps=1e-6), **CLOSE)


@torch.no_grad()
def test_dropout_is_of_training_alone():
    llama = Llama(LlamaConfig(**SHAPE), length=LENGTH, dropout=0.5, branch_scale=1.0).eval()
    kept = llama(chunk(vectors()), nothing_yet())[0]
    torch.testing.assert_close(kept, llama(chunk(vectors()), nothing_yet())[0], rtol=0, atol=0)
    assert not torch.allclose(kept, llama.train()(chunk(vectors()), nothing_yet())[0], atol=1e-2)


@pytest.mark.parametrize("kind", [LlamaModel, LlamaForCausalLM])
@torch.no_grad()
def test_a_local_folder_gives_the_decoder_and_its_token_embedding(kind, tmp_path):
    theirs = hugging_face()
    saved = theirs
    if kind is LlamaForCausalLM:
        saved = LlamaForCausalLM(theirs.config)
        saved.model.load_state_dict(theirs.state_dict())
    saved.save_pretrained(tmp_path / "model")
    llama, embed_tokens = Llama.from_folder(tmp_path / "model", length=LENGTH)
    torch.testing.assert_close(llama.eval()(chunk(vectors()), nothing_yet())[0], their_hidden(theirs, vectors()), **CLOSE)
    torch.testing.assert_close(embed_tokens.weight, theirs.embed_tokens.weight, rtol=0, atol=0)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        Llama.from_folder(tmp_path / "nowhere", length=LENGTH)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="cannot be read as a Llama"):
        Llama.from_folder(tmp_path, length=LENGTH)


def told(error):
    return re.sub(r"\s+", " ", str(error.value))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: rewritten(folder / "config.json", model_type="qwen2"), "its model_type is 'qwen2'; expected 'llama'"),
        (lambda folder: rewritten(folder / "config.json", num_hidden_layers=9), "is no whole Llama: it lacks layers."),
        (lambda folder: rewritten(folder / "config.json", intermediate_size=24), "cannot be read as a Llama"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"version https://git-lfs"), "cannot be read as a Llama"),
        (lambda folder: (folder / "config.json").write_text("[]"), "cannot be read as a Llama"),
        (lambda folder: with_a_bias(folder / "model.safetensors"), "also holds layers.0.self_attn.q_proj.bias, and 0 more"),
    ],
)
def test_a_folder_that_does_not_hold_all_of_a_llama_and_nothing_else_is_refused(change, message, tmp_path):
    hugging_face().save_pretrained(tmp_path)
    Llama.from_folder(tmp_path, length=LENGTH)
    change(tmp_path)
    with pytest.raises(ValueError, match="^folder: ") as error:
        Llama.from_folder(tmp_path, length=LENGTH)
    assert message in told(error)


def rewritten(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def with_a_bias(path):
    tensors = load_file(path)
    save_file(tensors | {"layers.0.self_attn.q_proj.bias": torch.zeros(len(tensors["layers.0.self_attn.q_proj.weight"]))}, path)


@pytest.mark.parametrize("sizes", [{"key_value_heads": 1}, {"feed_forward": 8}])
def test_sizes_that_a_folder_s_model_does_not_have_are_refused(sizes, tmp_path):
    config = hugging_face().config
    hugging_face().save_pretrained(tmp_path)
    asked = {"width": config.hidden_size, "layers": config.num_hidden_layers, "heads": config.num_attention_heads, "length": LENGTH}
    has = {"key_value_heads": config.num_key_value_heads, "feed_forward": config.intermediate_size}
    build_backbone("llama", BackboneSettings(**asked, **has, weights=tmp_path))
    assert sizes.items().isdisjoint(has.items())
    with pytest.raises(ValueError, match=f"^weights: .* holds a Llama of .*; expected .*{next(iter(sizes))} {next(iter(sizes.values()))}"):
        build_backbone("llama", BackboneSettings(**asked, **sizes, weights=tmp_path))


def test_a_rotation_that_depends_on_the_length_is_refused():
    dynamic = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    with pytest.raises(ValueError, match="rope_type: 'dynamic'"):
        Llama(LlamaConfig(**SHAPE, rope_parameters=dynamic), length=LENGTH)


def test_a_shape_that_does_not_fit_is_refused_by_name():
    with pytest.raises(ValueError, match="hidden_size"):
        llama_config(SHAPE | {"hidden_size": "wide"})


def test_far_positions_keep_their_angles_in_half_precision():
    llama = Llama(LlamaConfig(**SHAPE), length=4001).bfloat16()
    expected = torch.tensor(4000.0, dtype=torch.float64).cos()  # the first frequency is 1
    torch.testing.assert_close(llama.cosines[4000, 0].double(), expected, rtol=0, atol=4e-3)

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from persrec.backbones import BackboneSettings, build_backbone
from persrec.backbones.pretrained import model_folder

SHAPE = {"vocab_size": 5, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES = {"width": 8, "layers": 2, "heads": 2, "length": 6}


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    LlamaModel(LlamaConfig(**SHAPE, bos_token_id=None, eos_token_id=None)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_is_its_own_place(folder):
    assert model_folder(folder) == folder
    assert model_folder(str(folder)) == folder


def test_a_name_is_looked_up_in_the_local_cache_alone(tmp_path):
    kept = tmp_path / "hub" / "models--own--tiny"
    (kept / "snapshots" / "abc").mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("abc")
    (kept / "snapshots" / "abc" / "config.json").write_text("{}")
    assert model_folder("own/tiny", cache_dir=tmp_path / "hub") == kept / "snapshots" / "abc"


@pytest.mark.parametrize("name", ["own/other", "no such name"])
def test_what_is_not_at_hand_is_not_fetched(tmp_path, name):
    with pytest.raises(ValueError, match=f"weights: '{name}' is no folder, and no model of that name is at hand; with download=True"):
        model_folder(name, cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["llama", "hllm"])
def test_a_llama_starts_from_the_weights_of_a_folder(folder, name):
    llama = build_backbone(name, BackboneSettings(**SIZES, weights=folder))
    for key, weight in LlamaModel.from_pretrained(folder).state_dict().items():
        if not key.startswith("embed_tokens"):
            torch.testing.assert_close(llama.state_dict()[key], weight, rtol=0, atol=0)


def test_weights_that_do_not_fit_are_refused(folder):
    with pytest.raises(ValueError, match="holds a Llama of width 8, layers 2, heads 2; expected width 16, layers 2, heads 2"):
        build_backbone("llama", BackboneSettings(**(SIZES | {"width": 16}), weights=folder))
    with pytest.raises(ValueError, match="weights: .* for a hstu"):
        build_backbone("hstu", BackboneSettings(**SIZES, weights=folder))

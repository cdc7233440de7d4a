import json

import pytest
import torch
from torch import nn

from persrec.checkpoints import CheckpointError, check_checkpoint, is_whole, load_facts, load_weights, save_checkpoint


def model(width=3):
    return nn.Linear(width, 2)


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path / "model", model(), {"epochs": 3})
    return tmp_path / "model"


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-4])


def zero(path):
    """As a file system may leave it when the power fails: as long as it was, and nothing in it."""
    path.write_bytes(bytes(path.stat().st_size))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def nest(path):
    path.write_text("[" * 100_000)


DAMAGE = [
    *((name, how) for name in ("weights.safetensors", "model.json") for how in (empty, cut, zero, lambda path: path.unlink())),
    ("weights.safetensors", flip),
    ("model.json", nest),
    ("model.json", lambda path: path.write_text("[]")),
]


def test_a_whole_checkpoint_is_loaded_as_it_was_saved(folder):
    assert is_whole(folder)
    assert load_facts(folder)["epochs"] == 3
    saved, other = model(), model()
    save_checkpoint(folder, saved, {})
    load_weights(folder, other)
    assert torch.equal(saved.weight, other.weight)


@pytest.mark.parametrize(("name", "damage"), DAMAGE)
def test_a_damaged_checkpoint_is_one_kind_of_error_that_names_the_file_and_loads_nothing(folder, name, damage):
    damage(folder / name)
    other = model()
    before = other.weight.clone()
    assert not is_whole(folder)
    for read in (lambda: check_checkpoint(folder), lambda: load_weights(folder, other)):
        with pytest.raises(CheckpointError, match=f"^checkpoint: {folder / name} "):
            read()
    assert torch.equal(other.weight, before)


def test_a_checkpoint_of_another_model_is_the_same_kind_of_error(folder):
    with pytest.raises(CheckpointError, match=r"does not fit the model: state: misshapen: weight \[2, 3\], expected \[2, 4\]"):
        load_weights(folder, model(4))


def test_a_folder_that_is_not_there_is_not_whole(tmp_path):
    assert not is_whole(tmp_path / "none")


def test_a_checkpoint_without_a_digest_is_taken_by_its_size(folder):
    facts = load_facts(folder)
    facts.pop("weights_sha256")
    (folder / "model.json").write_text(json.dumps(facts))
    assert is_whole(folder)
    cut(folder / "weights.safetensors")
    assert not is_whole(folder)

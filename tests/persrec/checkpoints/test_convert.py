import json
import os
import subprocess
import sys

import pytest
import torch
from public_models import CONFIGS, config, state

from persrec.checkpoints import import_reference, load_facts, load_imported
from persrec.checkpoints.__main__ import main

pytestmark = pytest.mark.usefixtures("one_thread")

ITEMS = torch.tensor([[1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 0, 0, 8, 2]])


@pytest.fixture
def call(tmp_path, capsys):
    """Runs convert on what stands in ``tmp_path``; returns the exit code, the lines told, and the folder."""

    def run(weights, settings, *, out="out"):
        file, config_file, folder = tmp_path / "in" / "model.pth", tmp_path / "in" / "config.json", tmp_path / "made" / out
        file.parent.mkdir(exist_ok=True)
        (tmp_path / "made").mkdir(exist_ok=True)
        if isinstance(weights, bytes):
            file.write_bytes(weights)
        elif weights is not None:
            torch.save(weights, file)
        config_file.write_text(settings if isinstance(settings, str) else json.dumps(settings))
        code = main(["convert", str(file), "--config", str(config_file), "--out", str(folder)])
        told = capsys.readouterr()
        return code, told.out, told.err, folder

    return run


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_a_converted_model_is_the_imported_one(name, call):
    code, out, err, folder = call(state(name), config(name))
    assert (code, err) == (0, "")
    assert out == f"{folder}: {name} of model.pth\n"
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "weights.safetensors"]
    ours, theirs = load_imported(folder), import_reference(config(name), state(name))
    for key, weight in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], weight, rtol=0, atol=0, msg=key)
    if "HLLM" not in name:
        torch.testing.assert_close(ours.score(ITEMS), theirs.score(ITEMS), rtol=0, atol=0)
    assert load_facts(folder)["reference"] == config(name)


@pytest.mark.parametrize("part", ["model", "state_dict", "module"])
def test_weights_are_found_beside_other_things_and_under_a_wrapper(part, call):
    wrapped = {f"module.{key}": weight for key, weight in state("HSTU").items()}
    code, _, err, folder = call({part: wrapped, "epoch": 3}, config("HSTU"))
    assert (code, err) == (0, "")
    torch.testing.assert_close(load_imported(folder).items.embedding.weight, state("HSTU")["item_embedding.weight"], rtol=0, atol=0)


class Elsewhere:
    """A class that a reader does not know."""

    def __reduce__(self):
        return (os.system, ("echo this must not run > /dev/null",))


BAD = {
    "no file": (None, config("HSTU"), "is not there"),
    "text": (b"hello", config("HSTU"), "cannot be read"),
    "empty": (b"", config("HSTU"), "cannot be read"),
    "objects": ({"model": state("HSTU"), "config": Elsewhere()}, config("HSTU"), "holds more than tensors and plain values"),
    "a list": ([1, 2], config("HSTU"), "holds list; expected tensors by name"),
    "no tensors": ({"epoch": 1, "step": 2}, config("HSTU"), "holds epoch, step; expected tensors by name"),
    "nothing": ({}, config("HSTU"), "holds nothing; expected tensors by name"),
    "no JSON": (state("HSTU"), "{", "cannot be read as JSON"),
    "no table": (state("HSTU"), "[]", "holds list; expected a table"),
    "another model": (state("SASRec"), config("HSTU"), "state: missing: _hstu"),
    "a setting missing": (state("HSTU"), {"model": "HSTU"}, "is missing"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_writes_nothing(name, call):
    weights, settings, says = BAD[name]
    code, out, err, folder = call(weights, settings)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("python -m persrec.checkpoints: ")
    assert says in err
    assert list(folder.parent.iterdir()) == []


def test_a_cut_file_writes_nothing(call, tmp_path):
    torch.save(state("HSTU"), tmp_path / "whole.pth")
    code, _, err, folder = call((tmp_path / "whole.pth").read_bytes()[:2000], config("HSTU"))
    assert code == 2
    assert "cannot be read" in err
    assert list(folder.parent.iterdir()) == []


def test_what_is_there_is_not_overwritten(call):
    assert call(state("HSTU"), config("HSTU"))[0] == 0
    code, _, err, folder = call(state("HSTU", seed=1), config("HSTU"))
    assert (code, f"{folder} exists; expected a new folder" in err) == (2, True)
    torch.testing.assert_close(load_imported(folder).items.embedding.weight, state("HSTU")["item_embedding.weight"], rtol=0, atol=0)


def test_a_folder_that_cannot_be_made_is_one_line(call, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "file").write_text("")
    code, _, err, _ = call(state("HSTU"), config("HSTU"), out="file/deeper")
    assert (code, err.count("\n")) == (2, 1)
    assert (tmp_path / "made" / "file").read_text() == ""


@pytest.mark.parametrize("argv", [[], ["convert"], ["convert", "x.pth"], ["other"], ["convert", "x.pth", "--conf", "c", "--out", "o"]])
def test_bad_usage_is_one_line(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        load_imported(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a converted model"):
        load_imported(tmp_path)


def test_the_module_is_a_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "persrec.checkpoints", "convert"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("python -m persrec.checkpoints convert: the following arguments are required")

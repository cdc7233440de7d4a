"""A model whose cell asks for several processes: torchrun trains it, and what comes out is a model as any other."""

import json
import os
import subprocess
from dataclasses import replace

import pytest
from tiny_cells import SIZES

from benchmarks import execute
from benchmarks.cell import Cell, UnsupportedError
from benchmarks.keys import model_key
from persrec.checkpoints.folder import read_weights

# its weights are sharded, and put together to be validated and to be kept
CELL = Cell(backbone="hllm", compression="experts", tokens=2, world_size=2, dropout=0.0, **(SIZES | {"batch_size": 16}))


def payload(cell, place):
    where = {"data_dir": None, "cache_dir": str(place / "cache"), "model_dir": str(place / f"model{cell.world_size}")}
    return {"cell": cell.to_dict(), "code_digest": "code", **where}


def test_a_model_that_two_processes_train_is_a_model_as_any_other(tmp_path, one_thread, global_settings_as_before):
    phases = []
    answer = execute.train_model(payload(CELL, tmp_path), phases.append)
    alone = execute.train_model(payload(replace(CELL, world_size=1), tmp_path), lambda phase: None)
    facts, facts_alone = (json.loads((tmp_path / f"model{size}" / "model.json").read_text()) for size in (2, 1))
    assert answer == {"epochs": len(facts["curve"])} == alone
    assert any(phase.startswith("epoch 1 of") for phase in phases)
    assert facts["cell"]["world_size"] == 2
    assert facts["machine"] == facts_alone["machine"] is not None
    assert "world_size" not in facts_alone["cell"]
    assert facts["steps"] == facts_alone["steps"]
    assert facts["targets"] == facts_alone["targets"]
    assert facts["curve"][0]["validation"] == pytest.approx(facts_alone["curve"][0]["validation"], abs=0.02)
    assert facts["curve"][0]["loss"] == pytest.approx(facts_alone["curve"][0]["loss"], abs=1e-3)
    weights, weights_alone = (read_weights(tmp_path / f"model{size}") for size in (2, 1))
    assert {name: tensor.shape for name, tensor in weights.items()} == {name: tensor.shape for name, tensor in weights_alone.items()}
    assert sorted(path.name for path in (tmp_path / "model2").iterdir()) == ["model.json", "weights.safetensors"]


def test_a_process_that_fails_says_why(tmp_path, one_thread, global_settings_as_before):
    with pytest.raises(RuntimeError, match="DivergedError: training: diverged in epoch 1"):
        execute.train_model(payload(replace(CELL, learning_rate=1e38), tmp_path), lambda phase: None)
    assert not (tmp_path / "model2" / "model.json").exists()


def test_more_processes_than_processors_are_refused_before_one_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(UnsupportedError, match="^world_size: 99 on a machine of 2 processors; expected 2 at most$"):
        execute.train_model(payload(replace(CELL, world_size=99), tmp_path), lambda phase: None)


def test_processes_are_a_setting_of_the_model_alone():
    assert model_key(CELL, dataset_digest="d") != model_key(replace(CELL, world_size=1), dataset_digest="d")
    with pytest.raises(ValueError, match="world_size: 0 is less than 1"):
        replace(CELL, world_size=0)

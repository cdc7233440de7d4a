"""The lines that serve a chosen model run as they stand, and rank as the model's joint pass does."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from fabricated_records import fabricate, records_of, write

from benchmarks import execute
from benchmarks.advise import command
from benchmarks.advise.command import main
from benchmarks.advise.lines import dataset_argument, serving_lines
from benchmarks.cell import Cell
from benchmarks.keys import model_key
from benchmarks.probes.models import served_model
from persrec.checkpoints import load_weights, save_checkpoint
from persrec.data import load_dataset
from persrec.data.splits import split_of
from persrec.evaluation.states import repeats, user_states

SIZES = {"dataset_size": "tiny", "history": 12, "recent": 4, "width": 8, "layers": 1, "negatives": 16, "epochs": 1}
CELLS = {
    "a store of caches": Cell(backbone="hstu", compression="experts", segments=2, tokens=4, time_bias=True, **SIZES),
    "elastic in history": Cell(
        backbone="sasrec", compression="experts", tokens=2, training="elastic", elastic_tokens=(0, 2), elastic_history=(3, 12),
        **(SIZES | {"history": 3}),
    ),
    "a memory's states": Cell(backbone="sasrec", compression="memory", segments=2, tokens=3, **SIZES),
    "texts, an int8 store": Cell(backbone="hllm", compression="experts", tokens=2, cache_dtype="int8", **SIZES),
    "appended": Cell(backbone="hstu", compression="experts", tokens=2, serving="append", **SIZES),
    "recomputed": Cell(backbone="sasrec", compression="full", serving="recompute", time_bias=False, **SIZES),
    "a store, counted": Cell(backbone="sasrec", compression="experts", tokens=2, counts="all", **SIZES),
    "appended, counted": Cell(backbone="hstu", compression="experts", tokens=2, serving="append", counts="all", **SIZES),
    "recomputed, counted": Cell(backbone="sasrec", compression="full", serving="recompute", counts="all", **SIZES),
    "recent alone": Cell(backbone="sasrec", compression="recent", **SIZES),
}  # fmt: skip


@pytest.fixture(scope="module")
def data_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run_of(tmp_path, monkeypatch, data_cache, one_thread, global_settings_as_before):
    """A run's folder with the model of a cell, trained as by a run or as it was made, beside a record of it."""
    monkeypatch.setenv("PERSREC_CACHE", str(data_cache))

    def make(cell: Cell, *, trained: bool = False, leaves_out: bool = False):
        log = load_dataset("synthetic", size="tiny")
        key = model_key(cell, dataset_digest=log.digest)
        folder = tmp_path / "run" / "models" / key
        if trained:
            payload = {"cell": cell.to_dict(), "model_dir": str(folder), "data_dir": None, "cache_dir": None, "code_digest": "code"}
            execute.train_model(payload, lambda phase: None)
        else:
            save_checkpoint(folder, lively(served_model(cell, log)), {})
        record = fabricate(cell, dataset_digest=log.digest)
        record["model"]["key"] = key
        record["dataset"]["exclude_seen"] = leaves_out
        write(tmp_path / "run", [record])
        return tmp_path / "run", records_of(record)[0]

    return make


def lively(model):
    """With an output that counts as a trained one does: an untrained one adds nothing."""
    if model.counting is not None:
        torch.nn.init.normal_(model.counting.weights.bias, std=0.3)
    return model


def best_by_the_joint_pass(cell: Cell, folder) -> np.ndarray:
    """The ten best items of the first four test users, from the whole window at once."""
    log = load_dataset("synthetic", size="tiny")
    model = served_model(cell, log)
    load_weights(folder, model)
    split = split_of(log, cell.split)
    states = user_states(model, split, "test", time_bias=cell.time_bias, history=cell.history)[:4]
    with torch.no_grad():
        scores = states @ model.item_features().T
        added = repeats(model, states, split, "test", history=cell.history)
        scores = scores if added is None else scores.scatter_add(1, *added(slice(0, 4)))
    return (scores[:, 1:].topk(10).indices + 1).numpy()


@pytest.mark.parametrize("name", CELLS)
def test_they_run_and_rank_as_the_joint_pass_does(run_of, name):
    run, record = run_of(CELLS[name])
    names: dict[str, object] = {}
    exec(compile(serving_lines(record, run), "lines", "exec"), names)  # noqa: S102 - our own lines
    if record.cell.cache_dtype == "float32":  # else the cache is rounded, and near ties may change places
        expected = best_by_the_joint_pass(CELLS[name], run / "models" / record.model.key)
        np.testing.assert_array_equal(names["ids"].numpy(), expected)
    assert names["ids"].shape == (4, 10)
    assert ("store" in names) == (
        name in ("a store of caches", "elastic in history", "a memory's states", "texts, an int8 store", "a store, counted")
    )


@pytest.mark.parametrize("name", ["a store of caches", "appended", "recomputed"])
def test_on_a_temporal_split_they_serve_four_users_and_not_one_four_times(run_of, name):
    run, record = run_of(dataclasses.replace(CELLS[name], split="temporal"))
    names: dict[str, object] = {}
    exec(compile(serving_lines(record, run), "lines", "exec"), names)  # noqa: S102 - our own lines
    assert names["ids"].shape == (4, 10)
    assert len(set(names["users"].tolist())) == 4


def test_what_a_user_had_before_the_window_is_left_out_too(run_of):
    run, record = run_of(CELLS["a store of caches"], leaves_out=True)
    names: dict[str, object] = {}
    exec(compile(serving_lines(record, run), "lines", "exec"), names)  # noqa: S102 - our own lines
    split = split_of(load_dataset("synthetic", size="tiny"), "leave-one-out")
    past = split.past("test")
    for row, ids in enumerate(names["ids"].tolist()):
        had = past.items[past.offsets[row] : past.offsets[row + 1]].tolist()
        assert len(had) > names["items"].shape[1]
        assert not {*ids} & {*had}


def test_the_command_prints_lines_that_serve_the_model_that_a_run_trained(run_of, capsys):
    run, record = run_of(CELLS["a store of caches"], trained=True)
    assert main([str(run)]) == 0
    said = capsys.readouterr().out
    assert "its model is not in" not in said
    program = "\n".join(line[4:] for line in said.partition("To serve the first")[2].splitlines()[2:])
    names: dict[str, object] = {}
    exec(compile(program, "lines", "exec"), names)  # noqa: S102 - our own lines
    expected = best_by_the_joint_pass(CELLS["a store of caches"], run / "models" / record.model.key)
    np.testing.assert_array_equal(names["ids"].numpy(), expected)


def test_the_command_that_trains_a_model_is_one_of_a_shell():
    (record,) = records_of(fabricate(CELLS["recent alone"]))
    argv = ("python", "-m", "benchmarks.run", "--select", "tokens=0|4", "--out", "it's", "--data-dir", "$PERSREC_DATA")
    own = dataclasses.replace(record, provenance=dataclasses.replace(record.provenance, rerun=None, argv=argv))
    line = command._rerun(own, Path("my runs"))
    assert line == "python -m benchmarks.run --select 'tokens=0|4' --data-dir \"$PERSREC_DATA\" --out 'my runs'"


@pytest.mark.parametrize("out", [" --out full", " --out 'my runs'", " --out=full", " --out 'it'\"'\"'s'", ""])
def test_a_model_that_is_gone_is_trained_into_the_folder_that_was_asked_about(out, tmp_path):
    (record,) = records_of(fabricate(CELLS["recent alone"]))
    own = dataclasses.replace(record, provenance=dataclasses.replace(record.provenance, rerun=f"--grid full{out} --resume always"))
    assert command._rerun(own, tmp_path) == f"--grid full --resume always --out {tmp_path}"


def test_a_table_of_ones_own_is_loaded_by_the_path_that_the_run_was_told():
    (record,) = records_of(fabricate(CELLS["recent alone"]))
    own = dataclasses.replace(
        record,
        cell=dataclasses.replace(record.cell, dataset="shop"),
        provenance=dataclasses.replace(record.provenance, rerun="python -m benchmarks.run --dataset 'my shop.toml' --select tokens=0"),
    )
    assert dataset_argument(record) == "synthetic"
    assert dataset_argument(own) == "my shop.toml"

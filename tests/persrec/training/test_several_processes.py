"""Two processes train the model that one trains: the same losses, the same ranks, and a state of either that the other goes on from."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import two_processes
from small_models import CASES, build, small_recipe
from two_processes import DATA, RECIPES, model_of, ranks_of, trained

from persrec.training import StateError, Team, Trainer
from persrec.training.sharded import FACTS, ShardedKeeper

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """What two processes came to, as torchrun starts them: from the start, and from the state that one process left."""
    out = tmp_path_factory.mktemp("two")
    for case in RECIPES:
        trained(case, Team(), ShardedKeeper(out / f"{case} of one", Team(), every_s=1e9), steps=two_processes.ONE)
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(HERE / "two_processes.py")]
    ended = subprocess.run([*command, str(out)], env=surroundings, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return out, json.loads((out / "told.json").read_text())


@pytest.mark.parametrize("case", RECIPES)
def test_two_processes_train_as_one_does(of_two, case):
    out, told = of_two
    losses, model = trained(case, Team())
    assert told[case]["size"] == 2
    assert len(losses) == two_processes.STEPS
    np.testing.assert_allclose(told[case]["losses"], losses, rtol=0, atol=1e-4)
    assert losses[-1] < losses[0]
    (ranks, near), (of_two_ranks, _) = ranks_of(model), told[case]["ranks"]
    assert len(set(ranks)) > 1
    assert sum(near) < len(near)
    gaps = np.abs(np.array(ranks) - np.array(of_two_ranks))
    assert (gaps <= near).all(), (ranks, of_two_ranks, near)


@pytest.mark.parametrize("case", RECIPES)
def test_a_state_of_two_processes_loads_in_one(of_two, case):
    out, _ = of_two
    model = model_of(case)
    trainer = Trainer(model=model, data=DATA, recipe=RECIPES[case], validate=lambda: 1.0)
    assert ShardedKeeper(out / case, Team()).restore(trainer._training())
    assert trainer.progress.steps == two_processes.STEPS
    for name, weight in torch.load(out / f"{case}.pt").items():
        assert torch.equal(weight, model.state_dict()[name]), name
    further, _ = trained(case, Team(), ShardedKeeper(out / case, Team()), steps=two_processes.STEPS + 5)
    unbroken, _ = trained(case, Team(), steps=two_processes.STEPS + 5)
    np.testing.assert_allclose(further, unbroken[-5:], rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", RECIPES)
def test_two_processes_take_up_what_one_left_and_one_what_these_left(of_two, case):
    out, told = of_two
    taken_back, _ = trained(case, Team(), ShardedKeeper(out / f"{case} of one", Team(), every_s=1e9))
    unbroken, _ = trained(case, Team())
    assert len(told[case]["taken up"]) == two_processes.TWO - two_processes.ONE
    np.testing.assert_allclose(told[case]["taken up"] + taken_back, unbroken[two_processes.ONE :], rtol=0, atol=1e-4)


def test_a_state_of_another_recipe_is_refused(of_two):
    out, _ = of_two
    recipe = dataclasses.replace(RECIPES["hstu"], learning_rate=0.5)
    trainer = Trainer(model=model_of("hstu"), data=DATA, recipe=recipe, validate=lambda: 1.0)
    with pytest.raises(StateError, match="learning_rate"):
        ShardedKeeper(out / "hstu", Team()).restore(trainer._training())


def test_shards_are_read_without_unpickling_and_lie_beside_their_facts(of_two, tmp_path):
    out, _ = of_two
    files = [path for path in (out / "hllm").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    facts = json.loads((out / "hllm" / FACTS).read_text())
    trainer = Trainer(model=model_of("hllm"), data=DATA, recipe=RECIPES["hllm"], validate=lambda: 1.0)
    for shards in ("../elsewhere", str(out / "hllm" / facts["shards"]), ".", 7):
        (tmp_path / FACTS).write_text(json.dumps(facts | {"shards": shards}))
        with pytest.raises(StateError, match=r"^state: "):
            ShardedKeeper(tmp_path, Team()).restore(trainer._training())
    weights = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    progress = {name: value for name, value in facts["progress"].items() if name != "targets"}
    for changes in ({"rng": None}, {"progress": progress}, {"progress": None}):
        (tmp_path / FACTS).write_text(json.dumps(facts | changes))
        with pytest.raises(StateError, match=r"^state: .*cannot be read as a training run's"):
            ShardedKeeper(tmp_path, Team()).restore(trainer._training())
    assert all(torch.equal(weight, weights[name]) for name, weight in trainer.model.state_dict().items())


def test_parts_of_a_step_add_up_to_it_where_not_every_recent_item_predicts(monkeypatch):
    """A retrieval's first recent items ask for the history and predict nothing, so fewer columns than recent items predict."""
    monkeypatch.setattr(two_processes, "model_of", lambda case: build("hstu", CASES["retrieval"](), lively=False))
    model = two_processes.model_of("hstu")
    assert len(model.layout.predicting_columns) < model.layout.recent
    whole, _ = trained("hstu", Team())
    monkeypatch.setitem(RECIPES, "hstu", dataclasses.replace(RECIPES["hstu"], accumulation=3))
    in_parts, _ = trained("hstu", Team())
    np.testing.assert_allclose(in_parts, whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", ["hstu", "hllm"])
def test_parts_of_a_step_add_up_to_it(case, monkeypatch):
    whole, _ = trained(case, Team())
    monkeypatch.setitem(RECIPES, case, dataclasses.replace(RECIPES[case], accumulation=3))
    in_parts, _ = trained(case, Team())
    np.testing.assert_allclose(in_parts, whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", ["hstu", "hllm"])
def test_bfloat16_changes_the_loss_by_its_digits_and_no_weight_s_type(case, monkeypatch):
    whole, _ = trained(case, Team())
    monkeypatch.setitem(RECIPES, case, dataclasses.replace(RECIPES[case], autocast=True))
    lower, model = trained(case, Team())
    assert lower != whole
    np.testing.assert_allclose(lower[:5], whole[:5], rtol=0.05)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_in_bfloat16_texts_are_read_in_it_too(monkeypatch):
    monkeypatch.setitem(RECIPES, "hllm", dataclasses.replace(RECIPES["hllm"], autocast=True))
    model = model_of("hllm")
    read, own = [], type(model.items.decoder).masked

    def masked(self, *arguments):
        read.append(torch.is_autocast_enabled("cpu"))
        return own(self, *arguments)

    monkeypatch.setattr(type(model.items.decoder), "masked", masked)
    trained("hllm", Team(), steps=1)
    assert read
    assert all(read)


def test_accumulation_takes_one_part_at_least():
    with pytest.raises(ValueError, match="accumulation: 0"):
        small_recipe(accumulation=0)

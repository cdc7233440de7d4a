"""Trainings: the recipe of a cell, what is told meanwhile, and going on from a kept state to the same model."""

import dataclasses
import re

import pytest
import torch
from tiny_cells import CELLS, LOG, SIZES, payload

from benchmarks import execute
from benchmarks.cell import Cell
from benchmarks.environment import environment
from benchmarks.probes import training, validation
from benchmarks.probes.models import build_model
from benchmarks.probes.training import Teller, recipe
from benchmarks.probes.validation import Served
from persrec.checkpoints import load_facts
from persrec.data.splits import leave_one_out
from persrec.training import EpochReport, Progress, Recipe, Trainer, TrainingPhases, loop

pytestmark = pytest.mark.usefixtures("measuring")


OTHER_SETTINGS = {
    "learning_rate": 0.5, "warmup_steps": 7, "decays": False, "weight_decay": 0.5, "temperature": 0.5, "negatives": 7, "epochs": 7,
    "patience": 7, "time_bias": False, "recent_weight": 0.5, "moving_windows": True, "item_learning_rate": 0.5, "seed": 7,
    "expert_learning_rate": 0.25, "targets_per_step": 7, "recent_weight_steps": 7, "accumulation": 7, "autocast": True,
    "expert_weight": 0.5, "distillation": 0.5, "random_cuts": True,
}  # fmt: skip


def test_every_setting_of_training_reaches_the_recipe():
    plain = Cell(backbone="hstu", compression="experts", tokens=2, segments=2, **SIZES)
    shared = {field.name for field in dataclasses.fields(Cell)} & {field.name for field in dataclasses.fields(Recipe)}
    assert shared == set(OTHER_SETTINGS)
    for name, value in OTHER_SETTINGS.items():
        changed = recipe(dataclasses.replace(plain, **{name: value}))
        assert changed == dataclasses.replace(recipe(plain), **{name: value}) != recipe(plain)


def test_an_elastic_model_is_trained_in_the_layout_of_its_longest_history_whichever_cell_asks():
    cell = CELLS["elastic in history"]
    short, long = (recipe(dataclasses.replace(cell, history=history)) for history in (3, 12))
    assert short == long
    assert (long.history_lengths, long.token_counts) == ((3, 12), (0, 2))
    assert long.targets_per_step == 4 * (12 + 4) == recipe(CELLS["experts"]).targets_per_step
    models = [build_model(dataclasses.replace(cell, history=history, tokens=tokens), 9) for history, tokens in ((3, 0), (12, 2))]
    assert [(model.layout.history, model.layout.tokens) for model in models] == [(12, 2)] * 2
    pairs = zip(*(model.state_dict().items() for model in models), strict=True)
    assert all(one[0] == other[0] and torch.equal(one[1], other[1]) for one, other in pairs)
    assert recipe(dataclasses.replace(cell, training="separate")).history_lengths == ()


def test_an_elastic_model_draws_every_length_and_every_count_apart_and_trains_on_as_many_targets(tmp_path, monkeypatch):
    drawn, own, own_loss, cut = [], Trainer.step, Trainer.loss, loop.build_windows

    def build_windows(*given, history, **more):
        drawn.append([history])
        return cut(*given, history=history, **more)

    def with_loss(self, batch):
        drawn[-1].append(self.model.layout.tokens)
        return own_loss(self, batch)

    def step(self, batch):
        loss = own(self, batch)
        drawn[-1] += [self._targets, int((batch.items > 0).sum(axis=1).max())]
        return loss

    monkeypatch.setattr(loop, "build_windows", build_windows)
    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr(Trainer, "loss", with_loss)
    cell = dataclasses.replace(CELLS["elastic in history"], epochs=4, patience=4)
    execute.train_model(payload(cell, tmp_path / "key"), lambda phase: None)
    assert {(history, tokens) for history, tokens, _, _ in drawn} == {(3, 0), (3, 2), (12, 0), (12, 2)}
    assert all(items <= history + 4 for history, _, _, items in drawn)
    assert all(abs(targets - 4 * 16) < 16 for _, _, targets, _ in drawn)  # a window more or less than 4 whole ones


def test_an_elastic_model_is_validated_with_the_least_and_the_most_that_it_serves(monkeypatch):
    cell = dataclasses.replace(CELLS["elastic in history"], elastic_tokens=(0, 1, 2), elastic_history=(3, 6, 12))
    corners = training.validated(cell)
    assert corners == (Served(tokens=0, history=3), Served(tokens=2, history=12))
    assert training.validated(dataclasses.replace(cell, elastic_tokens=())) == (Served(history=3), Served(history=12))
    assert training.validated(CELLS["experts"]) == (Served(),)

    model, data = build_model(cell, LOG.num_items), leave_one_out(LOG)
    asked = []

    def user_states(model, data, part, *, time_bias, history):
        asked.append((model.layout.tokens, part, history))
        return states(model, data, part, time_bias=time_bias, history=history)

    states = validation.user_states
    monkeypatch.setattr(validation, "user_states", user_states)
    figures = [
        validation.validation_figure(model, data, time_bias=True, served=served)()
        for served in (corners, corners[:1], corners[1:], (Served(),))
    ]
    assert asked == [(tokens, "validation", history) for tokens, history in [(0, 3), (2, 12), (0, 3), (2, 12), (2, None)]]
    assert figures[0] == pytest.approx((figures[1] + figures[2]) / 2)
    assert figures[2] == figures[3]


def test_training_tells_its_phases_and_writes_the_whole_model(tmp_path):
    phases = []
    told = execute.train_model(payload(CELLS["experts in 2 segments"], tmp_path / "key"), phases.append)
    assert told == {"epochs": 3}  # two and the decay's
    assert phases[:2] == ["load", "training"]
    assert [phase.split(",")[0] for phase in phases[2:]] == [f"epoch {epoch} of at most 3" for epoch in (1, 2, 3)]
    assert sorted(file.name for file in (tmp_path / "key").iterdir()) == ["model.json", "weights.safetensors"]
    assert load_facts(tmp_path / "key")["machine"] == environment(device="cpu", threads=1, affinity=())["fingerprint"]


class Killed(BaseException):
    """Stands in for a kill."""


def stopped_training(cell, folder, monkeypatch, *, steps):
    """Trains a cell's model, keeping the state of every epoch, until so many steps are done."""
    with monkeypatch.context() as patches:
        own, done = Trainer.step, []

        def step(self, batch):
            if len(done) == steps:
                raise Killed
            done.append(1)
            return own(self, batch)

        patches.setattr(Trainer, "step", step)
        patches.setattr("persrec.training.state.MOST_SHARE", 1e9)  # a state is always due
        with pytest.raises(Killed):
            execute.train_model(payload(cell, folder), lambda phase: None)


def weights_and_curve(folder):
    facts = load_facts(folder)
    curve = [{**epoch, "seconds": None} for epoch in facts["curve"]]
    return (folder / "weights.safetensors").read_bytes(), curve, facts["resumes"]


def test_a_training_that_was_stopped_goes_on_to_the_same_model(tmp_path, monkeypatch):
    cell = dataclasses.replace(CELLS["elastic"], epochs=3, patience=3)
    execute.train_model(payload(cell, tmp_path / "whole" / "key"), lambda phase: None)
    for steps in (14, 2, 19):  # of 10 an epoch
        stopped_training(cell, tmp_path / "stopped" / "key", monkeypatch, steps=steps)
    assert sorted(file.name for file in (tmp_path / "stopped" / "key").iterdir()) == ["code_digest", "state.safetensors"]
    execute.train_model(payload(cell, tmp_path / "stopped" / "key"), lambda phase: None)
    assert sorted(file.name for file in (tmp_path / "stopped" / "key").iterdir()) == ["model.json", "weights.safetensors"]
    (weights, curve, resumes), whole = (weights_and_curve(tmp_path / name / "key") for name in ("stopped", "whole"))
    assert (weights, curve) == whole[:2]
    assert (resumes, whole[2]) == (2, 0)  # the second stop came before a state was kept: the third training began where it did


def test_a_state_that_cannot_be_read_is_told_and_training_begins_anew(tmp_path):
    cell, phases = CELLS["experts"], []
    execute.train_model(payload(cell, tmp_path / "whole"), lambda phase: None)
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "state.safetensors").write_bytes(b"half")
    (tmp_path / "key" / "code_digest").write_text("code")
    execute.train_model(payload(cell, tmp_path / "key"), phases.append)
    assert any(phase.startswith("training anew, state: ") and "cannot be read" in phase for phase in phases)
    assert weights_and_curve(tmp_path / "key") == weights_and_curve(tmp_path / "whole")


def test_a_state_of_other_code_is_not_gone_on_from(tmp_path, monkeypatch):
    cell = dataclasses.replace(CELLS["elastic"], epochs=3, patience=3)
    stopped_training(cell, tmp_path / "key", monkeypatch, steps=14)
    assert (tmp_path / "key" / "state.safetensors").is_file()
    execute.train_model(payload(cell, tmp_path / "key") | {"code_digest": "other"}, lambda phase: None)
    assert weights_and_curve(tmp_path / "key")[2] == 0
    assert load_facts(tmp_path / "key")["code_digest"] == "other"


class Clock:
    """Stands in for the module `time`."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


def told(monkeypatch, *, every_s=30.0):
    """A teller of 4 epochs of 10 steps and a decay of two, its clock, its progress at 2 s a step, and its lines."""
    clock, lines, progress = Clock(), [], Progress()
    monkeypatch.setattr(training, "time", clock)
    monkeypatch.setattr(training, "EVERY_S", every_s)
    phases = TrainingPhases(recipe=recipe(dataclasses.replace(CELLS["experts"], epochs=4)), steps_per_epoch=10)
    teller = Teller(phases, lines.append)
    teller.progress = progress

    def step(seconds):
        clock.now += seconds
        progress.steps += 1
        progress.seconds += 2.0
        teller.step(progress)

    return teller, progress, step, lines


def test_inside_an_epoch_a_line_comes_every_30_seconds_and_no_sooner(monkeypatch):
    _, _, step, lines = told(monkeypatch)
    for seconds in (10, 10, 9.5):
        step(seconds)
    assert lines == []
    step(0.5)
    assert lines == ["epoch 1 of at most 6, 40% of it done, at most 1 min 52 s left"]  # 56 of 60 steps, of 2 s each
    step(29)
    assert len(lines) == 1
    step(1)
    assert len(lines) == 2


def test_an_epoch_has_a_line_and_begins_the_30_seconds_anew(monkeypatch):
    teller, progress, step, lines = told(monkeypatch)
    for _ in range(10):
        step(2.5)
    report = EpochReport(epoch=1, loss=1.0, validation=0.125, seconds=20.0, padding_share=0.0, steps=10, learning_rate=0.1)
    progress.curve.append(report)
    teller.epoch(report)
    assert lines == ["epoch 1 of at most 6, validation ndcg@10 0.1250, at most 1 min 40 s left"]
    step(29)
    assert len(lines) == 1
    step(1)
    assert lines[1].startswith("epoch 2 of at most 6, 20% of it done, ")


def test_a_plateau_shortens_what_is_left_to_the_decay(monkeypatch):
    _, progress, step, lines = told(monkeypatch, every_s=0.0)
    report = EpochReport(epoch=1, loss=1.0, validation=0.125, seconds=20.0, padding_share=0.0, steps=10, learning_rate=0.1)
    progress.curve += [dataclasses.replace(report, epoch=epoch, steps=10 * epoch) for epoch in (1, 2, 3)]
    progress.steps, progress.constant_steps, progress.seconds = 30, 30, 60.0
    step(1)
    assert lines == ["epoch 4 of at most 5, the rate falling, 10% of it done, at most 28 s left"]  # 14 steps of 2 s


def test_a_training_tells_each_step_at_most_once_and_how_long_it_takes_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EVERY_S", 0.0)
    lines, cell = [], dataclasses.replace(CELLS["experts"], epochs=2, patience=2)
    execute.train_model(payload(cell, tmp_path / "key"), lines.append)
    epochs = [line for line in lines if "validation" in line]
    steps = [line for line in lines if "of it done" in line]
    assert len(epochs) == 3
    assert re.fullmatch(r"epoch 3 of at most 3, the rate falling, validation ndcg@10 0\.\d{4}, at most 0\.0 s left", epochs[2])
    assert len(steps) == load_facts(tmp_path / "key")["steps"] == len(lines) - 3 - len(["load", "training"])
    assert len({line.partition(", at most")[0] for line in steps}) == len(steps)
    assert [line for line in steps if not line.endswith(" left")] == []
    assert steps[-1].startswith("epoch 3 of at most 3, the rate falling, 100% of it done, at most 0.0 s left")

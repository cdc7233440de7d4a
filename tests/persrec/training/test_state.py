"""Training that is stopped anywhere goes on to the weights of training that never was, bit for bit."""

import copy
import dataclasses
import json
import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_models import BACKBONE_NAMES, CASES, build, elastic, experts, small_recipe, small_split

from persrec.files import WriteError
from persrec.training import STATE, StateError, StateKeeper, Trainer, state

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = small_split(users=15, shortest=6, longest=30)
TARGETS_PER_STEP = 75
FIRST = -(-int((DATA.train_ends - 1).sum()) // TARGETS_PER_STEP)  # steps of an epoch
EPOCHS = 3  # of the constant phase
DECAY = -(-FIRST * EPOCHS // 2)  # more than an epoch: two, the second is short
STEPS = FIRST * EPOCHS + DECAY
FIGURES = (0.2, 0.5, 0.3, 0.6, 0.7)  # the decay starts from the second epoch's weights, and ends with the best


class StoppedError(Exception):
    """Stands in for a kill."""


class ElasticExperts:
    """An elastic experts model with dropout: every generator there is is drawn from at each step."""

    recipe = small_recipe(
        token_counts=(0, 2, 6),
        history_lengths=(3, 9),
        epochs=EPOCHS,
        patience=EPOCHS,
        decays=True,
        warmup_steps=10,
        weight_decay=0.01,
        recent_weight=1.0,
        targets_per_step=TARGETS_PER_STEP,
    )

    @staticmethod
    def model():
        return build("hstu", elastic(use=6), dropout=0.3, lively=False)


class Plain:
    def __init__(self, backbone, **changes):
        self.backbone = backbone
        self.recipe = small_recipe(epochs=3, patience=3, targets_per_step=TARGETS_PER_STEP, **changes)

    def model(self):
        return build(self.backbone, CASES["3 segments"](), dropout=0.3, lively=False)


def train(kind, keeper=None, *, stop_before=None, figures=FIGURES, told=None):
    """A training run from the start, or from what the keeper holds; it stops before the given step of this run."""
    torch.manual_seed(0)  # of the expert tokens
    model = kind.model()
    trainer = Trainer(
        model=model,
        data=DATA,
        recipe=kind.recipe,
        validate=lambda: figures[len(trainer.progress.curve)],
        keeper=keeper,
        on_epoch=told,
    )
    own, count = trainer.step, 0

    def step(batch):
        nonlocal count
        if count == stop_before:
            raise StoppedError
        count += 1
        return own(batch)

    trainer.step = step
    result = trainer.run()
    return result, {name: weight.clone() for name, weight in model.state_dict().items()}


class EveryStep(StateKeeper):
    """Keeps after every ``nth`` step, and at the end of every epoch."""

    def __init__(self, path, nth=1):
        super().__init__(path)
        self.nth = nth

    def keep(self, training, *, epoch_ended):
        if epoch_ended or training.progress.steps % self.nth == 0:
            state.save_state(self.path, training)


def files_in(folder):
    return [path.name for path in folder.iterdir()]


def kept_progress(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["training"])["progress"]


def without_seconds(result):
    values = result.to_dict()
    assert values.pop("train_seconds") > 0
    assert values.pop("seconds_per_million_targets") > 0
    values.pop("resumes")
    return values | {"curve": [{**epoch, "seconds": None} for epoch in values["curve"]]}


def assert_same(found, expected):
    assert without_seconds(found[0]) == without_seconds(expected[0])
    assert found[1].keys() == expected[1].keys()
    for name, weight in expected[1].items():
        assert torch.equal(found[1][name], weight), name


@pytest.fixture(scope="module")
def unbroken():
    torch.set_num_threads(1)
    return train(ElasticExperts)


def test_the_runs_of_these_tests_have_the_steps_they_count_on(tmp_path):
    for stop in (FIRST, STEPS - 1):
        with pytest.raises(StoppedError):
            train(ElasticExperts, stop_before=stop)
    result, _ = train(ElasticExperts, stop_before=STEPS)
    assert (result.steps, result.decay_steps, result.best_epoch, len(result.curve)) == (STEPS, DECAY, EPOCHS + 2, EPOCHS + 2)
    with pytest.raises(StoppedError):
        train(ElasticExperts, EveryStep(tmp_path / STATE), stop_before=FIRST)
    assert len(kept_progress(tmp_path / STATE)["curve"]) == 1


class EveryState(StateKeeper):
    """Keeps every state there is, each in a file of its own."""

    def keep(self, training, *, epoch_ended):
        state.save_state(self.path.parent / f"{training.progress.steps:02} {'closed' if epoch_ended else 'step'}", training)


def test_a_stop_after_any_step_changes_no_bit(unbroken, tmp_path):
    assert_same(train(ElasticExperts, EveryState(tmp_path / STATE)), unbroken)  # keeping changes nothing
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == STEPS + EPOCHS + 2
    for path in kept:
        again = train(ElasticExperts, StateKeeper(path))
        assert again[0].resumes == 1
        assert_same(again, unbroken)


@settings(max_examples=8)
@given(stops=st.lists(st.integers(0, STEPS - 1), min_size=1, max_size=5), nth=st.integers(1, 10))
def test_stops_between_states_and_stops_again_change_no_bit(unbroken, tmp_path_factory, stops, nth):
    path = tmp_path_factory.mktemp("state") / STATE
    for stop in stops:
        try:
            train(ElasticExperts, EveryStep(path, nth), stop_before=stop)
        except StoppedError:
            continue
    assert_same(train(ElasticExperts, EveryStep(path, nth)), unbroken)


@pytest.mark.parametrize("kind", [*map(Plain, BACKBONE_NAMES), Plain("hstu", random_cuts=True)], ids=[*BACKBONE_NAMES, "cut"])
def test_every_backbone_goes_on_and_so_do_random_cuts(kind, tmp_path):
    expected = train(kind)
    for step in (2, FIRST, 2 * FIRST + 1):
        with pytest.raises(StoppedError):
            train(kind, EveryStep(tmp_path / str(step)), stop_before=step)
        assert_same(train(kind, EveryStep(tmp_path / str(step))), expected)


def test_a_stop_in_a_validation_changes_no_bit(unbroken, tmp_path):
    asked = []

    def stop(report):
        asked.append(report.epoch)
        raise StoppedError

    with pytest.raises(StoppedError):
        train(ElasticExperts, EveryStep(tmp_path / STATE), told=stop)
    assert asked == [1]
    again = train(ElasticExperts, EveryStep(tmp_path / STATE), told=lambda report: asked.append(report.epoch))
    assert asked == [1, *range(1, EPOCHS + 3)]  # the state is of the epoch's last step: its end is taken again
    assert_same(again, unbroken)


def test_what_is_done_is_done(unbroken, tmp_path):
    train(ElasticExperts, EveryStep(tmp_path / STATE))
    assert_same(train(ElasticExperts, EveryStep(tmp_path / STATE), stop_before=0), unbroken)


def test_patience_goes_on_too(tmp_path):
    kind, figures = Plain("hstu"), (0.5, 0.4, 0.4, 0.9)
    kind.recipe = dataclasses.replace(kind.recipe, patience=2, epochs=9)
    expected = train(kind, figures=figures)
    assert len(expected[0].curve) == 3
    assert expected[0].converged
    with pytest.raises(StoppedError):
        train(kind, EveryStep(tmp_path / STATE), figures=figures, stop_before=FIRST)
    assert_same(train(kind, EveryStep(tmp_path / STATE), figures=figures), expected)


# When


def keeper_at(path, seconds):
    """A keeper whose clock shows the given seconds one after the other."""
    left = iter(seconds)
    return StateKeeper(path, every_s=10.0, clock=lambda: next(left))


@pytest.mark.parametrize(
    ("seconds", "epoch_ended", "kept"),
    [
        ((0, 9), False, False),
        ((0, 10, 10), False, True),
        ((0, 1, 1), True, True),
    ],
)
def test_a_state_is_kept_every_so_often_and_at_an_epochs_end(tmp_path, training, seconds, epoch_ended, kept):
    keeper_at(tmp_path / STATE, seconds).keep(training, epoch_ended=epoch_ended)
    assert (tmp_path / STATE).exists() == kept


def test_keeping_takes_a_twentieth_of_the_time_at_most(tmp_path, training):
    keeper = keeper_at(tmp_path / STATE, (0, 10, 12, 51, 53, 54))  # the first takes 2 s: the next is due 40 s later
    keeper.keep(training, epoch_ended=True)
    (tmp_path / STATE).unlink()
    keeper.keep(training, epoch_ended=True)
    assert not (tmp_path / STATE).exists()
    keeper.keep(training, epoch_ended=True)
    assert (tmp_path / STATE).exists()


# What is on the disk


@pytest.fixture
def training():
    model = Plain("hstu").model()
    return Trainer(model=model, data=DATA, recipe=Plain("hstu").recipe, validate=lambda: 1.0)._training()


def test_a_state_is_tensors_and_json_in_one_file(tmp_path, training):
    StateKeeper(tmp_path / "new" / STATE).keep(training, epoch_ended=True)
    assert files_in(tmp_path / "new") == [STATE]
    assert kept_progress(tmp_path / "new" / STATE)["curve"] == []
    with safe_open(tmp_path / "new" / STATE, framework="pt") as file:
        assert "model.items.embedding.weight" in set(file.keys())


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path, training, monkeypatch):
    state.save_state(tmp_path / STATE, training)
    before = (tmp_path / STATE).read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left"):
        state.save_state(tmp_path / STATE, training)
    assert files_in(tmp_path) == [STATE]
    assert (tmp_path / STATE).read_bytes() == before


def test_what_is_no_state_is_refused_and_changes_nothing(tmp_path, training):
    state.save_state(tmp_path / STATE, training)
    whole = (tmp_path / STATE).read_bytes()
    before = {name: weight.clone() for name, weight in training.model.state_dict().items()}
    for content in (b"", b"hello", whole[:100], whole[:-100]):
        (tmp_path / STATE).write_bytes(content)
        with pytest.raises(StateError, match=f"^state: .*{STATE} cannot be read as a training run's"):
            StateKeeper(tmp_path / STATE).restore(training)
    assert training.progress == state.Progress()
    assert all(torch.equal(weight, before[name]) for name, weight in training.model.state_dict().items())


@pytest.mark.parametrize(("setting", "value"), [("learning_rate", 0.02), ("weight_decay", 0.5), ("seed", 2), ("token_counts", (0, 4))])
def test_a_state_of_another_recipe_is_refused(tmp_path, training, setting, value):
    state.save_state(tmp_path / STATE, training)
    other = dataclasses.replace(training, recipe=dataclasses.replace(training.recipe, **{setting: value}))
    with pytest.raises(StateError, match=f"was trained with {setting} .*; expected "):
        state.load_state(tmp_path / STATE, other)


def test_a_state_of_other_data_or_of_another_layout_is_refused(tmp_path, training):
    state.save_state(tmp_path / STATE, training)
    model, recipe = Plain("hstu").model(), Plain("hstu").recipe
    other_split = dataclasses.replace(DATA, train_ends=DATA.train_ends - 1)
    other_plan = build("hstu", experts([(1, 2), (6, 2), (9, 2)], window=13), lively=False)  # as many tokens of as many segments
    for of, data in ((model, other_split), (model, small_split(users=14, shortest=6, longest=30)), (other_plan, DATA)):
        other = Trainer(model=of, data=data, recipe=recipe, validate=lambda: 1.0)._training()
        before = {name: weight.clone() for name, weight in of.state_dict().items()}
        with pytest.raises(StateError, match=r"is of other data, another split or another layout than this training run$"):
            state.load_state(tmp_path / STATE, other)
        assert all(torch.equal(weight, before[name]) for name, weight in of.state_dict().items())


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("1 expert", r"backbone.layers.0.bias.distance \[19\]"),
        ("full", "backbone.layers.0.bias.distance"),
        ("elastic", r"compression.tokens.0 \[2, 8\]"),
    ],
)
def test_a_state_of_another_model_is_refused(tmp_path, training, case, name):
    state.save_state(tmp_path / STATE, training)
    other = dataclasses.replace(training, model=build("hstu", CASES[case](), lively=False))
    with pytest.raises(StateError, match=rf"holds {name}.*; expected .*, as the model$"):
        state.load_state(tmp_path / STATE, other)


def test_a_state_of_another_type_of_numbers_is_refused(tmp_path, training):
    state.save_state(tmp_path / STATE, training)
    other = dataclasses.replace(training, model=Plain("hstu").model().to(torch.bfloat16))
    with pytest.raises(StateError, match=r"of float32; expected .* of bfloat16, as the model$"):
        state.load_state(tmp_path / STATE, other)


def test_a_state_of_the_form_before_is_refused(tmp_path, training):
    state.save_state(tmp_path / STATE, training)
    with safe_open(tmp_path / STATE, framework="pt") as file:
        facts = json.loads(file.metadata()["training"])
    del facts["progress"]["constant_steps"]
    facts["progress"] |= {"batches": 2, "plan": facts["rng"], "steps_per_epoch": 5}
    save_file(load_file(tmp_path / STATE), tmp_path / STATE, {"training": json.dumps(facts)})
    with pytest.raises(StateError, match=r"no constant_steps; it may be one of another version$"):
        state.load_state(tmp_path / STATE, training)


@pytest.mark.parametrize("damage", [{"rng": None}, {"recipe": []}, {"progress": {}}, {"totals": "none"}, {"totals": {"of": 1}}])
def test_a_state_that_misses_a_part_is_refused_and_changes_nothing(tmp_path, training, damage):
    state.save_state(tmp_path / STATE, training)
    with safe_open(tmp_path / STATE, framework="pt") as file:
        facts = json.loads(file.metadata()["training"]) | damage
    save_file(load_file(tmp_path / STATE), tmp_path / STATE, {"training": json.dumps(facts)})
    before = copy.deepcopy(training.rng.bit_generator.state)
    with torch.no_grad():
        training.model.items.embedding.weight += 1
    weights = {name: weight.clone() for name, weight in training.model.state_dict().items()}
    with pytest.raises(StateError, match=f"^state: .*{STATE} cannot be read as a training run's"):
        state.load_state(tmp_path / STATE, training)
    assert (training.progress, training.rng.bit_generator.state) == (state.Progress(), before)
    assert all(torch.equal(weight, weights[name]) for name, weight in training.model.state_dict().items())


def test_a_training_that_diverged_is_done_when_it_goes_on(tmp_path):
    recipe = dataclasses.replace(Plain("hstu").recipe, epochs=4, patience=4)
    figures = iter([0.5, math.nan])
    first = Trainer(model=Plain("hstu").model(), data=DATA, recipe=recipe, validate=lambda: next(figures))
    assert (first.run().diverged_at, first.progress.best_epoch) == (2, 1)
    state.save_state(tmp_path / STATE, first._training())
    again = Trainer(
        model=Plain("hstu").model(), data=DATA, recipe=recipe, validate=lambda: pytest.fail("trained"), keeper=StateKeeper(tmp_path / STATE)
    )
    assert again.run().diverged_at == 2
    assert all(torch.equal(weight, first.model.state_dict()[name]) for name, weight in again.model.state_dict().items())

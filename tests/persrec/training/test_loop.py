import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from small_models import CASES, ITEMS, build, elastic, small_recipe, small_split

from persrec.compression.recent import Recent
from persrec.data import windows
from persrec.data.splits import LeaveOneOut, Sequences
from persrec.data.windows import build_windows
from persrec.evaluation.metrics import metric_values
from persrec.evaluation.ranks import target_ranks
from persrec.evaluation.states import user_states
from persrec.training import Trainer, TrainingResult, loop

pytestmark = pytest.mark.usefixtures("one_thread")


def scripted(figures):
    """A validation that gives one figure after the other."""
    left = iter(figures)
    return lambda: next(left)


def snapshots(model):
    """Keeps the weights of every epoch."""
    kept = {}

    def keep(report):
        kept[report.epoch] = {name: weight.clone() for name, weight in model.state_dict().items()}

    return kept, keep


def same_weights(model, weights):
    return all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize(
    ("figures", "patience", "epochs", "best"),
    [
        ([0.1, 0.5, 0.3, 0.2], 2, 9, 2),  # stops two epochs behind the best
        ([0.1, 0.2, 0.3], 1, 3, 3),  # the epochs run out on the best
        ([0.5, 0.5, 0.5], 2, 9, 1),  # as good is not better
        ([0.5, 0.4, 0.3], 1, 9, 1),  # a patience of one epoch is one of two
        ([0.5, 0.1, 0.6, 0.2, 0.3, 0.4], 3, 9, 3),  # a new best begins the patience anew
    ],
)
def test_training_stops_when_patience_runs_out_and_puts_the_best_epoch_back(figures, patience, epochs, best):
    model = build("hstu", Recent(recent=6), lively=False)
    kept, keep = snapshots(model)
    recipe = small_recipe(epochs=epochs, patience=patience)
    trainer = Trainer(model=model, data=small_split(), recipe=recipe, validate=scripted(figures), on_epoch=keep)
    result = trainer.run()
    assert [report.epoch for report in result.curve] == list(range(1, len(figures) + 1))
    np.testing.assert_equal([report.validation for report in result.curve], figures)
    assert (result.best_epoch, result.best_validation) == (best, figures[best - 1])
    assert same_weights(model, kept[best])
    assert best == len(figures) or not same_weights(model, kept[len(figures)])
    assert not model.training


def test_the_figure_put_back_is_the_figure_of_the_model_that_came_back():
    data = small_split(users=20, shortest=6)
    model = build("hstu", Recent(recent=6), lively=False)

    def validate():
        states = user_states(model, data, "validation", time_bias=True)
        return float(metric_values(target_ranks(states, model.item_features().detach(), data.targets("validation")))["mrr"].mean())

    result = Trainer(model=model, data=data, recipe=small_recipe(epochs=5, patience=2), validate=validate).run()
    assert validate() == result.best_validation == max(report.validation for report in result.curve)


# Divergence


def spoiled(model, *, epoch, part):
    """An ``on_epoch`` that plays a divergence behind an epoch."""

    def spoil(report):
        if report.epoch == epoch:
            with torch.no_grad():
                next(getattr(model, part).parameters()).fill_(math.nan)

    return spoil


@pytest.mark.parametrize("part", ["backbone", "items"])
def test_weights_that_are_no_numbers_any_more_end_the_training_with_the_best_epoch_before(part):
    model = build("hstu", Recent(recent=6), lively=False)
    kept, keep = snapshots(model)
    spoil = spoiled(model, epoch=2, part=part)
    trainer = Trainer(
        model=model,
        data=small_split(),
        recipe=small_recipe(epochs=6, patience=6),
        validate=scripted([0.2, 0.1]),
        on_epoch=lambda report: (keep(report), spoil(report)),
    )
    result = trainer.run()
    assert (result.best_epoch, result.best_validation, result.diverged_at) == (1, 0.2, 3)
    assert [report.epoch for report in result.curve] == [1, 2]
    assert same_weights(model, kept[1])
    assert not model.training
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.parametrize("figure", [math.nan, math.inf])
def test_a_figure_that_is_no_number_ends_the_training_too(figure):
    model = build("hstu", Recent(recent=6), lively=False)
    trainer = Trainer(model=model, data=small_split(), recipe=small_recipe(epochs=6, patience=6), validate=scripted([0.1, 0.3, figure]))
    result = trainer.run()
    assert (result.best_epoch, result.best_validation, result.diverged_at, len(result.curve)) == (2, 0.3, 3, 2)


@pytest.mark.parametrize("case", ["3 segments", "pooling"])
def test_the_same_seed_gives_the_same_curve_and_another_seed_another(case):
    def curve(seed):
        torch.manual_seed(0)  # of the expert tokens
        model = build("sasrec", CASES[case](), dropout=0.1, lively=False)
        recipe = small_recipe(seed=seed, epochs=3, patience=3)
        result = Trainer(model=model, data=small_split(), recipe=recipe, validate=lambda: 1.0).run()
        return [(report.epoch, report.loss, report.padding_share) for report in result.curve]

    assert curve(1) == curve(1)
    assert curve(1) != curve(2)


def test_a_result_is_plain_values():
    model = build("hstu", Recent(recent=6), lively=False)
    result = Trainer(model=model, data=small_split(), recipe=small_recipe(), validate=lambda: 0.5).run()
    values = result.to_dict()
    assert set(values) == {field.name for field in dataclasses.fields(TrainingResult)}
    json.dumps(values, allow_nan=False)
    assert values["curve"] == [dataclasses.asdict(report) for report in result.curve]


# Steps


@pytest.fixture
def steps(monkeypatch):
    """What every optimiser step saw: the learning rates of its groups, and the shapes that went into the loss."""
    seen = []
    own_step, own_loss = torch.optim.AdamW.step, loop.sampled_softmax

    def step(self, *args, **kwargs):
        seen[-1]["rates"] = [group["lr"] for group in self.param_groups]
        return own_step(self, *args, **kwargs)

    def loss(states, positives, negatives, target_ids, negative_ids, *, temperature):
        value = own_loss(states, positives, negatives, target_ids, negative_ids, temperature=temperature)
        step = {"targets": len(target_ids), "negatives": len(negative_ids), "negative_ids": negative_ids, "temperature": temperature}
        seen.append(step | {"loss": float(value.detach())})
        return value

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    monkeypatch.setattr(loop, "sampled_softmax", loss)
    return seen


def train(case, data, **changes):
    compression = CASES[case]() if isinstance(case, str) else case
    model = build("hstu", compression, lively=False)
    result = Trainer(model=model, data=data, recipe=small_recipe(**changes), validate=lambda: 1.0).run()
    return model, result


def full_users(*, users, length):
    """Users of ``length`` training items each, all of the same length."""
    return small_split(users=users, shortest=length + 2, longest=length + 2)


@pytest.mark.parametrize(("case", "widest"), [("full", 13), ("3 segments", 13), ("recent", 5), ("pooling", 4)])
def test_every_layout_has_as_many_targets_a_step_and_steps_an_epoch(steps, case, widest):
    data = small_split(users=16, shortest=4, longest=40)
    targets = int((data.train_ends - 1).sum())
    _, result = train(case, data, targets_per_step=52, epochs=3, patience=3)
    of_an_epoch = math.ceil(targets / 52)
    assert [report.steps for report in result.curve] == [of_an_epoch, 2 * of_an_epoch, 3 * of_an_epoch]
    assert result.steps == len(steps) == 3 * of_an_epoch
    assert all(abs(step["targets"] - 52) < widest for step in steps)
    assert result.targets == sum(step["targets"] for step in steps)


def test_a_step_holds_one_window_where_a_window_carries_more_targets_than_a_step(steps):
    train("full", full_users(users=5, length=14), targets_per_step=10)
    assert [step["targets"] for step in steps] == [13] * 7  # 65 targets, 10 a step


def test_an_epoch_predicts_every_training_item_but_the_first_of_each_user(steps, monkeypatch):
    data = full_users(users=6, length=14)  # all fit into a window of 13
    taken = []
    own = loop.build_windows

    def build_windows(sequences, users, ends, shape, **more):
        taken.extend(zip(users.tolist(), ends.tolist(), strict=True))
        return own(sequences, users, ends, shape, **more)

    monkeypatch.setattr(loop, "build_windows", build_windows)
    train("3 segments", data, targets_per_step=26)
    assert sorted(taken) == [(user, 13) for user in range(6)]
    assert sum(step["targets"] for step in steps) == int((data.train_ends - 1).sum())


def test_nothing_to_predict_is_bad_input_before_training():
    model = build("hstu", Recent(recent=6), lively=False)
    data = small_split(shortest=3, longest=3)
    trainer = Trainer(model=model, data=data, recipe=small_recipe(), validate=lambda: pytest.fail("trained"))
    with pytest.raises(ValueError, match="^data: no user has the 2 training items "):
        trainer.run()


@pytest.mark.parametrize("case", ["full", "3 segments", "recent", "pooling"])
def test_the_loss_of_an_epoch_is_the_mean_over_what_it_predicted(steps, case):
    _, result = train(case, small_split(users=12, shortest=4, longest=25), targets_per_step=26)
    predicted = sum(step["targets"] for step in steps)
    assert result.curve[0].loss == pytest.approx(sum(step["loss"] * step["targets"] for step in steps) / predicted)


@pytest.mark.parametrize("negatives", [1, 16])
def test_the_number_of_negatives_is_the_same_at_every_length(steps, negatives):
    for compression, length in ((Recent(recent=2), 3), (Recent(recent=13), 14), (CASES["3 segments"](), 14)):
        train(compression, full_users(users=4, length=length), negatives=negatives, targets_per_step=26)
    assert {step["negatives"] for step in steps} == {negatives}


def test_negatives_are_drawn_from_the_whole_catalogue_without_padding(steps):
    train("recent", small_split(users=30), negatives=64)
    drawn = torch.cat([step["negative_ids"] for step in steps])
    assert sorted(set(drawn.tolist())) == list(range(1, ITEMS))


def test_the_temperature_is_the_recipes(steps):
    train("recent", small_split(users=4), temperature=0.07)
    assert {step["temperature"] for step in steps} == {0.07}


def test_everything_but_the_item_vectors_warms_up(steps):
    train("recent", full_users(users=8, length=6), targets_per_step=10, warmup_steps=4, learning_rate=0.01)
    of_items, of_rest = zip(*(step["rates"] for step in steps), strict=True)
    assert len(steps) >= 4
    assert of_items == tuple([0.01] * len(steps))
    assert of_rest == pytest.approx([0.01 * min(1, step / 4) for step in range(1, len(steps) + 1)])


def test_without_a_warm_up_all_weights_learn_alike(steps):
    train("recent", small_split(users=4), warmup_steps=0, learning_rate=0.01)
    assert all(step["rates"] == [0.01, 0.01] for step in steps)


@pytest.mark.parametrize(
    ("figures", "epochs", "constant", "best", "converged"),
    [
        # 8 users of 5 targets, 10 a step: 4 steps an epoch
        ([0.1, 0.5, 0.3, 0.2, 0.4], 9, 16, 8, True),  # two epochs behind the best; the decay has a quarter of 16 steps
        ([0.1, 0.2, 0.3, 0.1], 3, 12, 12, False),  # the bound; the decay has an epoch at least
        ([0.5, 0.4, 0.6, 0.1], 3, 12, 12, False),
        ([0.5, 0.4, 0.3, 0.1], 3, 12, 4, True),  # a plateau at the bound is one
        ([*(0.01 * epoch for epoch in range(1, 7)), 0.0, 0.0, 0.1, 0.2], 8, 32, 24, True),
    ],
)
def test_the_rate_is_constant_until_a_plateau_or_the_bound_and_then_falls_to_zero(steps, figures, epochs, constant, best, converged):
    model = build("hstu", CASES["recent"](), lively=False)
    recipe = small_recipe(targets_per_step=10, warmup_steps=3, learning_rate=0.01, item_learning_rate=0.02, decays=True, epochs=epochs)
    result = Trainer(model=model, data=full_users(users=8, length=6), recipe=recipe, validate=scripted(figures)).run()
    falling = max(4, math.ceil(constant / 4))
    left = [1.0] * constant + [1 - step / falling for step in range(1, falling + 1)]
    warm = [min(1.0, step / 3) for step in range(1, constant + falling + 1)]
    assert [step["rates"][0] for step in steps] == pytest.approx([0.02 * share for share in left])
    assert [step["rates"][1] for step in steps] == pytest.approx([0.01 * share * warmth for share, warmth in zip(left, warm, strict=True)])
    assert steps[-1]["rates"] == [0.0, 0.0]
    assert (result.steps, result.decay_steps, result.converged) == (constant + falling, falling, converged)
    assert result.curve[-1].learning_rate == 0.0
    best_of_all = max(result.curve, key=lambda report: report.validation)
    assert (result.best_step, result.learning_rate_at_best) == (best_of_all.steps, best_of_all.learning_rate)
    assert max(result.curve[: constant // 4], key=lambda report: report.validation).steps == best


def test_the_decay_starts_from_the_best_weights_and_the_optimisers_state_beside_them():
    # 4 steps an epoch: the best behind 4, the plateau at 12, the decay over 4
    model = build("hstu", CASES["recent"](), lively=False)
    trainer = Trainer(
        model=model,
        data=full_users(users=8, length=6),
        recipe=small_recipe(targets_per_step=10, decays=True, epochs=9, patience=2),
        validate=scripted([0.5, 0.4, 0.3, 0.6]),
    )
    states = []
    own = trainer.step

    def step(batch):
        moments = trainer._optimizer.state_dict()["state"]
        states.append(copy.deepcopy((model.state_dict(), moments)))
        return own(batch)

    trainer.step = step
    trainer.run()
    (best_weights, best_moments), (weights, moments) = states[4], states[12]
    (last_weights, _) = states[11]
    assert weights.keys() == best_weights.keys()
    assert all(torch.equal(weights[name], best_weights[name]) for name in weights)
    assert not all(torch.equal(weights[name], last_weights[name]) for name in weights)
    assert moments.keys() == best_moments.keys()
    assert all(torch.equal(moments[number][name], best_moments[number][name]) for number in moments for name in moments[number])
    assert float(moments[0]["step"]) == 4


def test_a_model_that_its_bound_stopped_has_not_converged():
    rising, flat = scripted([0.1, 0.2, 0.3]), scripted([0.3, 0.2, 0.1])
    for validate, converged in ((rising, False), (flat, True)):
        model = build("hstu", CASES["recent"](), lively=False)
        result = Trainer(model=model, data=small_split(), recipe=small_recipe(epochs=3, patience=2), validate=validate).run()
        assert result.converged is converged


def test_what_diverges_in_the_decay_has_not_converged_and_keeps_the_best():
    model = build("hstu", CASES["recent"](), lively=False)
    recipe = small_recipe(epochs=9, patience=2, decays=True)
    result = Trainer(model=model, data=small_split(), recipe=recipe, validate=scripted([0.3, 0.2, 0.1, math.nan])).run()
    assert (result.converged, result.diverged_at, result.best_epoch, len(result.curve)) == (False, 4, 1, 3)
    assert result.decay_steps == result.steps - result.curve[-1].steps > 0


@pytest.mark.parametrize("own", [None, 0.003])
def test_the_first_step_moves_item_vectors_by_their_learning_rate_and_the_rest_by_its_warm_share(own):
    # AdamW's first step moves every weight that has a gradient by the learning rate
    torch.manual_seed(0)
    model = build("sasrec", CASES["1 expert"](), lively=False)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    data = full_users(users=4, length=14)
    recipe = small_recipe(targets_per_step=1000, warmup_steps=10, learning_rate=0.01, item_learning_rate=own)
    Trainer(model=model, data=data, recipe=recipe, validate=lambda: 1.0).run()
    moved = {name: float((weight - before[name]).abs().max()) for name, weight in model.state_dict().items()}
    assert moved.pop("items.embedding.weight") == pytest.approx(own or 0.01, rel=1e-3)
    assert max(moved.values()) == pytest.approx(0.001, rel=1e-2)


@pytest.mark.parametrize(
    ("case", "length", "moving", "newest"),
    [
        ("1 expert", 14, False, {13}),  # 13 targets are as many as a window of 9 + 4 has
        ("1 expert", 14, True, set(range(5, 14))),  # one item of history at least
        ("1 expert", 30, False, set(range(17, 30))),
        ("1 expert", 30, True, set(range(17, 30))),  # no further back than a window's 13 targets
        ("recent", 8, False, {5, 6, 7}),  # windows of 5
        ("recent", 8, True, {5, 6, 7}),  # no history that could be left
    ],
)
def test_a_users_newest_window_moves_as_the_recipe_says(case, length, moving, newest, monkeypatch):
    found = set()
    own = windows.window_plan

    def window_plan(lengths, **how):
        users, ends = own(lengths, **how)
        found.update(int(ends[users == user].max()) for user in range(len(lengths)))
        return users, ends

    monkeypatch.setattr(windows, "window_plan", window_plan)
    data = full_users(users=8, length=length)
    recipe = small_recipe(moving_windows=moving, epochs=40, patience=40)
    Trainer(model=build("sasrec", CASES[case](), lively=False), data=data, recipe=recipe, validate=lambda: 1.0).run()
    assert found == newest


def test_an_elastic_model_trains_with_every_count_it_is_asked_for(monkeypatch):
    model = build("hstu", elastic(use=6), lively=False)
    used = []
    own = model.compression.use

    def use(tokens):
        used.append(tokens)
        own(tokens)

    monkeypatch.setattr(model.compression, "use", use)
    recipe = small_recipe(token_counts=(0, 2, 6), targets_per_step=13, epochs=2, patience=2)
    Trainer(model=model, data=small_split(users=16), recipe=recipe, validate=lambda: 1.0).run()
    assert set(used) == {0, 2, 6}


def test_a_model_elastic_in_history_trains_with_every_length_it_is_asked_for(monkeypatch, steps):
    lengths, most = set(), []
    own = loop.build_windows

    def build_windows(sequences, users, ends, shape, **more):
        batch = own(sequences, users, ends, shape, **more)
        lengths.add(more["history"])
        most.append(int((batch.items > 0).sum(axis=1).max()))
        assert most[-1] <= 4 + more["history"]  # 4 recent ones
        return batch

    monkeypatch.setattr(loop, "build_windows", build_windows)
    data = full_users(users=16, length=14)
    train("3 segments", data, history_lengths=(0, 5, 9), targets_per_step=52, epochs=4, patience=4)
    assert lengths == {0, 5, 9}
    assert {4, 9, 13} <= set(most)
    assert all(abs(step["targets"] - 52) < 13 for step in steps)


def test_a_length_that_the_layout_does_not_have_is_refused():
    model = build("hstu", CASES["3 segments"](), lively=False)
    with pytest.raises(ValueError, match="^history_lengths: 10; expected 0 to 9, the items of the layout's history$"):
        Trainer(model=model, data=small_split(), recipe=small_recipe(history_lengths=(10,)), validate=lambda: 1.0)


def test_a_model_of_one_count_keeps_it():
    model = build("hstu", elastic(use=4), lively=False)
    Trainer(model=model, data=small_split(), recipe=small_recipe(), validate=lambda: 1.0).run()
    assert model.layout.tokens == 4


def test_times_reach_the_model_where_the_recipe_says_so(monkeypatch):
    for time_bias in (True, False):
        model = build("hstu", Recent(recent=6), lively=False)
        given = []
        own = model.hidden_states

        def hidden_states(items, times=None, query_time=None, own=own, given=given):
            given.append((times is not None, query_time is not None))
            return own(items, times, query_time)

        monkeypatch.setattr(model, "hidden_states", hidden_states)
        Trainer(model=model, data=small_split(), recipe=small_recipe(time_bias=time_bias), validate=lambda: 1.0).run()
        assert set(given) == {(time_bias, time_bias)}


# The share of padding


def split_of(lengths):
    """Users of so many events each, who are trained on whole but for their last two."""
    items = np.arange(sum(lengths)) % (ITEMS - 1) + 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    sequences = Sequences(offsets=offsets, items=items, times=60 * np.arange(1, len(items) + 1))
    return LeaveOneOut(sequences=sequences, num_items=ITEMS, exclude_seen=False, evaluated=np.arange(len(lengths)))


def padding_share(case, lengths, *, targets_per_step):
    _, result = train(case, split_of(lengths), targets_per_step=targets_per_step)
    return result.curve[0].padding_share


def test_full_windows_hold_no_padding():
    for case, stride in (("full", 13), ("3 segments", 13), ("recent", 5)):
        assert padding_share(case, [stride + 3] * 4, targets_per_step=2 * stride) == 0


def test_short_users_pad_the_recent_slots():
    # windows of 5 with 3 and 5 items, a step of both: no column is left out where nothing comes before
    assert padding_share("recent", [6, 8], targets_per_step=3 + 5) == pytest.approx(2 / 10)


def test_columns_that_are_padding_in_every_row_are_not_computed():
    # history of 9 in one segment, 4 recent; 7 and 11 items to predict from fill 3 and 7 slots of the history
    assert padding_share("full", [10, 14], targets_per_step=7) == 0  # a step each
    assert padding_share("full", [10, 14], targets_per_step=7 + 11) == pytest.approx(4 / (2 * 11))


def test_the_share_is_one_of_what_was_computed_whatever_the_compression():
    for case in CASES:
        assert 0 <= padding_share(case, [10, 14, 30, 4], targets_per_step=26) < 1


# The recipe


@pytest.mark.parametrize(("steps", "share"), [(0, 0.0), (2, 0.25), (5, 1.0)])
def test_the_loss_turns_to_the_recent_items_as_training_goes_on(steps, share):
    """At the weight w that is reached: (mean over all + w times the mean over the recent) / (1 + w)."""
    model, data = build("sasrec", CASES["1 expert"](), lively=True), small_split(shortest=6)
    users = np.arange(4)
    losses = {}
    for weight in (0.0, 2.0):
        trainer = Trainer(model=model, data=data, recipe=small_recipe(recent_weight=weight, recent_weight_steps=4), validate=lambda: 0.0)
        trainer.progress.steps = steps
        batch = build_windows(data.sequences, users, data.train_ends[users] - 1, trainer.shape)
        losses[weight] = trainer.loss(batch).item()
    trainer = Trainer(model=model, data=data, recipe=small_recipe(), validate=lambda: 0.0)
    batch.targets[:, : -trainer.shape.recent] = 0  # so that the recent items alone predict
    of_recent = trainer.loss(batch).item()
    reached = 2.0 * share
    assert losses[2.0] == pytest.approx((losses[0.0] + reached * of_recent) / (1 + reached), rel=1e-6)
    assert abs(of_recent - losses[0.0]) > 1e-3

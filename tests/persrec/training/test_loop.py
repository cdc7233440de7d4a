import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from small_models import CASES, build, full_users, small_recipe, small_split

from persrec.compression.recent import Recent
from persrec.evaluation.metrics import metric_values
from persrec.evaluation.ranks import target_ranks
from persrec.evaluation.states import user_states
from persrec.training import Trainer, TrainingResult

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


def test_what_is_drawn_before_it_trains_changes_nothing():
    weights = []
    for drawn in (0, 5):
        torch.manual_seed(0)  # of the expert tokens
        model = build("sasrec", CASES["1 expert"](), dropout=0.2, lively=False)
        trainer = Trainer(model=model, data=small_split(), recipe=small_recipe(), validate=lambda: 1.0)
        torch.rand(drawn)
        trainer.run()
        weights.append({name: weight.clone() for name, weight in model.state_dict().items()})
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_result_is_plain_values():
    model = build("hstu", Recent(recent=6), lively=False)
    result = Trainer(model=model, data=small_split(), recipe=small_recipe(), validate=lambda: 0.5).run()
    values = result.to_dict()
    assert set(values) == {field.name for field in dataclasses.fields(TrainingResult)}
    json.dumps(values, allow_nan=False)
    assert values["curve"] == [dataclasses.asdict(report) for report in result.curve]


# Phases


@pytest.mark.parametrize(
    ("figures", "epochs", "constant", "best", "converged"),
    [
        # 8 users of 5 targets, 10 a step: 4 steps an epoch
        ([0.1, 0.5, 0.3, 0.2, 0.4, 0.4], 9, 16, 8, True),  # two epochs behind the best; the decay has half of 16 steps
        ([0.1, 0.2, 0.3, 0.1, 0.1], 3, 12, 12, False),  # the bound; the decay has an epoch and a half
        ([0.5, 0.4, 0.6, 0.1, 0.2], 3, 12, 12, False),
        ([0.5, 0.4, 0.3, 0.1, 0.1], 3, 12, 4, True),  # a plateau at the bound is one
        ([*(0.01 * epoch for epoch in range(1, 7)), 0.0, 0.0, 0.1, 0.2, 0.3, 0.3], 8, 32, 24, True),
    ],
)
def test_the_rate_is_constant_until_a_plateau_or_the_bound_and_then_falls_to_zero(steps, figures, epochs, constant, best, converged):
    model = build("hstu", CASES["recent"](), lively=False)
    rates = {"learning_rate": 0.01, "item_learning_rate": 0.02, "expert_learning_rate": 0.03}
    recipe = small_recipe(targets_per_step=10, warmup_steps=3, decays=True, epochs=epochs, **rates)
    result = Trainer(model=model, data=full_users(users=8, length=6), recipe=recipe, validate=scripted(figures)).run()
    falling = max(4, math.ceil(constant / 2))
    left = [1.0] * constant + [1 - step / falling for step in range(1, falling + 1)]
    warm = [min(1.0, step / 3) for step in range(1, constant + falling + 1)]
    assert [step["rates"][0] for step in steps] == pytest.approx([0.02 * share for share in left])
    assert [step["rates"][2] for step in steps] == pytest.approx([0.01 * share * warmth for share, warmth in zip(left, warm, strict=True)])
    assert [step["rates"][1] for step in steps] == pytest.approx([0.03 * share * warmth for share, warmth in zip(left, warm, strict=True)])
    assert steps[-1]["rates"] == [0.0, 0.0, 0.0]
    assert (result.steps, result.decay_steps, result.converged) == (constant + falling, falling, converged)
    assert result.curve[-1].learning_rate == 0.0
    best_of_all = max(result.curve, key=lambda report: report.validation)
    assert (result.best_step, result.learning_rate_at_best) == (best_of_all.steps, best_of_all.learning_rate)
    assert max(result.curve[: constant // 4], key=lambda report: report.validation).steps == best


def test_the_decay_starts_from_the_best_weights_and_the_optimisers_state_beside_them():
    # 4 steps an epoch: the best behind 4, the plateau at 12, the decay over 6
    model = build("hstu", CASES["recent"](), lively=False)
    trainer = Trainer(
        model=model,
        data=full_users(users=8, length=6),
        recipe=small_recipe(targets_per_step=10, decays=True, epochs=9, patience=2),
        validate=scripted([0.5, 0.4, 0.3, 0.6, 0.6]),
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

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import small_recipe

from persrec.training.phases import TrainingPhases, last_gain


def phases(*, steps_per_epoch=10, **changes):
    return TrainingPhases(recipe=small_recipe(**changes), steps_per_epoch=steps_per_epoch)


@pytest.mark.parametrize(("train_ends", "expected"), [([1, 0], 0), ([2], 1), ([11, 1, 91], 2), ([11, 1, 92], 3)])
def test_an_epoch_has_as_many_steps_as_all_targets_fill(train_ends, expected):
    assert TrainingPhases.of(small_recipe(targets_per_step=50), np.array(train_ends)).steps_per_epoch == expected


@pytest.mark.parametrize(
    ("patience", "steps", "expected"),
    [
        (1, 10, 20),  # two epochs at least
        (2, 10, 20),
        (3, 10, 30),
        (3, 150, 30),
        (3, 160, 32),  # a fifth of the steps so far
        (3, 151, 31),  # no less than a fifth
        (1, 1000, 200),
    ],
)
def test_patience_is_in_epochs_and_grows_to_a_fifth_of_the_steps(patience, steps, expected):
    these = phases(patience=patience)
    assert these.patience(steps) == expected
    assert these.on_plateau(steps, steps - expected)
    assert not these.on_plateau(steps, steps - expected + 1)


@given(steps_per_epoch=st.integers(1, 50), epochs=st.integers(1, 40), warmup=st.integers(0, 60), ended=st.integers(1, 40))
def test_the_decay_is_half_of_the_constant_phase_and_an_epoch_at_least(steps_per_epoch, epochs, warmup, ended):
    these = phases(steps_per_epoch=steps_per_epoch, epochs=epochs, warmup_steps=warmup, decays=True)
    constant = min(ended, epochs) * steps_per_epoch
    assert these.bound == epochs * steps_per_epoch
    falling = these.decay_steps(constant)
    assert falling == max(steps_per_epoch, math.ceil(constant / 2))
    assert these.most_steps(constant) == constant + falling <= these.most_steps(None)
    rates = [these.rate(step, constant) for step in range(constant + 1, constant + falling + 1)]
    assert rates == pytest.approx([1 - number / falling for number in range(1, falling + 1)])
    assert rates[-1] == 0
    assert these.rate(constant, None) == 1
    ends = [constant]
    while ends[-1] < these.most_steps(constant):
        ends.append(these.epoch_end(ends[-1], constant))
    assert ends[-1] == constant + falling
    assert all(end - start == steps_per_epoch for start, end in zip(ends[:-2], ends[1:-1], strict=True))


def test_without_a_decay_the_constant_phase_is_all():
    these = phases(epochs=7)
    assert these.decay_steps(50) == 0
    assert (these.most_steps(50), these.most_steps(None)) == (50, 70)


def test_the_recent_items_weight_rises_with_the_square_of_the_steps_until_it_is_reached():
    these = phases(recent_weight=2.0, recent_weight_steps=100)
    assert [these.recent_weight(step) for step in (1, 50, 100, 1000)] == pytest.approx([2e-4, 0.5, 2.0, 2.0])


@pytest.mark.parametrize(
    ("figures", "epoch"),
    [
        ([0.3], 1),
        ([0.3, 0.3029], 1),  # less than 1% is no gain
        ([0.3, 0.3031], 2),
        ([0.3, 0.302, 0.304, 0.306], 3),  # small steps add up: each is held against the last gain
        ([0.3, 0.2, 0.1], 1),
        ([0.0, 0.0, 1e-9], 3),
        ([0.5, 0.4, 0.506], 3),
    ],
)
def test_a_gain_is_more_than_a_hundredth_above_the_gain_before(figures, epoch):
    steps = [10 * number for number in range(1, len(figures) + 1)]
    assert last_gain(figures, steps) == 10 * epoch

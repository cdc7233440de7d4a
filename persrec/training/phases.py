"""When a training run's rate is constant, when it falls, and when it ends: counted in optimiser steps, alike for every layout."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from persrec.training.recipe import Recipe

LEAST_PATIENCE_EPOCHS = 2  # one figure that is no better may be chance
PATIENCE_SHARE = Fraction(1, 5)  # of the steps so far: gains come ever slower, and a fixed patience would call slow ones none
LEAST_GAIN = 0.01  # of the figure: less, over all the steps of the patience, is no gain, since validations of one model differ by as much
# Of the constant phase's steps: a third of all. Hägele et al., 2024 (arXiv:2405.18392) find that a fall over 20% of the steps comes as
# far as a cosine schedule of the whole length. This is longer, so that no comparison rests on a fall that was too short: here the
# fall is where a model gains last, and a constant phase that goes on gains next to nothing.
DECAY_SHARE = Fraction(1, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPhases:
    """The two phases of a training run: a constant rate until the validation figure is on a plateau, then a rate that falls to 0.

    Below, ``constant_steps`` are the steps at which the constant phase ended; None inside it.

    Attributes:
        recipe: the settings.
        steps_per_epoch: steps between two validations.
    """

    recipe: Recipe
    steps_per_epoch: int

    @classmethod
    def of(cls, recipe: Recipe, train_ends: np.ndarray) -> "TrainingPhases":
        """An epoch has as many steps as all next-item targets of the training part fill: data and recipe say it, no layout does.

        Args:
            recipe: the settings.
            train_ends: ``[U]`` items of each user that may be trained on.
        """
        return cls(recipe=recipe, steps_per_epoch=-(-int(np.clip(train_ends - 1, 0, None).sum()) // recipe.targets_per_step))

    @property
    def bound(self) -> int:
        """Steps of the constant phase at most."""
        return self.recipe.epochs * self.steps_per_epoch

    def patience(self, steps: int) -> int:
        """Steps without a gain, at ``steps``, that make a plateau: a share of the steps so far, but a few epochs at least."""
        epochs = max(self.recipe.patience, LEAST_PATIENCE_EPOCHS)
        return max(epochs * self.steps_per_epoch, math.ceil(PATIENCE_SHARE * steps))

    def on_plateau(self, steps: int, gained_step: int) -> bool:
        """Whether the patience is used up at ``steps``, where the last gain came at ``gained_step`` (`last_gain`)."""
        return steps - gained_step >= self.patience(steps)

    def decay_steps(self, constant_steps: int) -> int:
        """Steps in which the rate falls: a share of the constant phase's, but an epoch at least; 0 where the recipe does not decay."""
        return max(self.steps_per_epoch, math.ceil(DECAY_SHARE * constant_steps)) if self.recipe.decays else 0

    def most_steps(self, constant_steps: int | None) -> int:
        """Steps of both phases: at most, and exactly once the constant phase has ended."""
        constant = self.bound if constant_steps is None else constant_steps
        return constant + self.decay_steps(constant)

    def epoch_end(self, start: int, constant_steps: int | None) -> int:
        """The step with which an epoch ends that begins behind the step ``start``; the decay's last epoch may be short."""
        return min(start + self.steps_per_epoch, self.most_steps(constant_steps))

    def rate(self, step: int, constant_steps: int | None) -> float:
        """Share of the full learning rate at ``step``, counted from 1, the warm-up apart; 0 at the decay's last step."""
        if constant_steps is None:
            return 1.0
        return 1 - (step - constant_steps) / self.decay_steps(constant_steps)

    def warmth(self, step: int) -> float:
        """Share of the learning rate that the warm-up allows at ``step``, counted from 1."""
        return min(1.0, step / max(1, self.recipe.warmup_steps))

    def recent_weight(self, step: int) -> float:
        """Weight of the recent items' loss at ``step``, counted from 1."""
        return self.recipe.recent_weight * min(1.0, step / self.recipe.recent_weight_steps) ** 2


def last_gain(figures: Sequence[float], steps: Sequence[int]) -> int:
    """The steps at which validation last gained: rose above where it gained before by `LEAST_GAIN` of that.

    Args:
        figures: of each epoch so far, at least one.
        steps: at the end of each.
    """
    gain_epoch = 0
    for epoch, figure in enumerate(figures):
        if figure - figures[gain_epoch] > LEAST_GAIN * abs(figures[gain_epoch]):
            gain_epoch = epoch
    return steps[gain_epoch]

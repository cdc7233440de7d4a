"""Training: recipe, loop, early stopping, states to go on from."""

from persrec.training.loop import DivergedError, Trainer, TrainingResult
from persrec.training.recipe import Recipe
from persrec.training.state import STATE, EpochReport, Progress, StateError, StateKeeper

__all__ = ["STATE", "DivergedError", "EpochReport", "Progress", "Recipe", "StateError", "StateKeeper", "Trainer", "TrainingResult"]

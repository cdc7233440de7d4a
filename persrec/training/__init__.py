"""Training: recipe, loop, early stopping."""

from persrec.training.loop import EpochReport, Trainer, TrainingResult
from persrec.training.recipe import Recipe

__all__ = ["EpochReport", "Recipe", "Trainer", "TrainingResult"]

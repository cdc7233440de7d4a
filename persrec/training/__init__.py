"""Training: recipe, phases, loop, states to go on from."""

from persrec.training.loop import DivergedError, Trainer, TrainingResult
from persrec.training.phases import TrainingPhases
from persrec.training.recipe import Recipe
from persrec.training.state import STATE, EpochReport, Progress, StateError, StateKeeper

__all__ = [
    "STATE",
    "DivergedError",
    "EpochReport",
    "Progress",
    "Recipe",
    "StateError",
    "StateKeeper",
    "Trainer",
    "TrainingPhases",
    "TrainingResult",
]

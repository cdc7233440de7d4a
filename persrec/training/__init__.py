"""Training: recipe, phases, loop, states to go on from."""

from persrec.training.loop import DivergedError, Trainer, TrainingResult
from persrec.training.phases import TrainingPhases
from persrec.training.recipe import Recipe
from persrec.training.state import STATE, EpochReport, Progress, StateError, StateKeeper
from persrec.training.team import SeveralProcesses, Team, whole_state

__all__ = [
    "STATE",
    "DivergedError",
    "EpochReport",
    "Progress",
    "Recipe",
    "SeveralProcesses",
    "StateError",
    "StateKeeper",
    "Team",
    "Trainer",
    "TrainingPhases",
    "TrainingResult",
    "whole_state",
]

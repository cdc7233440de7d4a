"""How the models behind configurations were trained: whether they converged, and whether two of them may be compared."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks import text
from benchmarks.analysis.configurations import Configuration
from benchmarks.records import TrainedModel

_REMEMBERED = 8192  # a report asks the same of each of thousands of configurations, and of tens of thousands of pairs
_HALF = 2.0  # from so many times the steps on, training is not equal


@dataclass(frozen=True, kw_only=True, slots=True)
class Endings:
    """How many models there are, how many a bound stopped before their plateau, and of how many that was not recorded."""

    models: int
    not_converged: int
    not_recorded: int
    stopped: tuple[Configuration, ...]


@functools.lru_cache(maxsize=_REMEMBERED)
def models_of(one: Configuration) -> tuple[TrainedModel, ...]:
    """The trained model of each seed that was measured; floors and costs alone have none."""
    return tuple(record.model for record in one.measured if record.model is not None)


@functools.lru_cache(maxsize=_REMEMBERED)
def not_converged(one: Configuration) -> bool:
    """Whether the model of any of its seeds was stopped before its plateau."""
    return any(model.converged is False for model in models_of(one))


@functools.lru_cache(maxsize=_REMEMBERED)
def _converged(one: Configuration) -> bool:
    """Whether the models of all its seeds are known to have reached their plateau."""
    return all(model.converged is True for model in models_of(one))


def endings(among: Iterable[Configuration]) -> Endings:
    """How the trainings of all models ended; several configurations may share a model, which counts once."""
    by_key: dict[str, bool | None] = {}
    stopped: list[Configuration] = []
    for one in among:
        by_key |= {model.key: model.converged for model in models_of(one)}
        stopped += [one] if not_converged(one) else []
    ends = list(by_key.values())
    return Endings(models=len(ends), not_converged=ends.count(False), not_recorded=ends.count(None), stopped=tuple(stopped))


@functools.lru_cache(maxsize=_REMEMBERED)
def validation(one: Configuration) -> float | None:
    """Mean over seeds of NDCG@10 on the validation targets, as this cell uses the model; None where a record holds none.

    Records from before `TrainedModel.validation` have the figure that stopped the training: of an elastic model that is the figure of one
    token count, whichever the cell has.
    """
    figures = [model.best_validation if model.validation is None else model.validation for model in models_of(one)]
    known_figures = [figure for figure in figures if figure is not None]
    return sum(known_figures) / len(known_figures) if known_figures and len(known_figures) == len(figures) else None


def own_validation(one: Configuration) -> float | None:
    """`validation`, and None too where an elastic model's record holds no figure of this cell's own token count."""
    if one.cell.training == "elastic" and any(model.validation is None for model in models_of(one)):
        return None
    return validation(one)


@functools.lru_cache(maxsize=_REMEMBERED)
def steps(one: Configuration) -> float | None:
    """Mean over seeds of the optimiser steps; None where a record holds none."""
    numbers = [model.steps for model in models_of(one)]
    known_numbers = [number for number in numbers if number is not None]
    return sum(known_numbers) / len(known_numbers) if known_numbers and len(known_numbers) == len(numbers) else None


def steps_in_words(one: Configuration, other: Configuration) -> str:
    """``1,000 against 2,000 steps`` where the steps of two models differ; else nothing."""
    ours, theirs = steps(one), steps(other)
    return "" if ours is None or theirs is None or ours == theirs else f"{text.count(ours)} against {text.count(theirs)} steps"


@functools.lru_cache(maxsize=8 * _REMEMBERED)
def unequal(one: Configuration, other: Configuration) -> tuple[str, ...]:
    """Why two trained models are not comparable; nothing where both converged under one bound, however many steps each took.

    Older records do not say whether their models converged; these are judged by their bounds and steps. What learns nothing counts as
    equally trained with everything. A teacher on one side of two rivals is unequal training too.
    """
    if not models_of(one) or not models_of(other):
        return ()
    reasons = ["not converged"] if not_converged(one) or not_converged(other) else []
    if _bound(one) != _bound(other):
        reasons.append("different bounds on steps")
    if _taught_alone(one, other):
        reasons.append("only one side had a teacher")
    ours, theirs = steps(one), steps(other)
    if _converged(one) and _converged(other):
        return tuple(reasons)
    if ours is not None and theirs is not None and max(ours, theirs) >= _HALF * min(ours, theirs) and ours != theirs:
        reasons.append(f"half the steps: {steps_in_words(one, other)}")
    return tuple(reasons)


def taught(one: Configuration) -> bool:
    """Whether full attention taught its tokens."""
    return one.trained and one.cell.distillation > 0


def _taught_alone(one: Configuration, other: Configuration) -> bool:
    """Whether only one of two rivals had a teacher; False beside full attention, which is the teacher, or what keeps no history at all."""
    compressions = {one.cell.compression, other.cell.compression}
    keeps_nothing = one.cell.recent == other.cell.recent and 0 in (one.cell.tokens, other.cell.tokens)
    return len(compressions) == len(compressions - {"full"}) == 2 and not keeps_nothing and taught(one) != taught(other)


@functools.lru_cache(maxsize=_REMEMBERED)
def _bound(one: Configuration) -> tuple[object, ...]:
    """What bounds the steps: the epochs, the targets of a step, which the window decides, and the rules of the two phases."""
    cell = one.cell
    return cell.epochs, cell.step_targets, cell.patience, cell.decays

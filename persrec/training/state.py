"""What a training run has come to, kept on disk, so that a run that is stopped anywhere goes on to the very same weights (on a CPU).

One safetensors file holds the tensors, and in its header, as JSON, everything else. It is written beside its place, synced
and renamed, so a kill leaves the state before or the new one.
"""

import copy
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from persrec.data.splits import Split
from persrec.files import atomic
from persrec.layout import layout_id
from persrec.recommender import SequentialRecommender
from persrec.training.phases import TrainingPhases, last_gain
from persrec.training.recipe import Recipe

STATE = "state.safetensors"
EVERY_S = 30.0
MOST_SHARE = 0.05  # of the time may go into keeping states
_FACTS = "training"
_MODEL, _BEST, _OPTIMISER, _BEST_OPTIMISER, _GENERATOR = "model.", "best.", "optimizer.", "best_optimizer.", "generator."
_NOT_PLAIN = ("curve", "totals", "best_weights", "best_moments")  # fields of `Progress`
Moments = dict[int, dict[str, torch.Tensor]]  # what an optimiser keeps, by the number of the weight


class StateError(ValueError):
    """A state cannot be read, or is of another training run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReport:
    """One epoch.

    Attributes:
        epoch: its number, from 1.
        loss: mean over its targets.
        validation: the figure at its end.
        seconds: of its steps.
        padding_share: share of the computed item positions that were padding.
        steps: optimiser steps from the start to its end.
        learning_rate: of its last step, of everything but the item vectors.
    """

    epoch: int
    loss: float
    validation: float
    seconds: float
    padding_share: float
    steps: int
    learning_rate: float


@dataclass(slots=True)
class Totals:
    """Running sums of one epoch."""

    loss: float = 0.0
    targets: int = 0
    slots: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Progress:
    """Where a training run stands.

    Attributes:
        curve: the epochs that are done.
        best: the best validation figure so far, of epoch ``best_epoch`` with the weights ``best_weights``.
        best_moments: the optimiser's state beside ``best_weights``; None where no decay will start from it.
        totals: of the epoch under way.
        steps: optimiser steps since the start.
        targets: next-item targets that these steps predicted.
        constant_steps: steps at which the constant phase ended; None inside it.
        converged: whether a plateau ended the constant phase, and not the bound.
        step_seconds: wall-clock time of the steps, over all the parts of a run that was stopped.
        seconds: the same with validations.
        resumes: how often the run went on from a kept state.
        diverged_at: the epoch in which the training diverged, and so ended; None where it did not.
    """

    curve: list[EpochReport] = field(default_factory=list)
    best: float = -math.inf
    best_epoch: int = 0
    best_weights: dict[str, torch.Tensor] | None = None
    best_moments: Moments | None = None
    totals: Totals = field(default_factory=Totals)
    steps: int = 0
    targets: int = 0
    constant_steps: int | None = None
    converged: bool = False
    step_seconds: float = 0.0
    seconds: float = 0.0
    resumes: int = 0
    diverged_at: int | None = None

    @property
    def epoch_start(self) -> int:
        """Steps before the epoch under way."""
        return self.curve[-1].steps if self.curve else 0

    @property
    def gained_step(self) -> int:
        """Steps at the last gain of the epochs so far."""
        return last_gain([report.validation for report in self.curve], [report.steps for report in self.curve])

    @property
    def best_report(self) -> EpochReport:
        """The epoch of the best weights."""
        return self.curve[self.best_epoch - 1]

    def ended(self, phases: TrainingPhases) -> bool:
        """Whether the training diverged, or has all its epochs behind it; a last step without its validation is not the end."""
        if self.diverged_at is not None:
            return True
        return self.constant_steps is not None and self.epoch_start >= phases.most_steps(self.constant_steps)

    def close_epoch(self, report: EpochReport, training: "Training") -> None:
        """Takes an epoch that is done into the curve, and the weights where it is the best."""
        self.curve.append(report)
        if report.validation > self.best:
            self.best, self.best_epoch = report.validation, report.epoch
            self.best_weights = copy.deepcopy(training.model.state_dict())
            if self.constant_steps is None and training.recipe.decays:
                self.best_moments = copy.deepcopy(training.optimizer.state_dict()["state"])
        self.totals = Totals()

    def close_constant_phase(self, training: "Training", *, converged: bool) -> None:
        """Ends the constant phase, and puts weights and optimiser back to the best of it.

        The moments are those of the best weights: fresh ones would begin with steps as wide as the learning rate in every weight, at
        a place that was reached by narrow ones.
        """
        assert self.best_weights is not None  # noqa: S101 - a phase has one epoch at least, and every epoch a finite figure
        self.constant_steps, self.converged = self.steps, converged
        training.model.load_state_dict(self.best_weights)
        if self.best_moments is not None:
            _load_moments(training.optimizer, self.best_moments)
        self.best_moments = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """All that a step changes: with it, a training run can be put back to where it was. ``run`` tells runs of one recipe apart."""

    run: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    rng: np.random.Generator
    recipe: Recipe
    progress: Progress

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device


class StateKeeper:
    """Keeps the state of a training run in a file.

    A state is kept at the end of an epoch and, inside an epoch, after ``every_s`` seconds; later where a state takes long to
    write, so that no more than a twentieth of the time goes into it.

    Args:
        path: the file; its folder is made.
        every_s: seconds between two states inside an epoch.
        clock: monotonic seconds.
    """

    def __init__(self, path: Path, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self._every_s, self._clock = path, every_s, clock
        self._saved_at, self._save_seconds = clock(), 0.0

    def restore(self, training: Training) -> bool:
        """Puts ``training`` back to the state that was kept; False, and nothing changed, where there is none.

        Raises:
            StateError: the file cannot be read or is of another training run; nothing changed.
        """
        if not self.path.exists():
            return False
        load_state(self.path, training)
        training.progress.resumes += 1
        self._saved_at = self._clock()
        return True

    def keep(self, training: Training, *, epoch_ended: bool) -> None:
        """Writes the state if it is time to.

        Raises:
            OSError: it cannot be written; the state before is still there.
        """
        start = self._clock()
        if not self._is_due(start, epoch_ended=epoch_ended):
            return
        self._save(training)
        self._saved_at = self._clock()
        self._save_seconds = self._saved_at - start

    def _is_due(self, now: float, *, epoch_ended: bool) -> bool:
        """Whether it is time to keep the state."""
        elapsed = now - self._saved_at
        return elapsed * MOST_SHARE >= self._save_seconds and (epoch_ended or elapsed >= self._every_s)

    def _save(self, training: Training) -> None:
        save_state(self.path, training)


def save_state(path: Path, training: Training) -> None:
    """Writes the state of a training run in one file, which holds the old state or the new, never a part.

    Raises:
        OSError: it cannot be written.
    """
    tensors, facts = state_tensors(training), state_facts(training)
    tensors |= {f"{_GENERATOR}{name}": state for name, state in _generator_states(training.device).items()}
    with atomic(path) as file:
        try:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file.name, {_FACTS: json.dumps(facts)}
            )
        except SafetensorError as error:
            raise OSError(f"{path}: cannot be written: {error}") from error


def state_tensors(training: Training) -> dict[str, torch.Tensor]:
    """The tensors of a state but for generators, by name: as they are in this process, where several hold a part each."""
    tensors = {f"{_MODEL}{name}": tensor for name, tensor in training.model.state_dict().items()}
    tensors |= {f"{_BEST}{name}": tensor for name, tensor in (training.progress.best_weights or {}).items()}
    for prefix, moments in (
        (_OPTIMISER, training.optimizer.state_dict()["state"]),
        (_BEST_OPTIMISER, training.progress.best_moments or {}),
    ):
        for number, slots in moments.items():
            tensors |= {f"{prefix}{number}.{name}": tensor for name, tensor in slots.items()}
    return tensors


def state_facts(training: Training) -> dict[str, Any]:
    """The rest of a state, as JSON."""
    progress = {name: getattr(training.progress, name) for name in _plain_fields()}
    return {
        "run": training.run,
        "recipe": dataclasses.asdict(training.recipe),
        "rng": training.rng.bit_generator.state,
        "progress": progress | {"curve": [dataclasses.asdict(report) for report in training.progress.curve]},
        "totals": dataclasses.asdict(training.progress.totals),
    }


def load_state(path: Path, training: Training) -> None:
    """Puts ``training`` into the state that ``path`` holds.

    Raises:
        StateError: the file cannot be read, or its recipe, its data, its layout or its tensors are those of another training run;
            ``training`` then stays as it was.
    """
    facts, tensors = _read(path)
    check_run(path, facts, training)
    weights, best = _tensors_under(_MODEL, tensors), _tensors_under(_BEST, tensors)
    for state in (weights, best) if best else (weights,):
        _check_tensors(path, state, training.model)
    take_state(training, tensors, facts, path=path)
    _set_generators(_tensors_under(_GENERATOR, tensors), training.device)


def run_digest(model: SequentialRecommender, data: Split) -> str:
    """A digest of what a run's windows are cut from, and of the layout that reads them; which items stand there is not in it."""
    hasher = hashlib.sha256(f"{layout_id(model.layout)} {data.num_items}".encode())
    for numbers in (data.sequences.offsets, data.train_ends, data.validation.users, data.validation.positions):
        hasher.update(np.ascontiguousarray(numbers, dtype=np.int64).data)
    return hasher.hexdigest()


def check_run(path: Path, facts: Mapping[str, Any], training: Training) -> None:
    """Refuses a state without a part that `state_facts` gives, or of another recipe, of other data or of another layout.

    Raises:
        StateError: it is no state, or that of another run.
    """
    try:
        missing = [name for name in ("rng", "recipe", "totals") if not isinstance(facts[name], dict)]
        missing += [name for name in ("curve", *_plain_fields()) if name not in facts["progress"]] + ["run"] * ("run" not in facts)
    except (KeyError, TypeError) as error:
        raise StateError(f"state: {path} cannot be read as a training run's: {error}") from error
    if missing:
        raise StateError(f"state: {path} cannot be read as a training run's: no {missing[0]}; it may be one of another version")
    recipe = json.loads(json.dumps(dataclasses.asdict(training.recipe)))
    for name in recipe:
        if facts["recipe"].get(name) != recipe[name]:
            raise StateError(f"state: {path} was trained with {name} {facts['recipe'].get(name)!r}; expected {recipe[name]!r}")
    if facts["run"] != training.run:
        raise StateError(f"state: {path} is of other data, another split or another layout than this training run")


def take_state(training: Training, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any], *, path: Path) -> None:
    """Puts ``training`` into a state, as `state_tensors` and `state_facts` gave it.

    Raises:
        StateError: a report or a sum in it has other fields; nothing changed.
    """
    try:
        curve, totals = [EpochReport(**report) for report in facts["progress"]["curve"]], Totals(**facts["totals"])
    except TypeError as error:
        raise StateError(f"state: {path} cannot be read as a training run's: {error}") from error
    best = _tensors_under(_BEST, tensors)
    training.model.load_state_dict(_tensors_under(_MODEL, tensors))
    _load_moments(training.optimizer, _moments(_tensors_under(_OPTIMISER, tensors)))
    training.rng.bit_generator.state = facts["rng"]
    progress = training.progress
    for name in _plain_fields():
        setattr(progress, name, facts["progress"][name])
    progress.curve, progress.totals = curve, totals
    progress.best_weights = {name: tensor.to(training.device) for name, tensor in best.items()} or None
    progress.best_moments = _moments(_tensors_under(_BEST_OPTIMISER, tensors)) or None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What a state says of the training run, and its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[_FACTS])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise StateError(f"state: {path} cannot be read as a training run's: {error}") from error
    return facts, tensors


def _plain_fields() -> list[str]:
    """The fields of `Progress` that are JSON as they are."""
    return [part.name for part in dataclasses.fields(Progress) if part.name not in _NOT_PLAIN]


def _tensors_under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_tensors(path: Path, weights: Mapping[str, torch.Tensor], model: nn.Module) -> None:
    """Refuses tensors whose shapes or types are not the model's: weights of another type would be rounded silently."""
    expected, actual = ({name: _form(tensor) for name, tensor in state.items()} for state in (model.state_dict(), weights))
    for name in sorted(expected.keys() | actual.keys()):
        if actual.get(name) != expected.get(name):
            raise StateError(
                f"state: {path} holds {name} {actual.get(name, 'not at all')}; "
                f"expected {expected.get(name, 'no such tensor')}, as the model"
            )


def _form(tensor: torch.Tensor) -> str:
    return f"{list(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"


def _moments(tensors: Mapping[str, torch.Tensor]) -> Moments:
    moments: Moments = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        moments.setdefault(int(number), {})[name] = tensor
    return moments


def _load_moments(optimizer: torch.optim.Optimizer, moments: Moments) -> None:
    # the groups are the recipe's, and their learning rates are set anew at each step
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _generator_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Torch's own generators, which dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_generators(states: Mapping[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)

"""The training loop: AdamW on sampled softmax, a constant rate until a validation figure is on a plateau, then a rate that falls to 0."""

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch

from persrec.compression.base import Cuttable, Elastic
from persrec.data.splits import Split
from persrec.data.windows import StepWindows, WindowBatch, WindowShape, build_windows, random_segments, rank_chances
from persrec.inputs import shape_of
from persrec.recommender import SequentialRecommender
from persrec.training.objective import Loss, Objective, backward_in_parts
from persrec.training.phases import TrainingPhases
from persrec.training.recipe import Recipe
from persrec.training.state import EpochReport, Progress, StateKeeper, Training, run_digest
from persrec.training.team import Team, own_part

BETAS = (0.9, 0.98)  # as the public HSTU recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """What a training run came to; the model holds the best weights on validation.

    Attributes:
        best_epoch: the epoch of these weights, from 1.
        best_step: optimiser steps until then.
        best_validation: the figure there.
        learning_rate_at_best: of the last step before, of everything but the item vectors; 0 at the end of a decay.
        converged: whether the figure was on a plateau before the rate fell; False where the bound or a divergence ended it.
        steps: optimiser steps, all.
        decay_steps: those of them in which the rate fell.
        targets: next-item targets that the steps predicted; padding does not count.
        curve: the epochs.
        train_seconds: of all parts of a run that was stopped and went on ``resumes`` times, validations among them.
        seconds_per_million_targets: without validations; None where there was no target.
        resumes: how often the run went on.
        diverged_at: the epoch in which the training diverged, which ended it and is not in ``curve``; None where it did not.
    """

    best_epoch: int
    best_step: int
    best_validation: float
    learning_rate_at_best: float
    converged: bool
    steps: int
    decay_steps: int
    targets: int
    curve: list[EpochReport]
    train_seconds: float
    seconds_per_million_targets: float | None
    resumes: int
    diverged_at: int | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return asdict(self)


class DivergedError(FloatingPointError):
    """The loss, a weight or the validation figure is no longer finite."""


class Trainer:
    """Trains a recommender on the training part of a leave-one-out split.

    Same seed, machine and thread count: same weights, bit for bit, on a CPU. An elastic model keeps the token count that it came with.

    Args:
        model: trained in place.
        data: the split.
        recipe: the settings.
        validate: gives the validation figure, higher is better, of the model as it stands.
        on_epoch: called with the report of every epoch.
        on_step: called after every step, with how far the training is.
        keeper: keeps the state, and puts back the one that it holds; without one, a run that is stopped begins anew.
        team: the processes that train the model together. Each runs all of this, and they share each step's windows.

    Raises:
        ValueError: the recipe cuts the history at random, and the model's history has one segment or cannot be cut; or the recipe draws
            token counts, and the model's compression is not elastic.
    """

    def __init__(
        self,
        *,
        model: SequentialRecommender,
        data: Split,
        recipe: Recipe,
        validate: Callable[[], float],
        on_epoch: Callable[[EpochReport], None] | None = None,
        on_step: Callable[[Progress], None] | None = None,
        keeper: StateKeeper | None = None,
        team: Team | None = None,
    ) -> None:
        self.model, self.data, self.recipe = model, data, recipe
        self._validate, self._on_epoch, self._on_step, self._keeper = validate, on_epoch, on_step, keeper
        self._rng = np.random.default_rng(recipe.seed)
        self._team = team or Team()
        self._objective = Objective(model, recipe)
        self._wrapped = self._team.wrapped(self._objective, model)
        layout = model.layout
        self.shape = shape_of(layout)
        self._cuttable = _cuttable(model) if recipe.random_cuts else None
        self._elastic = _elastic(model, recipe.token_counts) if recipe.token_counts else None
        self.phases = TrainingPhases.of(recipe, data.train_ends)
        self._windows = StepWindows(
            lengths=data.train_ends,
            shape=self.shape,
            predicting=layout.predicting_columns,
            targets_per_step=recipe.targets_per_step,
            moving=recipe.moving_windows,
            histories=recipe.history_lengths,
            seed=recipe.seed,
        )
        self._optimizer = torch.optim.AdamW(
            [{"params": group} for group in _groups(model)],
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            betas=BETAS,
            fused=True,
        )
        self._slots = self._targets = 0
        self.progress = Progress()

    def run(self) -> TrainingResult:
        """Trains through both phases, or until it diverges, then puts the best weights back.

        Raises:
            ValueError: no user can be trained on; or none can be evaluated, so no epoch could be called the best. Nothing was trained.
            DivergedError: it diverged in the first epoch, so there is no earlier one to go back to.
            StateError: the keeper's state cannot be read or is of another training run; nothing was trained.
        """
        self.data.check_evaluated()
        torch.manual_seed(self.recipe.seed + self._team.rank)  # for dropout, which differs from process to process
        progress, phases = self.progress, self.phases
        if self._keeper is not None:
            self._keeper.restore(self._training())
        steps = self._windows.after(progress.steps)
        while not progress.ended(phases):
            epoch = len(progress.curve) + 1
            try:
                report = self._epoch(epoch, steps)
            except DivergedError:
                if progress.best_weights is None:
                    raise
                progress.diverged_at = epoch
                break
            progress.close_epoch(report, self._training())
            if self._on_epoch is not None:
                self._on_epoch(report)
            if progress.constant_steps is None:
                on_plateau = phases.on_plateau(progress.steps, progress.gained_step)
                if on_plateau or progress.steps >= phases.bound:
                    progress.close_constant_phase(self._training(), converged=on_plateau)
            self._keep_state(epoch_ended=True)
        assert progress.best_weights is not None  # noqa: S101 - every epoch of the curve has a figure, and there is one epoch at least
        self.model.load_state_dict(progress.best_weights)
        self.model.eval()
        return self._result()

    def _result(self) -> TrainingResult:
        progress = self.progress
        return TrainingResult(
            best_epoch=progress.best_epoch,
            best_step=progress.best_report.steps,
            best_validation=progress.best,
            learning_rate_at_best=progress.best_report.learning_rate,
            converged=progress.converged and progress.diverged_at is None,
            steps=progress.steps,
            decay_steps=0 if progress.constant_steps is None else progress.steps - progress.constant_steps,
            targets=progress.targets,
            curve=progress.curve,
            train_seconds=progress.seconds,
            seconds_per_million_targets=progress.step_seconds / progress.targets * 1e6 if progress.targets else None,
            resumes=progress.resumes,
            diverged_at=progress.diverged_at,
        )

    def _epoch(self, epoch: int, steps: Iterator[tuple[np.ndarray, np.ndarray, int | None]]) -> EpochReport:
        """Takes the remaining steps of an epoch, and validates."""
        progress, totals = self.progress, self.progress.totals
        end = self.phases.epoch_end(progress.epoch_start, progress.constant_steps)
        lap = time.perf_counter()
        self.model.train()
        for users, ends, history in itertools.islice(steps, end - progress.steps):
            with self._step_shape() as shape:
                loss = float(self.step(build_windows(self.data.sequences, users, ends, shape, trim=True, history=history)))
            _check_finite(epoch, "loss", loss)
            totals.loss += loss * self._targets
            totals.targets += self._targets
            totals.slots += self._slots
            progress.targets += self._targets
            lap = self._count_seconds(since=lap, of_steps=True)
            if self._on_step is not None:
                self._on_step(progress)
            self._keep_state(epoch_ended=False)
            lap = self._count_seconds(since=lap, of_steps=False)
        self.model.eval()
        for name, weight in self.model.named_parameters():
            if not self._is_finite(weight):
                raise DivergedError(f"training: diverged in epoch {epoch}, {name} holds numbers that are not finite")
        with self._team.whole(self._wrapped):
            validation = self._team.first(self._validate())
        _check_finite(epoch, "validation figure", validation)
        self._count_seconds(since=lap, of_steps=False)
        return EpochReport(
            epoch=epoch,
            loss=totals.loss / max(1, totals.targets),
            validation=validation,
            seconds=totals.seconds,
            padding_share=1 - totals.targets / max(1, totals.slots),
            steps=progress.steps,
            learning_rate=self._learning_rate(progress.steps),
        )

    def _count_seconds(self, *, since: float, of_steps: bool) -> float:
        now = time.perf_counter()
        self.progress.seconds += now - since
        if of_steps:
            self.progress.step_seconds += now - since
            self.progress.totals.seconds += now - since
        return now

    @functools.cached_property
    def _run(self) -> str:
        """Only a training whose state is kept needs it."""
        return run_digest(self.model, self.data)

    def _training(self) -> Training:
        return Training(
            run=self._run, model=self.model, optimizer=self._optimizer, rng=self._rng, recipe=self.recipe, progress=self.progress
        )

    def _keep_state(self, *, epoch_ended: bool) -> None:
        if self._keeper is not None:
            self._keeper.keep(self._training(), epoch_ended=epoch_ended)

    @contextmanager
    def _step_shape(self) -> Iterator[WindowShape]:
        """The slots of a step's windows: the plan's, or for this step alone those of segments that end at random."""
        if self._cuttable is None:
            yield self.shape
            return
        self._cuttable.cut(random_segments(self.shape, self._rng))
        try:
            yield shape_of(self.model.layout)
        finally:
            self._cuttable.cut(None)

    def step(self, batch: WindowBatch) -> torch.Tensor:
        """One optimiser step; returns the loss."""
        with self._random_tokens():
            self._set_learning_rates()
            self._optimizer.zero_grad(set_to_none=True)
            if self._team.size == self.recipe.accumulation == 1:
                loss = self.loss(batch)
                loss.backward()  # type: ignore[no-untyped-call]
            else:
                loss = self._record_loss(
                    backward_in_parts(self._wrapped, self._objective, self._team, batch, *self.draw(), parts=self.recipe.accumulation)
                )
            self._optimizer.step()
        return loss.detach()

    @contextmanager
    def _random_tokens(self) -> Iterator[None]:
        """Inside, an elastic model has a random token count, for this step alone."""
        if self._elastic is None:
            yield
            return
        original_count, counts = self.model.layout.tokens, self.recipe.token_counts
        self._elastic.use(int(self._rng.choice(counts, p=rank_chances(counts))))
        try:
            yield
        finally:
            self._elastic.use(original_count)

    def _set_learning_rates(self) -> None:
        """Of item vectors, and of tokens and of everything else, which warm up."""
        self.progress.steps += 1
        recipe, step = self.recipe, self.progress.steps
        item_rate = recipe.learning_rate if recipe.item_learning_rate is None else recipe.item_learning_rate
        expert_rate = recipe.learning_rate if recipe.expert_learning_rate is None else recipe.expert_learning_rate
        warmth, decay = self.phases.warmth(step), self.phases.rate(step, self.progress.constant_steps)
        rates = (item_rate * decay, expert_rate * warmth * decay, recipe.learning_rate * warmth * decay)
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def _learning_rate(self, step: int) -> float:
        """Of everything but the item vectors."""
        return self.recipe.learning_rate * self.phases.warmth(step) * self.phases.rate(step, self.progress.constant_steps)

    def loss(self, batch: WindowBatch, drawn: tuple[torch.Tensor, float] | None = None) -> torch.Tensor:
        """The loss of a batch of windows, over all positions that have a next item; with what `draw` gave, where several share it."""
        return self._record_loss(self._objective(batch, *(drawn or self.draw())))

    def draw(self) -> tuple[torch.Tensor, float]:
        """A step's negatives, the same in every process, and the weight of its recent items."""
        count, negatives = self.model.items.count, self.recipe.negatives
        ids = self._rng.integers(1, count, negatives) if negatives else np.arange(1, count)
        return torch.from_numpy(ids).to(self._objective.device), self.phases.recent_weight(self.progress.steps)

    def _record_loss(self, loss: Loss) -> torch.Tensor:
        self._slots, self._targets = loss.computed, loss.predicted
        return loss.value

    def _is_finite(self, weight: torch.Tensor) -> bool:
        return not self._team.sum((~own_part(weight).isfinite()).any().float())


def _cuttable(model: SequentialRecommender) -> Cuttable:
    """The model's compression, whose segments may end anywhere.

    Raises:
        ValueError: its history is one segment, or what is kept of it does not let it be cut.
    """
    segments = len(model.layout.segments)
    if segments < 2 or not isinstance(model.compression, Cuttable):
        raise ValueError(f"random_cuts: true with {segments} segments of {type(model.compression).__name__}; expected experts of 2 or more")
    return model.compression


def _elastic(model: SequentialRecommender, counts: Sequence[int]) -> Elastic:
    """The model's compression, which can keep each of these counts of tokens, and at the end its own again.

    Raises:
        ValueError: it keeps one count alone, or none of these; nothing was trained.
    """
    if not isinstance(model.compression, Elastic):
        name = type(model.compression).__name__
        raise ValueError(f"token_counts: drawn for {name}; expected a compression that serves several")  # noqa: TRY004 - a recipe's value
    original_count = model.layout.tokens
    model.compression.use(original_count)  # the count of an uneven plan cannot be set again: refused here
    try:
        for count in counts:
            model.compression.use(count)
    finally:
        model.compression.use(original_count)
    return model.compression


def _groups(model: SequentialRecommender) -> tuple[list[torch.nn.Parameter], ...]:
    """The weights of item vectors, those of the compression, and the rest."""
    item_weights = list(model.items.parameters())
    expert_weights = list(model.compression.parameters()) if isinstance(model.compression, torch.nn.Module) else []
    grouped_ids = {id(parameter) for parameter in (*item_weights, *expert_weights)}
    return item_weights, expert_weights, [parameter for parameter in model.parameters() if id(parameter) not in grouped_ids]


def _check_finite(epoch: int, name: str, value: float) -> None:
    if not math.isfinite(value):
        raise DivergedError(f"training: diverged in epoch {epoch}, the {name} is {value}")

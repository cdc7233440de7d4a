"""The training loop: AdamW on sampled softmax, early stopping on a validation figure."""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from persrec.compression.experts import Experts
from persrec.data.splits import LeaveOneOut
from persrec.data.windows import WindowBatch, WindowShape, batches, build_windows, epoch_plan
from persrec.losses import sampled_softmax
from persrec.recommender import SequentialRecommender
from persrec.training.recipe import Recipe

BETAS = (0.9, 0.98)  # as the public HSTU recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReport:
    """One epoch: mean loss, the validation figure, seconds, and the share of computed item positions that were padding."""

    epoch: int
    loss: float
    validation: float
    seconds: float
    padding_share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """What a training run came to; the model holds the weights of ``best_epoch``."""

    best_epoch: int
    best_validation: float
    curve: list[EpochReport]

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(slots=True)
class _Totals:
    """Running sums of one epoch."""

    loss: float = 0.0
    targets: int = 0
    slots: int = 0


class Trainer:
    """Trains a recommender on the training part of a leave-one-out split.

    Same seed, machine and thread count: same weights, bit for bit.

    Args:
        model: trained in place.
        data: the split.
        recipe: the settings.
        validate: gives the validation figure, higher is better, of the model as it stands.
        on_epoch: told of every epoch.
    """

    def __init__(
        self,
        *,
        model: SequentialRecommender,
        data: LeaveOneOut,
        recipe: Recipe,
        validate: Callable[[], float],
        on_epoch: Callable[[EpochReport], None] | None = None,
    ) -> None:
        self.model, self.data, self.recipe = model, data, recipe
        self._validate, self._on_epoch = validate, on_epoch
        self._rng = np.random.default_rng(recipe.seed)
        self._device = next(model.parameters()).device
        layout = model.layout
        self.shape = WindowShape(segments=tuple(s.items for s in layout.segments), recent=layout.recent)
        self._stride = len(layout.predicting_columns)
        self._windows_per_step = max(1, recipe.targets_per_step // self._stride)
        of_items = {id(parameter) for parameter in model.items.parameters()}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in of_items]
        self._optimizer = torch.optim.AdamW(
            [{"params": list(model.items.parameters())}, {"params": rest}],
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            betas=BETAS,
        )
        self._steps = self._steps_per_epoch = self._computed = self._predicted = 0

    def run(self) -> TrainingResult:
        """Trains until the patience or the epochs are used up, then puts the best epoch's weights back."""
        torch.manual_seed(self.recipe.seed)
        curve: list[EpochReport] = []
        best, best_weights = -float("inf"), None
        best_epoch = 0
        for epoch in range(1, self.recipe.epochs + 1):
            report = self._epoch(epoch)
            curve.append(report)
            if self._on_epoch is not None:
                self._on_epoch(report)
            if report.validation > best:
                best, best_epoch, best_weights = report.validation, epoch, copy.deepcopy(self.model.state_dict())
            elif epoch - best_epoch >= self.recipe.patience:
                break
        if best_weights is None:
            raise FloatingPointError(f"validation: {curve[-1].validation} in every epoch, loss {curve[-1].loss}; the training diverged")
        self.model.load_state_dict(best_weights)
        return TrainingResult(best_epoch=best_epoch, best_validation=best, curve=curve)

    def _epoch(self, epoch: int) -> EpochReport:
        start = time.perf_counter()
        users, ends = epoch_plan(self.data.train_ends, width=self.shape.width, stride=self._stride, rng=self._rng)
        self._steps_per_epoch = self._steps_per_epoch or -(-len(users) // self._windows_per_step)
        totals = _Totals()
        self.model.train()
        for batch_users, batch_ends in batches(users, ends, width=self.shape.width, batch_size=self._windows_per_step, rng=self._rng):
            batch = build_windows(self.data.sequences, batch_users, batch_ends, self.shape, trim=True)
            loss = self.step(batch)
            totals.loss += float(loss) * self._predicted
            totals.targets += self._predicted
            totals.slots += self._computed
        seconds = time.perf_counter() - start
        self.model.eval()
        return EpochReport(
            epoch=epoch,
            loss=totals.loss / max(1, totals.targets),
            validation=self._validate(),
            seconds=seconds,
            padding_share=1 - totals.targets / max(1, totals.slots),
        )

    def step(self, batch: WindowBatch) -> torch.Tensor:
        """One optimiser step; returns the loss."""
        if self.recipe.token_counts and isinstance(self.model.compression, Experts):
            self.model.compression.use(int(self._rng.choice(self.recipe.token_counts)))
        self._set_learning_rates()
        self._optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.detach()

    def _set_learning_rates(self) -> None:
        """Of item vectors, and of everything else, which warms up."""
        self._steps += 1
        rate = self.recipe.learning_rate
        if self.recipe.decays and self._steps_per_epoch:
            rate *= max(0.0, 1 - (self._steps - 1) / (self._steps_per_epoch * self.recipe.epochs))
        warm = min(1.0, self._steps / max(1, self.recipe.warmup_steps))
        for group, factor in zip(self._optimizer.param_groups, (1.0, warm), strict=True):
            group["lr"] = rate * factor

    def loss(self, batch: WindowBatch) -> torch.Tensor:
        """The loss of a batch of windows, over all positions that have a next item."""
        items, targets = (torch.from_numpy(part).to(self._device) for part in (batch.items, batch.targets))
        times = query_times = None
        if self.recipe.time_bias:
            times, query_times = (torch.from_numpy(part).to(self._device) for part in (batch.times, batch.query_times))
        negative_ids = torch.from_numpy(self._rng.integers(1, self.model.items.count, self.recipe.negatives)).to(self._device)
        with self.model.items.read_once(torch.cat([items.flatten(), targets.flatten(), negative_ids])):
            hidden, columns = self.model.hidden_states(items, times, query_times)
            self._computed = len(items) * len(columns)
            targets = targets[:, columns]
            predicts = targets > 0
            self._predicted = int(predicts.sum())
            target_ids = targets[predicts]
            positives, negatives = self.model.items.lookup(target_ids), self.model.items.lookup(negative_ids)
        return sampled_softmax(hidden[predicts], positives, negatives, target_ids, negative_ids, temperature=self.recipe.temperature)

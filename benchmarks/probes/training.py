"""Trains the model of a cell."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cell import Cell
from benchmarks.probes.models import build_model
from benchmarks.probes.validation import Served, validation_figure
from persrec.commandline import duration
from persrec.data.interactions import InteractionLog
from persrec.data.splits import split_of
from persrec.files import write_atomically
from persrec.recommender import SequentialRecommender
from persrec.training import EpochReport, Progress, Recipe, StateError, StateKeeper, Team, Trainer, TrainingPhases, TrainingResult
from persrec.training.sharded import ShardedKeeper

EVERY_S = 30.0


def train(
    cell: Cell, log: InteractionLog, state: Path, *, code_digest: str, report: Callable[[str], None], team: Team | None = None
) -> tuple[SequentialRecommender, TrainingResult]:
    """The cell's trained model, and how the training went.

    Args:
        cell: the cell.
        log: its data.
        state: the file that holds the state of the training meanwhile, from which a run that was stopped goes on.
        code_digest: of the code that trains; a state of other code is dropped.
        report: told how far the training is.
        team: the processes that train it together; of several, ``state`` is a folder for their shards.
    """
    data = split_of(log, cell.split)
    model = build_model(cell, data.num_items, log.item_texts, log.item_categories)
    team = team or Team()
    if team.rank == 0:
        _drop_foreign_state(state, code_digest)
    team.wait()
    report("training")
    validate = validation_figure(model, data, time_bias=cell.time_bias, served=validated(cell))

    keeper = StateKeeper(state) if team.size == 1 else ShardedKeeper(state, team)
    settings = recipe(cell)
    teller = Teller(TrainingPhases.of(settings, data.train_ends), report)
    trainer = Trainer(
        model=model, data=data, recipe=settings, validate=validate, on_epoch=teller.epoch, on_step=teller.step, keeper=keeper, team=team
    )
    teller.progress = trainer.progress
    try:
        return model, trainer.run()
    except StateError as error:
        report(f"training anew, {error}")
        team.wait()
        keeper.path.unlink(missing_ok=True)
        team.wait()
        return model, trainer.run()


class Teller:
    """Says how far a training is: at the end of every epoch, and every 30 seconds inside one."""

    def __init__(self, phases: TrainingPhases, report: Callable[[str], None]) -> None:
        """Of a training with these ``phases``."""
        self.progress = Progress()
        self._phases, self._report = phases, report
        self._last = time.monotonic()

    def epoch(self, epoch: EpochReport) -> None:
        """An epoch has ended."""
        self._say(f"{self._epoch(epoch.epoch)}, validation ndcg@10 {epoch.validation:.4f}")

    def step(self, progress: Progress) -> None:
        """A step has ended."""
        if time.monotonic() - self._last >= EVERY_S:
            start = progress.epoch_start
            done = (progress.steps - start) / (self._phases.epoch_end(start, progress.constant_steps) - start)
            self._say(f"{self._epoch(len(progress.curve) + 1)}, {done:.0%} of it done")

    def _epoch(self, number: int) -> str:
        """Which epoch of how many at most, those in which the rate falls among them."""
        phases, constant_steps = self._phases, self.progress.constant_steps
        falling = "" if constant_steps is None else ", the rate falling"
        return f"epoch {number} of at most {-(-phases.most_steps(constant_steps) // max(1, phases.steps_per_epoch))}{falling}"

    def _say(self, text: str) -> None:
        self._last = time.monotonic()
        progress = self.progress
        steps = self._phases.most_steps(progress.constant_steps) - progress.steps
        left = progress.seconds / max(1, progress.steps) * max(0, steps)
        self._report(f"{text}, at most {duration(left)} left")


def padding_share(curve: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The share of computed positions without a target, in the last epoch of a training's curve."""
    return {"value": curve[-1]["padding_share"], "method": "training, last epoch", "n": len(curve)}


def recipe(cell: Cell, *, token_counts: tuple[int, ...] | None = None) -> Recipe:
    """How the cell's model is trained; with ``token_counts``, with these instead of the cell's own."""
    return Recipe(
        learning_rate=cell.learning_rate,
        item_learning_rate=cell.item_learning_rate,
        expert_learning_rate=cell.expert_learning_rate,
        warmup_steps=cell.warmup_steps,
        decays=cell.decays,
        weight_decay=cell.weight_decay,
        temperature=cell.temperature,
        negatives=cell.negatives,
        epochs=cell.epochs,
        patience=cell.patience,
        targets_per_step=cell.step_targets,
        time_bias=cell.time_bias,
        recent_weight=cell.recent_weight,
        expert_weight=cell.expert_weight,
        distillation=cell.distillation,
        recent_weight_steps=cell.recent_weight_steps,
        moving_windows=cell.moving_windows,
        random_cuts=cell.random_cuts,
        token_counts=cell.token_counts if token_counts is None else token_counts,
        history_lengths=cell.history_lengths,
        accumulation=cell.accumulation,
        autocast=cell.autocast,
        seed=cell.seed,
    )


def _drop_foreign_state(state: Path, code_digest: str) -> None:
    """Removes what training by other code left unfinished: going on from there would mix the two."""
    mark = state.with_name("code_digest")
    if not mark.is_file() or mark.read_text() != code_digest:
        for path in (state, state.with_name("model.json")):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    write_atomically(mark, code_digest.encode())


def validated(cell: Cell) -> tuple[Served, ...]:
    """What an elastic model is validated with: the least that it serves and the most, of tokens and of history together.

    The weights that are kept are the best on the mean, so neither end of a sweep chooses them alone, and the training goes on while
    either still gains: few tokens are learnt long before many are.
    """
    counts, lengths = cell.token_counts, cell.history_lengths
    least = Served(tokens=min(counts, default=None), history=min(lengths, default=None))
    most = Served(tokens=max(counts, default=None), history=max(lengths, default=None))
    return (least,) if least == most else (least, most)

"""What training costs: FLOPs with their ledger, peak memory and throughput of a step, and the step beside full attention's."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from benchmarks.probes.clock import repeat
from benchmarks.probes.control import in_turn, share_of_flops, share_of_time
from benchmarks.probes.counters import Count, count_by_torch
from benchmarks.probes.flops import Macs, counting_weights, flop_metrics, joint_pass, ledger_rows, macs_of, share
from benchmarks.probes.nvml import NOT_CUDA, process_bytes
from benchmarks.probes.parts import ATTENTION, ITEM_ENCODER, SCORING, replaced
from benchmarks.probes.peaks import peak
from benchmarks.probes.products import product_peak
from benchmarks.probes.subject import NOT_RUN, Subject, nothing
from benchmarks.probes.throughput import LEAST, SECONDS, rate
from benchmarks.probes.training import recipe
from persrec.data.protocol import Protocol
from persrec.data.splits import Sequences, Split, Targets
from persrec.data.windows import WindowBatch
from persrec.items.base import ItemEncoder
from persrec.training import Trainer
from persrec.training.distillation import teacher_of
from persrec.training.objective import rows_of

TRAINING_PRODUCTS = 3  # of a map or of attention by plain products: one forward, two backward
OTHER_PRECISION = "the step computes in bfloat16, and the products beside it in float32"
Metrics = dict[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSubject(Subject):
    """A cell and its model, as a training step finds them; a cost knows no interactions, so there are none."""

    def trainer(self) -> Trainer:
        """A trainer of the model, to time and trace single steps of the cell's own token count."""
        nothing_yet = np.zeros(0, dtype=np.int64)
        nobody = Split(
            name=self.cell.split,
            sequences=Sequences(offsets=np.zeros(1, dtype=np.int64), items=nothing_yet, times=nothing_yet),
            num_items=self.model.items.count,
            protocol=Protocol(),
            train_ends=nothing_yet,
            validation=Targets(users=nothing_yet, positions=nothing_yet),
            test=Targets(users=nothing_yet, positions=nothing_yet),
        )
        return Trainer(model=self.model, data=nobody, recipe=recipe(self.cell, token_counts=()), validate=lambda: 0.0)

    def training_batch(self, sequences: int) -> WindowBatch:
        """Full windows to train on, every position with a next item."""
        random = np.random.default_rng(self.cell.seed)
        items = random.integers(1, self.model.items.count, (sequences, self.layout.window + 1))
        times = np.broadcast_to(np.arange(1, self.layout.window + 2) * 3600, items.shape)
        return WindowBatch(items=items[:, :-1], times=np.array(times[:, :-1]), targets=items[:, 1:], query_times=np.array(times[:, -1]))


def measure_training_cost(
    subject: TrainingSubject, control: TrainingSubject | None, *, flops: float | None = None
) -> tuple[Metrics, list[Metrics], Metrics]:
    """Metrics, ledger rows and raw seconds of a training step.

    Args:
        subject: the cell's; its weights are trained on, so that nothing is to be measured of it afterwards.
        control: full attention's, or None where the cell has no control.
        flops: of a sequence, where another process counted them; then nothing is counted here.
    """
    metrics, ledger = count_step(subject) if flops is None else ({}, [])
    raw: Metrics = {}
    if control is not None and flops is None:
        metrics["train_flops_over_full"] = share_of_flops(_executed_flops(subject) / _executed_flops(control))
    if subject.cell.counted_only:
        names = ["train_peak_bytes", "train_reserved_bytes", "process_gpu_bytes", "train_sequences_per_second", "train_share_of_peak"]
        names += ["train_time_over_full"] if control is not None else []
        return metrics | {name: nothing(NOT_RUN) for name in names}, ledger, raw
    metrics |= _memory(subject)
    raw["train_batch_seconds"] = _seconds(subject)
    metrics["train_sequences_per_second"] = rate(raw["train_batch_seconds"], subject.cell.batch_size)
    flops = metrics["train_flops"]["value"] if flops is None else flops
    sequences = metrics["train_sequences_per_second"]
    metrics["train_share_of_peak"] = nothing(OTHER_PRECISION) if subject.cell.autocast else _share_of_peak(subject, sequences, flops)
    if control is not None:
        train, full_train = _in_turn(subject, control)
        metrics["train_time_over_full"] = share_of_time(train, full_train, subject.cell.batch_size)
        raw |= {"control_train_seconds": train, "control_full_train_seconds": full_train}
    return metrics, ledger, raw


def _memory(subject: TrainingSubject) -> Metrics:
    trainer, batch = subject.trainer(), subject.training_batch(subject.cell.batch_size)
    if subject.cell.device == "cuda":
        torch.cuda.empty_cache()  # what the allocator holds of earlier calls is none of a step's
    with _trained_on(subject):
        trainer.step(batch)  # the optimiser's state is resident, not a step's peak
        metrics = {"train_peak_bytes": peak(lambda: trainer.step(batch), subject), "train_reserved_bytes": _reserved(subject)}
    used, how = process_bytes() if subject.cell.device == "cuda" else NOT_CUDA
    return metrics | {"process_gpu_bytes": {"value": used, "n": int(used is not None), "method": how}}


def _reserved(subject: TrainingSubject) -> Metrics:
    """Since the reset before the step whose peak was taken last."""
    if subject.cell.device != "cuda":
        return nothing(NOT_CUDA[1])
    return {"value": torch.cuda.max_memory_reserved(), "n": 1, "method": f"peak reserved, batch of {subject.cell.batch_size}"}


def _seconds(subject: TrainingSubject) -> np.ndarray:
    trainer, batch = subject.trainer(), subject.training_batch(subject.cell.batch_size)
    with _trained_on(subject):
        return repeat(lambda: trainer.step(batch), device=subject.cell.device, seconds=SECONDS, least=LEAST)


def _share_of_peak(subject: TrainingSubject, sequences: Metrics, flops: float) -> Metrics:
    """FLOPs a second of a training step over those of a large matrix product in the same process."""
    peak_rate = product_peak(subject.cell.device, next(subject.model.parameters()).dtype)
    return {
        **{name: sequences[name] * flops / peak_rate for name in ("value", "low", "high")},
        "n": sequences["n"],
        "method": f"train_flops x train_sequences_per_second over {peak_rate / 1e9:.3g} GFLOP/s of a large matrix product",
    }


def _in_turn(subject: TrainingSubject, control: TrainingSubject) -> list[Any]:
    """Seconds of a training step, and of the control's."""

    def step(of: TrainingSubject) -> Callable[[], object]:
        trainer, batch = of.trainer(), of.training_batch(of.cell.batch_size)
        return lambda: trainer.step(batch)

    sides = (subject, control)
    for side in sides:
        side.model.train()
    seconds = in_turn([step(side) for side in sides], subject.cell.device)
    for side in sides:
        side.model.eval()
    return seconds


@contextmanager
def _trained_on(subject: TrainingSubject) -> Iterator[None]:
    """Inside, the model trains; behind the block its weights are as they were."""
    state = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    subject.model.train()
    yield
    subject.model.load_state_dict(state)
    subject.model.eval()


def count_step(subject: TrainingSubject) -> tuple[Metrics, list[Metrics]]:
    """FLOPs of a training step, as metrics and as ledger rows; the weights stay as they are."""
    sequences, (lookups, count) = _sequences(subject), _counted_step(subject)
    executed = _training(subject, sequences, _reading(subject, lookups), which=0)
    visible = _training(subject, sequences, _reading(subject, lookups, visible=True), which=1)
    of = "one sequence" if sequences == 1 else f"a step of {sequences} sequences, divided by them"
    method = f"closed formula of the layout, forward and backward of {of}, checked against torch.utils.flop_counter"
    metrics = flop_metrics("train", executed, visible, method=method, sequences=sequences)
    return metrics, ledger_rows("train", executed, visible, count, None, sequences=sequences)


def _executed_flops(subject: TrainingSubject) -> float:
    """FLOPs of a sequence by the closed formula alone."""
    sequences, reading = _sequences(subject), _reading(subject, _looked_up(subject))
    return share(2 * sum(_training(subject, sequences, reading, which=0).values()), sequences)


def _reading(subject: TrainingSubject, lookups: Sequence[Sequence[torch.Tensor]], *, visible: bool = False) -> Macs:
    """Of the items that the parts of a step look up, each part by itself: what several of them need is read in each."""
    total: Counter[str] = Counter()
    for ids in lookups:
        total.update(subject.model.items.lookup_macs(*ids, visible=visible) if ids else {})
    return dict(total)


def _training(subject: TrainingSubject, sequences: int, reading: Macs, *, which: int) -> Macs:
    """Forward and backward of a step; every map costs three of itself, attention what its kernel's backward does.

    Args:
        subject: the cell's.
        sequences: of the step.
        reading: of the items that it looks up.
        which: 0 counts what is executed, 1 what is needed.
    """
    student = _of_one_model(subject, sequences, reading, which=which)
    if not subject.cell.distillation:
        return student
    alone = replace(subject.cell, expert_weight=0.0, distillation=0.0)
    teacher = _of_one_model(replace(subject, cell=alone, model=teacher_of(subject.model)), sequences, {}, which=which)
    # the scores of recent positions once more: the teacher's forward, the student's forward and backward
    again = sequences * subject.layout.recent * _negatives(subject) * subject.model.backbone.width
    return {part: student.get(part, 0) + teacher.get(part, 0) for part in {**student, **teacher}} | {
        SCORING: student[SCORING] + teacher[SCORING] + TRAINING_PRODUCTS * again
    }


def _negatives(subject: TrainingSubject) -> int:
    """Items that each position is ranked against; of a full cross-entropy every one."""
    return subject.cell.negatives or subject.model.items.count - 1


def _of_one_model(subject: TrainingSubject, sequences: int, reading: Macs, *, which: int) -> Macs:
    """As `_training`, of a model without its teacher."""
    backbone, forward = subject.model.backbone, macs_of(subject, joint_pass(subject))[which]
    predicting = len(subject.layout.predicting_columns)
    negatives = _negatives(subject)
    scored = predicting * (negatives + counting_weights(subject))
    if subject.model.counting is not None:
        scored += predicting * subject.layout.window  # the user's own items
    if subject.cell.expert_weight:
        scored += subject.layout.tokens * negatives
    if subject.cell.recent_weight:  # their loss stands beside that of all positions
        scored += min(predicting, subject.layout.recent) * negatives
    return {
        **{part: TRAINING_PRODUCTS * sequences * macs for part, macs in forward.items() if part != ATTENTION},
        ATTENTION: sequences * forward[ATTENTION] * (2 + backbone.backward_products) // 2,
        ITEM_ENCODER: TRAINING_PRODUCTS * sum(reading.values()),
        SCORING: TRAINING_PRODUCTS * sequences * scored * backbone.width
        + sequences * forward[SCORING],  # the search, which has no backward pass
    }


def _sequences(subject: TrainingSubject) -> int:
    """Of a training step; item vectors that are computed are shared by a step, so that a sequence's share needs a whole one."""
    return subject.cell.batch_size if subject.computes_items else 1


@torch.no_grad()
def _looked_up(subject: TrainingSubject) -> list[list[torch.Tensor]]:
    """The items that each part of a training step looks up, where looking up costs anything."""
    return [lookups for lookups, _ in _in_parts(subject, lambda loss: loss())] if subject.computes_items else []


def _counted_step(subject: TrainingSubject) -> tuple[list[list[torch.Tensor]], Count]:
    """The items that each part of a training step looks up, and torch's count of it; fvcore cannot trace a backward pass."""
    subject.model.train()
    # a counter for each part: behind a backward pass torch's knows no longer which module it is in
    parts = _in_parts(subject, lambda loss: count_by_torch(lambda: loss().backward(), subject.model))  # type: ignore[no-untyped-call]
    subject.model.zero_grad(set_to_none=True)
    subject.model.eval()
    executed, uncounted = Counter[str](), Counter[str]()
    for _, count in parts:
        executed.update(count.parts)
        uncounted.update(count.uncounted)
    return [lookups for lookups, _ in parts], Count(parts=dict(executed), uncounted=dict(uncounted))


def _in_parts(subject: TrainingSubject, run: Callable[[Callable[[], torch.Tensor]], Result]) -> list[tuple[list[torch.Tensor], Result]]:
    """Of each part of a training step the ids of every lookup that it makes, and what comes of running its loss."""
    trainer, batch = subject.trainer(), subject.training_batch(_sequences(subject))
    trainer.progress.steps = 1  # the first step: before it nothing weighs the recent items
    draw, results = trainer.draw(), []
    for rows in np.array_split(np.arange(len(batch.items)), min(subject.cell.accumulation, len(batch.items))):
        with _lookups(subject.model.items) as lookups:
            results.append((lookups, run(partial(trainer.loss, rows_of(batch, rows), draw))))
    return results


@contextmanager
def _lookups(items: ItemEncoder) -> Iterator[list[torch.Tensor]]:
    """The ids of every lookup inside."""
    ids_of_each: list[torch.Tensor] = []

    def recording(lookup: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        def record(ids: torch.Tensor) -> torch.Tensor:
            ids_of_each.append(ids)
            return lookup(ids)

        return record

    with replaced(items, "lookup", recording):
        yield ids_of_each

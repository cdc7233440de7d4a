"""The FLOP ledger: the closed formula, fvcore and torch's counter side by side, per phase.

A multiply-add is 2 FLOPs. ``executed`` is what the kernels in use compute, hidden pairs in their blocks included;
``visible`` is what the method needs. The counters run on the path that runs, with plain matrix products for attention.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.cell import InvalidMeasurementError
from benchmarks.probes.counters import Count, count_by_fvcore, count_by_torch
from benchmarks.probes.subject import Subject
from persrec.nn.cache import Chunk, empty_cache

TOLERANCE = 0.01
Macs = dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Positions and query-key pairs that a phase computes for one user."""

    positions: int
    executed_pairs: int
    visible_pairs: int


def count_flops(subject: Subject) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """FLOPs per user of every phase, as metrics and as ledger rows."""
    metrics: dict[str, Any] = {}
    ledger: list[dict[str, Any]] = []
    for phase, run in _runs(subject).items():
        backbone = subject.model.backbone
        executed = backbone.macs(positions=run.positions, pairs=run.executed_pairs)
        visible = backbone.macs(positions=run.positions, pairs=run.visible_pairs)
        if phase == "train":
            executed, visible = _training(subject, run, run.executed_pairs), _training(subject, run, run.visible_pairs)
        ledger += _rows(phase, executed, visible, *_counted(subject, phase))
        metrics.update(_metrics(phase, executed, visible))
    scoring = {"scoring": subject.model.items.count * subject.model.backbone.width}
    ledger += _rows("score", scoring, scoring, *_counted(subject, "score"))
    metrics.update(_metrics("score", scoring, scoring))
    metrics["parameters"] = {"value": sum(p.numel() for p in subject.model.parameters()), "method": "all trainable tensors", "n": 1}
    metrics["cache_bytes"] = _cache_bytes(subject)
    return metrics, ledger


def _runs(subject: Subject) -> dict[str, Run]:
    layout, backbone = subject.layout, subject.model.backbone
    window = subject.cell.history + subject.cell.recent

    def segment(index: int) -> Run:
        n, prefix = layout.size(index), layout.kept_before(index)
        return Run(positions=n, executed_pairs=backbone.executed_pairs(queries=n, prefix=prefix), visible_pairs=layout.visible_pairs(index))

    segments = [segment(index) for index in range(len(layout.segments) + 1)]
    joint, recent = _sum(segments), segments[-1]
    kept = [run for run, part in zip(segments, layout.segments, strict=False) if part.kept]
    return {
        "full": Run(
            positions=window, executed_pairs=backbone.executed_pairs(queries=window, prefix=0), visible_pairs=window * (window + 1) // 2
        ),
        "compress": _sum(kept) if subject.compresses else Run(positions=0, executed_pairs=0, visible_pairs=0),
        "serve": recent if subject.from_cache else joint,
        "train": joint,
    }


def _sum(runs: list[Run]) -> Run:
    return Run(
        positions=sum(run.positions for run in runs),
        executed_pairs=sum(run.executed_pairs for run in runs),
        visible_pairs=sum(run.visible_pairs for run in runs),
    )


def _training(subject: Subject, run: Run, pairs: int) -> Macs:
    """Forward and backward of one sequence; every map costs three of itself, attention what its kernel's backward does."""
    backbone = subject.model.backbone
    forward = backbone.macs(positions=run.positions, pairs=pairs)
    predicting = len(subject.layout.predicting_columns)
    return {
        **{part: 3 * macs for part, macs in forward.items() if part != "attention"},
        "attention": forward["attention"] * (2 + backbone.backward_products) // 2,
        "scoring": 3 * predicting * subject.recipe.negatives * backbone.width,
    }


def _counted(subject: Subject, phase: str) -> tuple[Count, Count | None]:
    """What torch and fvcore count for one user; fvcore cannot trace a backward pass."""
    if phase == "train":
        trainer, batch = subject.trainer(), subject.training_batch(1)
        subject.model.train()
        count = count_by_torch(lambda: trainer.loss(batch).backward())  # type: ignore[no-untyped-call]
        subject.model.zero_grad(set_to_none=True)
        subject.model.eval()
        return count, None
    call, items = _forward(subject, phase)
    if call is None:
        return Count(attention=0, linear=0, uncounted={}), Count(attention=0, linear=0, uncounted={})
    with torch.no_grad():
        return count_by_torch(lambda: call(items)), count_by_fvcore(call, items, subject.model)


def _forward(subject: Subject, phase: str) -> tuple[Callable[[torch.Tensor], torch.Tensor] | None, torch.Tensor]:
    """A phase as a function of one user's items."""
    model, request, split = subject.model, subject.request(1), subject.layout.history
    if phase == "full":
        return _full(subject)
    if phase == "score":
        with torch.no_grad():
            states, features = model.user_states(request.items, request.times, request.query_times), model.item_features()
        return lambda users: users @ features.T, states
    if phase == "compress":
        history, times = request.columns(0, split)
        return (_compressed(subject, times), history) if subject.compresses else (None, history)
    if not subject.from_cache:
        return lambda items: model.user_states(items, request.times, request.query_times), request.items
    with torch.no_grad():
        cache = subject.compress(request)
    recent, times = request.columns(split, subject.layout.window)
    return lambda items: model.user_states(items, times, request.query_times, cache=cache), recent


def _compressed(subject: Subject, times: torch.Tensor | None) -> Callable[[torch.Tensor], torch.Tensor]:
    """Compress, with every tensor used that it computes, the states of the last layer too, so that a tracer drops none."""

    def call(history: torch.Tensor) -> torch.Tensor:
        states: list[torch.Tensor] = []
        hook = subject.model.backbone.register_forward_hook(lambda module, inputs, outputs: states.append(outputs[0].sum()))  # noqa: ARG005 - torch's signature
        cache = subject.model.compress(history, times)
        hook.remove()
        return torch.stack([*states, *(keys.sum() + values.sum() for keys, values in cache.layers)])

    return call


def _full(subject: Subject) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
    """The backbone over the whole window with full attention, whatever the cell's compression is."""
    model, cell = subject.model, subject.cell
    window = cell.history + cell.recent
    random = torch.arange(window, device=cell.device).remainder(model.items.count - 1).add(1)[None]
    positions = torch.arange(window, device=cell.device).clamp(max=model.backbone.length - 1)

    def call(items: torch.Tensor) -> torch.Tensor:
        chunk = Chunk(
            inputs=model.items.lookup(items), positions=positions, valid=items != 0, key_times=None, query_times=None, keep=0, items=window
        )
        hidden: torch.Tensor = model.backbone(chunk, empty_cache(users=1, layout="", timed=False, device=items.device))[0]
        return hidden

    return call, random


def _rows(phase: str, executed: Macs, visible: Macs, by_torch: Count, by_fvcore: Count | None) -> list[dict[str, Any]]:
    """Ledger rows of a phase: attention, the other maps, and their total."""
    rows = []
    for part in ("attention", "linear", "total"):
        formula, seen = _part(executed, part), _part(visible, part)
        counts = [getattr(by_torch, part), None if by_fvcore is None else getattr(by_fvcore, part)]
        rows.append(
            {
                "phase": phase,
                "part": part,
                "formula_flops": 2 * formula,
                "torch_flops": 2 * counts[0],
                "fvcore_flops": None if counts[1] is None else 2 * counts[1],
                "executed_flops": 2 * formula,
                "visible_flops": 2 * seen,
                "uncounted": by_fvcore.uncounted if by_fvcore is not None and part == "total" else {},
                "agrees": all(abs(count - formula) <= TOLERANCE * max(formula, 1) for count in counts if count is not None),
            }
        )
    return rows


def _part(macs: Macs, part: str) -> int:
    if part == "total":
        return sum(macs.values())
    return macs.get("attention", 0) if part == "attention" else sum(count for name, count in macs.items() if name != "attention")


def _metrics(phase: str, executed: Macs, visible: Macs) -> dict[str, Any]:
    method = "closed formula of the layout, checked against fvcore and torch.utils.flop_counter"
    if phase == "train":
        method = "closed formula of the layout, forward and backward of one sequence, checked against torch.utils.flop_counter"
    metrics = {}
    for kind, macs in (("", sum(executed.values())), ("visible_", sum(visible.values()))):
        metrics[f"{phase}_{kind}flops"] = {"value": 2 * macs, "method": method, "n": 1}
        metrics[f"{phase}_{kind}macs"] = {"value": macs, "method": method, "n": 1}
    return metrics


def _cache_bytes(subject: Subject) -> dict[str, Any]:
    """Bytes of one user's cache from its tensors; the formula must agree.

    Raises:
        InvalidMeasurementError: it does not.
    """
    if not subject.from_cache:
        return {"value": 0, "method": "nothing is kept between requests", "n": 1}
    with torch.no_grad():
        stored = subject.compress(subject.request(1)).nbytes_per_user
    element = next(subject.model.backbone.parameters()).element_size()
    formula = subject.layout.kept_before(len(subject.layout.segments)) * subject.model.backbone.cache_width() * element
    if stored != formula:
        raise InvalidMeasurementError(f"a user's cache holds {stored} bytes; the formula says {formula}")
    return {"value": stored, "method": "keys and values as stored; layers x (K + V width) x positions x element size agrees", "n": 1}

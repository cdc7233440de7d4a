"""The FLOP ledger: the closed formula, fvcore and torch's counter side by side, per phase and part.

A multiply-add is 2 FLOPs. ``executed`` is what the kernels in use compute, hidden pairs in their blocks included;
``visible`` is what the method needs. The counters run on the path that runs, with attention in blocks, on a GPU too.
Item vectors that a model computes are kept beforehand: they are a phase of their own, and part of a training step.
Where weights have no storage (``counted_only``), the same runs on the meta device: shapes alone are computed.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.cell import InvalidMeasurementError
from benchmarks.probes.counters import Count, count_by_fvcore, count_by_torch
from benchmarks.probes.parts import ATTENTION, ITEM_ENCODER, PARTS, SCORING, replaced
from benchmarks.probes.subject import NO_ITEMS, Subject
from persrec.items import ItemEncoder
from persrec.nn.cache import Chunk, empty_cache
from persrec.schedule import AttentionCall, joint_calls, single_calls
from persrec.serving import pack

TOLERANCE = 0.01
COUNTED_ITEMS = 4096  # of a larger catalogue, the counters read this many
TRAINING_PRODUCTS = 3  # of a map or of attention by plain products: one forward, two backward
Macs = dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Positions and query-key pairs that a phase computes for one user, and multiply-adds of the search for nearest items."""

    positions: int
    executed_pairs: int
    visible_pairs: int
    search: int = 0


def executed_flops(subject: Subject) -> dict[str, float]:
    """FLOPs per user of serving, compressing and training by the closed formula alone: `count_flops` has them with its ledger."""
    found = {}
    for phase, run in _runs(subject).items():
        executed = {**subject.model.backbone.macs(positions=run.positions, pairs=run.executed_pairs), SCORING: run.search}
        sequences = _sequences(subject) if phase == "train" else 1
        if phase == "train":
            executed = _training(subject, executed, sequences, subject.model.items.lookup_macs(*_looked_up(subject)))
        found[phase] = _share(2 * sum(executed.values()), sequences)
    return {phase: found[phase] for phase in ("serve", "compress", "train")}


def count_flops(subject: Subject) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """FLOPs per user of every phase, as metrics and as ledger rows."""
    metrics: dict[str, Any] = {}
    ledger: list[dict[str, Any]] = []
    subject.keep_item_vectors()
    for phase, run in _runs(subject).items():
        backbone = subject.model.backbone
        executed, visible = (
            {**backbone.macs(positions=run.positions, pairs=pairs), SCORING: run.search}
            for pairs in (run.executed_pairs, run.visible_pairs)
        )
        if phase == "train":
            sequences, (lookups, count) = _sequences(subject), _counted_step(subject)
            executed = _training(subject, executed, sequences, subject.model.items.lookup_macs(*lookups))
            visible = _training(subject, visible, sequences, subject.model.items.lookup_macs(*lookups, visible=True))
            ledger += _rows(phase, executed, visible, count, None, sequences=sequences)
            metrics.update(_metrics(phase, executed, visible, sequences=sequences))
        else:
            ledger += _rows(phase, executed, visible, *_counted(subject, phase))
            metrics.update(_metrics(phase, executed, visible))
    scoring = {SCORING: subject.model.items.count * subject.model.backbone.width}
    ledger += _rows("score", scoring, scoring, *_counted(subject, "score"))
    metrics.update(_metrics("score", scoring, scoring))
    found, rows = _item_vectors(subject)
    metrics.update(found)
    ledger += rows
    metrics["parameters"] = {"value": sum(p.numel() for p in subject.model.parameters()), "method": "all trainable tensors", "n": 1}
    metrics["cache_bytes"] = _cache_bytes(subject)
    return metrics, ledger


def _runs(subject: Subject) -> dict[str, Run]:
    layout, backbone = subject.layout, subject.model.backbone
    window = subject.cell.history + subject.cell.recent

    def of_call(call: AttentionCall) -> Run:
        executed = call.rows * backbone.executed_pairs(queries=call.queries, prefix=call.prefix)
        return Run(positions=call.rows * call.queries, executed_pairs=executed, visible_pairs=call.visible_pairs)

    segments = [of_call(call) for call in single_calls(layout)]
    runs = [of_call(call) for call in joint_calls(layout, backbone.kernel)]
    # one vector, of all that is asked with, against each item of the history
    search = layout.history * backbone.width if layout.query_items else 0
    joint, recent = dataclasses.replace(_sum(runs), search=search), segments[-1]
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


def _training(subject: Subject, forward: Macs, sequences: int, reading: Macs) -> Macs:
    """Forward and backward of a step; every map costs three of itself, attention what its kernel's backward does."""
    backbone = subject.model.backbone
    predicting = len(subject.layout.predicting_columns)
    return {
        **{part: TRAINING_PRODUCTS * sequences * macs for part, macs in forward.items() if part != ATTENTION},
        ATTENTION: sequences * forward[ATTENTION] * (2 + backbone.backward_products) // 2,
        ITEM_ENCODER: TRAINING_PRODUCTS * sum(reading.values()),
        SCORING: TRAINING_PRODUCTS * sequences * predicting * subject.recipe.negatives * backbone.width
        + sequences * forward[SCORING],  # the search, which has no backward pass
    }


def _sequences(subject: Subject) -> int:
    """Of a training step; item vectors that are computed are shared by a step, so that a sequence's share needs a whole one."""
    return subject.cell.batch_size if subject.computes_items else 1


@torch.no_grad()
def _looked_up(subject: Subject) -> list[torch.Tensor]:
    """The items that a training step looks up, where looking up costs anything."""
    if not subject.computes_items:
        return []
    with _step(subject) as (loss, lookups):
        loss()
    return lookups


def _counted_step(subject: Subject) -> tuple[list[torch.Tensor], Count]:
    """The items a training step looks up, and torch's count of it; fvcore cannot trace a backward pass."""
    subject.model.train()
    with _step(subject) as (loss, lookups):
        count = count_by_torch(lambda: loss().backward(), subject.model)  # type: ignore[no-untyped-call]
    subject.model.zero_grad(set_to_none=True)
    subject.model.eval()
    return lookups, count


@contextmanager
def _step(subject: Subject) -> Iterator[tuple[Callable[[], torch.Tensor], list[torch.Tensor]]]:
    """A training step's loss, to be computed inside, and the ids of every lookup that it makes."""
    trainer, batch = subject.trainer(), subject.training_batch(_sequences(subject))
    with _lookups(subject.model.items) as lookups:
        yield (lambda: trainer.loss(batch)), lookups


@contextmanager
def _lookups(items: ItemEncoder) -> Iterator[list[torch.Tensor]]:
    """The ids of every lookup inside."""
    seen: list[torch.Tensor] = []

    def telling(lookup: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        def tell(ids: torch.Tensor) -> torch.Tensor:
            seen.append(ids)
            return lookup(ids)

        return tell

    with replaced(items, "lookup", telling):
        yield seen


def _item_vectors(subject: Subject) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the vectors of the whole catalogue cost, which are computed once and kept."""
    items = subject.model.items
    if not subject.computes_items:
        names = ("item_flops", "item_macs", "item_visible_flops", "item_visible_macs")
        return {name: {"value": None, "method": NO_ITEMS, "n": 0} for name in names}, []
    everything = torch.arange(items.count, device=subject.device)
    some = subject.some_items(COUNTED_ITEMS) if items.count > COUNTED_ITEMS else everything

    def macs(ids: torch.Tensor, *, visible: bool = False) -> Macs:
        return {ITEM_ENCODER: sum(items.lookup_macs(ids, visible=visible).values())}

    with torch.no_grad():
        by_torch = count_by_torch(lambda: items.compute(some), subject.model)
        by_fvcore = count_by_fvcore(items.compute, some, subject.model, outside=ITEM_ENCODER)
    metrics = _metrics("item", macs(everything), macs(everything, visible=True), counted=f"{len(some)} of {items.count} items")
    return metrics, _rows("item", macs(some), macs(some, visible=True), by_torch, by_fvcore)


def _counted(subject: Subject, phase: str) -> tuple[Count, Count]:
    """What torch and fvcore count for one user, forward."""
    call, items = _forward(subject, phase)
    if call is None:
        return Count(parts={}, uncounted={}), Count(parts={}, uncounted={})
    with torch.no_grad():
        return count_by_torch(lambda: call(items), subject.model), count_by_fvcore(call, items, subject.model)


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
        return torch.stack([*states, *(tensor.sum() for tensor in cache.tensors)])

    return call


def _full(subject: Subject) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
    """The backbone over the whole window with full attention, whatever the cell's compression is."""
    model, cell = subject.model, subject.cell
    window = cell.history + cell.recent
    random = torch.arange(window, device=subject.device).remainder(model.items.count - 1).add(1)[None]
    positions = torch.arange(window, device=subject.device).clamp(max=model.backbone.length - 1)

    def call(items: torch.Tensor) -> torch.Tensor:
        chunk = Chunk(
            inputs=model.items.lookup(items), positions=positions, valid=items != 0, key_times=None, query_times=None, kept=0, items=window
        )
        hidden: torch.Tensor = model.backbone(chunk, empty_cache(users=1, layout="", timed=False, device=items.device))[0]
        return hidden

    return call, random


def _rows(
    phase: str, executed: Macs, visible: Macs, by_torch: Count, by_fvcore: Count | None, *, sequences: int = 1
) -> list[dict[str, Any]]:
    """Ledger rows of a phase: the parts that are computed or counted in it, and their total; per sequence of ``sequences``."""
    rows = []
    for part in (*PARTS, "total"):
        formula, seen = (sum(macs.values()) if part == "total" else macs.get(part, 0) for macs in (executed, visible))
        counts = [by_torch.of(part), None if by_fvcore is None else by_fvcore.of(part)]
        if part != "total" and not any((formula, *counts)):
            continue
        rows.append(
            {
                "phase": phase,
                "part": part,
                "formula_flops": _share(2 * formula, sequences),
                "torch_flops": _share(2 * by_torch.of(part), sequences),
                "fvcore_flops": None if counts[1] is None else _share(2 * counts[1], sequences),
                "executed_flops": _share(2 * formula, sequences),
                "visible_flops": _share(2 * seen, sequences),
                "uncounted": by_fvcore.uncounted if by_fvcore is not None and part == "total" else {},
                "agrees": all(abs(count - formula) <= TOLERANCE * max(formula, 1) for count in counts if count is not None),
            }
        )
    return rows


def _share(count: int, sequences: int) -> float:
    """One sequence's share, a whole number where it is one."""
    return count // sequences if count % sequences == 0 else count / sequences


def _metrics(phase: str, executed: Macs, visible: Macs, *, sequences: int = 1, counted: str = "") -> dict[str, Any]:
    method = "closed formula of the layout, checked against fvcore and torch.utils.flop_counter"
    if phase == "train":
        of = "one sequence" if sequences == 1 else f"a step of {sequences} sequences, divided by them"
        method = f"closed formula of the layout, forward and backward of {of}, checked against torch.utils.flop_counter"
    if phase == "item":
        method = f"closed formula of the texts, checked against fvcore and torch.utils.flop_counter on {counted}"
    metrics = {}
    for kind, macs in (("", sum(executed.values())), ("visible_", sum(visible.values()))):
        metrics[f"{phase}_{kind}flops"] = {"value": _share(2 * macs, sequences), "method": method, "n": 1}
        metrics[f"{phase}_{kind}macs"] = {"value": _share(macs, sequences), "method": method, "n": 1}
    return metrics


def _kept_width(subject: Subject) -> int:
    """Numbers kept of a position."""
    backbone = subject.model.backbone
    return backbone.width if subject.layout.recurrent else backbone.cache_width()


def _cache_bytes(subject: Subject) -> dict[str, Any]:
    """Bytes of one user's cache from its tensors; the formula must agree.

    Raises:
        InvalidMeasurementError: it does not.
    """
    if not subject.from_cache:
        return {"value": 0, "method": "nothing is kept between requests", "n": 1}
    with torch.no_grad():
        cache = subject.compress(subject.request(1))
    numbers = subject.layout.kept * _kept_width(subject)
    without_storage = subject.cell.counted_only and cache.tensors
    if without_storage or subject.layout.recurrent:
        stored, formula = cache.nbytes_per_user, numbers * cache.tensors[0].element_size()
        what = "tensors without storage; numbers of a position" if without_storage else "states as stored; width"
        method = f"{what} x positions x element size agrees"
    else:
        packed = pack(cache, subject.cell.cache_dtype)
        stored, formula = packed.nbytes_per_user, numbers * packed.values.element_size()
        method = "keys and values as stored; layers x (K + V width) x positions x element size agrees"
        if packed.scales is not None and packed.form is not None:
            formula += subject.layout.kept * packed.form.heads * packed.scales.element_size()
            method = f"{method}, with a scale for each key and value of a head"
    if stored != formula:
        raise InvalidMeasurementError(f"a user's cache holds {stored} bytes; the formula says {formula}")
    return {"value": stored, "method": method, "n": 1}

"""The FLOP ledger: the closed formula, fvcore and torch's counter side by side, per phase and part.

A multiply-add is 2 FLOPs. ``executed`` is what the kernels in use compute, hidden pairs in their blocks included;
``visible`` is what the method needs. The counters run on the path that runs, with attention in blocks, on a GPU too.
Item vectors that a model computes are kept beforehand: they are a phase of their own. Training is `benchmarks.probes.training_cost`.
Where weights have no storage (``counted_only``), the same runs on the meta device: shapes alone are computed.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.cell import InvalidMeasurementError
from benchmarks.measures import counts_agree
from benchmarks.probes.counters import Count, count_by_fvcore, count_by_torch
from benchmarks.probes.parts import ITEM_ENCODER, PARTS, SCORING
from benchmarks.probes.subject import NO_ITEMS, Subject
from persrec.nn.cache import Chunk, KVCache, empty_cache
from persrec.schedule import AttentionCall, joint_calls, single_calls
from persrec.serving import pack

COUNTED_ITEMS = 4096  # of a larger catalogue, the counters read this many
FORMULA = "closed formula of the layout, checked against fvcore and torch.utils.flop_counter"
Macs = dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Passed:
    """Positions and query-key pairs that a phase computes for one user, and multiply-adds of the search for nearest items."""

    positions: int
    executed_pairs: int
    visible_pairs: int
    search: int = 0


def executed_flops(subject: Subject) -> dict[str, float]:
    """FLOPs per user of serving and compressing by the closed formula alone: `count_flops` has them with its ledger."""
    passes = passes_of(subject)
    macs = {phase: subject.model.backbone.macs(positions=passed.positions, pairs=passed.executed_pairs) for phase, passed in passes.items()}
    return {phase: 2 * (sum(macs[phase].values()) + passes[phase].search) for phase in ("serve", "compress")}


def count_flops(subject: Subject) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """FLOPs per user of every pass but training's, as metrics and as ledger rows."""
    metrics: dict[str, Any] = {}
    ledger: list[dict[str, Any]] = []
    subject.keep_item_vectors()
    macs: dict[str, tuple[Macs, Macs]] = {}
    for phase, passed in passes_of(subject).items():
        executed, visible = macs[phase] = macs_of(subject, passed)
        ledger += ledger_rows(phase, executed, visible, *_counted(subject, phase))
        metrics.update(flop_metrics(phase, executed, visible, method=FORMULA))
    scoring = {SCORING: (subject.model.items.count + counting_weights(subject)) * subject.model.backbone.width}
    ledger += ledger_rows("score", scoring, scoring, *_counted(subject, "score"))
    metrics.update(flop_metrics("score", scoring, scoring, method=FORMULA))
    whole = [{**serve, SCORING: serve[SCORING] + scoring[SCORING]} for serve in macs["serve"]]
    metrics.update(flop_metrics("request", *whole, method="a request's serving and the scoring of the catalogue, as counted above"))
    item_metrics, rows = _item_vectors(subject)
    metrics.update(item_metrics)
    ledger += rows
    metrics["parameters"] = {"value": sum(p.numel() for p in subject.model.parameters()), "method": "all trainable tensors", "n": 1}
    metrics["cache_bytes"] = _cache_bytes(subject)
    return metrics, ledger


def counting_weights(subject: Subject) -> int:
    """Weights of counts that a counting output reads from a state; 0 of a model that does not count."""
    return 0 if subject.model.counting is None else subject.model.counting.weights.out_features


def macs_of(subject: Subject, passed: Passed) -> tuple[Macs, Macs]:
    """Multiply-adds of a pass by part: executed, and needed."""
    backbone = subject.model.backbone
    executed, visible = (
        {**backbone.macs(positions=passed.positions, pairs=pairs), SCORING: passed.search}
        for pairs in (passed.executed_pairs, passed.visible_pairs)
    )
    return executed, visible


def joint_pass(subject: Subject) -> Passed:
    """The pass over the whole window, as recomputed serving and training run it."""
    layout, backbone = subject.layout, subject.model.backbone
    # one vector, of all that is asked with, against each item of the history
    search = layout.history * backbone.width if layout.query_items else 0
    calls = joint_calls(layout, backbone.kernel)
    return dataclasses.replace(_sum([_passed(subject, call) for call in calls]), search=search)


def passes_of(subject: Subject) -> dict[str, Passed]:
    """Full attention over the window, what is computed before a request, and a request."""
    layout, backbone = subject.layout, subject.model.backbone
    window = subject.cell.history + subject.cell.recent
    segments = [_passed(subject, call) for call in single_calls(layout)]
    compressed = [passed for passed, part in zip(segments, layout.segments, strict=False) if part.kept]
    return {
        "full": Passed(
            positions=window, executed_pairs=backbone.executed_pairs(queries=window, prefix=0), visible_pairs=window * (window + 1) // 2
        ),
        "compress": _sum(compressed) if subject.compresses else Passed(positions=0, executed_pairs=0, visible_pairs=0),
        "serve": _at_request(subject, single_calls(layout)[-1]) if subject.from_cache else joint_pass(subject),
    }


def _at_request(subject: Subject, call: AttentionCall) -> Passed:
    """All recent items against what is kept, or the new one alone, which a backbone that reads times makes two: the one before, too."""
    if subject.cell.serving == "cache":
        return _passed(subject, call)
    backbone = subject.model.backbone
    keys, recent = call.prefix + call.queries, subject.layout.recent
    # before the only recent item nothing was appended, so that a memory's states are run with it
    new = call.queries if recent == 1 else min(recent, 1 + (subject.cell.time_bias and backbone.reads_next_times))
    pairs = new * (keys - new) + new * (new + 1) // 2
    executed = backbone.executed_pairs(queries=new, prefix=keys - new)
    return Passed(positions=new, executed_pairs=executed, visible_pairs=pairs)


def _passed(subject: Subject, call: AttentionCall) -> Passed:
    executed = call.rows * subject.model.backbone.executed_pairs(queries=call.queries, prefix=call.prefix)
    return Passed(positions=call.rows * call.queries, executed_pairs=executed, visible_pairs=call.visible_pairs)


def _sum(runs: list[Passed]) -> Passed:
    return Passed(
        positions=sum(run.positions for run in runs),
        executed_pairs=sum(run.executed_pairs for run in runs),
        visible_pairs=sum(run.visible_pairs for run in runs),
    )


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
    method = f"closed formula of the texts, checked against fvcore and torch.utils.flop_counter on {len(some)} of {items.count} items"
    metrics = flop_metrics("item", macs(everything), macs(everything, visible=True), method=method)
    return metrics, ledger_rows("item", macs(some), macs(some, visible=True), by_torch, by_fvcore)


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
        return _scored(subject, request.items, features), states
    if phase == "compress":
        history, times = request.columns(0, split)
        return (_compressed(subject, times), history) if subject.compresses else (None, history)
    if not subject.from_cache:
        return lambda items: model.user_states(items, request.times, request.query_times), request.items
    with torch.no_grad():
        if subject.cell.serving == "append":
            cache, new, new_times = subject.appended(request)
            return lambda items: model.append(items, new_times, request.query_times, cache=cache)[0], new
        cache = subject.compress(request)
    recent, times = request.columns(split, subject.layout.window)
    return lambda items: model.user_states(items, times, request.query_times, cache=cache), recent


def _scored(subject: Subject, items: torch.Tensor, features: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The scores of the catalogue, with what a counting output adds behind them, so that a tracer drops neither."""

    def call(users: torch.Tensor) -> torch.Tensor:
        repeats = subject.model.repeats(users, items)
        scores = users @ features.T
        return scores if repeats is None else torch.cat([scores, repeats[1]], dim=1)

    return call


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


def ledger_rows(
    phase: str, executed: Macs, visible: Macs, by_torch: Count, by_fvcore: Count | None, *, sequences: int = 1
) -> list[dict[str, Any]]:
    """Ledger rows of a phase: the parts that are computed or counted in it, and their total; per sequence of ``sequences``."""
    rows = []
    for part in (*PARTS, "total"):
        formula, needed = (2 * (sum(macs.values()) if part == "total" else macs.get(part, 0)) for macs in (executed, visible))
        counted, traced = 2 * by_torch.of(part), None if by_fvcore is None else 2 * by_fvcore.of(part)
        if part != "total" and not any((formula, counted, traced)):
            continue
        rows.append(
            {
                "phase": phase,
                "part": part,
                "formula_flops": share(formula, sequences),
                "torch_flops": share(counted, sequences),
                "fvcore_flops": None if traced is None else share(traced, sequences),
                "executed_flops": share(formula, sequences),
                "visible_flops": share(needed, sequences),
                "uncounted": by_fvcore.uncounted if by_fvcore is not None and part == "total" else {},
                "agrees": counts_agree(formula, (counted, traced)),
            }
        )
    return rows


def share(count: int, sequences: int) -> float:
    """One sequence's share, a whole number where it is one."""
    return count // sequences if count % sequences == 0 else count / sequences


def flop_metrics(phase: str, executed: Macs, visible: Macs, *, method: str, sequences: int = 1) -> dict[str, Any]:
    """FLOPs and multiply-adds of a pass, executed and needed, per sequence of ``sequences``."""
    metrics = {}
    for kind, macs in (("", sum(executed.values())), ("visible_", sum(visible.values()))):
        metrics[f"{phase}_{kind}flops"] = {"value": share(2 * macs, sequences), "method": method, "n": 1}
        metrics[f"{phase}_{kind}macs"] = {"value": share(macs, sequences), "method": method, "n": 1}
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
    if subject.cell.serving == "append":
        return _appended_bytes(subject)
    numbers = subject.layout.kept * _kept_width(subject)
    without_storage = subject.cell.counted_only and cache.tensors
    if without_storage or subject.layout.recurrent:
        stored, formula = cache.nbytes_per_user, numbers * cache.tensors[0].element_size() + _counted_bytes(cache)
        what = "tensors without storage; numbers of a position" if without_storage else "states as stored; width"
        method = f"{what} x positions x element size agrees"
    else:
        packed = pack(cache, subject.cell.cache_dtype)
        stored, formula = packed.nbytes_per_user, numbers * packed.values.element_size() + _counted_bytes(cache)
        method = "keys and values as stored; layers x (K + V width) x positions x element size agrees"
        if packed.scales is not None and packed.form is not None:
            formula += subject.layout.kept * packed.form.vectors * packed.scales.element_size()
            method = f"{method}, with a scale for each key and value of a head"
    if cache.items is not None:
        method = f"{method}, and 4 bytes for each of {cache.items.shape[1]} items that are counted"
    if stored != formula:
        raise InvalidMeasurementError(f"a user's cache holds {stored} bytes; the formula says {formula}")
    return {"value": stored, "method": method, "n": 1}


def _counted_bytes(cache: KVCache) -> int:
    return 0 if cache.items is None else 4 * cache.items.shape[1]


def _appended_bytes(subject: Subject) -> dict[str, Any]:
    """Bytes of one user's cache with the recent items that the last request finds there.

    Raises:
        InvalidMeasurementError: the formula does not agree.
    """
    backbone, layout = subject.model.backbone, subject.layout
    with torch.no_grad():
        cache, _, _ = subject.appended(subject.request(1))
    # a memory's states have keys from the first append on
    positions = cache.recent + (layout.kept if cache.keyed or not layout.recurrent else 0)
    formula = positions * backbone.cache_width() + (layout.kept * backbone.width if layout.recurrent else 0)
    formula *= cache.tensors[0].element_size() if cache.tensors else 0
    formula += _counted_bytes(cache)
    if cache.nbytes_per_user != formula:
        raise InvalidMeasurementError(f"a user's cache holds {cache.nbytes_per_user} bytes; the formula says {formula}")
    return {
        "value": formula,
        "method": f"keys and values of {layout.kept} positions and {cache.recent} recent items; the formula agrees",
        "n": 1,
    }

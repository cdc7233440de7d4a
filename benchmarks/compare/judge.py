"""The timings of two checkouts beside each other: which cells are timed, and what each timing came to."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cell import Cell
from benchmarks.compare.statistics import EFFECT, MEMORY, TIME, Effect, Floats, Rule, Words, effect, judge, pairs_needed
from benchmarks.compare.turns import BASE, HEAD, Pair, WorkOrder
from benchmarks.compare.worker import COMPRESS, PLANTED, SERVE, TRAIN
from benchmarks.environment import processors
from benchmarks.findings import Line, Verdict
from benchmarks.grids import Grid
from benchmarks.keys import cell_of_shape
from benchmarks.labels import Labels
from benchmarks.measures import NOTICEABLE_LOAD
from benchmarks.text import change, digest, listed, milliseconds, nbytes, percent
from persrec import names

HEADINGS = ("base", "head", "change", "99% low", "99% high", "spread", "pairs for +20%")
UNSUPPORTED = "UnsupportedError"
MILLISECOND_DIGITS = 4
PEAK_MARGIN = 0.5  # a peak is an allocator's: half as much again is a regression
PEAK_SLACK = 2**19  # bytes on both sides, so that what an allocator does about small shapes weighs nothing
PEAKS = {SERVE: "serve_peak", COMPRESS: "compress_peak", TRAIN: "train_peak"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One timing or peak of one cell, or a cell without one where ``metric`` is ``None``. Times are milliseconds a batch.

    ``ratios`` are of head over base, one a pair. The effect and the verdict are computed from them, and can be computed again.
    """

    verdict: Verdict
    cell_key: str
    cell: str
    metric: str | None = None
    base_ms: float | None = None
    head_ms: float | None = None
    base_bytes: float | None = None
    head_bytes: float | None = None
    effect: Effect | None = None
    ratios: tuple[float, ...] = ()
    needed: int | None = None
    reason: str = ""

    def line(self) -> Line:
        """As the outputs show it."""
        sides = ((self.base_ms, self.base_bytes), (self.head_ms, self.head_bytes))
        values = (*(_ms(ms) if peak is None else nbytes(peak) for ms, peak in sides), *self._effect_texts())
        return Line(verdict=self.verdict, cell_key=self.cell_key, cell=self.cell, metric=self.metric, values=values, reason=self.reason)

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {**dataclasses.asdict(self), "verdict": self.verdict.value}

    def _effect_texts(self) -> tuple[str, ...]:
        if self.effect is None:
            return ("",) * 5
        bounds = ("" if bound is None else change(bound) for bound in (self.effect.low, self.effect.high))
        needed = str(self.needed) if self.needed is not None else "" if self.base_bytes is not None else "over 200"
        return (change(self.effect.value), *bounds, percent(self.effect.spread), needed)


def timed_cells(cells: Sequence[Cell]) -> dict[str, Cell]:
    """The cells by key, one a shape, untrained, without a control and with their own fresh caches: timings depend on none of it.

    Floors have nothing to time, nor have cells that are counted alone; a peer is no checkout's code.

    Raises:
        ValueError: nothing is left.
    """
    untrained = [
        replace(cell_of_shape(cell), training="none", elastic_tokens=(), elastic_history=(), control=False)
        for cell in cells
        if not cell.is_floor and not cell.is_peer and not cell.counted_only
    ]
    if not untrained:
        raise ValueError("--grid: no cell with a model, so there is nothing to time")
    return {digest(cell.to_dict()): cell for cell in untrained}


def comparisons_of(cell: Cell) -> int:
    """How many timings a cell has at most: serving, training and, where something is kept for a request, compressing."""
    part = names.compressions().get(cell.compression)
    keeps = part is None or (part.keeps != "nothing" and (part.keeps_without_tokens or cell.tokens > 0))
    return 3 if keeps and cell.serving != "recompute" else 2


def order_of(
    cells: Mapping[str, Cell], grid: Grid, *, data_dir: str | None, cache_dir: str | None, planted: Sequence[str] = ()
) -> WorkOrder:
    """What each process measures. Settings that came later are left out where they change nothing, so that an older base can follow.

    Each process works in its own checkout, so places of data are named in full.
    """
    threads = max(cell.threads for cell in cells.values())
    return WorkOrder(
        cells={key: cell.to_dict() | {"dataset": _in_full(cell.dataset)} for key, cell in cells.items()},
        payload={name: place and str(Path(place).absolute()) for name, place in (("data_dir", data_dir), ("cache_dir", cache_dir))},
        threads=threads,
        affinity=processors(0, threads),
        timeout_s=grid.limits.cell_seconds,
        planted=planted,
    )


def _in_full(dataset: str) -> str:
    """The name of a dataset, or the place of the TOML of a table of one's own."""
    return str(Path(dataset).absolute()) if dataset.endswith(".toml") else dataset


def compare_timings(
    pairs: Sequence[Pair], cells: Mapping[str, Cell], *, margin: float, planted: Sequence[str] = ()
) -> tuple[list[Comparison], Rule]:
    """Every timing of every cell, the worst verdicts first, and the rule that they were judged by.

    For ``planted`` cells, the head's serving is the timing with a fifth more work in it.
    """
    labels = Labels.of(cells.values())
    templates = {key: Comparison(verdict=Verdict.PASS, cell_key=key, cell=labels(cell)) for key, cell in cells.items()}
    failure = next((pair.failure for pair in pairs if pair.failure is not None), None)
    if failure is not None:
        return [replace(cell, verdict=Verdict.INVALID, reason=failure) for cell in templates.values()], Rule(comparisons=1, margin=margin)
    comparisons: list[Comparison] = []
    ratios: list[tuple[Comparison, list[float]]] = []
    for key, cell in templates.items():
        fault = _fault(pairs, key)
        if fault is not None:
            verdict, reason = fault
            comparisons += _timed_alone(pairs, replace(cell, verdict=verdict, reason=reason))
            continue
        for metric in (SERVE, COMPRESS, TRAIN):
            base = _turns(pairs, BASE, key, metric)
            head = _turns(pairs, HEAD, key, PLANTED if metric == SERVE and key in planted else metric)
            if base is None and head is None:
                continue
            one = replace(cell, metric=metric)
            if base is None or head is None or base.shape != head.shape or not (_are_times(base) and _are_times(head)):
                comparisons.append(replace(one, verdict=Verdict.INVALID, reason="not timed in every process of both checkouts"))
                continue
            one = replace(one, base_ms=_middle_ms(base), head_ms=_middle_ms(head))
            ratios.append((one, np.median(np.log(head / base), axis=1).tolist()))
    rule = Rule(comparisons=max(1, len(ratios)), margin=margin)
    comparisons += [_judged(one, logs, rule) for one, logs in ratios]
    return sorted(comparisons, key=lambda one: one.verdict.rank), rule


def compare_peaks(pairs: Sequence[Pair], cells: Mapping[str, Cell]) -> list[Comparison]:
    """Every peak of memory, the worst verdicts first; none where the system gives neither side one, or the cell was not timed."""
    if any(pair.failure is not None for pair in pairs):
        return []
    labels = Labels.of(cells.values())
    ratios: list[tuple[Comparison, list[float]]] = []
    lacking: list[Comparison] = []
    for key, cell in cells.items():
        for timing, metric in PEAKS.items() if _fault(pairs, key) is None else ():
            if all(_turns(pairs, side, key, timing) is None for side in (BASE, HEAD)):
                continue
            one = Comparison(verdict=Verdict.PASS, cell_key=key, cell=labels(cell), metric=metric)
            peaks = {side: _peaks(pairs, side, key, timing) for side in (BASE, HEAD)}
            reason = _why_not_compared(pairs, key, peaks)
            if reason:
                lacking.append(replace(one, verdict=Verdict.INVALID, reason=reason))
            elif None not in peaks[BASE]:
                base, head = (np.array(peaks[side], dtype=np.float64) for side in (BASE, HEAD))
                one = replace(one, base_bytes=float(np.median(base)), head_bytes=float(np.median(head)))
                ratios.append((one, np.log((head + PEAK_SLACK) / (base + PEAK_SLACK)).tolist()))
    rule = Rule(comparisons=max(1, len(ratios)), margin=PEAK_MARGIN)
    return sorted([*lacking, *(_judged(one, logs, rule, MEMORY) for one, logs in ratios)], key=lambda one: one.verdict.rank)


def _peaks(pairs: Sequence[Pair], side: str, key: str, timing: str) -> list[float | None]:
    """Bytes, ``[pairs]``; ``None`` for a process that has no peak."""
    return [pair.answer(side, key).get("peaks", {}).get(timing) for pair in pairs]


def _why_not_compared(pairs: Sequence[Pair], key: str, peaks: Mapping[str, Sequence[float | None]]) -> str:
    """Why peaks cannot be compared, with the side; empty where all are there, or none of either side as on other systems."""
    failed = {side: error for side in peaks for pair in pairs if (error := pair.answer(side, key).get("peaks_error"))}
    every = [value for values in peaks.values() for value in values]
    if not failed and (None not in every or not any(value is not None for value in every)):
        return ""
    silent = [side for side, values in peaks.items() if side in failed or None in values]
    why = "".join(f": {error}" for error in list(failed.values())[:1])
    return f"its peak was not told in every process of {listed(silent)}{why}"


def confirmed(
    first: Sequence[Comparison], second: Sequence[Comparison], failing: Sequence[Verdict] = (Verdict.REGRESSION,)
) -> list[Comparison]:
    """The first round's findings, in which a verdict that fails stands only where a second, independent round finds it too.

    Where the second round has no timing, nothing was confirmed or disproved: the finding is invalid.
    """
    again = {(one.cell_key, one.metric): one for one in second}
    failed = {one.cell_key: one for one in second if one.verdict is Verdict.INVALID}
    comparisons = [
        _confirmed(one, again.get((one.cell_key, one.metric)), failed.get(one.cell_key)) if one.verdict in failing else one for one in first
    ]
    return sorted(comparisons, key=lambda one: one.verdict.rank)


def _confirmed(one: Comparison, again: Comparison | None, failed: Comparison | None) -> Comparison:
    if again is None or again.effect is None:
        why = f": {failed.reason}" if failed is not None else ""
        return replace(one, verdict=Verdict.INVALID, reason=f"{one.reason}; the second round, which was to confirm it, has no timing{why}")
    outcome = f"found {change(again.effect.value)}"
    if again.verdict is one.verdict:
        return replace(one, reason=f"{one.reason}; a second, independent round {outcome}")
    return replace(one, verdict=Verdict.AMBIGUOUS, reason=f"{one.reason}; not confirmed: a second, independent round {outcome}")


def _judged(one: Comparison, logs: Sequence[float], rule: Rule, words: Words = TIME) -> Comparison:
    result = effect(logs, rule)
    verdict, reason = judge(result, rule, words)
    needed = pairs_needed(EFFECT, spread=result.spread, rule=rule) if words is TIME else None
    return replace(one, verdict=verdict, reason=reason, effect=result, ratios=tuple(map(math.exp, logs)), needed=needed)


def _fault(pairs: Sequence[Pair], key: str) -> tuple[Verdict, str] | None:
    """Why a cell cannot be compared: a head that fails is invalid, so is a base that fails at times; one that always fails is behind."""
    heads, bases = ([pair.answer(side, key).get("error") for pair in pairs] for side in (HEAD, BASE))
    if heads and all(str(error).startswith(UNSUPPORTED) for error in heads + bases):
        return Verdict.PASS, f"in neither checkout: {heads[0]}"
    if any(heads):
        return Verdict.INVALID, f"head: {next(filter(None, heads))}"
    if bases and all(bases):
        return Verdict.NEW, f"the base does not measure it: {bases[0]}"
    if any(bases):
        return Verdict.INVALID, f"base: {next(filter(None, bases))}"
    return None


def _timed_alone(pairs: Sequence[Pair], cell: Comparison) -> list[Comparison]:
    """A cell that cannot be compared, with the timings of the side that did not fail; the cell alone where both did."""
    for side in (HEAD, BASE):
        if any("error" in pair.answer(side, cell.cell_key) for pair in pairs):
            continue
        timings = {metric: _turns(pairs, side, cell.cell_key, metric) for metric in (SERVE, COMPRESS, TRAIN)}
        middles = {metric: _middle_ms(turns) for metric, turns in timings.items() if turns is not None and _are_times(turns)}
        if middles:
            alone = {metric: replace(cell, metric=metric) for metric in middles}
            if side == HEAD:
                return [replace(alone[metric], head_ms=middle) for metric, middle in middles.items()]
            return [replace(alone[metric], base_ms=middle) for metric, middle in middles.items()]
    return [cell]


def _turns(pairs: Sequence[Pair], side: str, key: str, metric: str) -> Floats | None:
    """Seconds, ``[pairs, turns]``; ``None`` where no process has the timing. A process without it, or with fewer turns, has NaN."""
    rows = [pair.answer(side, key)["turns"].get(metric, []) for pair in pairs]
    most = max(map(len, rows), default=0)
    return np.array([[*turns, *[math.nan] * (most - len(turns))] for turns in rows], dtype=np.float64) if most else None


def _are_times(seconds: Floats) -> bool:
    return bool(np.isfinite(seconds).all() and (seconds > 0).all())


def _middle_ms(seconds: Floats) -> float:
    return float(np.median(np.median(seconds, axis=1))) * 1e3


def _ms(value: float | None) -> str:
    return "" if value is None else milliseconds(value, MILLISECOND_DIGITS)


def foreign_shares(pairs: Sequence[Pair]) -> list[float]:
    """The share of the processors that other processes used, one number for each cell and process that could measure it."""
    answers = [answer for pair in pairs for side in (pair.base, pair.head) for answer in side.values()]
    shares = [answer.get("readings", {}).get("foreign_cpu_share") for answer in answers]
    return [float(share) for share in shares if share is not None]


def load_note(pairs: Sequence[Pair]) -> str | None:
    """A line where other processes used much of the machine while cells were built and warmed up, just before they are timed."""
    shares = foreign_shares(pairs)
    if not shares or float(np.median(shares)) <= NOTICEABLE_LOAD:
        return None
    return (
        f"other processes used {np.median(shares):.0%} of the processors just before timings were taken (at most {max(shares):.0%}); "
        "that widens the spread"
    )

"""The timings of two checkouts beside each other: which cells are timed, and what each timing came to."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.cell import FLOOR_NAMES, Cell, digest
from benchmarks.compare.statistics import EFFECT, Effect, Floats, Rule, effect, judge, pairs_needed
from benchmarks.compare.turns import Order, Pair
from benchmarks.compare.worker import COMPRESS, PLANTED, SERVE, TRAIN
from benchmarks.environment import processors
from benchmarks.findings import Line
from benchmarks.gate.baseline import Verdict
from benchmarks.grids import Grid, label
from benchmarks.probes.load import NOTICEABLE

HEADINGS = ("base", "head", "change", "99% low", "99% high", "spread", "pairs for +20%")
UNSUPPORTED = "UnsupportedError"


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One timing of one cell, or a cell without one where ``metric`` is ``None``. Times are milliseconds a batch."""

    verdict: Verdict
    cell_key: str
    cell: str
    metric: str | None = None
    base_ms: float | None = None
    head_ms: float | None = None
    effect: Effect | None = None
    needed: int | None = None
    reason: str = ""

    def line(self) -> Line:
        """As the outputs show it."""
        found = self.effect
        numbers = (
            _ms(self.base_ms),
            _ms(self.head_ms),
            *((_percent(found.value), _percent(found.low), _percent(found.high), f"{found.spread:.1%}") if found else ("", "", "", "")),
            "" if found is None else "over 200" if self.needed is None else str(self.needed),
        )
        return Line(verdict=self.verdict, cell_key=self.cell_key, cell=self.cell, metric=self.metric, values=numbers, reason=self.reason)

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {**dataclasses.asdict(self), "verdict": self.verdict.value}


def timed_cells(cells: Sequence[Cell]) -> dict[str, Cell]:
    """The cells by key, untrained, without a control and with their own fresh caches: timings depend on none of it.

    Floors have nothing to time, nor have cells that are counted alone.

    Raises:
        ValueError: nothing is left.
    """
    untrained = [
        replace(cell, training="none", elastic_tokens=(), ablation="none", staleness=0, control=False)
        for cell in cells
        if cell.backbone not in FLOOR_NAMES and not cell.counted_only
    ]
    if not untrained:
        raise ValueError("--grid: no cell with a model, so there is nothing to time")
    return {digest(cell.to_dict()): cell for cell in untrained}


def comparisons_of(cell: Cell) -> int:
    """How many timings a cell has at most."""
    keeps = cell.serving == "cache" and cell.compression != "recent" and not (cell.compression == "experts" and not cell.tokens)
    return 3 if keeps else 2


def order_of(cells: Mapping[str, Cell], grid: Grid, *, data_dir: str | None, cache_dir: str | None, planted: Sequence[str] = ()) -> Order:
    """What each process measures. Settings at their defaults are left out, so that a base that does not know them can follow."""
    threads = max(cell.threads for cell in cells.values())
    return Order(
        cells={key: _settings(cell) for key, cell in cells.items()},
        payload={"data_dir": data_dir, "cache_dir": cache_dir},
        threads=threads,
        affinity=processors(0, threads),
        timeout_s=grid.limits.cell_seconds,
        planted=planted,
    )


def _settings(cell: Cell) -> dict[str, Any]:
    values = cell.to_dict()
    for field in dataclasses.fields(Cell):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        if values.get(field.name) == default:
            values.pop(field.name, None)
    return values


def compared(
    pairs: Sequence[Pair], cells: Mapping[str, Cell], *, margin: float, planted: Sequence[str] = ()
) -> tuple[list[Compared], Rule]:
    """Every timing of every cell, the worst verdicts first, and the rule that they were judged by.

    Of ``planted`` cells, the head's serving is the one with a fifth more work in it.
    """
    broken = [pair.failure for pair in pairs if pair.failure is not None]
    if broken:
        invalid = [_of(key, cell, Verdict.INVALID, broken[0]) for key, cell in cells.items()]
        return invalid, Rule(comparisons=1, margin=margin)
    found: list[Compared] = []
    ratios: list[tuple[Compared, list[float]]] = []
    for key, cell in cells.items():
        fault = _fault(pairs, key)
        if fault is not None:
            found.append(_of(key, cell, *fault))
            continue
        for metric in (SERVE, COMPRESS, TRAIN):
            base = _turns(pairs, "base", key, metric)
            head = _turns(pairs, "head", key, PLANTED if metric == SERVE and key in planted else metric)
            if base is None and head is None:
                continue
            one = replace(_of(key, cell, Verdict.PASS, ""), metric=metric)
            if base is None or head is None or base.shape != head.shape or not (_are_times(base) and _are_times(head)):
                found.append(replace(one, verdict=Verdict.INVALID, reason="not timed in every process of both checkouts"))
                continue
            one = replace(one, base_ms=_middle_ms(base), head_ms=_middle_ms(head))
            ratios.append((one, np.median(np.log(head / base), axis=1).tolist()))
    rule = Rule(comparisons=max(1, len(ratios)), margin=margin)
    found += [_judged(one, logs, rule) for one, logs in ratios]
    order = list(Verdict)
    return sorted(found, key=lambda one: order.index(one.verdict)), rule


def _judged(one: Compared, logs: Sequence[float], rule: Rule) -> Compared:
    seen = effect(logs, rule)
    verdict, reason = judge(seen, rule)
    return replace(one, verdict=verdict, reason=reason, effect=seen, needed=pairs_needed(EFFECT, spread=seen.spread, rule=rule))


def _fault(pairs: Sequence[Pair], key: str) -> tuple[Verdict, str] | None:
    """Why a cell cannot be compared: a head that fails is invalid, and so is a base that fails at times; one that never can is behind."""
    heads = [pair.head[key].get("error") for pair in pairs]
    bases = [pair.base[key].get("error") for pair in pairs]
    if heads and all(str(error).startswith(UNSUPPORTED) for error in heads + bases):
        return Verdict.PASS, f"in neither checkout: {heads[0]}"
    if any(heads):
        return Verdict.INVALID, f"head: {next(filter(None, heads))}"
    if bases and all(bases):
        return Verdict.NEW, f"the base does not measure it: {bases[0]}"
    if any(bases):
        return Verdict.INVALID, f"base: {next(filter(None, bases))}"
    return None


def _turns(pairs: Sequence[Pair], side: str, key: str, metric: str) -> Floats | None:
    """Seconds, ``[pairs, turns]``; ``None`` where no process has the timing. A process without it, or with fewer turns, has none."""
    found = [getattr(pair, side)[key]["turns"].get(metric, []) for pair in pairs]
    most = max(map(len, found))
    return np.array([[*turns, *[math.nan] * (most - len(turns))] for turns in found], dtype=np.float64) if most else None


def _are_times(seconds: Floats) -> bool:
    return bool(np.isfinite(seconds).all() and (seconds > 0).all())


def _middle_ms(seconds: Floats) -> float:
    return float(np.median(np.median(seconds, axis=1))) * 1e3


def _of(key: str, cell: Cell, verdict: Verdict, reason: str) -> Compared:
    return Compared(verdict=verdict, cell_key=key, cell=label(cell), reason=reason)


def foreign_shares(pairs: Sequence[Pair]) -> list[float]:
    """What other processes used of the processors, one number a cell and process that could tell."""
    answers = [answer for pair in pairs for side in (pair.base, pair.head) for answer in side.values()]
    told = [answer.get("readings", {}).get("foreign_cpu_share") for answer in answers]
    return [float(share) for share in told if share is not None]


def load_note(pairs: Sequence[Pair]) -> str | None:
    """A line where others used much of the machine while cells were built and warmed up, between which they are timed."""
    shares = foreign_shares(pairs)
    if not shares or float(np.median(shares)) <= NOTICEABLE:
        return None
    return (
        f"other processes used {np.median(shares):.0%} of the processors just before timings were taken (at most {max(shares):.0%}); "
        "that widens the spread"
    )


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.4g} ms"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:+.1%}"

"""What other processes took of the processors while something was timed: a reading, kept and said, never a reason to refuse a cell.

``benchmarks.compare`` loads this file by its path beside another checkout, so it imports nothing of this project.
"""

import os
from types import TracebackType
from typing import Any, Self

import psutil

_USED = ("user", "nice", "system", "irq", "softirq", "steal")  # guests' time is in the user's already
_UNUSED = ("idle", "iowait")


class LoadWatch:
    """Watches a timed region: load averages before and after, and the share of all processor time that others used."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self.foreign_share: float | None = None
        self._before: float | None = None
        self._after: float | None = None
        self._used: float | None = None
        self._total = self._own = 0.0

    def __enter__(self) -> Self:
        """Reads the counters."""
        self._before = _load_average()
        self._used, self._total = _machine_seconds()
        self._own = _own_seconds()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Reads them again."""
        own = _own_seconds() - self._own
        used, total = _machine_seconds()
        self._after = _load_average()
        if used is not None and self._used is not None and total > self._total:
            self.foreign_share = min(1.0, max(0.0, used - self._used - own) / (total - self._total))

    def readings(self) -> dict[str, Any]:
        """What a record keeps; ``None`` for what this system does not tell."""
        share = self.foreign_share
        return {
            "load_average_before": self._before,
            "load_average_after": self._after,
            "foreign_cpu_share": None if share is None else round(share, 4),
        }

    def said(self, metrics: dict[str, Any], *, above: float) -> dict[str, Any]:
        """The metrics that were timed meanwhile; their methods say it where others used more than the share ``above``."""
        if self.foreign_share is None or self.foreign_share <= above:
            return metrics
        note = f"other processes used {self.foreign_share:.0%} of the processors"
        return {
            name: metric if metric.get("value") is None else {**metric, "method": f"{metric['method']}, {note}"}
            for name, metric in metrics.items()
        }


def _load_average() -> float | None:
    """The mean number of processes that wanted a processor in the last minute."""
    try:
        return round(float(psutil.getloadavg()[0]), 2)
    except OSError:
        return None


def _own_seconds() -> float:
    """Processor seconds of this process, and of those that it started and that have ended."""
    return sum(os.times()[:4])


def _machine_seconds() -> tuple[float | None, float]:
    """Processor seconds used (by all processes, and taken by other guests) and passed since boot, over all processors."""
    try:
        times = psutil.cpu_times()
    except (OSError, RuntimeError):  # nothing to read, or not in the form that psutil knows
        return None, 0.0
    used, unused = (sum(float(getattr(times, name, 0.0)) for name in names) for names in (_USED, _UNUSED))
    return used, used + unused

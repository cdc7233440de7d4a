"""What other processes took of the processors while something was timed: a reading, kept and said, never a reason to refuse a cell."""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

STAT = Path("/proc/stat")
NOTICEABLE = 0.10  # of the machine's processor time; above it, the method of a timing says so
_USER, _IDLE, _IOWAIT, _STEAL = 0, 3, 4, 7


class LoadWatch:
    """Watches a timed region: load averages before and after, and the share of all processor time that others used."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self.foreign_share: float | None = None
        self._before = self._after = 0.0
        self._used: float | None = None
        self._total = self._own = 0.0

    def __enter__(self) -> Self:
        """Reads the counters."""
        self._before = os.getloadavg()[0]
        self._used, self._total = _machine_seconds()
        self._own = time.process_time()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Reads them again."""
        own = time.process_time() - self._own
        used, total = _machine_seconds()
        self._after = os.getloadavg()[0]
        if used is not None and self._used is not None and total > self._total:
            self.foreign_share = min(1.0, max(0.0, used - self._used - own) / (total - self._total))

    def readings(self) -> dict[str, Any]:
        """What a record keeps; a share of ``None`` could not be had from this kernel."""
        share = self.foreign_share
        return {
            "load_average_before": round(self._before, 2),
            "load_average_after": round(self._after, 2),
            "foreign_cpu_share": None if share is None else round(share, 4),
        }

    def said(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """The metrics that were timed meanwhile; their methods say it where others used much."""
        if self.foreign_share is None or self.foreign_share <= NOTICEABLE:
            return metrics
        note = f"other processes used {self.foreign_share:.0%} of the processors"
        return {
            name: metric if metric.get("value") is None else {**metric, "method": f"{metric['method']}, {note}"}
            for name, metric in metrics.items()
        }


def _machine_seconds() -> tuple[float | None, float]:
    """Processor seconds used (by all processes, and taken by other guests) and passed since boot, over all processors."""
    try:
        ticks = [int(number) for number in STAT.read_text().split("\n", 1)[0].split()[1:]]
    except (OSError, ValueError):
        return None, 0.0
    if len(ticks) <= _STEAL:
        return None, 0.0
    ticks = ticks[_USER : _STEAL + 1]  # guests' time is in the user's already
    per_second = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT]) / per_second, sum(ticks) / per_second

"""Jobs that end in unusual ways: isolation takes them by their dotted name."""

import builtins
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from persrec.files import WriteError

Payload = dict[str, Any]
ReportPhase = Callable[[str], None]


def raise_error(payload: Payload, report_phase: ReportPhase) -> None:
    """Raises the built-in error that the payload names."""
    raise getattr(builtins, payload["error"])("as asked")


def raise_full_disk(payload: Payload, report_phase: ReportPhase) -> None:
    raise WriteError("weights: cannot be written: No space left on device") from OSError(28, "No space left on device")


def raise_from_bad_input(payload: Payload, report_phase: ReportPhase) -> None:
    raise RuntimeError("while preparing") from ValueError("a table without rows")


def overflow(payload: Payload, report_phase: ReportPhase) -> None:
    raise RuntimeError("Storage size calculation overflowed with sizes=[9223372036854775807, 2]")


def end_by_signal(payload: Payload, report_phase: ReportPhase) -> None:
    os.kill(os.getpid(), payload["number"])
    signal.pause()


def warned(payload: Payload, report_phase: ReportPhase) -> int:
    """Sends itself and the fork server what a cluster sends to all processes of a job before it ends them; returns the server's id."""
    for process in (os.getpid(), os.getppid()):
        for number in (signal.SIGUSR2, signal.SIGTERM):
            os.kill(process, number)
    return os.getppid()


class Unreadable:
    """A value that no other process can make again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _fail_to_load, ()


def _fail_to_load() -> None:
    raise TypeError("no such value here")


def answer_unreadable(payload: Payload, report_phase: ReportPhase) -> Unreadable:
    return Unreadable()


def answer_unsendable(payload: Payload, report_phase: ReportPhase) -> Any:
    return lambda: None


def wait(payload: Payload, report_phase: ReportPhase) -> str:
    return "done"


def tell_of_start(payload: Payload, report_phase: ReportPhase) -> Payload:
    return {
        "parent": os.getppid(),
        "has_zoneinfo": "zoneinfo" in sys.modules,
        "collected": len(gc.get_objects()),
        "frozen": gc.get_freeze_count(),
    }

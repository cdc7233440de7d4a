"""Signals that ask a run to end while it starts a process are answered once that has started."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

Handler = Callable[[int, Any], Any]
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Answers the first of these signals that comes inside after the block, where its handler's exception is raised; a second one at once.

    To block signals in this thread is not enough: another thread takes them, and Python answers in the main one all the same.
    """
    if threading.current_thread() is not threading.main_thread():  # where no handler runs
        yield
        return
    came: list[int] = []
    handlers: dict[signal.Signals, Handler] = {}

    def hold(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            _restore(handlers)
            handlers[signal.Signals(number)](number, frame)

    try:
        for number in ENDING:
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, hold)
        yield
    finally:
        _restore(handlers)
        if len(came) == 1:
            handlers[signal.Signals(came[0])](came[0], None)


def _restore(handlers: Mapping[signal.Signals, Handler]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)

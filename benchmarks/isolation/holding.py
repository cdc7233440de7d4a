"""Signals that ask a run to end while it starts a process are answered once that has started."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Answers the first of these signals that comes inside after the block; a handler's exception is raised there.

    To block signals in this thread is not enough: another thread takes them, and Python answers in the main one all the same.
    """
    if threading.current_thread() is not threading.main_thread():  # where no handler runs
        yield
        return
    came: list[int] = []
    handlers: dict[signal.Signals, Callable[[int, Any], Any]] = {}
    try:
        for number in ENDING:
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            handlers[signal.Signals(came[0])](came[0], None)

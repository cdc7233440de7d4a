"""Ties a process to the life of its parent. Imports the standard library alone, so that it can be loaded by its path."""

import contextlib
import ctypes
import signal

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def end_with_parent() -> None:
    """Has the kernel end this process once its parent ends, however that ends.

    Does nothing where the kernel has no such call (it is Linux's).
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)

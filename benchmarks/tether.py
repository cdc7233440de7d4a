"""Ties the fork server to the run, by being imported: in the server alone, before all else that it imports.

The server looks after its parent only once it serves, and what it imports before takes seconds. From this import on, the
kernel ends it when the run ends, however that ends.
"""

import contextlib
import ctypes
import signal

SET_PARENT_DEATH_SIGNAL = 1

with contextlib.suppress(OSError, AttributeError):  # a kernel that cannot: the server ends when it has imported all
    ctypes.CDLL(None, use_errno=True).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)

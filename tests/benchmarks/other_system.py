"""A Linux that lacks what other systems lack: it cannot place processes, end them with their parent, or show its kernel's files.

``python other_system.py CODE`` runs ``CODE`` on it.
"""

import ctypes
import os
import sys

for name in ("sched_getaffinity", "sched_setaffinity"):
    if hasattr(os, name):
        delattr(os, name)


class NoCalls:
    """A C library without the calls that are Linux's or glibc's alone."""


of_a_file = ctypes.CDLL
ctypes.CDLL = lambda name, *rest, **options: NoCalls() if name is None else of_a_file(name, *rest, **options)


def hide_kernel_files(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and str(arguments[0]).startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


sys.addaudithook(hide_kernel_files)

if __name__ == "__main__":
    code, sys.argv = sys.argv[1], ["other_system"]
    exec(code)  # noqa: S102 - the test's own text

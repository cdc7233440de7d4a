"""What an exception means, without a process."""

import pytest

from benchmarks.cell import InvalidMeasurementError, UnsupportedError
from benchmarks.isolation.failures import meaning_of


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (UnsupportedError("no kernel"), ("unsupported", False)),
        (InvalidMeasurementError("throttled"), ("invalid", False)),
        (caused(RuntimeError("while measuring"), InvalidMeasurementError("throttled")), ("invalid", False)),
        (MemoryError(), ("oom", False)),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), ("oom", False)),
        (OSError(12, "Cannot allocate memory"), ("oom", False)),
        (caused(ValueError("a table"), MemoryError()), ("oom", False)),
        (FloatingPointError("training: diverged in epoch 2"), ("crash", False)),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), ("crash", False)),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), ("crash", True)),
        (OSError(5, "Input/output error"), ("crash", True)),
        (PermissionError(13, "Permission denied"), ("crash", False)),
        (KeyboardInterrupt(), ("crash", True)),
    ],
)
def test_what_an_exception_means(error: BaseException, meaning: tuple[str, bool]) -> None:
    assert meaning_of(error) == meaning

"""What an exception means for the job that raised it: its status, and whether another try may end better."""

import errno
import pickle
from collections.abc import Iterator

from benchmarks.cell import InvalidMeasurementError, UnsupportedError
from benchmarks.records import Status

OUT_OF_MEMORY_TEXTS = (
    "can't allocate memory",  # DefaultCPUAllocator
    "not enough memory",
    "out of memory",  # CUDA, where it is no torch.OutOfMemoryError
    "CUBLAS_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
    "Storage size calculation overflowed",  # more than can be counted
)
# errors that come back however often a job is tried: a value that does not hold up, a file that is not there or not ours
SURE_TO_FAIL_AGAIN = (
    ValueError, TypeError, LookupError, AttributeError, ImportError, NotImplementedError, AssertionError, ArithmeticError,
    pickle.PicklingError, FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError,
)  # fmt: skip


def meaning_of(error: BaseException) -> tuple[Status, bool]:
    """The status of a job that ended with this exception, and whether it is worth another try; what it was raised from counts too."""
    status = _status_of(error)
    return status, status == Status.CRASH and not any(isinstance(link, SURE_TO_FAIL_AGAIN) for link in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was raised from."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _status_of(error: BaseException) -> Status:
    """What an exception means for the cell; what it was raised from counts too."""
    for link in _causes(error):
        if isinstance(link, UnsupportedError):
            return Status.UNSUPPORTED
        if isinstance(link, InvalidMeasurementError):
            return Status.INVALID
        if _is_out_of_memory(link):
            return Status.OOM
    return Status.CRASH


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)

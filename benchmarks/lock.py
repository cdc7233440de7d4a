"""The lock of a run's folder. It needs no ``flock``, so it holds on network file systems and between machines.

The lock is a file that names its holder: process, machine and a token of its own. It is made whole beside its place and linked there,
which one process alone can do. Its holder touches it every few seconds. On the holder's machine the system tells whether the process
lives. From another machine a lock is dead once nobody has touched it for a minute; what counts is that the file's time changed while
we looked, so the clocks of two machines need not agree.

Who finds a dead lock must first link a claim that is named after the dead one's token. So of many that find it one takes it over, and
a claim that a dead process left is taken over by the same rule.
"""

import contextlib
import functools
import hashlib
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from persrec.files import writing

LOCK = ".lock"
BEAT_S = 10.0
DEAD_S = 60.0  # without a beat
START_TOLERANCE_S = 5.0  # the start of a process is told by the machine's clock, which may be set
_HEAD = b"persrec run"


class LockedError(ValueError):
    """Another run that is alive writes to this folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Who holds a lock; ``machine`` also tells boots and containers of one ``host`` apart, ``started`` is in seconds since the epoch."""

    process: int
    host: str
    machine: str
    started: float
    token: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


@contextlib.contextmanager
def locked(out: Path, *, beat_s: float = BEAT_S, dead_s: float = DEAD_S) -> Iterator[Holder | None]:
    """Holds the folder's lock; yields the holder of a dead run's lock that is taken over, else ``None``.

    Args:
        out: the folder, which is made.
        beat_s: seconds between two signs of life.
        dead_s: seconds without one that make a lock of another machine dead.

    Raises:
        LockedError: another run holds the lock.
        WriteError: the folder may not be written, or its file system knows no hard links.
    """
    path, holder = out / LOCK, _self()
    own = _beside(path, holder.token)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        try:
            own.write_bytes(_HEAD + b" " + json.dumps(asdict(holder)).encode() + b"\n")
            previous = _take(path, own, dead_s)
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        finally:
            own.unlink(missing_ok=True)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(file, path, holder, ended, beat_s), name="lock", daemon=True)
    beating.start()
    try:
        yield previous
    finally:
        ended.set()
        beating.join()
        os.close(file)
        with contextlib.suppress(OSError):
            if _token(path) == holder.token:
                path.unlink()


def is_lock(path: Path) -> bool:
    """Whether a file is a run's lock."""
    return path.is_file() and path.read_bytes()[: len(_HEAD)] == _HEAD


def _take(path: Path, own: Path, dead_s: float) -> Holder | None:
    """Makes ``path`` a link to ``own``; returns the dead holder that it was taken from.

    Raises:
        LockedError: its holder lives.
    """
    while not _link(own, path):
        holder = _holder(path)
        if holder is None or (alive := _lives(holder, path, dead_s)) is None:
            continue  # it is gone, or another's by now
        if alive:
            raise LockedError(f"{path.parent}: {holder} is writing to it; wait for it or choose another --out")
        claim = _beside(path, holder.token)
        _take(claim, own, dead_s)
        try:
            if _token(path) == holder.token:
                fresh = _beside(path, secrets.token_hex(8))
                os.link(own, fresh)
                fresh.replace(path)
                return holder
        finally:
            claim.unlink(missing_ok=True)
    return None


def _link(own: Path, path: Path) -> bool:
    """Whether ``path`` is ours now; a network file system may call a link that it made an error.

    Raises:
        LockedError: ``own`` is gone: a run that has just taken the lock removed it with what dead runs left.
    """
    try:
        os.link(own, path)
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):
            return bool(own.samefile(path))
        return False
    except FileNotFoundError as error:
        raise LockedError(f"{path.parent}: another run has just begun to write to it; wait for it or choose another --out") from error
    return True


def _lives(holder: Holder, path: Path, dead_s: float) -> bool | None:
    """Whether the holder of a lock lives; ``None`` where the lock changes hands meanwhile."""
    if holder.machine == _machine():
        return _runs(holder)
    sys.stderr.write(f"{path.parent}: {holder} holds the lock; looking for a sign of life, for {dead_s:g} s at most\n")
    first, end = _touched(path), time.monotonic() + dead_s
    while time.monotonic() < end:
        time.sleep(min(1.0, dead_s / 10))
        if _token(path) != holder.token:
            return None
        if _touched(path) != first:
            return True
    return False


def _runs(holder: Holder) -> bool:
    """Whether a process of this machine is the one that took the lock: ids are used again."""
    try:
        process = psutil.Process(holder.process)
        return bool(process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - holder.started) < START_TOLERANCE_S)
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False


def _beat(file: int, path: Path, holder: Holder, ended: threading.Event, beat_s: float) -> None:
    """Touches the lock until its holder is done; a holder that slept so long that another took the lock ends itself."""
    while not ended.wait(beat_s):
        with contextlib.suppress(OSError):  # the server may be away for a while
            os.utime(file)
            if _token(path) not in (holder.token, None):
                sys.stderr.write(f"{path.parent}: the lock was taken over by {_holder(path)}; this run ends\n")
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _touched(path: Path) -> int | None:
    """When a file was touched last. It is opened for that: a network file system may answer a plain `stat` from its cache."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _holder(path: Path) -> Holder | None:
    """The holder that a lock names; ``None`` where there is no lock. A lock of an earlier form is known by its content alone."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return Holder(**json.loads(content.removeprefix(_HEAD)))
    except (ValueError, TypeError):
        return Holder(process=0, host="a machine unknown", machine="", started=0.0, token=hashlib.sha256(content).hexdigest()[:16])


def _token(path: Path) -> str | None:
    holder = _holder(path)
    return None if holder is None else holder.token


def _beside(path: Path, token: str) -> Path:
    """A name that `persrec.files.is_leftover` knows, so that the next run removes what a dead one left."""
    return path.with_name(f"{LOCK}.{token}.tmp")


def _self() -> Holder:
    process = psutil.Process()
    return Holder(
        process=process.pid,
        host=socket.gethostname(),
        machine=_machine(),
        started=process.create_time(),
        token=secrets.token_hex(8),
    )


@functools.cache
def _machine() -> str:
    """This machine since its boot, and in it this container: where a process id means one process."""
    facts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        facts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), str(Path("/proc/self/ns/pid").readlink())]
    return " ".join(facts)

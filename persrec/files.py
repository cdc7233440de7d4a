"""The one atomic writer: a file or a folder is written beside its place, synced and renamed.

So a place holds the old content or the new one, never a part, however the process ends. What a killed process leaves beside it
is named ``.NAME.<16 hexadecimal digits>.tmp``; `is_leftover` tells it from what others wrote.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MOST_BYTES_OF_A_NAME = 255  # as Linux's file systems have it
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


class WriteError(ValueError):
    """A file or folder cannot be written; the message is one line that names it."""


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which takes ``path``'s place when the block ends well; folders that are missing are made.

    Its ``name`` is its path meanwhile, for a library that writes by path. Such a library may put another file there. So the path is
    synced, not the file that was opened, and that other file gets the rights of an ordinary one.

    Raises:
        WriteError: the disk is full or may not be written; the old content is still there.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_path(path)
        try:
            with temporary.open("xb") as file:
                mode = os.fstat(file.fileno()).st_mode
                yield file
            temporary.chmod(mode)
            _sync(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that its place holds the old content or the new, never a part.

    Raises:
        WriteError: the disk is full or may not be written; the old content is still there.
    """
    with atomic(path) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_folder(path: Path, *, replace: bool = True, new: bool = False) -> Iterator[Path]:
    """An empty folder to fill, which takes ``path``'s place when the block ends well; folders that are missing are made.

    A folder cannot be renamed onto another. So an earlier one is moved aside first: a kill at that moment leaves no folder, and
    never a part of one.

    Args:
        path: the folder's place.
        replace: whether an earlier folder there is replaced; else it stays, and the new content is dropped.
        new: whether an earlier folder there is an error.

    Raises:
        WriteError: the disk is full or may not be written, or there is a folder where none may be; an earlier folder is still there.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_path(path)
        try:
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                _sync(file)
            _sync(temporary)
            _move(temporary, path, replace=replace, new=new)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync(path.parent)


def unwritable(folder: Path) -> Path | None:
    """What keeps a folder from being made or written: the nearest place on its path that exists, if that is no folder or is protected."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    return None if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK) else nearest


def is_leftover(path: Path) -> bool:
    """Whether a name is one that a killed writer leaves beside its place."""
    return _LEFTOVER.fullmatch(path.name) is not None


def name_while_written(path: Path) -> str:
    """What a file or folder is called until it takes its place, by a number that is drawn: longer than its own name."""
    return f".{path.name}.{secrets.token_hex(8)}.tmp"


def _temporary_path(path: Path) -> Path:
    return path.with_name(name_while_written(path))


def _move(folder: Path, path: Path, *, replace: bool, new: bool) -> None:
    try:
        folder.rename(path)
    except OSError:  # there is one already; a check before could miss one that is made in between
        if new or not path.is_dir():
            raise
        if not replace:
            return
        earlier = _temporary_path(path)
        path.rename(earlier)
        try:
            folder.rename(path)
        except BaseException:
            earlier.rename(path)
            raise
        shutil.rmtree(earlier, ignore_errors=True)


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the operating system says while ``path`` is written is a `WriteError` of one line that names it."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {error.strerror or error}") from error

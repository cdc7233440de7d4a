"""Prepared data on disk: one folder a digest, arrays without pickles, written aside and renamed."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from persrec.data.errors import SourceError
from persrec.data.interactions import InteractionLog
from persrec.files import WriteError, atomic_folder, is_leftover

_ARRAYS = "log.npz"
_FACTS = "log.json"
ABANDONED_S = 24 * 3600.0
_FORMAT = 2  # of the files below and of what is checked first; part of the folder's name, so another format is prepared anew


def default_cache_dir() -> Path:
    """``$PERSREC_CACHE``, else ``~/.cache/persrec``.

    Raises:
        SourceError: the environment names neither a folder nor a home.
    """
    try:
        return Path(os.environ.get("PERSREC_CACHE") or Path.home() / ".cache" / "persrec")
    except RuntimeError as error:
        raise SourceError(f"cache: there is no home folder ({error}); name a place with --cache-dir or $PERSREC_CACHE") from error


def check_cache_dir(cache_dir: Path, name: str, digest: str) -> None:
    """Whether data can be kept in ``cache_dir``, or are there already; makes nothing.

    Raises:
        SourceError: it is no folder, or cannot be written; the message names it.
    """
    if _folder(cache_dir, name, digest).is_dir():
        return
    place = next(path for path in (cache_dir, *cache_dir.absolute().parents) if os.path.lexists(path))
    if not place.is_dir():
        raise SourceError(f"cache: {cache_dir} cannot be written, {place} is no folder; name another with --cache-dir or $PERSREC_CACHE")
    if not os.access(place, os.W_OK | os.X_OK):
        raise SourceError(f"cache: {cache_dir} cannot be written, {place} is protected; name another with --cache-dir or $PERSREC_CACHE")


def prepared(cache_dir: Path, name: str, digest: str, make: Callable[[], InteractionLog]) -> InteractionLog:
    """The log kept for this digest, or ``make()``, which is then kept.

    Raises:
        SourceError: the folder cannot be read or written; the message names it.
    """
    folder = _folder(cache_dir, name, digest)
    _remove_abandoned(folder)
    if folder.is_dir():
        log = read_prepared(folder)
        if log.digest != digest:
            raise SourceError(f"{folder}: holds data of digest {log.digest}, not {digest}; delete it to have them prepared again")
        return log
    check_cache_dir(cache_dir, name, digest)
    log = make()
    _keep(log, folder)
    return log


def _folder(cache_dir: Path, name: str, digest: str) -> Path:
    return cache_dir / f"{name}-{digest[:32]}-v{_FORMAT}"


def read_prepared(folder: Path) -> InteractionLog:
    """A log that `prepared` kept; nothing is unpickled.

    Raises:
        SourceError: the folder holds something else, or is damaged.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        with (folder / _ARRAYS).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            columns = {name: arrays[name] for name in arrays.files}
        facts["item_texts"] = None if facts["item_texts"] is None else tuple(facts["item_texts"])
        return InteractionLog(**facts, **({"item_categories": None} | columns))
    except Exception as error:  # a damaged file fails in any way
        raise SourceError(f"{folder}: cannot be read as prepared data ({error}); delete it to have it prepared again") from error


def prepared_folders(cache_dir: Path, name: str) -> list[Path]:
    """All folders kept for a dataset, whatever its size and sources, by name."""
    return sorted(path for path in cache_dir.glob(f"{name}-*-v{_FORMAT}") if (path / _FACTS).is_file())


def _keep(log: InteractionLog, folder: Path) -> None:
    """Write the log aside, then rename: a reader sees all of it or nothing."""
    columns = {"users": log.users, "items": log.items, "times": log.times}
    if log.item_categories is not None:
        columns["item_categories"] = log.item_categories
    facts = {name: getattr(log, name) for name in ("name", "num_users", "num_items", "exclude_seen", "item_texts", "digest")}
    try:
        with atomic_folder(folder, replace=False) as part:  # when another process was first, its copy of the same data stays
            np.savez_compressed(part / _ARRAYS, allow_pickle=False, **columns)
            (part / _FACTS).write_text(json.dumps(facts | {"notes": dict(log.notes)}, ensure_ascii=False), encoding="utf-8")
    except WriteError as error:
        raise SourceError(f"{error}; name another place with --cache-dir or $PERSREC_CACHE") from error


def _remove_abandoned(folder: Path) -> None:
    """Removes what a process that was killed while it wrote has left aside; no writing takes so long."""
    for aside in folder.parent.glob(f".{folder.name}.*"):
        with contextlib.suppress(OSError):
            if is_leftover(aside) and time.time() - aside.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(aside)

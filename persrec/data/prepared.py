"""Prepared data on disk: one folder per digest, with plain columns that are memory-mapped.

A folder is written under another name and renamed when it is complete.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from persrec.data.errors import SourceError
from persrec.data.interactions import InteractionLog
from persrec.data.protocol import Protocol
from persrec.data.statistics import statistics
from persrec.files import WriteError, atomic_folder, is_leftover, unwritable

MANIFEST = "manifest.json"
COLUMNS = ("offsets", "items", "times")
USERS, ITEMS = "users.parquet", "items.parquet"  # the source's ids of users and items, and items' texts and categories, by our numbers
ABANDONED_S = 24 * 3600.0
_FORMAT = 3  # of the files below and of what is checked first; part of the folder's name, so another format is prepared anew


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
    """Checks that data can be kept in ``cache_dir``, or are there already; makes nothing.

    Raises:
        SourceError: it is no folder, or cannot be written; the message names it.
    """
    if prepared_folder(cache_dir, name, digest).is_dir():
        return
    if (place := unwritable(cache_dir)) is not None:
        problem = "protected" if place.is_dir() else "no folder"
        raise SourceError(f"cache: {cache_dir} cannot be written, {place} is {problem}; name another with --cache-dir or $PERSREC_CACHE")


def open_prepared(cache_dir: Path, name: str, digest: str, write: Callable[[Path], None]) -> InteractionLog:
    """The log that is kept for this digest; if there is none yet, ``write`` first writes it into the folder that it is called with.

    Raises:
        SourceError: the folder cannot be read or written; the message names it.
    """
    folder = prepared_folder(cache_dir, name, digest)
    _remove_abandoned(folder)
    if not folder.is_dir():
        check_cache_dir(cache_dir, name, digest)
        new_folders = [place for place in (cache_dir, *cache_dir.parents) if not place.exists()]
        try:
            with atomic_folder(folder, replace=False) as part:  # when another process was first, its copy of the same data stays
                write(part)
                _add_statistics(part)
        except BaseException as error:
            with contextlib.suppress(OSError):  # data that are refused leave no folder behind
                for place in new_folders:
                    place.rmdir()
            if isinstance(error, WriteError):
                raise SourceError(f"{error}; name another place with --cache-dir or $PERSREC_CACHE") from error
            raise
    log = read_prepared(folder)
    if log.digest != digest:
        raise SourceError(f"{folder}: holds data of digest {log.digest}, not {digest}; delete it to have them prepared again")
    return log


def is_kept(cache_dir: Path, name: str, digest: str) -> bool:
    """Whether data of this digest are there."""
    return prepared_folder(cache_dir, name, digest).is_dir()


def prepared_folder(cache_dir: Path, name: str, digest: str) -> Path:
    """Where data of this digest are, or will be."""
    return cache_dir / f"{name}-{digest[:32]}-v{_FORMAT}"


def prepared_folders(cache_dir: Path, name: str, *, dataset: str) -> list[Path]:
    """All folders kept for a dataset, whatever its sources, by name.

    Args:
        cache_dir: where prepared data lie.
        name: what their names begin with; without a size, those of all sizes.
        dataset: the dataset's name: folders of another one may begin alike.
    """
    folders = (path for path in cache_dir.glob(f"{name}-*-v{_FORMAT}") if (path / MANIFEST).is_file())
    name_pattern = re.compile(rf"{re.escape(name)}-[0-9a-f]{{32}}-v{_FORMAT}")
    return sorted(path for path in folders if name_pattern.fullmatch(path.name) or _holds(path, dataset))


def _holds(folder: Path, dataset: str) -> bool:
    """Whether a folder's manifest names a dataset; one that cannot be read names none."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("name") == dataset


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a manifest says beside the columns; attributes as of `InteractionLog`."""

    name: str
    num_items: int
    protocol: Protocol
    digest: str
    notes: Mapping[str, Any]


def write_log(log: InteractionLog, folder: Path) -> None:
    """Writes a log that is in memory into an empty folder."""
    columns: dict[str, Any] = {}
    if log.item_texts is not None:
        columns["text"] = pa.array(log.item_texts[1:], pa.string())
    if log.item_categories is not None:
        columns["category"] = pa.array(log.item_categories[1:], pa.int64())
    write_columns(
        folder,
        facts=Facts(name=log.name, num_items=log.num_items, protocol=log.protocol, digest=log.digest, notes=log.notes),
        offsets=log.offsets,
        rows=[(log.items, log.times)],
        users=[],
        items=[pa.RecordBatch.from_pydict(columns)] if columns else [],
    )


def write_columns(
    folder: Path,
    *,
    facts: Facts,
    offsets: NDArray[np.int64],
    rows: Iterable[tuple[NDArray[Any], NDArray[np.int64]]],
    users: Iterable[pa.RecordBatch],
    items: Iterable[pa.RecordBatch],
) -> None:
    """Writes prepared data into an empty folder, a block at a time.

    Args:
        folder: the folder.
        facts: for the manifest.
        offsets: ``[U + 1]``.
        rows: items and times, by user and time, in blocks.
        users: ``raw`` of each user, in blocks; none where a source has no names for them.
        items: ``raw``, ``text`` and ``category`` of each item but the padding, as far as a source has them, in blocks.
    """
    content: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        shapes: dict[str, tuple[type[np.generic], int]] = {
            "offsets": (np.int64, len(offsets)),
            "items": (np.int32, int(offsets[-1])),
            "times": (np.int64, int(offsets[-1])),
        }
        files = {name: stack.enter_context(_ColumnFile(folder / f"{name}.npy", *shape)) for name, shape in shapes.items()}
        files["offsets"].append(offsets)
        for block_items, times in rows:
            files["items"].append(block_items)
            files["times"].append(times)
        content |= {f"{name}.npy": file.digest() for name, file in files.items()}
    for name, batches in ((USERS, users), (ITEMS, items)):
        if _write_parquet(folder / name, batches):
            with (folder / name).open("rb") as file:
                content[name] = hashlib.file_digest(file, "sha256").hexdigest()
    manifest = {
        "name": facts.name,
        "num_items": facts.num_items,
        "protocol": facts.protocol.to_dict(),
        "digest": facts.digest,
        "content": content,
        "notes": dict(facts.notes),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1), encoding="utf-8")


def _add_statistics(folder: Path) -> None:
    """Adds a log's statistics to its manifest's notes: they are taken once, when it is prepared, and every record carries them."""
    figures = statistics(read_prepared(folder))
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["notes"]["statistics"] = figures
    (folder / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1), encoding="utf-8")


class _ColumnFile:
    """A file of numpy's own form that is written a block at a time, with its SHA-256."""

    def __init__(self, path: Path, dtype: type[np.generic], length: int) -> None:
        self._path, self._dtype, self._remaining = path, np.dtype(dtype), length
        self._sha256 = hashlib.sha256()

    def __enter__(self) -> "_ColumnFile":
        self._file = self._path.open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self._remaining,)}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, values: NDArray[Any]) -> None:
        """Writes the next numbers."""
        self._remaining -= len(values)
        block = np.ascontiguousarray(values, dtype=self._dtype).data.cast("B")
        self._sha256.update(block)
        self._file.write(block)

    def digest(self) -> str:
        """SHA-256 of the numbers, once all are there."""
        assert self._remaining == 0, f"{self._path}: {self._remaining} numbers are missing"  # noqa: S101 - an invariant
        return self._sha256.hexdigest()


def _write_parquet(path: Path, batches: Iterable[pa.RecordBatch]) -> bool:
    """Writes a table in blocks, if there are any; returns whether there are."""
    with contextlib.ExitStack() as stack:
        writer = None
        for batch in batches:
            writer = writer or stack.enter_context(pyarrow.parquet.ParquetWriter(path, batch.schema))
            writer.write_batch(batch)
    return writer is not None


def read_prepared(folder: Path) -> InteractionLog:
    """A log that `open_prepared` wrote: its columns are mapped, nothing is unpickled.

    Raises:
        SourceError: the folder holds something else, or is damaged.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in COLUMNS}
        columns["offsets"] = np.array(columns["offsets"])
        texts, categories = _item_texts_and_categories(folder, manifest["num_items"])
        return InteractionLog(
            name=manifest["name"],
            num_items=manifest["num_items"],
            protocol=Protocol.from_dict(manifest["protocol"]),
            item_texts=texts,
            item_categories=categories,
            digest=manifest["digest"],
            notes=manifest["notes"],
            **columns,
        )
    except Exception as error:  # a damaged file fails in any way
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):  # which says nothing of the data
            raise SourceError(f"{folder}: there is no memory to read it ({error})") from error
        raise SourceError(f"{folder}: cannot be read as prepared data ({error}); delete it to have it prepared again") from error


def _item_texts_and_categories(folder: Path, num_items: int) -> tuple[tuple[str, ...] | None, NDArray[np.int64] | None]:
    """Texts and categories, with those of the padding."""
    if not (folder / ITEMS).is_file():
        return None, None
    table = pyarrow.parquet.read_table(folder / ITEMS)
    if len(table) != num_items - 1:
        raise ValueError(f"{ITEMS}: {len(table)} items; expected {num_items - 1}")
    texts = ("", *table["text"].to_pylist()) if "text" in table.column_names else None
    categories = np.concatenate([[0], table["category"].to_numpy()]) if "category" in table.column_names else None
    return texts, categories


def raw_ids(folder: Path, of: str) -> list[Any]:
    """The source's id of each user, or of each item from item 1 on, by our numbers.

    Args:
        folder: of prepared data.
        of: `USERS` or `ITEMS`.

    Raises:
        SourceError: the folder holds no ids of its source; a generated dataset has none.
    """
    path = folder / of
    if not path.is_file() or "raw" not in pyarrow.parquet.read_schema(path).names:
        raise SourceError(f"{folder}: holds no ids of its source")
    ids: list[Any] = pyarrow.parquet.read_table(path, columns=["raw"])["raw"].to_pylist()
    return ids


def _remove_abandoned(folder: Path) -> None:
    """Removes what killed processes left while they wrote this folder, once it is older than any writing takes."""
    for path in folder.parent.glob(f".{folder.name}.*"):
        with contextlib.suppress(OSError):
            if is_leftover(path) and time.time() - path.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(path)

"""What a run leaves on disk: one record per cell, raw samples, the flat table, and the lock that keeps a second run out.

Every file is written beside its place, synced and renamed, so that a run that is ended at any moment leaves whole files.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.cell import DEFAULTS, Cell

SCHEMA_VERSION = 1
STATUSES = ("ok", "oom", "timeout", "crash", "unsupported", "invalid")
FINDINGS = ("ok", "oom", "unsupported")  # what a finished sweep may hold; the other statuses are measurements that are not there
REQUIRED = ("schema_version", "cell_key", "status", "cell", "metrics", "error", "environment", "provenance")

Record = dict[str, Any]


class StoreError(ValueError):
    """A file of the store cannot be read or written; the message is one line that names it."""


class LockedError(StoreError):
    """Another run that is alive writes to this folder."""


def record_path(out: Path, cell_key: str) -> Path:
    """Where the record of a cell lies."""
    return out / "cells" / f"{cell_key}.json"


def raw_path(out: Path, cell_key: str) -> Path:
    """Where the raw samples of a cell lie; git ignores them."""
    return out / "raw" / f"{cell_key}.npz"


def log_path(out: Path, name: str) -> Path:
    """Where the output of a cell's (its key) or a model's (``model-`` and its key) process lies."""
    return out / "logs" / f"{name}.log"


def model_dir(out: Path, model_key: str) -> Path:
    """Where a trained model of this run lies; ``model.json`` in it says that it is whole, before that it holds the training's state."""
    return out / "models" / model_key


def report_path(out: Path) -> Path:
    """Where the report of a run goes: ``reports/NAME.html`` for a run under ``results/``, else beside the records."""
    if out.resolve().is_relative_to(Path("results").resolve()):
        return Path("reports") / f"{out.resolve().name}.html"
    return out / "report.html"


def proof_path(out: Path) -> Path:
    """Where the record of ``benchmarks.noise`` lies: beside the run's own folder, as one holds for all runs of a machine."""
    return out.resolve().parent / "noise" / "aa.json"


def kernels_paths(out: Path) -> dict[str, Path]:
    """Where the records of ``benchmarks.kernels`` lie, by device: beside the run's own folder, as `proof_path`."""
    return {device: out.resolve().parent / "kernels" / f"{device}.json" for device in ("cpu", "cuda")}


def write_record(out: Path, record: Mapping[str, Any]) -> Path:
    """Writes one record in its place.

    Raises:
        StoreError: the disk is full or may not be written.
        ValueError: the record holds a NaN or an infinity, which JSON has no word for.
    """
    path = record_path(out, record["cell_key"])
    text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False)
    write_atomically(path, text.encode() + b"\n")
    return path


def remove_records(out: Path, cell_keys: Iterable[str]) -> None:
    """Removes records that others have taken the place of, and their raw samples."""
    for key in cell_keys:
        record_path(out, key).unlink(missing_ok=True)
        raw_path(out, key).unlink(missing_ok=True)


def write_raw(out: Path, cell_key: str, arrays: Mapping[str, Any]) -> Path:
    """Writes the raw samples of one cell; nothing in them is pickled."""
    whole = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in whole.items():
        if array.dtype.hasobject:
            raise ValueError(f"raw samples {name!r} hold Python objects; expected numbers or text")
    path = raw_path(out, cell_key)
    with _atomic(path) as file:
        np.savez_compressed(file, allow_pickle=False, **whole)
    return path


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that its place holds the old content or the new, never a part.

    Raises:
        StoreError: the disk is full or may not be written; the old content is still there.
    """
    with _atomic(path) as file:
        file.write(content)


def load_record(path: Path) -> Record:
    """One record, checked for form.

    Raises:
        StoreError: the file is no JSON, lacks a field, or was written by a newer version.
    """
    record = _read(path, again="run")
    _check_record(path, record)
    return dict(record)


def load_beside(path: Path, *, program: str, version: int, show: Callable[[Mapping[str, Any]], object]) -> Mapping[str, Any] | None:
    """A record that lies beside the runs' own, checked by showing it; ``None`` where there is none.

    Args:
        path: its file.
        program: what writes such records.
        version: the schema version that is known here.
        show: fails on what is no such record.

    Raises:
        StoreError: the file is no JSON, of another version, or no such record.
    """
    try:
        content = _read(path, again=f"run {program}")
    except StoreError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    found = content.get("schema_version") if isinstance(content, dict) else None
    if found != version:
        raise StoreError(f"{path}: schema version {found}; this program knows version {version} of the records of {program}")
    try:
        show(content)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: is no record of {program}: {type(error).__name__}: {error}") from error
    return dict(content)


def _read(path: Path, *, again: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise StoreError(f"{path}: not a whole JSON file ({error}); remove it and {again} again") from error


def load_records(out: Path) -> list[Record]:
    """All records of a run, in the order of their cells' settings.

    Raises:
        StoreError: the folder is not there, or a record does not hold up; the message names the file.
    """
    if not out.is_dir():
        raise StoreError(f"{out}: no such folder of results")
    return sorted((load_record(path) for path in record_files(out)), key=_sort_key)


def record_files(out: Path) -> list[Path]:
    """The files of all records, by name."""
    return sorted(path for path in (out / "cells").glob("*.json") if not path.name.startswith("."))


def records_digest(out: Path) -> str:
    """SHA-256 over the bytes of all records, and of the gates' and kernels' own: a report that embeds it shows these very records."""
    hasher = hashlib.sha256()
    beside = (path for path in (proof_path(out), *kernels_paths(out).values()) if path.is_file())
    for path in [*record_files(out), *beside]:
        hasher.update(f"{path.name}\0".encode())
        hasher.update(hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()


def write_csv(out: Path, records: Sequence[Record]) -> Path:
    """Rebuilds ``results.csv``: a row per record, a column per setting and per metric, with its interval where it has one."""
    settings = [field.name for field in dataclasses.fields(Cell)]
    metrics = sorted({name for record in records for name in record["metrics"]})
    bounded = {name for record in records for name, metric in record["metrics"].items() if metric.get("low") is not None}
    columns = ["cell_key", "status", *settings]
    for name in metrics:
        columns += [name, f"{name}_low", f"{name}_high"] if name in bounded else [name]
    import pandas as pd  # noqa: PLC0415 - takes a moment, and a run that has nothing to do needs none

    rows = [_csv_row(record, settings, bounded) for record in sorted(records, key=_sort_key)]
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    path = out / "results.csv"
    write_atomically(path, table.to_csv(index=False, lineterminator="\n").encode())
    return path


@contextlib.contextmanager
def locked(out: Path) -> Iterator[int | None]:
    """Holds the folder's lock; yields the process id of a dead run whose lock is taken over, else ``None``.

    Raises:
        LockedError: another run holds the lock.
        StoreError: the folder may not be written.
    """
    path = out / ".lock"
    with _one_line(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = _acquire(path)
    try:
        previous = os.pread(lock, 32, 0).decode(errors="replace").strip()
        with _one_line(path):
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield int(previous) if previous.isdigit() else None
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(lock)


def remove_leftovers(out: Path) -> None:
    """Removes the unfinished files of a run that was killed while it wrote; only the holder of the lock may."""
    models = out / "models"
    for folder in (out, out / "cells", out / "raw", *models.glob("*")):
        for path in folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)
    for unfinished in models.glob(".*"):  # of a model that was being written
        shutil.rmtree(unfinished, ignore_errors=True)


def _acquire(path: Path) -> int:
    """The descriptor of the locked file; the kernel lets go of it when its process ends, however it ends."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise LockedError(f"{path.parent}: process {holder} is writing to it; wait for it or choose another --out") from error
        # the run before may have removed the file between our opening and locking it
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        os.close(lock)


def _check_record(path: Path, record: object) -> None:
    if not isinstance(record, dict):
        raise StoreError(f"{path}: holds {type(record).__name__}, expected a record")
    version = record.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(f"{path}: written in schema version {version}; this program knows versions up to {SCHEMA_VERSION}, update it")
    missing = [name for name in REQUIRED if name not in record]
    if missing:
        raise StoreError(f"{path}: no field {missing[0]!r}, expected a record of a cell")
    checks: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
        ("schema_version", lambda value: value == SCHEMA_VERSION, str(SCHEMA_VERSION)),
        ("cell_key", lambda value: value == path.stem, f"{path.stem}, as the file's name"),
        ("status", lambda value: value in STATUSES, f"one of {', '.join(STATUSES)}"),
        ("cell", lambda value: isinstance(value, dict), "a table of settings"),
        ("metrics", _is_metrics, "a table of metrics, each a table with a value"),
        ("environment", lambda value: isinstance(value, dict), "a table"),
        ("provenance", lambda value: isinstance(value, dict), "a table"),
    )
    for name, holds, expected in checks:
        if not holds(record[name]):
            raise StoreError(f"{path}: {name} is {str(record[name])[:80]!r}; expected {expected}")


def _is_metrics(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(metric, dict) and "value" in metric for metric in value.values())


def _sort_key(record: Record) -> tuple[str, ...]:
    cell = record["cell"]
    return (*(_sortable(cell.get(field.name)) for field in dataclasses.fields(Cell)), record["cell_key"])


def _sortable(value: object) -> str:
    """Text that sorts as the value does, numbers by size."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return f"{value:030.10f}"
    return str(value)


def _csv_row(record: Record, settings: Sequence[str], bounded: set[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"cell_key": record["cell_key"], "status": record["status"]}
    for name in settings:
        value = record["cell"].get(name, DEFAULTS.get(name))
        row[name] = "+".join(map(str, value)) if isinstance(value, list | tuple) else value
    for name, metric in record["metrics"].items():
        row[name] = metric["value"]
        if name in bounded:
            row[f"{name}_low"], row[f"{name}_high"] = metric.get("low"), metric.get("high")
    return row


@contextlib.contextmanager
def _atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that takes ``path``'s place when the block ends well."""
    with _one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """What the operating system says about a file, as one line that names it."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error

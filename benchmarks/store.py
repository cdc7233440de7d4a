"""What a run leaves on disk: records and costs, raw samples, and the flat table.

Every file is written by `persrec.files`, so a run that is ended at any moment leaves whole files. Records are read by
`benchmarks.records`. Nothing is deleted or replaced here but what a run wrote, told by its name (`check_out`).
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lock import LOCK, is_lock
from benchmarks.records import Cost, Record, RunRecords, record_files, to_json
from persrec.files import MOST_BYTES_OF_A_NAME, atomic, is_leftover, name_while_written, unwritable, write_atomically

_KEY = "[0-9a-f]{64}"
_TABLE = "results.csv"
JOBS = "slurm"  # the folder of what the jobs of a cluster and the run write for each other
_TABLE_START = b"cell_key,"
_RECORDS = {"cells": re.compile(rf"{_KEY}\.json"), "costs": re.compile(rf"{_KEY}\.json")}
_FOLDERS = {
    **_RECORDS,
    "raw": re.compile(rf"{_KEY}\.npz"),
    "logs": re.compile(rf"([a-z]+-)?{_KEY}(-[0-9]+)?\.log"),
    "models": re.compile(_KEY),
    JOBS: re.compile(
        rf"queue|{_KEY}\.answers|[0-9a-f]{{32}}\.pkl|\.submission_file_[0-9a-f]{{32}}\.sh"
        r"|[0-9]+(_[0-9]+)*_(submission\.sh|submitted\.pkl|result\.pkl|log\.(out|err))(\.save_tmp)?"
    ),
}


def record_path(out: Path, cell_key: str) -> Path:
    """Where the record of a cell lies."""
    return out / "cells" / f"{cell_key}.json"


def cost_path(out: Path, cost_key: str) -> Path:
    """Where the cost of a shape lies."""
    return out / "costs" / f"{cost_key}.json"


def raw_path(out: Path, cell_key: str) -> Path:
    """Where the raw samples of a cell lie; git ignores them."""
    return out / "raw" / f"{cell_key}.npz"


def log_path(out: Path, name: str) -> Path:
    """Where the output of a process lies; its ``name`` is a cell's key, or a model's or cost's behind ``model-`` or ``cost-``."""
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


def check_out(out: Path) -> None:
    """Refuses a folder that a run must not write to, before anything is created or deleted.

    A run takes a folder that is not there, an empty one, and one that a run wrote: it holds a record, a cost or a run's lock, or
    nothing but what a run writes. What else lies in a run's folder is the user's and stays.

    Raises:
        ValueError: ``out`` is no folder, cannot be read, is not a run's, or holds a ``results.csv`` or ``.lock`` that no run wrote.
    """
    try:
        if not out.exists():
            _check_absent(out)
            return
        entries = sorted(out.iterdir())
        own = [path for path in (out / LOCK, out / _TABLE) if path.is_file() and not _is_ours(path)]
        strange = next((path for path in entries if not _is_ours(path)), None)
        of_a_run = _is_run(out)
    except OSError as error:
        raise ValueError(f"--out: {out}: {error.strerror or error}") from error
    if own:
        raise ValueError(f"--out: {own[0]} was not written by a run, which would replace it; choose another folder")
    if strange is not None and not of_a_run:
        raise ValueError(f"--out: {out} is not a run's folder: it holds {_strange_name(strange)}; choose a new or empty one")


def check_file(option: str, path: Path) -> None:
    """Refuses a place for a file that is asked for, before anything is read or measured for it.

    Raises:
        ValueError: it is a folder, cannot be written, or lies where a run keeps what it wrote.
    """
    place = Path(os.path.realpath(path.parent)) / path.name  # a link at this place is itself replaced
    if len(os.fsencode(name_while_written(path))) > MOST_BYTES_OF_A_NAME:
        raise ValueError(f"{option}: {path}: {os.strerror(errno.ENAMETOOLONG)}")
    try:
        if path.is_dir():
            raise ValueError(f"{option}: {path} is a folder; expected the path of a file")
        if (blocked := unwritable(place.parent)) is not None:
            raise ValueError(f"{option}: {path}: {blocked} is no folder that can be written to")
        for run in place.parents:
            first = place.relative_to(run).parts[0]
            if (first in _FOLDERS or place in (run / _TABLE, run / LOCK)) and _is_run(run):
                raise ValueError(f"{option}: {path} lies where the run {run.name} keeps its own files; choose another place")
    except OSError as error:
        raise ValueError(f"{option}: {path}: {error.strerror or error}") from error


def write_record(out: Path, record: Record) -> Path:
    """Writes one record in its place.

    Raises:
        WriteError: the disk is full or may not be written.
        ValueError: the record holds a NaN or an infinity, which JSON has no word for.
    """
    path = record_path(out, record.cell_key)
    write_atomically(path, to_json(record))
    return path


def write_cost(out: Path, cost: Cost) -> Path:
    """Writes one shape's cost in its place; fails as `write_record`."""
    path = cost_path(out, cost.cost_key)
    write_atomically(path, to_json(cost))
    return path


def remove_costs(out: Path, keys: Iterable[str]) -> None:
    """Removes costs that others have taken the place of, and their raw samples; a key that is no file's name in the folder names none."""
    for key in (key for key in keys if _RECORDS["costs"].fullmatch(f"{key}.json")):
        cost_path(out, key).unlink(missing_ok=True)
        raw_path(out, key).unlink(missing_ok=True)


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
    with atomic(path) as file:
        np.savez_compressed(file, **whole)  # type: ignore[arg-type] # the stub holds any of them for allow_pickle, which numpy 2.1 does not know
    return path


def copy_raw(out: Path, cell_key: str, to: str) -> None:
    """Copies the raw samples of a quality that is carried over to another record, unless that one has its own."""
    source, place = raw_path(out, cell_key), raw_path(out, to)
    if source.is_file() and not place.is_file():
        write_atomically(place, source.read_bytes())


def write_csv(out: Path, records: RunRecords) -> Path:
    """Rebuilds ``results.csv``: a row per record, a column per setting and per metric, with its interval where it has one.

    A table that says the same already is left as it is.
    """
    path, table = out / _TABLE, records.frame().to_csv(index=False, lineterminator="\n").encode()
    if not path.is_file() or path.read_bytes() != table:
        write_atomically(path, table)
    return path


def records_digest(out: Path) -> str:
    """SHA-256 over the bytes of all records and costs, and of the gates' and kernels' own: a report that embeds it shows these."""
    hasher = hashlib.sha256()
    beside = (path for path in (proof_path(out), *kernels_paths(out).values()) if path.is_file())
    for path in [*record_files(out), *_cost_files(out), *beside]:
        hasher.update(f"{path.name}\0".encode())
        hasher.update(hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()


def job_files(out: Path) -> list[Path]:
    """What a run and the jobs of a cluster wrote for each other; not what else lies there."""
    return [path for path in _children(out / JOBS) if _FOLDERS[JOBS].fullmatch(path.name)]


def remove_jobs(out: Path) -> None:
    """Removes `job_files`, and their folder where nothing else lies there; only while no job runs."""
    for path in job_files(out):
        _remove(path)
    with contextlib.suppress(OSError):  # there is none, or something of the user's is in it
        (out / JOBS).rmdir()


def remove_leftovers(out: Path) -> None:
    """Removes the unfinished files and folders of a run that was killed while it wrote; only the holder of the lock may."""
    models = [path for path in _children(out / "models") if _FOLDERS["models"].fullmatch(path.name)]
    for folder in (out, *(out / name for name in _FOLDERS), *models):
        for path in filter(is_leftover, _children(folder)):
            _remove(path)


def _remove(path: Path) -> None:
    """Removes a file, or a folder with all that lies in it; of a link the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _check_absent(out: Path) -> None:
    """Fails where no folder can be made: at a symbolic link that leads nowhere, and below a file."""
    if out.is_symlink():
        raise ValueError(f"--out: {out} is a symbolic link that leads nowhere; expected a folder")
    above = next(path for path in out.absolute().parents if path.exists())
    if not above.is_dir():
        raise ValueError(f"--out: {out}: cannot be written: {above.name} is a file; expected a folder")


def _is_ours(path: Path) -> bool:
    """Whether a run wrote an entry of its folder; of a folder, whether it wrote all that lies in it."""
    if is_leftover(path):
        return True
    if path.name == LOCK:
        return is_lock(path)
    if path.name == _TABLE:
        with path.open("rb") as file:
            return file.read(len(_TABLE_START)) == _TABLE_START
    return path.name in _FOLDERS and path.is_dir() and _first_strange(path) is None


def _first_strange(folder: Path) -> Path | None:
    return next((path for path in _children(folder) if not (_FOLDERS[folder.name].fullmatch(path.name) or is_leftover(path))), None)


def _strange_name(path: Path) -> str:
    """The entry that no run wrote, as seen from the run's folder."""
    inner = _first_strange(path) if path.name in _FOLDERS and path.is_dir() else None
    return path.name if inner is None else f"{path.name}/{inner.name}"


def _is_run(out: Path) -> bool:
    """Whether a folder holds a record, a cost or a run's lock."""
    return is_lock(out / LOCK) or any(_is_record(path) for name in _RECORDS for path in _children(out / name))


def _is_record(path: Path) -> bool:
    return _RECORDS[path.parent.name].fullmatch(path.name) is not None and path.is_file()


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _cost_files(out: Path) -> list[Path]:
    return [path for path in _children(out / "costs") if path.suffix == ".json" and not path.name.startswith(".")]

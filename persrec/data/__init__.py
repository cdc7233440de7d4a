"""Data: interaction logs, their splits, and the sources they come from. Imports no torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from persrec import names
from persrec.data.base import Bounds, Dataset
from persrec.data.errors import NoMatchError, SourceError
from persrec.data.interactions import InteractionLog
from persrec.data.named_protocols import log_under
from persrec.data.prepared import check_cache_dir, default_cache_dir, is_kept, open_prepared

__all__ = [
    "InteractionLog", "NoMatchError", "SourceError", "check_sources", "dataset", "dataset_digest", "dataset_name", "load_dataset",
    "size_of",
]  # fmt: skip


def dataset(name: str) -> Dataset:
    """The dataset of that name, or the table of one's own that a TOML describes.

    Raises:
        SourceError: the TOML cannot be read, or describes no table.
        ValueError: the name is unknown; the message lists the known.
    """
    if name.endswith(".toml"):  # loaded by name, as parts are: code that reads tables then stays out of the code digests of other data
        table: Dataset = names.load(names.OWN_TABLES, name)(Path(name))
        return table
    source: Dataset = names.find(names.datasets(), name).load()()
    return source


def dataset_name(name: str) -> str:
    """The name in records of the dataset that ``--dataset`` names; of a TOML, the name that the TOML gives.

    Raises:
        SourceError: the TOML cannot be read, or describes no table.
    """
    return dataset(name).name if name.endswith(".toml") else name


def dataset_digest(name: str, *, size: str | None = None, data_dir: str | Path | None = None) -> str:
    """What a dataset's cells are keyed by: SHA-256 of its sources or settings. Prepares nothing.

    Args:
        name: of `persrec.names.datasets`.
        size: a named size, where the dataset has sizes; None is its default.
        data_dir: the folder that holds publishers' folders; None is ``$PERSREC_DATA``.

    Raises:
        SourceError: a folder or a file is missing or cannot be read; one line that names it.
        ValueError: unknown dataset or size.
    """
    with _source_errors(name):
        return dataset(name).digest(size, _data_dir(data_dir))


def check_sources(name: str, size: str | None, data_dir: str | Path | None, cache_dir: str | Path | None) -> None:
    """Checks that `load_dataset` can find its files and keep what it prepares; a command calls it before it starts anything.

    Arguments as `load_dataset`. Makes nothing.

    Raises:
        SourceError: a folder or a file is missing or cannot be read, or the cache is no folder that can be written; one line
            that names it.
        ValueError: unknown dataset or size.
    """
    with _source_errors(name):
        source = dataset(name)
        check_cache_dir(_cache_dir(cache_dir), source.folder(size), source.digest(size, _data_dir(data_dir)))


def load_dataset(
    name: str,
    *,
    size: str | None = None,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    digest: str | None = None,
    bounds: Bounds | None = None,
    protocol: str = names.OWN_PROTOCOL,
) -> InteractionLog:
    """The interaction log of a dataset, prepared into ``cache_dir`` on first use; its columns are mapped from there.

    Args:
        name: of `persrec.names.datasets`, or the path of a TOML.
        size: a named size, where the dataset has sizes; None is its default.
        data_dir: the folder that holds publishers' folders, only read; None is ``$PERSREC_DATA``.
        cache_dir: where prepared data are kept; None is ``$PERSREC_CACHE``, then ``~/.cache/persrec``.
        digest: the result of `dataset_digest`, where it is known: if data of this digest are kept, the sources are not read again.
        bounds: the memory and threads of the preparation.
        protocol: of `persrec.names.PROTOCOLS`: all events, or those that a published protocol keeps.

    Raises:
        SourceError: a folder or a file is missing or cannot be read, or the cache cannot be written; one line that names it.
        ValueError: unknown dataset or size, or a protocol that the data do not carry.
    """
    with _source_errors(name):
        source, data_path, cache_path = dataset(name), _data_dir(data_dir), _cache_dir(cache_dir)
        key = digest if digest is not None and is_kept(cache_path, source.folder(size), digest) else source.digest(size, data_path)

        def write(folder: Path) -> None:
            source.prepare(size, data_path, folder, bounds or Bounds())

        return log_under(open_prepared(cache_path, source.folder(size), key, write), protocol)


def size_of(name: str, size: str | None, *, data_dir: str | Path | None = None, cache_dir: str | Path | None = None) -> tuple[int, bool]:
    """How many interactions a dataset has, and whether seen items stay in its ranking; arguments and errors as of `load_dataset`."""
    log = load_dataset(name, size=size, data_dir=data_dir, cache_dir=cache_dir)
    return len(log.items), not log.exclude_seen


@contextmanager
def _source_errors(name: str) -> Iterator[None]:
    """Turns an OSError while a dataset is read or written into a `SourceError`: one line that names the file."""
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"dataset {name!r}: {error.filename}: {error.strerror}" if error.filename else f"dataset {name!r}: {error}"
        ) from error


def _cache_dir(path: str | Path | None) -> Path:
    return default_cache_dir() if path is None else Path(path)


def _data_dir(path: str | Path | None) -> Path | None:
    if path is None:
        path = os.environ.get("PERSREC_DATA") or None
    return None if path is None else Path(path)

"""Data: interaction logs, their splits, and the sources they come from. Imports no torch."""

import os
from pathlib import Path

from persrec import names
from persrec.data.base import Dataset
from persrec.data.interactions import InteractionLog
from persrec.data.prepared import default_cache_dir


def dataset(name: str) -> Dataset:
    """The dataset of that name.

    Raises:
        ValueError: it is unknown; the message lists the known.
    """
    source: Dataset = names.find(names.datasets(), name).load()()
    return source


def dataset_digest(name: str, *, size: str | None = None, data_dir: str | Path | None = None) -> str:
    """What a dataset's cells are keyed by: SHA-256 of its sources or settings. Prepares nothing.

    Args:
        name: of `persrec.names.datasets`.
        size: a named size, where the dataset has sizes; None is its default.
        data_dir: the folder that holds publishers' folders; None is ``$PERSREC_DATA``.

    Raises:
        ValueError: unknown dataset or size, or a missing folder or file; one line that names it.
    """
    return dataset(name).digest(size, _data_dir(data_dir))


def load_dataset(
    name: str, *, size: str | None = None, data_dir: str | Path | None = None, cache_dir: str | Path | None = None
) -> InteractionLog:
    """The interaction log of a dataset, prepared into ``cache_dir`` on first use.

    Args:
        name: of `persrec.names.datasets`.
        size: a named size, where the dataset has sizes; None is its default.
        data_dir: the folder that holds publishers' folders, only read; None is ``$PERSREC_DATA``.
        cache_dir: where prepared data are kept; None is ``$PERSREC_CACHE``, then ``~/.cache/persrec``.

    Raises:
        ValueError: unknown dataset or size, a missing or unreadable file or folder; one line that names it.
    """
    return dataset(name).load(size, _data_dir(data_dir), default_cache_dir() if cache_dir is None else Path(cache_dir))


def _data_dir(given: str | Path | None) -> Path | None:
    if given is None:
        given = os.environ.get("PERSREC_DATA") or None
    return None if given is None else Path(given)

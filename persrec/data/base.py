"""What a dataset offers to the rest of the project."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from persrec.data.errors import SourceError
from persrec.data.interactions import InteractionLog


class Dataset(Protocol):
    """One source: ``synthetic``, or a publisher's files under the data folder."""

    @property
    def name(self) -> str:
        """The name that ``--dataset`` takes."""

    @property
    def sizes(self) -> tuple[str, ...]:
        """Named sizes, () when there are none."""

    @property
    def needs_files(self) -> bool:
        """Whether the data folder must hold a publisher's files."""

    def folder(self, size: str | None) -> str:
        """What the names of its prepared folders begin with."""

    def digest(self, size: str | None, data_dir: Path | None) -> str:
        """What the data are keyed by: cheap, nothing is prepared."""

    def load(self, size: str | None, data_dir: Path | None, cache_dir: Path) -> InteractionLog:
        """The log, prepared into ``cache_dir`` on first use."""


def publisher_folder(data_dir: Path | None, name: str, files: tuple[str, ...]) -> Path:
    """The folder with a publisher's files: ``data_dir/name``, or ``data_dir`` itself if it holds one of ``files``.

    Raises:
        SourceError: no folder is given, or none is there.
    """
    if data_dir is None:
        raise SourceError(f"dataset {name!r}: no data folder; name the folder that holds {name}/ with --data-dir or $PERSREC_DATA")
    if not data_dir.is_dir():
        raise SourceError(f"dataset {name!r}: {data_dir} is not a folder (--data-dir, $PERSREC_DATA); expected one that holds {name}/")
    if (data_dir / name).is_dir():
        return data_dir / name
    if any((data_dir / file).is_file() for file in files):
        return data_dir
    raise SourceError(f"dataset {name!r}: no folder {data_dir / name}; --data-dir or $PERSREC_DATA names the folder that holds {name}/")


def sources_digest(files: Mapping[str, Path], settings: Mapping[str, Any]) -> str:
    """SHA-256 over the contents of source files, by name, and the settings they are prepared with."""
    whole = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode())
    for name in sorted(files):
        with files[name].open("rb") as file:
            whole.update(f"{name}:{hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return whole.hexdigest()

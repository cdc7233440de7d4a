"""What a dataset offers to the rest of the project."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from persrec.data.errors import SourceError

MEMORY = "2GB"  # of the engine's buffers; the process takes up to twice that
MOST_THREADS = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """The memory and threads that a preparation may use; neither changes its result.

    Attributes:
        memory: of the engine's buffers, such as ``"2GB"``.
        threads: of the engine; None is one per processor.
    """

    memory: str = MEMORY
    threads: int | None = None

    def __post_init__(self) -> None:
        if re.fullmatch(r"[1-9]\d*(\.\d+)?\s*(MB|MiB|GB|GiB)", self.memory) is None:
            raise ValueError(f"memory: {self.memory!r}; expected a size such as '2GB'")
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise ValueError(f"threads: {self.threads}; expected 1 to {MOST_THREADS:,}")


class Dataset(Protocol):
    """One source: ``synthetic``, a publisher's files under the data folder, or a table of one's own."""

    @property
    def name(self) -> str:
        """The name that ``--dataset`` takes."""

    @property
    def sizes(self) -> tuple[str, ...]:
        """Named sizes, () when there are none."""

    @property
    def needs(self) -> str:
        """What must be in the data folder, in a few words; "" for nothing."""

    @property
    def licence(self) -> str:
        """On what terms the data may be used, in a few words; "" where no publisher has any."""

    def folder(self, size: str | None) -> str:
        """What the names of its prepared folders begin with."""

    def digest(self, size: str | None, data_dir: Path | None) -> str:
        """The key of the data; nothing is prepared for it."""

    def prepare(self, size: str | None, data_dir: Path | None, folder: Path, bounds: Bounds) -> None:
        """Writes the prepared data into an empty folder."""


def publisher_folder(data_dir: Path | None, folders: tuple[str, ...], files: tuple[str, ...]) -> Path:
    """The folder with a publisher's files.

    That is the first of ``folders`` that is in ``data_dir``, or ``data_dir`` itself if it holds one of ``files``.

    Raises:
        SourceError: no folder is given, or none is there.
    """
    name = folders[0]
    if data_dir is None:
        raise SourceError(f"dataset {name!r}: no data folder; name the folder that holds {name}/ with --data-dir or $PERSREC_DATA")
    if not data_dir.is_dir():
        raise SourceError(f"dataset {name!r}: {data_dir} is not a folder (--data-dir, $PERSREC_DATA); expected one that holds {name}/")
    publisher = next((data_dir / folder for folder in folders if (data_dir / folder).is_dir()), None)
    if publisher is not None:
        return publisher
    if any((data_dir / file).exists() for file in files):
        return data_dir
    raise SourceError(f"dataset {name!r}: no folder {data_dir / name}; --data-dir or $PERSREC_DATA names the folder that holds {name}/")

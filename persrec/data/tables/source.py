"""A dataset that is read from a publisher's files: every file in ``sources/`` builds on it."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from persrec.data.base import Bounds, publisher_folder
from persrec.data.errors import SourceError
from persrec.data.tables.download import Download
from persrec.data.tables.scan import Scan, opened
from persrec.data.tables.table import EventTable


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedDataset:
    """A publisher's data set.

    Attributes:
        name: the name that ``--dataset`` takes.
        read: the table of the files in a folder; raises a SourceError where one is missing.
        files: names of files or subfolders; a folder that holds one of them is taken for the publisher's.
        needs: those files in words.
        licence: on what terms the data may be used.
        folders: names of the publisher's folder below the data folder, the first is the usual one; empty is ``name``.
        download: the publisher's archive, where there is one with a digest beside it.
        sizes: named sizes; for one, ``read`` is called with the folder ``NAME_SIZE``, or the one of ``folders`` that has this name.
    """

    name: str
    read: Callable[[Path], EventTable]
    files: tuple[str, ...]
    needs: str
    licence: str
    folders: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    download: Download | None = None

    def folder(self, size: str | None) -> str:
        """As `Dataset` says."""
        self._check_size(size)
        return self.name if size is None else f"{self.name}-{size}"

    def digest(self, size: str | None, data_dir: Path | None) -> str:
        """SHA-256 of the files and of what is made of them."""
        return self.table(size, data_dir).digest()

    def prepare(self, size: str | None, data_dir: Path | None, folder: Path, bounds: Bounds) -> None:
        """As `Dataset` says."""
        from persrec.data.tables.preparation import write_table  # noqa: PLC0415 - the engine is heavy, and what is prepared already needs none

        write_table(self.table(size, data_dir), folder, bounds)

    def table(self, size: str | None, data_dir: Path | None) -> EventTable:
        """What the files hold.

        Raises:
            SourceError: a folder or a file is missing.
        """
        self._check_size(size)
        folders, files = self.folders or (self.name,), self.files
        if size is not None:
            usual_name = f"{self.name}_{size}"
            publisher_folders = (folder for folder in folders if folder.lower().replace("-", "_") == usual_name)
            folders = (usual_name, f"{self.name}-{size}", *publisher_folders)
            if data_dir is not None and {data_dir.absolute().name, data_dir.resolve().name}.isdisjoint(folders):
                files = ()  # it may hold those of another size
        return self.read(publisher_folder(data_dir, folders, files))

    def _check_size(self, size: str | None) -> None:
        if size is not None and size not in self.sizes:
            hint = f"known: {', '.join(self.sizes)}" if self.sizes else "which has no sizes"
            raise ValueError(f"size: {size!r} of dataset {self.name!r}, {hint}")


def first_file(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of ``names`` that is a file in ``folder``.

    Raises:
        SourceError: none is.
    """
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise SourceError(f"{folder}: no file {' or '.join(names)}")
    return path


def optional_file(folder: Path, names: tuple[str, ...]) -> Path | None:
    """As `first_file`, or None."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def with_columns(scan: Scan, columns: tuple[str, ...], dataset: str) -> Scan:
    """``scan``, once it is checked that it has ``columns``, which the SQL of ``dataset`` names.

    Raises:
        SourceError: one is missing.
    """
    scan.check(dict.fromkeys(columns, dataset))
    return scan


def first_lines(path: Path, count: int) -> list[bytes]:
    """The first lines of a file, at most ``count``, unpacked where its name ends in ``.gz``.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with opened(path) as file:
            return list(islice(file, count))
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from error


def file_with_columns(folder: Path, pattern: str, columns: tuple[str, ...], *, optional: bool = False) -> Path | None:
    """The one CSV in ``folder`` whose header has all ``columns``.

    Raises:
        SourceError: several have, or none, unless that is allowed.
    """
    paths = [path for path in sorted(folder.glob(pattern)) if set(columns) <= set(Scan(files=(path,), format="csv").names)]
    if len(paths) > 1 or (not paths and not optional):
        names = ", ".join(path.name for path in paths) or "none"
        raise SourceError(f"{folder}: {names} with the columns {', '.join(columns)}; expected one such file")
    return paths[0] if paths else None

"""A table of one's own: a TOML names its file and columns, which rows count and how it is evaluated."""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from persrec import names
from persrec.data.base import Bounds
from persrec.data.errors import SourceError
from persrec.data.protocol import Protocol
from persrec.data.tables.scan import Format, Scan, files_of, format_of
from persrec.data.tables.source import PublishedDataset
from persrec.data.tables.sql import joined
from persrec.data.tables.table import EVENTS, EventTable, Filters, ItemTable, Time

OF_FILES = ("format", "csv", "columns", "time", "items")  # parts of a TOML that describe files of one's own
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class _Strict(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A part of the TOML; an unknown name is an error."""


class _Columns(_Strict, kw_only=True, frozen=True):
    user: str
    item: str
    time: str
    event: str | None = None
    rating: str | None = None
    text: tuple[str, ...] = ()
    category: str | None = None


class _Csv(_Strict, kw_only=True, frozen=True):
    delimiter: str | None = None
    header: bool = True
    columns: tuple[str, ...] = ()
    quote: str = '"'
    encoding: str = "utf-8"


class _Items(_Strict, kw_only=True, frozen=True):
    file: str
    item: str
    text: tuple[str, ...] = ()
    category: str | None = None
    format: Format | None = None
    csv: _Csv = _Csv()


class _Description(_Strict, kw_only=True, frozen=True):
    """The whole TOML."""

    name: str | None = None
    source: str | None = None
    file: str | None = None
    format: Format | None = None
    csv: _Csv = _Csv()
    columns: _Columns | None = None
    time: Time = Time()
    items: _Items | None = None
    filters: Filters = Filters()
    protocol: Protocol | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnTable:
    """The dataset that a TOML describes.

    Attributes:
        path: the TOML; relative paths in it start from its folder.
        name: of the dataset.
        description: what it says.
    """

    path: Path
    name: str
    description: _Description
    sizes: tuple[str, ...] = ()
    needs: str = "the files that the TOML names"
    licence: str = ""

    def folder(self, size: str | None) -> str:
        """As `persrec.data.base.Dataset` says."""
        if size is not None:
            raise ValueError(f"size: {size!r} of dataset {self.name!r}, which has no sizes")
        return self.name

    def digest(self, size: str | None, data_dir: Path | None) -> str:
        """SHA-256 of the files and of what the TOML says."""
        self.folder(size)
        return self.table(data_dir).digest()

    def prepare(self, size: str | None, data_dir: Path | None, folder: Path, bounds: Bounds) -> None:
        """As `persrec.data.base.Dataset` says."""
        from persrec.data.tables.preparation import write_table  # noqa: PLC0415 - the engine is heavy, and what is prepared already needs none

        self.folder(size)
        write_table(self.table(data_dir), folder, bounds)

    def table(self, data_dir: Path | None) -> EventTable:
        """What the files hold.

        Raises:
            SourceError: a file or a column is missing.
        """
        description = self.description
        if description.source is not None:
            return self._publisher_table(description.source, data_dir)
        assert description.file is not None  # noqa: S101 - checked when it was read
        assert description.columns is not None  # noqa: S101 - as above
        columns = description.columns
        purposes = {
            **{getattr(columns, name): f"columns.{name}" for name in ("user", "item", "time", "event", "rating", "category")},
            **dict.fromkeys(columns.text, "columns.text"),
        }
        purposes.pop(None, None)
        events = self._scan(description.file, description.format, description.csv, tuple(purposes))
        events.check(purposes)
        return EventTable(
            name=self.name,
            scans={EVENTS: events},
            user=columns.user,
            item=columns.item,
            time=columns.time,
            event=columns.event,
            rating=columns.rating,
            times=description.time,
            text=joined(columns.text) if columns.text else None,
            category=joined((columns.category,)) if columns.category else None,
            catalogue=self._catalogue(description.items),
            filters=description.filters,
            protocol=description.protocol or Protocol(),
        )

    def _publisher_table(self, name: str, data_dir: Path | None) -> EventTable:
        """A publisher's table, with the filters and the protocol of the TOML."""
        source = names.find(names.datasets(), name).load()()
        if not isinstance(source, PublishedDataset):
            raise SourceError(f"{self.path}: source: {name!r} is read from no publisher's files; expected one that is")
        table, filters = source.table(None, data_dir), self.description.filters
        for rule, setting, column in (("events", filters.events, table.event), ("minimum_rating", filters.minimum_rating, table.rating)):
            if setting not in (None, ()) and column is None:
                raise SourceError(f"{self.path}: filters.{rule}: {name} is read without a column that it could look at")
        return dataclasses.replace(table, name=self.name, filters=filters, protocol=self.description.protocol or table.protocol)

    def _catalogue(self, items: _Items | None) -> ItemTable | None:
        if items is None:
            return None
        purposes = {items.item: "items.item", **dict.fromkeys(items.text, "items.text")}
        if items.category is not None:
            purposes[items.category] = "items.category"
        scan = self._scan(items.file, items.format, items.csv, tuple(purposes))
        scan.check(purposes)
        return ItemTable(
            scan=scan,
            item=items.item,
            text=joined(items.text) if items.text else None,
            category=joined((items.category,)) if items.category else None,
        )

    def _scan(self, file: str, kind: Format | None, csv: _Csv, fields: tuple[str, ...]) -> Scan:
        path = self.path.parent / file
        kind = kind or format_of(path)
        delimiter = csv.delimiter or ("\t" if ".tsv" in path.name else ",")
        return Scan(
            files=files_of(path, kind),
            format=kind,
            delimiter=delimiter,
            header=csv.header,
            columns=fields if kind == "jsonl" else csv.columns,
            quote=csv.quote,
            encoding=csv.encoding,
        )


def own_table(path: Path) -> OwnTable:
    """The dataset that a TOML describes.

    Raises:
        SourceError: it cannot be read, has an unknown name, misses one, or a value is of another kind; one line.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        _check_names(values)
        description = msgspec.convert(values, _Description)
    except RecursionError as error:
        raise SourceError(f"{path}: nested too deep to be read") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError, ValueError) as error:
        raise SourceError(f"{path}: {_message(error)}") from error
    name = description.name or path.stem.lower()
    if NAME.fullmatch(name) is None:
        raise SourceError(f"{path}: name: {name!r}; expected small letters, digits, '.', '_' and '-', 64 at most")
    if name in names.datasets():
        raise SourceError(f"{path}: name: {name!r} is that of a publisher's data set; expected one of your own")
    if (description.source is None) == (description.file is None):
        raise SourceError(f"{path}: expected either file, a table of your own, or source, a publisher's data set")
    conflicts = [part for part in OF_FILES if part in values]
    if description.source is not None and conflicts:
        raise SourceError(f"{path}: {conflicts[0]}: beside source, whose files have their own form; expected filters and protocol alone")
    if description.file is not None and description.columns is None:
        raise SourceError(f"{path}: no table [columns]; expected the names of the user, item and time columns")
    _check_parts(path, description)
    return OwnTable(path=path, name=name, description=description)


def _check_names(values: Mapping[str, Any]) -> None:
    """Refuses an unknown name in a table that is read as a dataclass: there, msgspec passes over what it does not know."""
    for table, kind in (("time", Time), ("filters", Filters), ("protocol", Protocol)):
        known = [field.name for field in dataclasses.fields(kind)]
        section = values.get(table)
        for name in section if isinstance(section, Mapping) else ():
            if name not in known:
                raise ValueError(f"{table}: unknown {name!r}{names.nearest(name, known)}; known: {', '.join(known)}")


def _check_parts(path: Path, description: _Description) -> None:
    """Checks parts against each other, and the CSV's settings."""
    columns, filters = description.columns, description.filters
    if columns is not None and filters.events and columns.event is None:
        raise SourceError(f"{path}: filters.events: no column of events; name it in columns.event")
    if columns is not None and filters.minimum_rating is not None and columns.rating is None:
        raise SourceError(f"{path}: filters.minimum_rating: no column of ratings; name it in columns.rating")
    for csv, section in ((description.csv, "csv"), (description.items.csv if description.items else _Csv(), "items.csv")):
        if not csv.header and not csv.columns:
            raise SourceError(f"{path}: {section}.columns: none, and no header; expected the names of all columns in the order of the file")
        if csv.delimiter == "":
            raise SourceError(f"{path}: {section}.delimiter: ''; expected a character")
        if csv.quote and csv.delimiter == csv.quote:
            raise SourceError(f"{path}: {section}.delimiter: {csv.delimiter!r} is the quote, too; expected another character")
        if len(csv.quote) > 1:
            raise SourceError(f"{path}: {section}.quote: {csv.quote!r}; expected a character, or '' for none")


def _message(error: Exception) -> str:
    text = str(error)
    match = re.fullmatch(r"(.*) - at `\$\.?(.*)`", text)
    return text if match is None or not match.group(2) else f"{match.group(2)}: {match.group(1)}"


def described(values: Mapping[str, Any]) -> str:
    """A TOML of plain values and one level of tables."""
    lines = [f"{name} = {_toml(value)}" for name, value in values.items() if not isinstance(value, Mapping)]
    for table, section in values.items():
        if isinstance(section, Mapping):
            lines += ["", f"[{table}]", *(f"{name} = {_toml(value)}" for name, value in section.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()  # a TOML's quoted text is a JSON text
    return str(value)

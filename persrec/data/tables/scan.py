"""Files of a table, CSV, JSON lines or Parquet, as one relation of the engine; what cannot be read is named by file and line."""

import csv
import gzip
import json
import string
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from persrec.data.errors import SourceError
from persrec.data.tables.sql import literal

if TYPE_CHECKING:
    from persrec.data.tables.engine import Engine

Format = Literal["csv", "jsonl", "parquet"]
ENDINGS: Mapping[str, Format] = {
    ".csv": "csv", ".csv.gz": "csv", ".tsv": "csv", ".tsv.gz": "csv", ".txt": "csv", ".txt.gz": "csv",
    ".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".ndjson": "jsonl", ".ndjson.gz": "jsonl", ".json": "jsonl", ".json.gz": "jsonl",
    ".parquet": "parquet",
}  # fmt: skip
_TO_SMALL_LETTERS = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
ENCODINGS = {"utf-8": "utf-8-sig", "latin-1": "latin-1"}  # the engine's names, and Python's
LONGEST_OBJECT = 1 << 26  # bytes of one JSON line


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Files of one form, in the order of their rows.

    Attributes:
        files: at least one.
        format: how they are written.
        delimiter: of CSV, one character or more.
        header: whether a CSV's first line names the columns.
        columns: the columns' names where no header does, or those that the header must have, in any order; of JSON lines, the fields
            that are read.
        quote: the character that a CSV's field may be quoted with, doubled inside; "" for none.
        encoding: of a CSV, of `ENCODINGS`.
        lists: fields of JSON lines that are lists of texts.
    """

    files: tuple[Path, ...]
    format: Format
    delimiter: str = ","
    header: bool = True
    columns: tuple[str, ...] = ()
    quote: str = '"'
    encoding: str = "utf-8"
    lists: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("files: none; expected at least one")
        if self.encoding not in ENCODINGS:
            raise ValueError(f"encoding: {self.encoding!r}; expected one of {', '.join(ENCODINGS)}")
        if not self.header and not self.columns:
            raise ValueError("columns: none, and no header; expected the names of all columns, in the order of the file")

    @property
    def place(self) -> Path:
        """The path in errors that concern no single file: the only file, or the first file's folder."""
        return self.files[0] if len(self.files) == 1 else self.files[0].parent

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All columns of the first file.

        Raises:
            SourceError: it is empty, not of its format, or names a column twice; one line.
        """
        for file in self.files:
            if not file.is_file():
                raise SourceError(f"{file}: no such file")
        if self.format == "csv":
            names = self._header() if self.header else self.columns
            small_names = [name.translate(_TO_SMALL_LETTERS) for name in names]  # as the engine compares them
            clash = next((name for name, small_name in zip(names, small_names, strict=True) if small_names.count(small_name) > 1), None)
            if clash is not None:
                raise SourceError(f"{self.files[0]}: two columns are named {clash!r}, in small letters or large; expected each name once")
            return names
        if self.format == "jsonl":
            return self.columns
        return tuple(self.types)

    def _header(self) -> tuple[str, ...]:
        """The columns that every file's first line names, in one order."""
        header, *other_headers = (_header(file, self.delimiter, self.quote, self.encoding) for file in self.files)
        for file, names in zip(self.files[1:], other_headers, strict=True):
            if names != header:
                raise SourceError(f"{file}: its columns are {', '.join(names)}; expected {', '.join(header)}, as in {self.files[0].name}")
        return header

    @cached_property
    def types(self) -> dict[str, str]:
        """The columns of Parquet files and their types, as the engine names them.

        Raises:
            SourceError: they are no Parquet.
        """
        from persrec.data.tables.engine import types_of  # noqa: PLC0415 - the engine is heavy, and no other format needs it here

        return {name: kind for name, kind in types_of(self).items() if name != "filename"}

    def settings(self) -> dict[str, object]:
        """What decides how the files are read, apart from where they lie."""
        names = ("format", "delimiter", "header", "columns", "quote", "encoding")
        return {name: getattr(self, name) for name in names} | {"lists": sorted(self.lists)}

    def check(self, purposes: Mapping[str, str]) -> None:
        """Raises a SourceError where a column is missing.

        Args:
            purposes: what each column is for, by its name.
        """
        for name, purpose in purposes.items():
            if name not in self.names:
                raise SourceError(f"{self.place}: no column {name!r}, which {purpose} names; it has {', '.join(self.names)}")

    def sql(self) -> str:
        """The relation, with a column ``filename`` where it is of several files."""
        files = "[" + ", ".join(literal(file) for file in self.files) + "]"
        filename = f"filename = {str(len(self.files) > 1).lower()}"
        match self.format:
            case "csv":
                columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in self.names)
                settings = (
                    f"auto_detect = false, all_varchar = true, store_rejects = true, header = {str(self.header).lower()}, "
                    f"delim = {literal(self.delimiter)}, quote = {literal(self.quote)}, escape = {literal(self.quote)}, "
                    f"encoding = {literal(self.encoding)}, nullstr = '', columns = {{{columns}}}, {filename}"
                )
                return f"SELECT * FROM read_csv({files}, {settings})"
            case "jsonl":
                types = {name: "VARCHAR[]" if name in self.lists else "VARCHAR" for name in self.columns}
                columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
                settings = f"format = 'newline_delimited', maximum_object_size = {LONGEST_OBJECT}, columns = {{{columns}}}, {filename}"
                return f"SELECT * FROM read_json({files}, {settings})"
            case "parquet":
                partitioned = any("=" in part for file in self.files for part in file.parent.parts)
                hive_options = f"hive_partitioning = {str(partitioned).lower()}, hive_types_autocast = false"
                return f"SELECT * FROM read_parquet({files}, {hive_options}, {filename})"

    def check_rejects(self, engine: "Engine") -> None:
        """Raises a SourceError that names the first line which the engine could not read as the CSV's columns."""
        if self.format != "csv":
            return
        rows = engine.run(
            "SELECT file_path, line, column_name, error_type, error_message, csv_line FROM reject_errors "
            "JOIN reject_scans USING (scan_id, file_id) ORDER BY scan_id, file_id, line, column_idx LIMIT 1"
        )
        if rows:
            file, line, column, kind, message, text = rows[0]
            problem = _REJECTS.get(kind, " ".join(str(message).split()))
            line_text = " ".join(str(text).split())
            place = f"line {line}" if column is None else f"line {line}, column {column!r}"
            raise SourceError(f"{file}: {place}: {problem}: {line_text[:80]!r}")

    def refusal(self, error: Exception) -> SourceError:
        """The error for files that the engine could not read, with the engine's reason."""
        text = one_line(error)
        file = next((file for file in self.files if str(file) in text), self.place)
        if self.format == "parquet" and ("magic bytes" in text or "too small" in text):
            return SourceError(f"{file}: is no Parquet file")
        line = _first_bad_line(file) if self.format == "jsonl" and file.is_file() else None
        prefix = f"{file}: " if line is None else f"{file}: line {line}: "
        return SourceError(f"{prefix}cannot be read as {self.format} ({text})")


_REJECTS = {
    "MISSING COLUMNS": "fewer columns than the header or the description has",
    "TOO MANY COLUMNS": "more columns than the header or the description has",
    "UNQUOTED VALUE": "a quoted field that does not end, or text behind its end",
    "INVALID ENCODING": "bytes that are not of the file's encoding",
    "LINE SIZE OVER MAXIMUM": "longer than a line may be",
    "INVALID STATE": "a quoted field that does not end, or text behind its end",
}


def format_of(path: Path) -> Format:
    """The format that a file's name says; a folder is one of Parquet.

    Raises:
        SourceError: the name says none.
    """
    if path.is_dir():
        return "parquet"
    ending = next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if path.name.lower().endswith(ending)), None)
    if ending is None:
        raise SourceError(f"{path}: its name does not say what it is; expected an ending of {', '.join(ENDINGS)}, or a format")
    return ENDINGS[ending]


def files_of(path: Path, kind: Format) -> tuple[Path, ...]:
    """A file, or the files of a folder of Parquet, those of its partitions included, by name; hidden ones and marks are left out.

    Raises:
        SourceError: there is no such path, or the folder holds none.
    """
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise SourceError(f"{path}: no such file or folder")
    if kind != "parquet":
        raise SourceError(f"{path}: is a folder; expected a file, or a folder of Parquet")
    visible = (file for file in path.rglob("*.parquet") if not any(part[0] in "._" for part in file.relative_to(path).parts))
    files = tuple(sorted(file for file in visible if file.is_file()))
    if not files:
        raise SourceError(f"{path}: holds no file of Parquet")
    return files


def _header(path: Path, delimiter: str, quote: str, encoding: str) -> tuple[str, ...]:
    try:
        with opened(path) as file:
            line = file.readline(1 << 20).decode(ENCODINGS[encoding]).rstrip("\r\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: line 1 cannot be read ({error})") from error
    if not line.strip():
        raise SourceError(f"{path}: is empty; expected a line that names the columns")
    if len(delimiter) > 1 or not quote:
        return named(line.split(delimiter))
    try:
        return named(next(csv.reader([line], delimiter=delimiter, quotechar=quote)))
    except csv.Error as error:
        raise SourceError(f"{path}: line 1 cannot be read ({error})") from error


def named(columns: Sequence[str]) -> tuple[str, ...]:
    """Columns with a name each: one without, as of an index that was written along, is ``column1`` if it is the first."""
    return tuple(name or f"column{place}" for place, name in enumerate(columns, start=1))


def opened(path: Path) -> gzip.GzipFile | BufferedReader:
    """A file to read bytes from, unpacked where its name ends in ``.gz``."""
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")


def one_line(error: Exception) -> str:
    """What the engine says, without its advice on options of its own."""
    first = str(error).split("Possible fixes")[0].split("\nLINE ")[0].split("* Try")[0]
    return " ".join(first.split()).removesuffix(".")


def _first_bad_line(path: Path) -> int | None:
    """The first line of JSON lines that is no object; the engine counts lines otherwise in a file that is cut."""
    try:
        with opened(path) as file:
            for number, line in enumerate(file, start=1):
                try:
                    is_valid = not line.strip() or isinstance(json.loads(line), dict)
                except ValueError:
                    is_valid = False
                if not is_valid:
                    return number
    except (OSError, EOFError, zlib.error):
        pass
    return None

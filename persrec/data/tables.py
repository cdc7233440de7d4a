"""Reading of publishers' tables of ratings and items, whatever their separator."""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from persrec.data.errors import SourceError

_SEPARATOR = "\x1f"  # stands for separators of several characters, which the fast parser does not take


def read_columns(path: Path, columns: Mapping[str, str], *, separator: str, header: bool = False) -> dict[str, NDArray[Any]]:
    """Columns of a separated text file, in the order of the file.

    Args:
        path: the file; its text is taken as latin-1, so that any byte can be read.
        columns: every column's name and Arrow type (``"int64"``, ``"float64"``, ``"string"``), in file order.
        separator: of one or more characters, as ``","``, ``"::"`` or a tab. A field is quoted only in one-character files.
        header: whether the first line names the columns; the names must then be those of ``columns``.

    Raises:
        SourceError: the file cannot be read as such a table, or a number is missing; the message names it.
    """
    single = len(separator) == 1
    types = {name: _TYPES[kind] for name, kind in columns.items()}
    try:
        content = path.read_bytes()
        if not single:
            content = content.replace(separator.encode("latin-1"), _SEPARATOR.encode())
        table = pyarrow.csv.read_csv(
            io.BytesIO(content),
            read_options=pyarrow.csv.ReadOptions(encoding="latin-1", column_names=None if header else list(columns)),
            parse_options=pyarrow.csv.ParseOptions(delimiter=separator if single else _SEPARATOR, quote_char='"' if single else False),
            convert_options=pyarrow.csv.ConvertOptions(column_types=types, include_columns=list(columns)),
        )
    except (OSError, pa.ArrowException) as error:
        wanted = f"a table of {', '.join(columns)} separated by {separator!r}"
        raise SourceError(f"{path}: cannot be read as {wanted} ({_line(error)})") from error
    return _arrays(path, table, columns)


def read_parquet(path: Path, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Some columns of a Parquet file; none of them may hold a null.

    Raises:
        SourceError: the file cannot be read, misses a column or holds a null; the message names it.
    """
    try:
        check_parquet(path, columns)
        table = pyarrow.parquet.read_table(path, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: cannot be read as Parquet ({_line(error)})") from error
    return _arrays(path, table, columns)


def check_parquet(path: Path, columns: Sequence[str]) -> None:
    """Reads what a Parquet file says of itself, and none of its rows.

    Raises:
        SourceError: the file cannot be read or misses a column; the message names it.
    """
    try:
        names = pyarrow.parquet.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: cannot be read as Parquet ({_line(error)})") from error
    missing = [name for name in columns if name not in names]
    if missing:
        raise SourceError(f"{path}: no column {missing[0]!r}; expected {', '.join(columns)}")


def _arrays(path: Path, table: Any, columns: Iterable[str]) -> dict[str, NDArray[Any]]:
    for name in columns:
        if table.column(name).null_count:
            raise SourceError(f"{path}: {table.column(name).null_count} nulls in column {name!r}; expected none")
    return {name: table.column(name).to_numpy() for name in columns}


def count_lines(path: Path) -> int:
    """Lines of a text file, a last one without an end included; counted, not parsed."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            lines += int(np.count_nonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n")))
            last = chunk[-1:]
    return lines + (last != b"\n")


_TYPES = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())

"""DuckDB within bounds: its memory, its threads, a folder for what does not fit, and its errors in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from persrec.data.base import Bounds
from persrec.data.errors import SourceError
from persrec.data.tables.scan import Scan, one_line

ROWS_AT_ONCE = 1 << 20
FAULTS = (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException)  # faults of our own SQL, whatever the files hold
_LOCAL = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}


class Engine:
    """A connection; each statement's rows are read to their end before the next statement."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def run(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a statement; ``values`` stand for its question marks."""
        return self._connection.execute(sql, list(values)).fetchall()

    def read(self, sql: str, *scans: Scan) -> None:
        """Runs a statement that reads files.

        Raises:
            SourceError: one of them is not as it is described; the message names it.
        """
        try:
            self.run(sql)
        except FAULTS:
            raise
        except duckdb.Error as error:
            faulty_scan = next((scan for scan in scans if any(str(file) in str(error) for file in scan.files)), scans[0])
            raise faulty_scan.refusal(error) from error

    def count(self, relation: str) -> int:
        """Rows of a table, or of ``(SELECT ...)``."""
        return int(self.run(f"SELECT count(*) FROM {relation}")[0][0])

    def types(self, relation: str) -> dict[str, str]:
        """The columns of a table or view and their types."""
        return {name: kind for name, kind, *_ in self.run(f"DESCRIBE SELECT * FROM {relation}")}

    def batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The rows of a statement, `ROWS_AT_ONCE` at a time, in its order."""
        yield from self._connection.sql(sql).to_arrow_reader(ROWS_AT_ONCE)


@contextmanager
def engine(folder: Path, bounds: Bounds) -> Iterator[Engine]:
    """An engine that keeps its tables, and what does not fit in memory, in ``folder``; it reads local files only and loads no extension.

    Raises:
        SourceError: the engine cannot go on, as on a full disk; one line.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": bounds.memory,
        "temp_directory": str(folder / "spilled"),
        **_LOCAL,
        "preserve_insertion_order": True,  # a row's number is its place in the files
    }
    if bounds.threads is not None:
        settings["threads"] = bounds.threads
    try:
        with duckdb.connect(str(folder / "tables.duckdb"), config=settings) as connection:
            duckdb_engine = Engine(connection)
            duckdb_engine.run("SET TimeZone = 'UTC'")
            duckdb_engine.run("SET enable_progress_bar = false")
            yield duckdb_engine
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise SourceError(one_line(error)) from error


def types_of(scan: Scan) -> dict[str, str]:
    """The columns of a scan's relation and their types, from what its files say of themselves.

    Raises:
        SourceError: a file is not of the scan's format.
    """
    with duckdb.connect(config=dict(_LOCAL)) as connection:
        duckdb_engine = Engine(connection)
        duckdb_engine.read(f"CREATE VIEW scanned AS {scan.sql()}", scan)
        return duckdb_engine.types("scanned")


def first_rows(scan: Scan, count: int) -> list[dict[str, Any]]:
    """The first rows of a scan's relation, by column.

    Raises:
        SourceError: a file is not of the scan's format.
    """
    with duckdb.connect(config=dict(_LOCAL)) as connection:
        duckdb_engine = Engine(connection)
        duckdb_engine.read(f"CREATE TABLE scanned AS {scan.sql()} LIMIT {count}", scan)
        return [dict(zip(duckdb_engine.types("scanned"), row, strict=True)) for row in duckdb_engine.run("FROM scanned")]

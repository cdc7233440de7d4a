"""From a publisher's table to a dataset: rows are checked, counted, filtered and sorted by the engine, in bounded memory.

Every row of the sources is kept or counted in the ledger under the first rule that drops it. What is no interaction at all (a time
that cannot be read, an id with a fraction) is an error that names file, row, column and value: nothing is guessed.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from persrec.data.base import Bounds
from persrec.data.errors import SourceError
from persrec.data.prepared import Facts, write_columns
from persrec.data.tables.engine import Engine, engine
from persrec.data.tables.ledger import Ledger
from persrec.data.tables.staging import Staging
from persrec.data.tables.table import EVENTS, EventTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A table's prepared rows, in the engine.

    Attributes:
        engine: holds the tables.
        ledger: what became of the sources' rows.
        users: number of users.
        items: number of items, padding apart.
    """

    engine: Engine
    ledger: Ledger
    users: int
    items: int

    def lengths(self) -> np.ndarray:
        """Events of each user, int64 ``[U]``."""
        batches = self.engine.batches("SELECT events FROM final_users ORDER BY id")
        return np.concatenate([batch.column(0).to_numpy() for batch in batches])

    def events(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Items from 1 on and seconds, by user, time and place in the files, a block at a time."""
        batches = self.engine.batches(
            "SELECT CAST(i.id AS INTEGER) AS item, CAST(CASE WHEN unknown THEN 0 ELSE moment // 1000000 END AS BIGINT) AS seconds "
            "FROM interactions JOIN final_items i ON interactions.item = i.old ORDER BY user, moment, row"
        )
        for batch in batches:
            yield batch.column(0).to_numpy(), batch.column(1).to_numpy()

    def categories(self) -> list[str]:
        """The names of the items' categories, by number from 1 on, ascending."""
        if "category" not in self.engine.types("items"):
            return []
        rows = self.engine.run(
            "SELECT DISTINCT category FROM items JOIN final_items ON items.id = old WHERE category <> '' ORDER BY category"
        )
        return [name for (name,) in rows]

    def described(self, of: str) -> Iterator[pa.RecordBatch]:
        """``raw``, and of items ``text`` and ``category`` (its number, 0 unknown) where the table has them, in the order of the ids.

        Args:
            of: ``users`` or ``items``.
        """
        columns, number_join = "raw", ""
        types = self.engine.types(of)
        if "text" in types:
            columns += ", text"
        if "category" in types:
            columns += ", coalesce(number, 0) AS category"
            number_join = (
                "LEFT JOIN (SELECT category AS named, row_number() OVER (ORDER BY category) AS number FROM (SELECT DISTINCT category "
                "FROM items JOIN final_items ON items.id = old WHERE category <> '')) ON category = named "
            )
        yield from self.engine.batches(f"SELECT {columns} FROM final_{of} f JOIN {of} ON f.old = {of}.id {number_join}ORDER BY f.id")


@contextmanager
def preparing(table: EventTable, folder: Path, bounds: Bounds) -> Iterator[Prepared]:
    """A table's rows, checked, filtered and counted, until the block ends.

    Args:
        table: what to read.
        folder: where the engine may write meanwhile.
        bounds: what the engine may take.

    Raises:
        SourceError: a file cannot be read, a value is wrong, or no row is left; one line that names it.
    """
    with engine(folder, bounds) as duckdb_engine:
        ledger = Staging(duckdb_engine, table).run()
        duckdb_engine.run(
            "CREATE TABLE interactions AS "
            "SELECT r.rowid AS row, CAST(u.id AS UINTEGER) AS user, CAST(i.id AS UINTEGER) AS item, moment, unknown "
            "FROM raw r JOIN users u ON r.user = u.raw JOIN items i ON r.item = i.raw WHERE reason IS NULL"
        )
        duckdb_engine.run("DROP TABLE raw")
        _filter(duckdb_engine, table, ledger)
        for column in ("user", "item"):
            first_id = 0 if column == "user" else 1
            duckdb_engine.run(
                f"CREATE TABLE final_{column}s AS SELECT {column} AS old, row_number() OVER (ORDER BY {column}) - 1 + {first_id} AS id, "
                f"count(*) AS events FROM interactions GROUP BY {column}"
            )
        users, items, rows = (duckdb_engine.count(name) for name in ("final_users", "final_items", "interactions"))
        ledger.check_kept(rows)
        yield Prepared(engine=duckdb_engine, ledger=ledger, users=users, items=items)


def _filter(engine: Engine, table: EventTable, ledger: Ledger) -> None:
    """Applies the rules of `Filters` that look at more than one row: duplicates, long users, then short users and the core."""
    filters = table.filters
    if filters.duplicates == "drop":
        unique = "SELECT min(row) AS row, user, item, moment, bool_and(unknown) AS unknown FROM interactions GROUP BY user, item, moment"
        _keep(engine, ledger, unique, "the same user, item and time as an earlier row")
    if filters.maximum_length is not None:
        maximum = filters.maximum_length
        _keep_of(engine, ledger, "user", f"count(*) <= {maximum}", f"a user with more than {maximum} events")
    dropped = True
    while dropped:
        _keep_of(engine, ledger, "item", f"count(*) >= {filters.core}", f"an item with fewer than {filters.core} events")
        fewest = filters.fewest
        dropped = _keep_of(engine, ledger, "user", f"count(*) >= {fewest}", f"a user with fewer than {fewest} events") and (
            filters.core > 1
        )
    if not engine.count("interactions"):
        place = table.scans[EVENTS].place
        reasons = "; ".join(f"{rows:,}: {reason}" for reason, rows in ledger.dropped.items())
        raise SourceError(f"{place}: no row of {ledger.rows_in:,} is left ({reasons})")


def _keep_of(engine: Engine, ledger: Ledger, column: str, having: str, reason: str) -> bool:
    """Keeps the events of those users or items for which ``having`` holds; whether any were dropped."""
    kept_ids = f"SELECT {column} FROM interactions GROUP BY {column} HAVING {having}"
    if not engine.count(f"(SELECT 1 FROM interactions GROUP BY {column} HAVING NOT ({having}))"):
        return False
    _keep(engine, ledger, f"SELECT interactions.* FROM interactions SEMI JOIN ({kept_ids}) USING ({column})", reason)
    return True


def _keep(engine: Engine, ledger: Ledger, rows: str, reason: str) -> None:
    rows_before = engine.count("interactions")
    engine.run(f"CREATE TABLE kept AS {rows}")
    engine.run("DROP TABLE interactions")
    engine.run("ALTER TABLE kept RENAME TO interactions")
    ledger.drop(reason, rows_before - engine.count("interactions"))


def write_table(table: EventTable, folder: Path, bounds: Bounds) -> None:
    """Prepares a table into an empty folder.

    Raises:
        SourceError: as `preparing`.
    """
    working = folder / "working"
    working.mkdir()
    with preparing(table, working, bounds) as prepared:
        categories = prepared.categories()
        notes: dict[str, Any] = {
            "rows": prepared.ledger.kept,
            "users": prepared.users,
            "items": prepared.items,
            "ledger": prepared.ledger.to_dict(),
            "files": {name: path.stat().st_size for name, path in table.files.items()},
        }
        item_columns = prepared.engine.types("items")
        for column, note in (("text", "items_with_text"), ("category", "items_with_category")):
            if column in item_columns:
                notes[note] = prepared.engine.count(f"(SELECT 1 FROM items JOIN final_items ON items.id = old WHERE {column} <> '')")
        if categories:
            notes["category_names"] = ["", *categories]
        write_columns(
            folder,
            facts=Facts(name=table.name, num_items=prepared.items + 1, protocol=table.protocol, digest=table.digest(), notes=notes),
            offsets=np.concatenate([[0], np.cumsum(prepared.lengths())]).astype(np.int64),
            rows=prepared.events(),
            users=prepared.described("users"),
            items=prepared.described("items"),
        )
    shutil.rmtree(working)

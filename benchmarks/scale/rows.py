"""A large log on disk: rows in no order, users and items of unequal length, as Parquet in several files or as one CSV."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq

ROWS_AT_ONCE = 1 << 20
FILES = 8
ROWS_A_USER, ROWS_AN_ITEM = 100, 200  # means, where the number of rows is large
START, SPAN = 1_600_000_000, 365 * 86_400  # seconds
SEED = 20261128


def write_rows(folder: Path, rows: int) -> None:
    """Writes ``rows`` events, the same each time, in blocks.

    Users and items are drawn with a square law, so that a few have many events and many a few; a user's events are spread over all files.
    """
    users, items = max(10, rows // ROWS_A_USER), max(10, rows // ROWS_AN_ITEM)
    folder.mkdir(parents=True)
    each = -(-rows // FILES)
    for number in range(FILES):
        rows_of_file = min(each, rows - number * each)
        if rows_of_file <= 0:
            break
        with pq.ParquetWriter(folder / f"part-{number:02}.parquet", _SCHEMA) as writer:
            for start in range(0, rows_of_file, ROWS_AT_ONCE):
                count = min(ROWS_AT_ONCE, rows_of_file - start)
                random = np.random.default_rng([SEED, number, start])
                columns = {
                    "user": (users * random.random(count) ** 2).astype(np.int64) * 7 + 1_000_000,
                    "item": (items * random.random(count) ** 2).astype(np.int64) * 3 + 17,
                    "time": START + random.integers(0, SPAN, count),
                }
                writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=_SCHEMA))


def write_csv(path: Path, rows: int) -> None:
    """The same events as a CSV, whose items are texts."""
    write_rows(path.with_suffix(".parquet"), rows)
    table = pq.read_table(path.with_suffix(".parquet"))
    items = pa.compute.binary_join_element_wise("SKU", table["item"].cast(pa.string()), "-")
    pyarrow.csv.write_csv(table.set_column(1, "item", items), path)


_SCHEMA = pa.schema([("user", pa.int64()), ("item", pa.int64()), ("time", pa.int64())])

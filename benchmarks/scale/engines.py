"""One preparation by several engines: rows of a folder of Parquet become offsets, items and times, sorted by user, time and place.

``duckdb`` is the project's own (`persrec.data.tables.preparation`), with its checks and its ledger. The others do the least that such a
preparation needs: users below a length left out, ids made dense, rows sorted and written. Each runs in a process of its own, which
prints the most memory that it held.
"""

import contextlib
import sys
from pathlib import Path

import numpy as np

LEAST = 5  # events of a user


def prepare(engine: str, rows: Path, out: Path, *, memory: str, threads: int) -> None:
    """Prepares ``rows`` into ``out`` by one engine."""
    {"duckdb": _duckdb, "polars": _polars, "pyarrow": _pyarrow}[engine](rows, out, memory, threads)


def _duckdb(rows: Path, out: Path, memory: str, threads: int) -> None:
    from persrec.data.base import Bounds  # noqa: PLC0415 - one engine a process
    from persrec.data.prepared import open_prepared  # noqa: PLC0415 - as above
    from persrec.data.tables.preparation import write_table  # noqa: PLC0415 - as above
    from persrec.data.tables.scan import Scan, files_of  # noqa: PLC0415 - as above
    from persrec.data.tables.table import EVENTS, EventTable, Filters, Time  # noqa: PLC0415 - as above

    scan = Scan(files=files_of(rows, "parquet"), format="parquet")
    table = EventTable(name="scale", scans={EVENTS: scan}, times=Time(unit="s"), filters=Filters(minimum_length=LEAST))
    open_prepared(out, "scale", table.digest(), lambda folder: write_table(table, folder, Bounds(memory=memory, threads=threads)))


def _polars(rows: Path, out: Path, memory: str, threads: int) -> None:  # noqa: ARG001 - it takes no bound on its memory
    import polars as pl  # noqa: PLC0415 - no dependency of the project

    events = pl.scan_parquet(rows / "*.parquet").with_row_index("row")
    users = events.group_by("user").len().filter(pl.col("len") >= LEAST).select("user")
    items = events.join(users, on="user", how="semi").select("item").unique().sort("item").with_row_index("id", offset=1)
    dense = events.join(users, on="user", how="semi").join(items, on="item")
    out.mkdir(parents=True)
    dense.sort("user", "time", "row").select("user", "id", "time").sink_parquet(out / "sorted.parquet", engine="streaming")
    lengths = pl.scan_parquet(out / "sorted.parquet").group_by("user").len().sort("user").collect(engine="streaming")
    np.save(out / "offsets.npy", np.concatenate([[0], np.cumsum(lengths["len"].to_numpy())]))


def _pyarrow(rows: Path, out: Path, memory: str, threads: int) -> None:  # noqa: ARG001 - it takes no bound on its memory
    import pyarrow as pa  # noqa: PLC0415 - one engine a process
    import pyarrow.dataset as ds  # noqa: PLC0415 - as above

    pa.set_cpu_count(threads)
    events = ds.dataset(rows).to_table()
    events = events.append_column("row", pa.array(np.arange(len(events))))
    lengths = events.group_by("user").aggregate([("user", "count")])
    users = lengths.filter(pa.compute.greater_equal(lengths["user_count"], LEAST)).select(["user"])
    events = events.join(users, "user", join_type="left semi")
    ordered = events.sort_by([("user", "ascending"), ("time", "ascending"), ("row", "ascending")])
    del events
    out.mkdir(parents=True)
    _, items = np.unique(ordered["item"].to_numpy(), return_inverse=True)
    np.save(out / "items.npy", (items + 1).astype(np.int32))
    np.save(out / "times.npy", ordered["time"].to_numpy())
    _, counts = np.unique(ordered["user"].to_numpy(), return_counts=True)
    np.save(out / "offsets.npy", np.concatenate([[0], np.cumsum(counts)]))


def own_peak() -> int | None:
    """The most bytes that this process held since it began; None where the system is not Linux.

    ``ru_maxrss`` is another number: it begins with what the parent held.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


if __name__ == "__main__":
    prepare(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), memory=sys.argv[4], threads=int(sys.argv[5]))
    sys.stdout.write(f"{own_peak() or ''}\n")

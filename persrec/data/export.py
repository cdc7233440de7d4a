"""Prepared data as partitioned Parquet, for engines of a cluster: ``OUT/users=00000000/part-0.parquet``, ``OUT/users=00010000/...``.

A row is an event: user and item as their source calls them, and the time in whole seconds, null where it is unknown. Read in the order of
the folders' names, rows come as they were prepared: users one after the other, each in order of time, ties in the prepared order. The
number in a folder's name is that of its first user.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from persrec.data.errors import SourceError
from persrec.data.interactions import InteractionLog
from persrec.data.prepared import ITEMS, USERS, raw_ids
from persrec.files import atomic_folder

USERS_A_FILE = 10_000


def write_partitions(log: InteractionLog, prepared: Path, out: Path) -> int:
    """Writes the events; returns how many folders there are. Memory is bounded by the events of `USERS_A_FILE` users, and by all ids.

    Args:
        log: as `persrec.data.prepared.read_prepared` gives it.
        prepared: the folder that it was read from.
        out: where to; nothing may be there.

    Raises:
        SourceError: ``out`` is there already.
        WriteError: it came while this wrote, or cannot be written.
    """
    if out.exists():
        raise SourceError(f"{out}: is there already; expected a place where nothing is")
    users = pa.array(_ids(prepared, USERS, log.num_users, first=0))
    items = pa.array(_ids(prepared, ITEMS, log.num_items - 1, first=1))
    starts = range(0, log.num_users, USERS_A_FILE)
    with atomic_folder(out, new=True) as folder:
        for start in starts:
            stop = min(start + USERS_A_FILE, log.num_users)
            events = slice(int(log.offsets[start]), int(log.offsets[stop]))
            owners = np.repeat(np.arange(start, stop), np.diff(log.offsets[start : stop + 1]))
            times = np.asarray(log.times[events], dtype=np.int64)
            table = pa.table(
                {
                    "user": users.take(pa.array(owners)),
                    "item": items.take(pa.array(np.asarray(log.items[events], dtype=np.int64) - 1)),
                    "time": pa.array(times, mask=times == 0),
                }
            )
            partition = folder / f"users={start:08d}"
            partition.mkdir()
            pyarrow.parquet.write_table(table, partition / "part-0.parquet")
    return len(starts)


def _ids(prepared: Path, file_name: str, count: int, *, first: int) -> list[object]:
    """The source's id of each user or item; a generated dataset has none, and its numbers, from ``first`` on, are given instead."""
    try:
        return raw_ids(prepared, file_name)
    except SourceError:
        return list(range(first, first + count))

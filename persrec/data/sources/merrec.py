"""MerRec: events on a C2C market. Li et al., "MerRec", KDD 2025.

As in the public preprocessing an item is a product (brand and category), every kind of event counts, and a user's sessions are one
stream. Differs: that keeps users with 1,024 events or more; here ``filters`` of a table of one's own do.
"""

from pathlib import Path

from persrec.data.tables.scan import Scan, files_of
from persrec.data.tables.source import PublishedDataset, with_columns
from persrec.data.tables.sql import joined
from persrec.data.tables.table import EVENTS, EventTable, Time


def _read(folder: Path) -> EventTable:
    shards = Scan(files=files_of(folder, "parquet"), format="parquet")
    events = with_columns(shards, ("user_id", "product_id", "event_id", "stime"), "merrec")
    text_columns = tuple(name for name in ("brand_name", "c0_name", "c1_name", "c2_name") if name in events.names)
    return EventTable(
        name="merrec",
        scans={EVENTS: events},
        user="user_id",
        item="product_id",
        time="stime",
        event="event_id",
        times=Time(format="iso") if events.types["stime"] == "VARCHAR" else Time(),
        text=joined(text_columns, ", ") if text_columns else None,
        category="c0_name" if "c0_name" in text_columns else None,
    )


def build() -> PublishedDataset:
    """The dataset ``merrec``."""
    return PublishedDataset(
        name="merrec", read=_read, files=("20230501",), needs="folders YYYYMMDD/ of Parquet shards", licence="CC BY-NC 4.0 (Mercari)"
    )

"""PixelRec: videos taken by their covers. Cheng et al., "An Image Dataset for Benchmarking Recommender Systems with Raw Pixels", 2023."""

from pathlib import Path

from persrec.data.tables.scan import Scan
from persrec.data.tables.source import PublishedDataset, file_with_columns
from persrec.data.tables.sql import joined
from persrec.data.tables.table import EVENTS, EventTable, ItemTable, Time


def _read(folder: Path) -> EventTable:
    events = file_with_columns(folder, "*.csv", ("item_id", "user_id", "timestamp"))
    assert events is not None  # noqa: S101 - required
    items = file_with_columns(folder, "*.csv", ("item_id", "title"), optional=True)
    catalogue = None
    if items is not None:
        scan = Scan(files=(items,), format="csv")
        text_columns = tuple(name for name in ("title", "tag", "description") if name in scan.names)
        catalogue = ItemTable(scan=scan, item="item_id", text=joined(text_columns), category="tag" if "tag" in text_columns else None)
    return EventTable(
        name="pixelrec",
        scans={EVENTS: Scan(files=(events,), format="csv")},
        user="user_id",
        item="item_id",
        time="timestamp",
        times=Time(unit="s"),
        catalogue=catalogue,
    )


def build() -> PublishedDataset:
    """The dataset ``pixelrec``."""
    return PublishedDataset(
        name="pixelrec",
        read=_read,
        files=("Pixel200K.csv", "Pixel1M.csv", "Pixel8M.csv", "PixelRec.csv"),
        needs="one CSV of item_id,user_id,timestamp, and one of item_id,title,tag,description for texts",
        licence="research, non-commercial (Westlake University)",
    )

"""KuaiRand: short videos. Gao et al., "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed Videos", CIKM 2022.

A click is an interaction. The log of random exposures is left out: nobody chose to be shown those videos.
"""

from pathlib import Path

from persrec.data.errors import SourceError
from persrec.data.tables.scan import Scan
from persrec.data.tables.source import PublishedDataset, with_columns
from persrec.data.tables.table import EVENTS, EventTable, ItemTable, Time


def _read(folder: Path) -> EventTable:
    log_folder = folder / "data" if (folder / "data").is_dir() else folder
    logs = tuple(sorted(log_folder.glob("log_standard_*.csv")))
    if not logs:
        raise SourceError(f"{log_folder}: no file log_standard_*.csv")
    features = sorted(log_folder.glob("video_features_basic_*.csv"))
    catalogue = None
    if features:
        scan = with_columns(Scan(files=tuple(features), format="csv"), ("video_id", "tag"), "kuairand")
        catalogue = ItemTable(scan=scan, item="video_id", category="split_part(tag, ',', 1)")
    return EventTable(
        name="kuairand",
        scans={EVENTS: with_columns(Scan(files=logs, format="csv"), ("is_click",), "kuairand")},
        user="user_id",
        item="video_id",
        time="time_ms",
        times=Time(unit="ms"),
        rules=(("not clicked", "is_click IS DISTINCT FROM '1'"),),
        catalogue=catalogue,
    )


def build() -> PublishedDataset:
    """The dataset ``kuairand``, of the size that is there, or of a named one."""
    return PublishedDataset(
        name="kuairand",
        read=_read,
        files=("data", "log_standard_4_08_to_4_21_pure.csv"),
        needs="log_standard_*.csv, and video_features_basic_*.csv for categories",
        licence="CC BY-SA 4.0 (Kuaishou)",
        folders=("kuairand", "KuaiRand-Pure", "KuaiRand-1K", "KuaiRand-27K"),
        sizes=("pure", "1k", "27k"),
    )

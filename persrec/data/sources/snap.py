"""SNAP's temporal networks: an edge of a sender and a recipient is an interaction. Paranjape, Benson and Leskovec, WSDM 2017."""

import datetime
from pathlib import Path

from persrec.data.errors import SourceError
from persrec.data.tables.scan import Scan
from persrec.data.tables.source import PublishedDataset, first_lines
from persrec.data.tables.table import EVENTS, EventTable, Time

EARLIEST = 631_152_000  # 1990: less is no time since 1970 but one since the network's own start


def _read(folder: Path) -> EventTable:
    files = sorted(path for path in folder.iterdir() if path.name.endswith((".txt", ".txt.gz")))
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise SourceError(f"{folder}: {names}; 'snap' is read from one file of edges, .txt or .txt.gz")
    events = Scan(files=(files[0],), format="csv", delimiter=" ", header=False, columns=("sender", "recipient", "seconds"), quote="")
    return EventTable(
        name="snap",
        scans={EVENTS: events},
        user="sender",
        item="recipient",
        time="seconds",
        times=Time(unit="s", relative=_counts_from_its_start(files[0]), earliest=datetime.date(1990, 1, 1)),
    )


def _counts_from_its_start(path: Path) -> bool:
    """Whether the first line's time is too small to be one since 1970."""
    line = b"".join(first_lines(path, 1))
    try:
        return int(line.split()[2]) < EARLIEST
    except (ValueError, IndexError) as error:
        raise SourceError(f"{path}: line 1 is not 'SENDER RECIPIENT SECONDS' ({error})") from error


def build() -> PublishedDataset:
    """The dataset ``snap``."""
    return PublishedDataset(
        name="snap", read=_read, files=(), needs="one file of edges 'SENDER RECIPIENT SECONDS', .txt or .txt.gz", licence="research (SNAP)"
    )

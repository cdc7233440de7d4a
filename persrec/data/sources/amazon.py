"""Amazon reviews of one category, in the forms of 2014, 2018 and 2023. McAuley et al.; Ni et al., 2019; Hou et al., 2024.

Every review is an interaction, whatever its rating. The form is told by what the file holds, never by its name alone.
Not read: the metadata of 2014, which are no JSON.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from persrec.data.errors import SourceError
from persrec.data.tables.scan import Scan
from persrec.data.tables.source import PublishedDataset, first_lines
from persrec.data.tables.sql import joined
from persrec.data.tables.table import EVENTS, EventTable, ItemTable, Time

ASIN = 10  # characters of a product's id; a reviewer's has more
_FORM_LINES = 200  # of a CSV, by which its form is told
_MAIN = "coalesce(nullif(regexp_extract(main_cat, 'alt=\"([^\"]*)\"', 1), ''), main_cat)"  # of some categories it is an image


def _read(folder: Path) -> EventTable:
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and _has_known_ending(path)]
    metadata = [path for path in files if path.name.startswith("meta_")]
    reviews = [path for path in files if path not in metadata]
    if len(reviews) != 1 or len(metadata) > 1:
        names = ", ".join(path.name for path in (metadata if len(reviews) == 1 else reviews)) or "none"
        raise SourceError(f"{folder}: {names}; 'amazon' is read from one file of reviews, with its meta_ file beside it for texts")
    table = _json_table(reviews[0]) if ".json" in reviews[0].name else _csv_table(reviews[0])
    return table if not metadata else dataclasses.replace(table, catalogue=_catalogue(metadata[0]))


def _has_known_ending(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith((".csv", ".json", ".jsonl"))


def _json_table(path: Path) -> EventTable:
    record = _first_object(path)
    if "reviewerID" in record:  # 2014 and 2018
        columns, unit = ("reviewerID", "asin", "unixReviewTime"), "s"
    elif "parent_asin" in record:  # 2023
        columns, unit = ("user_id", "parent_asin", "timestamp"), "ms"
    else:
        raise SourceError(
            f"{path}: line 1 has the fields {', '.join(record)}; expected reviewerID (2014, 2018) or parent_asin (2023) among them"
        )
    return _table(Scan(files=(path,), format="jsonl", columns=columns), columns, unit)


def _csv_table(path: Path) -> EventTable:
    lines = [line.decode("utf-8", "replace").strip() for line in first_lines(path, _FORM_LINES)]
    rows = [line.split(",") for line in lines if line]
    if rows and rows[0][:2] == ["user_id", "parent_asin"]:
        return _table(Scan(files=(path,), format="csv"), ("user_id", "parent_asin", "timestamp"), "ms")
    if not rows or any(len(row) != 4 for row in rows):
        raise SourceError(
            f"{path}: expected four columns a line: user,item,rating,time (2014), item,user,rating,time (2018) or a header (2023)"
        )
    asin_columns = [column for column in (0, 1) if all(len(row[column]) == ASIN for row in rows)]
    if len(asin_columns) != 1:
        raise SourceError(
            f"{path}: neither its first nor its second column alone holds ids of {ASIN} characters, as products have; describe it in a TOML"
        )
    columns = ("item", "user", "rating", "time") if asin_columns == [0] else ("user", "item", "rating", "time")
    return _table(Scan(files=(path,), format="csv", header=False, columns=columns), ("user", "item", "time"), "s")


def _table(events: Scan, columns: tuple[str, str, str], unit: str) -> EventTable:
    user, item, time = columns
    return EventTable(name="amazon", scans={EVENTS: events}, user=user, item=item, time=time, times=Time(unit=unit))


def _catalogue(path: Path) -> ItemTable:
    record = _first_object(path)
    if "parent_asin" in record:
        scan = Scan(files=(path,), format="jsonl", columns=("parent_asin", "title", "main_category", "store"))
        return ItemTable(scan=scan, item="parent_asin", text=joined(("title", "store")), category="main_category")
    fields = ("asin", "title", "brand", "category", "main_cat")
    scan = Scan(files=(path,), format="jsonl", columns=fields, lists=frozenset({"category"}))
    return ItemTable(scan=scan, item="asin", text=joined(("title", "brand")), category=f"coalesce(category[2], category[1], {_MAIN})")


def _first_object(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(b"".join(first_lines(path, 1)))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SourceError(f"{path}: line 1 is no JSON ({error})") from error
    if not isinstance(record, dict):
        raise SourceError(f"{path}: line 1 is no JSON object")
    return record


def build() -> PublishedDataset:
    """The dataset ``amazon``."""
    return PublishedDataset(
        name="amazon",
        read=_read,
        files=(),
        needs="one file of reviews (.json.gz, .jsonl.gz or .csv, of 2014, 2018 or 2023), and its meta_ file for texts",
        licence="research (UCSD)",
    )

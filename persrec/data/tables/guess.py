"""``init``: looks at the first rows of a file and writes a guess of what each column is, for a person to correct."""

import csv
import datetime
import itertools
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from persrec.data.errors import SourceError
from persrec.data.tables.scan import ENDINGS, Format, Scan, files_of, format_of, named, opened
from persrec.data.tables.table import UNITS

ROWS = 1000  # that are looked at
MOST_LETTERS = 64  # of a table's name
DELIMITERS = (",", "\t", ";", "|", "::", " ")
_NAMES = {
    "user": ("user", "userid", "user_id", "customer", "customerid", "customer_id", "visitor", "visitorid",
             "reviewerid", "uid", "session_id", "sender"),
    "item": ("item", "itemid", "item_id", "product", "productid", "product_id", "sku", "movieid",
             "article_id", "video_id", "asin", "parent_asin", "stockcode", "iid", "recipient"),
    "time": ("time", "timestamp", "ts", "date", "datetime", "event_time", "created_at", "unixreviewtime", "invoicedate", "seconds"),
    "event": ("event", "kind", "event_type", "event_name", "action", "behavior", "type"),
    "rating": ("rating", "stars", "score", "overall"),
    "text": ("title", "name", "text", "description"),
    "category": ("category", "genre", "genres", "category_name", "department", "brand"),
}  # fmt: skip
FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M", "%d/%m/%Y", "%m/%d/%Y", "%Y%m%d")
_EARLIEST, _LATEST = datetime.datetime(1990, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)

Rows = Sequence[Mapping[str, Any]]


def stem(path: Path) -> str:
    """A file's name without the endings that say what is in it: ``events.2025`` of ``events.2025.csv.gz``."""
    endings = (ending for ending in sorted(ENDINGS, key=len, reverse=True) if path.name.lower().endswith(ending))
    return path.name[: -len(next(endings, path.suffix))] if path.suffix else path.name


def guess(path: Path) -> dict[str, Any]:
    """What the TOML of a file would say, as plain values.

    Raises:
        SourceError: the file cannot be read, or no column could be a user's, an item's or a time.
    """
    kind = format_of(path)
    csv_settings: dict[str, Any] = {}
    if kind == "csv":
        csv_settings, rows = _csv_rows(path)
    elif kind == "jsonl":
        rows = _json_rows(path)
    else:
        rows = _parquet_rows(path)
    if not rows:
        raise SourceError(f"{path}: holds no row")
    columns = _columns(rows)
    missing = next((name for name in ("user", "item", "time") if name not in columns), None)
    if missing is not None:
        raise SourceError(
            f"{path}: no column looks like the {missing}s; it has {', '.join(rows[0])}: write the TOML by hand (docs/your_own_data.md)"
        )
    times = _time([row[columns["time"]] for row in rows])
    values: dict[str, Any] = {
        "name": re.sub(r"[^a-z0-9._-]+", "-", stem(path).lower())[:MOST_LETTERS].strip("-._") or "table",
        "file": path.name,
    }
    values |= {"csv": csv_settings} if csv_settings else {}
    values["columns"] = {name: [column] if name == "text" else column for name, column in columns.items()}
    return values | ({"time": times} if times else {})


def _columns(rows: Rows) -> dict[str, str]:
    """The column of each meaning: by its name; else times by their values, then users and items by the order of the columns."""
    header = list(rows[0])
    plain_names = {re.sub(r"[^a-z0-9_]", "", name.lower()): name for name in reversed(header)}
    columns: dict[str, str] = {}
    for meaning, names in _NAMES.items():
        column = next((plain_names[name] for name in names if name in plain_names and plain_names[name] not in columns.values()), None)
        if column is not None:
            columns[meaning] = column
    if "time" not in columns:
        time = next((name for name in header if name not in columns.values() and _looks_like_times([row[name] for row in rows])), None)
        columns |= {} if time is None else {"time": time}
    for meaning in ("user", "item"):
        unused = next((name for name in header if name not in columns.values()), None)
        if meaning not in columns and unused is not None:
            columns[meaning] = unused
    return {meaning: columns[meaning] for meaning in _NAMES if meaning in columns}


def _time(values: Sequence[Any]) -> dict[str, Any] | None:
    """How times are written, ``{}`` for dates of Parquet; None where they seem to be none."""
    present = [value for value in values if value not in (None, "")]
    if not present:
        return None
    if all(isinstance(value, datetime.date) for value in present):
        return {}
    texts = [str(value) for value in present]
    numbers = [float(text) for text in texts if re.fullmatch(r"\d+(\.\d+)?", text)]
    if len(numbers) == len(texts):
        unit = next(
            (
                unit
                for unit, parts in UNITS.items()
                if all(_EARLIEST.timestamp() <= number / parts < _LATEST.timestamp() for number in numbers)
            ),
            None,
        )
        if unit is not None:
            return {"unit": unit}
        form = next((form for form in FORMATS[-1:] if all(_parses(text, form) for text in texts)), None)
        return {"format": form} if form else {"unit": "s", "relative": True}
    form = next((form for form in FORMATS if all(_parses(text, form) for text in texts)), None)
    if form is not None:
        return {"format": form}
    return {"format": "iso"} if all(_is_iso(text) for text in texts) else None


def _looks_like_times(values: Sequence[Any]) -> bool:
    """Whether a column seems to hold times though its name does not say so; relative times do not count, since any numbers may be such."""
    times = _time(values)
    return times is not None and "relative" not in times


def _parses(text: str, form: str) -> bool:
    try:
        return _EARLIEST <= datetime.datetime.strptime(text, form).replace(tzinfo=datetime.UTC) < _LATEST
    except ValueError:
        return False


def _is_iso(text: str) -> bool:
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _csv_rows(path: Path) -> tuple[dict[str, Any], Rows]:
    try:
        with opened(path) as file:
            content = b"".join(itertools.islice(file, ROWS + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from error
    try:
        text, encoding = content.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        text, encoding = content.decode("latin-1"), "latin-1"
    lines = text.splitlines()
    if not lines:
        raise SourceError(f"{path}: is empty")
    delimiter = max(
        DELIMITERS,
        key=lambda candidate: (
            lines[0].count(candidate) > 0 and all(line.count(candidate) >= lines[0].count(candidate) for line in lines[:20]),
            lines[0].count(candidate),
        ),
    )
    try:
        records = [line.split(delimiter) for line in lines] if len(delimiter) > 1 else list(csv.reader(lines, delimiter=delimiter))
    except csv.Error as error:
        raise SourceError(f"{path}: cannot be read as CSV ({error})") from error
    header = not any(re.fullmatch(r"-?\d+(\.\d+)?", field) for field in records[0])
    names = list(named(records[0] if header else [""] * len(records[0])))
    if not header and len(names) >= 3:
        names[:3] = ["user", "item", "time"]
    settings: dict[str, Any] = {} if delimiter == "," else {"delimiter": delimiter}
    settings |= {} if encoding == "utf-8" else {"encoding": encoding}
    settings |= {} if header else {"header": False, "columns": names}
    return settings, [dict(zip(names, row, strict=False)) for row in records[header:] if len(row) == len(names)]


def _json_rows(path: Path) -> Rows:
    try:
        with opened(path) as file:
            rows = [json.loads(line) for line in itertools.islice(file, ROWS) if line.strip()]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SourceError(f"{path}: cannot be read as JSON lines ({error})") from error
    if not all(isinstance(row, dict) for row in rows):
        raise SourceError(f"{path}: cannot be read as JSON lines; expected an object a line")
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def _parquet_rows(path: Path) -> Rows:
    from persrec.data.tables.engine import first_rows  # noqa: PLC0415 - the engine is heavy, and no other format needs it here

    kind: Format = "parquet"
    return first_rows(Scan(files=files_of(path, kind), format=kind), ROWS)

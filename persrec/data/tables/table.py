"""A table of interactions as it is described: which columns it has, which rows count, and how it is evaluated."""

import dataclasses
import datetime
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from persrec.data.protocol import Protocol
from persrec.data.tables.scan import Scan

UNITS: Mapping[str, int] = MappingProxyType({"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9})  # parts of a second
PREPARATION = 1  # raised with every change of the dataset that the same files give
EVENTS = "events"  # the relation that a table's rows are read from
MISSING = ("", "NaN", "nan", "NULL", "null", "None", "<NA>")


FIRST_DAY, LAST_DAY = datetime.date(1970, 1, 1), datetime.date(2262, 1, 1)  # between which times can be kept (`persrec.data.columns`)


@dataclass(frozen=True, kw_only=True, slots=True)
class Time:
    """How a table's times are written, and between which days they must lie.

    Attributes:
        unit: of numbers, of `UNITS`; None where they are no numbers.
        format: of texts, as ``strptime`` reads it, or ``"iso"`` for ISO 8601; None where they are none. Without a zone a time is UTC.
        relative: whether numbers count from a start that is not known; they are then kept from 1970-01-02 on.
        earliest: the first day that a time may lie in.
        latest: the day before which a time must lie.
    """

    unit: str | None = None
    format: str | None = None
    relative: bool = False
    earliest: datetime.date = datetime.date(1990, 1, 1)
    latest: datetime.date = datetime.date(2100, 1, 1)

    def __post_init__(self) -> None:
        if self.unit is not None and self.unit not in UNITS:
            raise ValueError(f"time.unit: {self.unit!r}; expected one of {', '.join(UNITS)}")
        if self.unit is not None and self.format is not None:
            raise ValueError("time: both a unit, of numbers, and a format, of texts; expected one of them")
        if self.relative and self.unit is None:
            raise ValueError("time.relative: without a unit; expected one of numbers")
        if self.earliest < FIRST_DAY:
            raise ValueError(f"time.earliest: {self.earliest}; expected {FIRST_DAY} or later, as times are kept as seconds since then")
        if self.latest > LAST_DAY:
            raise ValueError(f"time.latest: {self.latest}; expected {LAST_DAY} at most")
        if self.earliest >= self.latest:
            raise ValueError(f"time.earliest: {self.earliest} is not before time.latest, {self.latest}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """Which rows and users stay. The rules run in this order, and a row counts for the first that drops it.

    Attributes:
        missing: texts that stand for a missing value.
        events: kinds of event that stay; empty is all.
        minimum_rating: the least rating that stays.
        duplicates: whether a row that repeats user, item and time of an earlier one stays (``"keep"``) or not (``"drop"``).
        maximum_length: most events of a user; users with more are left out whole.
        minimum_length: fewest events of a user.
        core: every user and every item that stays has at least so many events: rounds, items first, until nothing changes.
    """

    missing: tuple[str, ...] = MISSING
    events: tuple[str, ...] = ()
    minimum_rating: float | None = None
    duplicates: Literal["keep", "drop"] = "keep"
    maximum_length: int | None = None
    minimum_length: int = 1
    core: int = 1

    def __post_init__(self) -> None:
        if self.duplicates not in ("keep", "drop"):
            raise ValueError(f"filters.duplicates: {self.duplicates!r}; expected keep or drop")
        for name, value in (("minimum_length", self.minimum_length), ("core", self.core), ("maximum_length", self.maximum_length or 1)):
            if value < 1:
                raise ValueError(f"filters.{name}: {value}; expected at least 1")
        if self.minimum_rating is not None and not math.isfinite(self.minimum_rating):
            raise ValueError(f"filters.minimum_rating: {self.minimum_rating}; expected a finite number")
        if self.maximum_length is not None and self.maximum_length < self.fewest:
            raise ValueError(f"filters.maximum_length: {self.maximum_length}; expected at least minimum_length and core")

    @property
    def fewest(self) -> int:
        """Fewest events of a user that stays."""
        return max(self.minimum_length, self.core)


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemTable:
    """What a second table says of items.

    Attributes:
        scan: its files.
        item: the column of the item's id.
        text: SQL's expression of an item's text; None where there is none.
        category: as ``text``, of its category.
    """

    scan: Scan
    item: str
    text: str | None = None
    category: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EventTable:
    """A dataset's rows as its files hold them, and all settings that decide what the dataset becomes.

    Attributes:
        name: of the dataset.
        scans: the files by the name of the relation that they become; `EVENTS` is the one that errors speak of.
        rows: SQL of the rows, one an event, in an order that depends on the files alone.
        user: the column of ``rows`` with users' ids.
        item: as ``user``, of items.
        time: as ``user``, of times.
        event: as ``user``, of kinds of event, where ``filters`` name any.
        rating: as ``user``, of ratings, where ``filters`` name a least one.
        times: how times are written.
        unknown_time: SQL's predicate of rows whose time serves the order alone, and is unknown to a model.
        rules: rows that the source's own rules drop, as a reason and SQL's predicate; they run before ``filters``.
        text: SQL's expression of an item's text in ``rows``.
        category: as ``text``, of its category.
        catalogue: what another table says of items.
        filters: which rows stay.
        protocol: how the dataset is evaluated.
        expected_rows: rows that the files have when they are complete: a part of a data set is another one; None is any number.
    """

    name: str
    scans: Mapping[str, Scan]
    rows: str = f"SELECT * FROM {EVENTS}"
    user: str = "user"
    item: str = "item"
    time: str = "time"
    event: str | None = None
    rating: str | None = None
    times: Time = field(default_factory=Time)
    unknown_time: str | None = None
    rules: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    category: str | None = None
    catalogue: ItemTable | None = None
    filters: Filters = field(default_factory=Filters)
    protocol: Protocol = field(default_factory=Protocol)
    expected_rows: int | None = None

    @property
    def is_made(self) -> bool:
        """Whether its rows are made from several relations, so that a row has no number in a file."""
        return len(self.scans) > 1

    @property
    def files(self) -> dict[str, Path]:
        """All files that are read, by their paths below the folder that holds them all, which tell nothing of where it lies."""
        scans = [*self.scans.values(), *((self.catalogue.scan,) if self.catalogue else ())]
        files = sorted({file.absolute() for scan in scans for file in scan.files})
        folder = Path(os.path.commonpath([file.parent for file in files]))
        return {file.relative_to(folder).as_posix(): file for file in files}

    def digest(self) -> str:
        """SHA-256 of the files' contents and of all settings that decide what the dataset becomes."""
        sha256 = hashlib.sha256(json.dumps(self._settings(), sort_keys=True, default=_plain).encode())
        for name, path in self.files.items():
            with path.open("rb") as file:
                sha256.update(f"{name}:{hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
        return sha256.hexdigest()

    def _settings(self) -> dict[str, Any]:
        """The settings that decide a dataset, besides its files' contents; without the files' places."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        scans = dict(self.scans) | ({"catalogue": self.catalogue.scan} if self.catalogue else {})
        values["scans"] = {name: scan.settings() for name, scan in scans.items()}
        values["catalogue"] = None if self.catalogue is None else [self.catalogue.item, self.catalogue.text, self.catalogue.category]
        values["protocol"] = self.protocol.to_dict()
        return values | {"preparation": PREPARATION}


def _plain(value: Any) -> Any:
    """A value of a table's settings that JSON does not know, as one that it does."""
    if isinstance(value, datetime.date):
        return value.isoformat()
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else dict(value)

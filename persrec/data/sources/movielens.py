"""MovieLens, all sizes. Harper and Konstan, "The MovieLens Datasets", ACM TiiS 5(4), 2015.

Every rating is an interaction, whatever its value, and what a user has rated is left out of the ranking.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from persrec.data.errors import SourceError
from persrec.data.protocol import Protocol
from persrec.data.tables.download import Download
from persrec.data.tables.scan import Scan
from persrec.data.tables.source import PublishedDataset, first_file, optional_file, with_columns
from persrec.data.tables.sql import identifier
from persrec.data.tables.table import EVENTS, EventTable, ItemTable, Time

ARCHIVES = "https://files.grouplens.org/datasets/movielens"
LICENCE = "research; no redistribution without permission (GroupLens)"
ROWS = {
    "ml-100k": 100_000, "ml-1m": 1_000_209, "ml-10m": 10_000_054, "ml-20m": 20_000_263, "ml-25m": 25_000_095, "ml-32m": 32_000_204,
    "ml-latest-small": 100_836, "ml-latest": None,
}  # fmt: skip
RATINGS, SEQUENCES, MOVIES = "ratings.dat", "sequences.parquet", "movies.dat"
EXACT_TIME_SOURCES = (0, 1)  # of ts_src in sequences.parquet; the others are interpolated, and serve the order alone
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Film-Noir",
    "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_NO_GENRE = "nullif(genres, '(no genres listed)')"
_TEXT = f"concat_ws('. ', title, replace({_NO_GENRE}, '|', ', '))"
_CATEGORY = f"split_part({_NO_GENRE}, '|', 1)"


def _table(name: str, events: Scan, movies: ItemTable | None) -> EventTable:
    return EventTable(
        name=name,
        scans={EVENTS: events},
        times=Time(unit="s"),
        expected_rows=ROWS[name],
        catalogue=movies,
        protocol=Protocol(seen_items="excluded"),
    )


def _read_100k(folder: Path) -> EventTable:
    """``u.data``, separated by tabs, and ``u.item``, whose genres are 19 flags."""
    events = Scan(
        files=(first_file(folder, ("u.data",)),),
        format="csv",
        delimiter="\t",
        header=False,
        columns=("user", "item", "rating", "time"),
        quote="",
    )
    path = optional_file(folder, ("u.item",))
    if path is None:
        return _table("ml-100k", events, None)
    columns = ("item", "title", "released", "video", "url", *GENRES)
    movies = Scan(files=(path,), format="csv", delimiter="|", header=False, columns=columns, quote="", encoding="latin-1")
    flags = ", ".join(f"CASE WHEN {identifier(genre)} = '1' THEN '{genre.replace(chr(39), chr(39) * 2)}' END" for genre in GENRES)
    text = f"concat_ws('. ', title, nullif(concat_ws(', ', {flags}), ''))"
    return _table("ml-100k", events, ItemTable(scan=movies, item="item", text=text, category=f"coalesce({flags})"))


def _dat_reader(name: str, encoding: str) -> Callable[[Path], EventTable]:
    """A reader of ``ratings.dat`` and ``movies.dat``, separated by ``::``."""

    def read(folder: Path) -> EventTable:
        events = _scan(first_file(folder, (RATINGS,)), ("user", "item", "rating", "time"), encoding)
        return _table(name, events, _movies(folder, encoding))

    return read


def _scan(path: Path, columns: tuple[str, ...], encoding: str) -> Scan:
    return Scan(files=(path,), format="csv", delimiter="::", header=False, columns=columns, quote="", encoding=encoding)


def _movies(folder: Path, encoding: str) -> ItemTable | None:
    path = optional_file(folder, (MOVIES,))
    if path is None:
        return None
    return ItemTable(scan=_scan(path, ("item", "title", "genres"), encoding), item="item", text=_TEXT, category=_CATEGORY)


def _read_1m(folder: Path) -> EventTable:
    """A complete ``ratings.dat`` if there is one, else ``sequences.parquet``, which holds the same rows.

    Times in ``sequences.parquet`` that are interpolated keep their order and are unknown otherwise.
    """
    ratings, sequences = (optional_file(folder, (name,)) for name in (RATINGS, SEQUENCES))
    if sequences is not None and (ratings is None or count_lines(ratings) != ROWS["ml-1m"]):
        events = with_columns(Scan(files=(sequences,), format="parquet"), ("user", "item", "ts_est", "ts_src"), "ml-1m")
        table = _table("ml-1m", events, _movies(folder, "latin-1"))
        exact_sources = ", ".join(map(str, EXACT_TIME_SOURCES))
        return dataclasses.replace(table, time="ts_est", unknown_time=f"ts_src NOT IN ({exact_sources})")
    if ratings is None:
        raise SourceError(f"{folder}: neither {RATINGS} nor {SEQUENCES} is there; 'ml-1m' is read from one (--data-dir, $PERSREC_DATA)")
    return _dat_reader("ml-1m", "latin-1")(folder)


def _csv_reader(name: str) -> Callable[[Path], EventTable]:
    """A reader of ``ratings.csv`` and ``movies.csv``."""

    def read(folder: Path) -> EventTable:
        events = Scan(files=(first_file(folder, ("ratings.csv",)),), format="csv")
        path = optional_file(folder, ("movies.csv",))
        movies = None
        if path is not None:
            scan = with_columns(Scan(files=(path,), format="csv"), ("movieId", "title", "genres"), name)
            movies = ItemTable(scan=scan, item="movieId", text=_TEXT, category=_CATEGORY)
        return dataclasses.replace(_table(name, events, movies), user="userId", item="movieId", time="timestamp")

    return read


def count_lines(path: Path) -> int:
    """Lines of a text file, a last one without an end included; counted, not parsed."""
    lines, last_byte = 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            lines += int(np.count_nonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n")))
            last_byte = chunk[-1:]
    return lines + (last_byte != b"\n")


def _source(
    name: str, read: Callable[[Path], EventTable], files: tuple[str, ...], needs: str, folders: tuple[str, ...] = ()
) -> Callable[[], PublishedDataset]:
    archive = f"{ARCHIVES}/{name}.zip"
    download = Download(url=archive, checksum=f"{archive}.md5")
    return lambda: PublishedDataset(name=name, read=read, files=files, needs=needs, licence=LICENCE, folders=folders, download=download)


_CSV = (("ratings.csv",), "ratings.csv, and movies.csv for texts")
build_100k = _source("ml-100k", _read_100k, ("u.data",), "u.data, and u.item for texts")
build_1m = _source("ml-1m", _read_1m, (RATINGS, SEQUENCES), "ratings.dat or sequences.parquet, and movies.dat for texts")
build_10m = _source("ml-10m", _dat_reader("ml-10m", "utf-8"), (RATINGS,), "ratings.dat, and movies.dat for texts", ("ml-10m", "ml-10M100K"))
build_20m = _source("ml-20m", _csv_reader("ml-20m"), *_CSV)
build_25m = _source("ml-25m", _csv_reader("ml-25m"), *_CSV)
build_32m = _source("ml-32m", _csv_reader("ml-32m"), *_CSV)
build_latest_small = _source("ml-latest-small", _csv_reader("ml-latest-small"), *_CSV)
build_latest = _source("ml-latest", _csv_reader("ml-latest"), *_CSV)

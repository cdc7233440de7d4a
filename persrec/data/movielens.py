"""MovieLens: ``ml-1m``. Harper and Konstan, "The MovieLens Datasets", ACM TiiS 5(4), 2015."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from persrec.data.base import publisher_folder, sources_digest
from persrec.data.errors import NoMatchError, SourceError
from persrec.data.interactions import UNKNOWN_TIME, InteractionLog
from persrec.data.prepared import prepared
from persrec.data.tables import check_parquet, count_lines, read_columns, read_parquet

RATINGS, SEQUENCES, MOVIES = "ratings.dat", "sequences.parquet", "movies.dat"
SEQUENCE_COLUMNS = ("user", "item", "ts_est", "ts_src")
ROWS = 1_000_209
EXACT_TIME_SOURCES = (0, 1)  # of ts_src in sequences.parquet; the others are interpolated
PREPARATION = 1  # raised with every change of what is made of the files


@dataclass(frozen=True, kw_only=True, slots=True)
class MovieLens1M:
    """``ml-1m``: every rating is an interaction, in stable time order; seen items are left out of the ranking.

    A complete ``ratings.dat`` is read if there is one, else ``sequences.parquet``, whose interpolated times are masked to
    unknown and keep their order. ``movies.dat``, where it is present, gives texts ("title. genres") and categories (the
    first genre).
    """

    name: str = "ml-1m"
    sizes: tuple[str, ...] = ()
    needs_files: bool = True

    def folder(self, size: str | None) -> str:
        """As `Dataset` says."""
        self._no_size(size)
        return self.name

    def digest(self, size: str | None, data_dir: Path | None) -> str:
        """SHA-256 of the files that are read."""
        self._no_size(size)
        return _digest(self._files(data_dir))

    def load(self, size: str | None, data_dir: Path | None, cache_dir: Path) -> InteractionLog:
        """The log, prepared on first use."""
        self._no_size(size)
        files = self._files(data_dir)
        digest = _digest(files)
        return prepared(cache_dir, self.folder(size), digest, lambda: _read(self.name, files, digest))

    def _no_size(self, size: str | None) -> None:
        if size is not None:
            raise ValueError(f"size: {size!r} of dataset {self.name!r}, which has no sizes")

    def _files(self, data_dir: Path | None) -> dict[str, Path]:
        """The files to read, by name: one of interactions and, where it is present, ``movies.dat``."""
        folder = publisher_folder(data_dir, self.name, (RATINGS, SEQUENCES))
        files = {name: folder / name for name in (RATINGS, SEQUENCES, MOVIES) if (folder / name).is_file()}
        rows = count_lines(files[RATINGS]) if RATINGS in files else 0
        if rows == ROWS:
            files.pop(SEQUENCES, None)
        elif SEQUENCES in files:
            files.pop(RATINGS, None)
            check_parquet(files[SEQUENCES], SEQUENCE_COLUMNS)
        elif RATINGS in files:
            raise SourceError(f"{files[RATINGS]}: {rows:,} rows; {self.name!r} has {ROWS:,}, and a part of them is another data set")
        else:
            raise SourceError(
                f"{folder}: neither {RATINGS} nor {SEQUENCES} is there; {self.name!r} is read from one (--data-dir, $PERSREC_DATA)"
            )
        return files


def _digest(files: dict[str, Path]) -> str:
    return sources_digest(files, {"preparation": PREPARATION})


def _read(name: str, files: dict[str, Path], digest: str) -> InteractionLog:
    if RATINGS in files:
        rows = read_columns(files[RATINGS], {"user": "int64", "item": "int64", "rating": "int64", "time": "int64"}, separator="::")
        order = times = rows["time"]
    else:
        rows = read_parquet(files[SEQUENCES], SEQUENCE_COLUMNS)
        order = rows["ts_est"]
        times = np.where(np.isin(rows["ts_src"], EXACT_TIME_SOURCES), order, UNKNOWN_TIME)
        if len(order) != ROWS:
            raise SourceError(f"{files[SEQUENCES]}: {len(order):,} rows; {name!r} has {ROWS:,}")
    texts, categories = _movies(files[MOVIES]) if MOVIES in files else (None, None)
    source = RATINGS if RATINGS in files else SEQUENCES
    try:
        return InteractionLog.from_rows(
            name=name,
            users=rows["user"],
            items=rows["item"],
            times=times,
            order=order,
            exclude_seen=True,
            digest=digest,
            texts=texts,
            categories=categories,
            notes={
                "file": source,
                "times_unknown": int(np.count_nonzero(times == UNKNOWN_TIME)),
                "texts_file": MOVIES if MOVIES in files else None,
            },
        )
    except NoMatchError as error:
        raise SourceError(f"{files[MOVIES]}: of another data set than {source}; {error}") from error
    except ValueError as error:
        raise SourceError(f"{files[source]}: {error}") from error


def _movies(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Text and first genre of each movie id."""
    rows = read_columns(path, {"item": "int64", "title": "string", "genres": "string"}, separator="::")
    genres = [value.split("|") for value in rows["genres"]]
    ids = rows["item"].tolist()
    texts = {item: f"{title}. {', '.join(of)}" for item, title, of in zip(ids, rows["title"], genres, strict=True)}
    return texts, {item: of[0] for item, of in zip(ids, genres, strict=True)}


def build() -> MovieLens1M:
    """The dataset ``ml-1m``."""
    return MovieLens1M()

"""MovieLens beside 1M: the tables of 100k, the text files of 10M and the CSV of all later sizes."""

import pytest

from persrec.data.sources import movielens

START = 890_000_000
# In the order of the file: user, movie, rating, seconds after START.
RATINGS = [(12, 50, 3, 70), (5, 9, 4, 100), (12, 7, 2, 70), (5, 50, 5, 30), (12, 9, 1, 60)]
EVENTS = [(5, 50, 30), (5, 9, 100), (12, 9, 60), (12, 50, 70), (12, 7, 70)]
CSV_SIZES = ("ml-20m", "ml-25m", "ml-32m", "ml-latest-small", "ml-latest")


@pytest.fixture(autouse=True)
def five_rows(monkeypatch):
    """A complete data set has 5 rows here, but one that GroupLens renews has any number."""
    for name, rows in movielens.ROWS.items():
        if rows is not None:
            monkeypatch.setitem(movielens.ROWS, name, len(RATINGS))


def separated(separator, header="", ratings=RATINGS):
    return header + "".join(f"{separator.join(map(str, (*row[:3], START + row[3])))}\n" for row in ratings)


def write(folder, files):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def of_100k(movie, title, *genres):
    flags = ["1" if genre in genres else "0" for genre in movielens.GENRES]
    return "|".join([str(movie), title, "01-Jan-1995", "", "http://example.org/?title", *flags]) + "\n"


FILES_100K = {
    "u.data": separated("\t"),
    "u.item": "".join(
        (of_100k(7, 'S\u00e9pt "le film" (1994)', "Drama", "Children's"), of_100k(9, "unknown", "unknown"), of_100k(50, "Z (1969)"))
    ).encode("latin-1"),
}
FILES_10M = {
    "ratings.dat": separated("::", ratings=[(user, movie, rating + 0.5, time) for user, movie, rating, time in RATINGS]),
    "movies.dat": "7::S\u00e9pt: le film (1994)::Children|Drama\n9::N (1990)::(no genres listed)\n50::Z (1969)::Thriller\n",
}
FILES_CSV = {
    "ratings.csv": separated(",", "userId,movieId,rating,timestamp\n"),
    "movies.csv": 'movieId,title,genres\n7,"S\u00e9pt, Le ""film"" (1994)",Children|Drama\n9,N (1990),(no genres listed)\n'
    "50,Z (1969),Thriller\n",
}


def told(log, events):
    assert [(user, movie, time - START) for user, movie, time in events(log)] == EVENTS
    assert log.notes["ledger"] == {"rows_in": 5, "rows_kept": 5, "dropped": {}}
    assert log.exclude_seen is True


def test_100k_is_separated_by_tabs_and_its_genres_are_flags(tmp_path, load, events, described):
    write(tmp_path / "ml-100k", FILES_100K)
    log = load("ml-100k")
    told(log, events)
    assert described(log) == {
        7: ('S\u00e9pt "le film" (1994). Children\'s, Drama', "Children's"),
        9: ("unknown. unknown", "unknown"),
        50: ("Z (1969)", ""),
    }


@pytest.mark.parametrize("folder", ["ml-10m", "ml-10M100K"])
def test_10m_has_half_stars_and_titles_in_utf_8(tmp_path, load, events, described, folder):
    write(tmp_path / folder, FILES_10M)
    log = load("ml-10m")
    told(log, events)
    assert described(log) == {
        7: ("S\u00e9pt: le film (1994). Children, Drama", "Children"),
        9: ("N (1990)", ""),
        50: ("Z (1969). Thriller", "Thriller"),
    }


@pytest.mark.parametrize("name", CSV_SIZES)
def test_later_sizes_are_csv_with_quoted_titles(tmp_path, load, events, described, name):
    write(tmp_path / name, FILES_CSV)
    log = load(name)
    told(log, events)
    assert log.name == name
    assert described(log) == {
        7: ('S\u00e9pt, Le "film" (1994). Children, Drama', "Children"),
        9: ("N (1990)", ""),
        50: ("Z (1969). Thriller", "Thriller"),
    }


@pytest.mark.parametrize(
    ("name", "files", "items"),
    [("ml-100k", FILES_100K, "u.item"), ("ml-10m", FILES_10M, "movies.dat"), ("ml-25m", FILES_CSV, "movies.csv")],
)
def test_without_movies_there_are_no_texts(tmp_path, load, events, name, files, items):
    (write(tmp_path / name, files) / items).unlink()
    log = load(name)
    told(log, events)
    assert (log.item_texts, log.item_categories) == (None, None)


@pytest.mark.parametrize(
    ("name", "files", "ratings"),
    [("ml-100k", FILES_100K, "u.data"), ("ml-10m", FILES_10M, "ratings.dat"), ("ml-20m", FILES_CSV, "ratings.csv")],
)
def test_a_part_of_the_ratings_is_another_data_set_and_none_are_refused(tmp_path, refusal, name, files, ratings):
    path = write(tmp_path / name, files) / ratings
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert f"{ratings}: 4 rows; '{name}' has 5, and a part of them is another data set" in refusal(name)
    path.unlink()
    assert f"{name}: no file {ratings}" in refusal(name)


def test_the_latest_has_any_number_of_rows(tmp_path, load):
    write(tmp_path / "ml-latest", FILES_CSV | {"ratings.csv": separated(",", "userId,movieId,rating,timestamp\n", RATINGS[:2])})
    assert len(load("ml-latest")) == 2


REFUSED = {
    "a short line of u.item": ("ml-100k", FILES_100K | {"u.item": "7|S|||\n"}, "u.item: line 1, column 'unknown': fewer columns"),
    "u.data by spaces": ("ml-100k", FILES_100K | {"u.data": separated(" ")}, "u.data: line 1, column 'item': fewer columns"),
    "titles in latin-1": (
        "ml-10m", FILES_10M | {"movies.dat": FILES_10M["movies.dat"].encode("latin-1")},
        "movies.dat: line 1, column 'title': bytes that are not of the file's encoding",
    ),
    "no genres": ("ml-20m", FILES_CSV | {"movies.csv": "movieId,title\n7,S\n"}, "movies.csv: no column 'genres', which ml-20m names"),
    "no users": ("ml-20m", FILES_CSV | {"ratings.csv": "movieId,rating,timestamp\n7,3,4\n"}, "ratings.csv: no column 'userId'"),
    "a time in milliseconds": (
        "ml-latest", FILES_CSV | {"ratings.csv": f"userId,movieId,rating,timestamp\n1,7,3.5,{START}000\n"},
        f"ratings.csv: row 1, column 'timestamp': '{START}000' is not before 2100-01-01",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "files", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_such_data_set_is_one_line_that_names_the_file(tmp_path, refusal, name, files, message):
    write(tmp_path / name, files)
    assert message in refusal(name)

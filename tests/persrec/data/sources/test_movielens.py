import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persrec.data import dataset_digest, load_dataset
from persrec.data.__main__ import main
from persrec.data.sources import movielens

START = 978_300_000
# In the order of the file: user, movie, rating, time; the second user's ties keep file order.
RATINGS = "3::50::5::978300300\n3::9::4::978300100\n1::50::3::978300070\n1::7::2::978300070\n1::9::2::978300070\n"
MOVIES = "7::Sept: le film (1999)::Comedy|Drama\n9::Am\u00e9lie (2001)::Romance\n50::Z (1969)::Drama\n60::Unrated (1970)::Western\n"


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A folder of a publisher's files; a complete data set has 5 rows here."""
    monkeypatch.setitem(movielens.ROWS, "ml-1m", 5)
    folder = tmp_path / "data" / "ml-1m"
    folder.mkdir(parents=True)
    (folder / "ratings.dat").write_text(RATINGS)
    (folder / "movies.dat").write_bytes(MOVIES.encode("latin-1"))
    return folder


def sequences(folder):
    columns = {
        "user": [1, 1, 1, 3, 3],
        "item": [50, 7, 9, 9, 50],
        "ts_est": [START + 70, START + 70, START + 71, START + 100, START + 300],
        "ts_src": [0, 2, 1, 4, 3],
    }
    pq.write_table(
        pa.table(columns | {"ts": pa.array([START + 70, None, START + 71, None, None], pa.int64())}), folder / "sequences.parquet"
    )


def load(source):
    return load_dataset("ml-1m", data_dir=source.parent, cache_dir=source.parents[1] / "cache")


def test_ratings_are_read_in_time_order_and_ties_keep_file_order(source):
    log = load(source)
    assert log.users.tolist() == [0, 0, 0, 1, 1]
    assert log.items.tolist() == [3, 1, 2, 2, 3]  # raw 7, 9, 50 are 1, 2, 3
    assert (log.times - START).tolist() == [70, 70, 70, 100, 300]
    assert (log.name, log.num_users, log.num_items, log.exclude_seen) == ("ml-1m", 2, 4, True)
    assert list(log.notes["files"]) == ["movies.dat", "ratings.dat"]


def test_titles_are_latin_1_and_the_first_genre_is_the_category(source):
    log = load(source)
    assert log.item_texts == ("", "Sept: le film (1999). Comedy, Drama", "Am\u00e9lie (2001). Romance", "Z (1969). Drama")
    assert log.notes["category_names"] == ["", "Comedy", "Drama", "Romance"]
    assert log.item_categories.tolist() == [0, 1, 3, 2]


def test_a_half_file_gives_way_to_the_sequences_whose_inexact_times_are_masked_and_keep_their_order(source):
    (source / "ratings.dat").write_text("3::50::5::978300300\n")
    sequences(source)
    log = load(source)
    assert list(log.notes["files"]) == ["movies.dat", "sequences.parquet"]
    assert log.items.tolist() == [3, 1, 2, 2, 3]
    assert log.times.tolist() == [START + 70, 0, START + 71, 0, 0]


def test_complete_ratings_are_preferred(source):
    sequences(source)
    assert list(load(source).notes["files"]) == ["movies.dat", "ratings.dat"]


def test_a_half_file_alone_is_another_data_set(source):
    (source / "ratings.dat").write_text("3::50::5::978300300\n")
    with pytest.raises(ValueError, match=r"ratings\.dat: 1 rows; 'ml-1m' has 5"):
        load(source)
    assert not (source.parents[1] / "cache").exists()


def test_sequences_of_another_length_are_refused(source, monkeypatch):
    (source / "ratings.dat").unlink()
    sequences(source)
    monkeypatch.setitem(movielens.ROWS, "ml-1m", 6)
    with pytest.raises(ValueError, match=r"sequences\.parquet: 5 rows; 'ml-1m' has 6"):
        load(source)


def test_movies_of_another_numbering_are_refused_by_file(source):
    shifted = "".join(f"{int(line.split('::')[0]) + 100_000}::{line.split('::', 1)[1]}\n" for line in MOVIES.splitlines())
    (source / "movies.dat").write_bytes(shifted.encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"movies\.dat: gives no text and no category for any of the items of .*ratings\.dat; are the ids the same\?"
    ):
        load(source)
    assert not (source.parents[1] / "cache").exists()


def test_a_table_says_how_many_items_have_a_text_and_a_category(source, capsys):
    (source / "movies.dat").write_bytes("".join(MOVIES.splitlines(keepends=True)[1:]).encode("latin-1"))
    notes = load(source).notes
    assert (notes["items_with_text"], notes["items_with_category"]) == (2, 2)
    assert main(["prepare", "ml-1m", "--source", str(source.parent), "--cache-dir", str(source.parents[1] / "cache")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "texts              2 of 3 items" in lines
    assert "categories         2, of 2 of 3 items" in lines


def test_without_movies_there_are_no_texts(source):
    (source / "movies.dat").unlink()
    log = load(source)
    assert (log.item_texts, log.item_categories, list(log.notes["files"])) == (None, None, ["ratings.dat"])


def test_the_folder_itself_may_be_named(source):
    digest = dataset_digest("ml-1m", data_dir=source.parent)
    assert dataset_digest("ml-1m", data_dir=source) == digest


def test_the_digest_is_of_the_files_that_are_read(source):
    before = dataset_digest("ml-1m", data_dir=source.parent)
    assert load(source).digest == before
    sequences(source)  # not read beside complete ratings
    assert dataset_digest("ml-1m", data_dir=source.parent) == before
    (source / "movies.dat").write_bytes(MOVIES.replace("Z", "Y").encode("latin-1"))
    changed = dataset_digest("ml-1m", data_dir=source.parent)
    assert changed != before
    assert load(source).digest == changed


def test_what_is_missing_is_named(source, tmp_path, monkeypatch):
    monkeypatch.delenv("PERSREC_DATA", raising=False)
    (tmp_path / "empty" / "ml-1m").mkdir(parents=True)
    for data_dir, message in (
        (None, r"no data folder; name the folder that holds ml-1m/ with --data-dir or \$PERSREC_DATA"),
        (tmp_path / "nowhere", r"nowhere is not a folder \(--data-dir, \$PERSREC_DATA\)"),
        (tmp_path, r"no folder .*ml-1m; --data-dir or \$PERSREC_DATA"),
        (tmp_path / "empty", r"empty/ml-1m: neither ratings\.dat nor sequences\.parquet"),
    ):
        with pytest.raises(ValueError, match=message):
            load_dataset("ml-1m", data_dir=data_dir, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_it_has_no_sizes(source):
    with pytest.raises(ValueError, match="size: 'small' of dataset 'ml-1m', which has no sizes"):
        load_dataset("ml-1m", size="small", data_dir=source.parent, cache_dir=source)


@pytest.mark.real_data
def test_the_publishers_files(tmp_path, at_hand):
    data_dir = at_hand("ml-1m/sequences.parquet")
    log = load_dataset("ml-1m", data_dir=data_dir, cache_dir=tmp_path)
    assert (len(log), log.num_users, log.num_items - 1) == (1_000_209, 6040, 3706)
    assert (np.median(log.lengths), log.lengths.max()) == (96, 2314)
    assert list(log.notes["files"]) == ["movies.dat", "sequences.parquet"]
    assert np.count_nonzero(log.times == 0) == 137  # interpolated
    assert log.item_texts[1] == "Toy Story (1995). Animation, Children's, Comedy"
    assert len(log.notes["category_names"]) == 19
    # nobody rates a movie twice
    assert len(np.unique(log.users * log.num_items + log.items)) == len(log)
    for _ in range(2):
        again = load_dataset("ml-1m", data_dir=data_dir, cache_dir=tmp_path)
        assert np.array_equal(again.items, log.items)

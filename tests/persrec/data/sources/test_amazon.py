"""Amazon's reviews: each form is known by what its file holds, and gives the same kind of rows."""

import gzip
import json

import pytest

START = 1_400_000_000
ANNA, BERT = "ANNA0000000001", "BERT0000000002"
# In the order of the file: reviewer, product, rating, seconds after START.
REVIEWS = [(ANNA, "B00AAAAAA1", 5.0, 200), (BERT, "B00AAAAAA1", 1.0, 0), (ANNA, "0000000009", 3.0, 100), (ANNA, "B00AAAAAA1", 4.0, 100)]
EVENTS = [
    (ANNA, "0000000009", START + 100),
    (ANNA, "B00AAAAAA1", START + 100),
    (ANNA, "B00AAAAAA1", START + 200),
    (BERT, "B00AAAAAA1", START),
]


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "amazon"
    folder.mkdir()
    return folder


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def of_2014(user, item, rating, after):
    return f"{user},{item},{rating},{START + after}\n"


def of_2018(user, item, rating, after):
    return f"{item},{user},{rating},{START + after}\n"


def csv_of_2023(rows):
    header = "user_id,parent_asin,rating,timestamp\n"
    return (header + "".join(f"{user},{item},{rating},{(START + after) * 1000 + 7}\n" for user, item, rating, after in rows)).encode()


def json_of_2018(rows):
    return lines(
        {
            "overall": rating, "verified": True, "reviewTime": "05 13, 2014", "reviewerID": user, "asin": item, "style": {"Size:": " XL"},
            "reviewText": 'so "so"', "unixReviewTime": START + after,
        }
        for user, item, rating, after in rows
    )  # fmt: skip


def json_of_2023(rows):
    return lines(
        {
            "rating": rating, "title": "so so", "text": "a, b\nc", "images": [], "asin": "VARIANT" + item[-3:], "parent_asin": item,
            "user_id": user, "timestamp": (START + after) * 1000 + 7, "helpful_vote": 0, "verified_purchase": True,
        }
        for user, item, rating, after in rows
    )  # fmt: skip


def plain(line):
    return lambda rows: "".join(line(*row) for row in rows).encode()


FORMS = {
    "ratings_Beauty.csv": plain(of_2014),
    "ratings_Beauty.csv.gz": plain(of_2014),
    "Beauty.csv": plain(of_2018),
    "Beauty_5.json.gz": json_of_2018,
    "Beauty_5.json": json_of_2018,
    "All_Beauty.jsonl.gz": json_of_2023,
    "All_Beauty.csv": csv_of_2023,
}


@pytest.mark.parametrize(("name", "form"), FORMS.items(), ids=FORMS.keys())
def test_every_form_gives_the_same_rows_in_time_order(source, load, events, name, form):
    content = form(REVIEWS)
    (source / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    log = load("amazon")
    assert events(log) == EVENTS
    assert (log.num_users, log.num_items, log.exclude_seen) == (2, 3, False)
    assert (log.item_texts, log.item_categories) == (None, None)
    assert log.notes["ledger"] == {"rows_in": 4, "rows_kept": 4, "dropped": {}}
    assert list(log.notes["files"]) == [name]


def test_a_csv_is_told_by_its_ids_and_not_by_its_name(source, load, events):
    (source / "ratings_Beauty.csv").write_bytes(plain(of_2018)(REVIEWS))
    assert events(load("amazon")) == EVENTS


def test_the_metadata_of_2018_give_title_and_brand_and_the_second_category(source, load, described):
    (source / "Beauty_5.json.gz").write_bytes(gzip.compress(json_of_2018([(ANNA, f"B00AAAAAA{at}", 5.0, at) for at in range(5)])))
    metadata = lines(
        [
            {"asin": "B00AAAAAA0", "title": "Comb", "brand": "Acme", "category": ["Beauty", "Hair", "Combs"], "description": ["a", "b"]},
            {"asin": "B00AAAAAA1", "title": "Soap", "brand": "", "category": ["Beauty"], "also_buy": []},
            {"asin": "B00AAAAAA2", "title": "Wig", "category": [], "main_cat": "All Beauty"},
            {"asin": "B00AAAAAA3", "title": "Hymn", "category": [], "main_cat": '<img src="x.png" alt="Digital Music"/>'},
            {"asin": "B00ELSE000", "title": "Hat", "brand": "Acme", "category": ["Fashion", "Hats"]},
        ]
    )
    (source / "meta_Beauty.json.gz").write_bytes(gzip.compress(metadata))
    log = load("amazon")
    assert described(log) == {
        "B00AAAAAA0": ("Comb. Acme", "Hair"),
        "B00AAAAAA1": ("Soap", "Beauty"),
        "B00AAAAAA2": ("Wig", "All Beauty"),
        "B00AAAAAA3": ("Hymn", "Digital Music"),
        "B00AAAAAA4": ("", ""),
    }
    assert log.notes["category_names"] == ["", "All Beauty", "Beauty", "Digital Music", "Hair"]


def test_the_metadata_of_2023_give_title_and_store_and_the_main_category(source, load, described):
    (source / "All_Beauty.jsonl.gz").write_bytes(gzip.compress(json_of_2023(REVIEWS)))
    metadata = lines(
        [
            {"main_category": "All Beauty", "title": "Comb", "store": "Acme", "categories": ["x", "y"], "parent_asin": "B00AAAAAA1"},
            {"main_category": None, "title": "Soap", "store": None, "categories": [], "parent_asin": "0000000009", "details": {"a": 1}},
        ]
    )
    (source / "meta_All_Beauty.jsonl.gz").write_bytes(gzip.compress(metadata))
    assert described(load("amazon")) == {"0000000009": ("Soap", ""), "B00AAAAAA1": ("Comb. Acme", "All Beauty")}


def test_metadata_lie_beside_a_csv_too(source, load, described):
    (source / "All_Beauty.csv").write_bytes(csv_of_2023(REVIEWS))
    metadata = lines([{"main_category": "All Beauty", "title": "Comb", "store": "Acme", "parent_asin": "B00AAAAAA1"}])
    (source / "meta_All_Beauty.jsonl").write_bytes(metadata)
    assert described(load("amazon")) == {"0000000009": ("", ""), "B00AAAAAA1": ("Comb. Acme", "All Beauty")}


GOOD = {"a.csv": plain(of_2014)(REVIEWS)}
COMB = {"asin": "B00AAAAAA1", "title": "Comb", "brand": "Acme", "category": ["Beauty", "Hair"]}
REFUSED = {
    "no file": ({}, "amazon: none; 'amazon' is read from one file of reviews"),
    "metadata alone": ({"meta_a.json": lines([COMB])}, "amazon: none; 'amazon' is read from one file of reviews"),
    "several files of reviews": ({"b.csv": b"", "a.json.gz": b"", "notes.txt": b""}, "amazon: a.json.gz, b.csv; 'amazon' is read from one"),
    "several files of metadata": (
        GOOD | {"meta_a.json": lines([COMB]), "meta_b.json": lines([COMB])}, "amazon: meta_a.json, meta_b.json; 'amazon' is read from one",
    ),
    "other fields": ({"a.jsonl": lines([{"user": 1, "item": 2}])}, "a.jsonl: line 1 has the fields user, item; expected reviewerID"),
    "no object": ({"a.jsonl": b"[1, 2]\n"}, "a.jsonl: line 1 is no JSON object"),
    "no JSON": ({"a.jsonl": b"reviewerID,asin\n"}, "a.jsonl: line 1 is no JSON ("),
    "bytes that are no text": ({"a.jsonl": b'{"reviewerID": "\xff\xfe"}\n'}, "a.jsonl: line 1 is no JSON ("),
    "an empty file of JSON": ({"a.jsonl": b""}, "a.jsonl: line 1 is no JSON ("),
    "a bad line of JSON": ({"a.jsonl": json_of_2018(REVIEWS) + b"{\n"}, "a.jsonl: line 5: cannot be read as jsonl"),
    "an empty CSV": ({"a.csv": b""}, "a.csv: expected four columns a line"),
    "three columns": ({"a.csv": b"ANNA,B00AAAAAA1,1400000000\n"}, "a.csv: expected four columns a line"),
    "no product in either column": ({"a.csv": b"1,2,5.0,1400000000\n"}, "a.csv: neither its first nor its second column alone holds ids"),
    "a product in both columns": ({"a.csv": b"B00AAAAAA1,B00AAAAAA2,5.0,1400000000\n"}, "a.csv: neither its first nor its second column"),
    "a header without times": ({"a.csv": b"user_id,parent_asin,rating\nANNA,B00AAAAAA1,5.0\n"}, "a.csv: no column 'timestamp'"),
    "seconds where milliseconds are due": (
        {"a.csv": f"user_id,parent_asin,rating,timestamp\nANNA,B00AAAAAA1,5.0,{START}\n".encode()},
        f"a.csv: row 1, column 'timestamp': '{START}' is before 1990-01-01",
    ),
    "a cut CSV": ({"a.csv.gz": gzip.compress(plain(of_2014)(REVIEWS))[:-20]}, "a.csv.gz: cannot be read ("),
    "a CSV that is not packed": ({"a.csv.gz": plain(of_2014)(REVIEWS)}, "a.csv.gz: cannot be read ("),
    "a damaged CSV": ({"a.csv.gz": gzip.compress(b"")[:10] + b"\xff" * 40}, "a.csv.gz: cannot be read ("),
    "damaged JSON": ({"a.json.gz": gzip.compress(b"")[:10] + b"\xff" * 40}, "a.json.gz: cannot be read ("),
    "metadata of 2014": (GOOD | {"meta_a.json": b"{'asin': 'B00AAAAAA1'}\n"}, "meta_a.json: line 1 is no JSON ("),
    "metadata of other products": (
        GOOD | {"meta_a.json": lines([COMB | {"asin": "B00ELSE000"}])},
        "meta_a.json: gives no text and no category for any of the items of",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_such_data_set_is_one_line_that_names_the_file(source, refusal, files, message):
    for name, content in files.items():
        (source / name).write_bytes(content)
    assert message in refusal("amazon")

"""PixelRec: files are known by their columns, since sizes have names of their own."""

import pytest

START = 1_650_000_000
INTERACTIONS = f"item_id,user_id,timestamp\ni20,u3,{START + 9}\ni3,u3,{START + 1}\ni20,u1,{START + 5}\ni100,u3,{START + 9}\n"
EVENTS = [("u1", "i20", 5), ("u3", "i3", 1), ("u3", "i20", 9), ("u3", "i100", 9)]
COUNTS = "view_number,comment_number,thumbup_number,share_number,coin_number,favorite_number,barrage_number"
ITEMS = (
    f"item_id,{COUNTS},title,tag,description\n"
    'i100,1,2,3,4,5,6,7,"Cats, again",Pets,"They say ""meow""\nand leave"\n'
    "i20,1,2,3,4,5,6,7,\u732b,,\n"
    "i999,1,2,3,4,5,6,7,Dogs,Dogs,unseen\n"
)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "pixelrec"
    folder.mkdir()
    (folder / "Pixel200K.csv").write_text(INTERACTIONS, encoding="utf-8")
    return folder


def test_interactions_are_read_in_time_order_and_ties_keep_file_order(source, load, events):
    log = load("pixelrec")
    assert [(user, item, time - START) for user, item, time in events(log)] == EVENTS
    assert log.notes["ledger"] == {"rows_in": 4, "rows_kept": 4, "dropped": {}}
    assert (log.item_texts, log.item_categories, log.exclude_seen) == (None, None, False)
    assert list(log.notes["files"]) == ["Pixel200K.csv"]


def test_the_item_table_gives_title_tag_and_description(source, load, described):
    (source / "item_info.csv").write_text(ITEMS, encoding="utf-8")
    assert described(load("pixelrec")) == {
        "i100": ('Cats, again. Pets. They say "meow"\nand leave', "Pets"),
        "i20": ("\u732b", ""),
        "i3": ("", ""),
    }


def test_an_item_table_of_titles_alone_gives_texts_alone(source, load):
    (source / "titles.csv").write_text("item_id,title\ni20,Cats\n")
    log = load("pixelrec")
    assert log.item_texts == ("", "", "Cats", "")  # as texts i100 comes before i20 and i3
    assert log.item_categories is None


def test_the_folder_itself_may_be_named(tmp_path, load, events):
    (tmp_path / "Pixel1M.csv").write_text(INTERACTIONS)
    assert len(events(load("pixelrec"))) == 4


REFUSED = {
    "two sizes": ({"Pixel1M.csv": INTERACTIONS}, "pixelrec: Pixel1M.csv, Pixel200K.csv with the columns item_id, user_id, timestamp;"),
    "two item tables": ({"a.csv": ITEMS, "b.csv": ITEMS}, "pixelrec: a.csv, b.csv with the columns item_id, title; expected one such file"),
    "no interactions": ({"Pixel200K.csv": ITEMS}, "pixelrec: none with the columns item_id, user_id, timestamp; expected one such file"),
    "an empty file": ({"Pixel200K.csv": ""}, "Pixel200K.csv: is empty; expected a line that names the columns"),
    "a header alone": ({"Pixel200K.csv": "item_id,user_id,timestamp\n"}, "Pixel200K.csv: holds no row"),
    "milliseconds": (
        {"Pixel200K.csv": f"item_id,user_id,timestamp\ni1,u1,{START}000\n"},
        f"Pixel200K.csv: row 1, column 'timestamp': '{START}000' is not before 2100-01-01",
    ),
    "items of another numbering": ({"a.csv": "item_id,title\nv20,Cats\n"}, "a.csv: gives no text for any of the items of"),
}


@pytest.mark.parametrize(("files", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_such_data_set_is_one_line_that_names_the_file(source, refusal, files, message):
    for name, content in files.items():
        (source / name).write_text(content, encoding="utf-8")
    assert message in refusal("pixelrec")

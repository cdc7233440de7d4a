"""KuaiRand: clicks of the standard logs, wherever the publisher's archive puts them."""

import pytest

from persrec.data.__main__ import main

START = 1_650_000_000_000
COLUMNS = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,play_time_ms,duration_ms,"
    "profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
EARLY, LATE, RANDOM = (f"log_{kind}_pure.csv" for kind in ("standard_4_08_to_4_21", "standard_4_22_to_5_08", "random_4_22_to_5_08"))
FEATURES = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,music_id,music_type,tag\n"
    '40,1,NORMAL,2022-04-01,LongImport,1,9000,720,1280,3,9,"12,65"\n'
    "41,1,AD,2022-04-02,LongImport,1,,720,1280,3,9,8\n"
    "42,2,NORMAL,2022-04-02,ShortImport,1,100,720,1280,3,9,\n"
)


def log_of(rows):
    """Rows of (user, video, milliseconds after START, clicked)."""
    lines = (f"{user},{video},20220415,525,{START + after},{clicked},0,0,0,0,0,0,10,20,0,0,0,0,1" for user, video, after, clicked in rows)
    return "\n".join([COLUMNS, *lines, ""])


LOGS = {
    EARLY: log_of([(7, 42, 2500, 1), (7, 40, 2200, 1), (7, 40, 2300, 0), (3, 41, 9000, 1)]),
    LATE: log_of([(3, 40, 1000, 1), (3, 42, 9000, 1), (7, 41, 9000, 0)]),
    RANDOM: log_of([(3, 99, 1500, 1)]),
}
# 2,200 ms come before 2,500 ms of the same second; the two clicks at 9,000 ms keep the order of the files.
EVENTS = [(3, 40, 1), (3, 41, 9), (3, 42, 9), (7, 40, 2), (7, 42, 2)]


def written(folder, files=LOGS):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize("place", ["kuairand", "kuairand/data", "KuaiRand-Pure/data"])
def test_clicks_of_all_standard_logs_count_and_random_exposures_do_not(tmp_path, load, events, place):
    written(tmp_path / place)
    log = load("kuairand")
    assert [(user, video, time - START // 1000) for user, video, time in events(log)] == EVENTS
    assert log.notes["ledger"] == {"rows_in": 7, "rows_kept": 5, "dropped": {"not clicked": 2}}
    assert list(log.notes["files"]) == [EARLY, LATE]
    assert (log.item_texts, log.item_categories, log.exclude_seen) == (None, None, False)


def test_the_first_tag_is_the_category(tmp_path, load, described):
    written(tmp_path / "kuairand", LOGS | {"video_features_basic_pure.csv": FEATURES})
    log = load("kuairand")
    assert described(log) == {40: (None, "12"), 41: (None, "8"), 42: (None, "")}
    assert (log.item_texts, log.notes["category_names"]) == (None, ["", "12", "8"])


@pytest.mark.parametrize("folder", ["kuairand_1k", "kuairand-1k", "KuaiRand-1K"])
def test_a_size_is_read_from_its_own_folder(tmp_path, load, events, folder):
    written(tmp_path / "KuaiRand-Pure")
    written(tmp_path / folder / "data", {"log_standard_4_08_to_4_21_1k.csv": log_of([(1, 2, 0, 1)])})
    log = load("kuairand", size="1k")
    assert events(log) == [(1, 2, START // 1000)]
    assert [path.name[:11] for path in (tmp_path / "cache").iterdir()] == ["kuairand-1k"]


def test_a_size_that_is_not_there_is_not_another_one(tmp_path, refusal):
    written(tmp_path / "KuaiRand-Pure")
    assert "no folder" in refusal("kuairand", size="27k")
    assert "kuairand_27k" in refusal("kuairand", size="27k")


def test_a_folder_that_holds_another_size_is_not_the_one_asked_for(tmp_path, refusal):
    written(tmp_path / "data")  # as where --data-dir names KuaiRand-Pure itself
    assert "no folder" in refusal("kuairand", size="27k")


def test_a_toml_filters_a_publishers_table_by_what_it_has_and_nothing_else(tmp_path, monkeypatch, capsys):
    written(tmp_path / "kuairand")
    monkeypatch.setenv("PERSREC_DATA", str(tmp_path))
    for filters, told in (
        ("minimum_length = 2", ""),
        ("minimum_rating = 4.0", "filters.minimum_rating: kuairand is read without a column that it could look at"),
        ("events = ['x']", "filters.events: kuairand is read without a column that it could look at"),
    ):
        (tmp_path / "mine.toml").write_text(f"name = 'mine'\nsource = 'kuairand'\n[filters]\n{filters}\n")
        code = main(["prepare", str(tmp_path / "mine.toml"), "--cache-dir", str(tmp_path / "cache")])
        assert (code, told in capsys.readouterr().err) == (2 if told else 0, True)


def test_an_unknown_size_is_refused_with_the_known_ones(tmp_path, load):
    with pytest.raises(ValueError, match="size: 'huge' of dataset 'kuairand', known: pure, 1k, 27k"):
        load("kuairand", size="huge")


REFUSED = {
    "no log": ({RANDOM: LOGS[RANDOM]}, "kuairand: no file log_standard_*.csv"),
    "no column of clicks": ({EARLY: LOGS[EARLY].replace("is_click", "clicked")}, f"{EARLY}: no column 'is_click', which kuairand names"),
    "no column of users": ({EARLY: LOGS[EARLY].replace("user_id", "who")}, f"{EARLY}: no column 'user_id', which is to hold the user"),
    "no click": ({EARLY: log_of([(7, 42, 0, 0)])}, f"{EARLY}: no row of 1 is left (1: not clicked)"),
    "no tags": (
        LOGS | {"video_features_basic_pure.csv": "video_id,author_id\n40,1\n"},
        "video_features_basic_pure.csv: no column 'tag', which kuairand names",
    ),
    "a cut line": ({EARLY: LOGS[EARLY] + "7,42\n"}, f"{EARLY}: line 6, column 'date': fewer columns"),
    "a bad time": (
        {EARLY: LOGS[EARLY], LATE: log_of([(1, 1, 0, 1)]).replace(str(START), "soon")},
        f"{LATE}: row 1, column 'time_ms': 'soon'",
    ),
}


@pytest.mark.parametrize(("files", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_such_data_set_is_one_line_that_names_the_file(tmp_path, refusal, files, message):
    written(tmp_path / "kuairand", files)
    assert message in refusal("kuairand")

"""SNAP's temporal edges, with times since 1970 or since the network's own start."""

import gzip

import pytest

START = 1_200_000_000
DAY = 86_400
EDGES = [(7, 3, 0), (30, 7, 5), (7, 3, 5), (7, 9, 2), (7, 7, 5)]  # in the order of the file: sender, recipient, seconds
EVENTS = [(7, 3, 0), (7, 9, 2), (7, 3, 5), (7, 7, 5), (30, 7, 5)]


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "snap"
    folder.mkdir()
    return folder


def edges(start):
    return "".join(f"{sender} {recipient} {start + seconds}\n" for sender, recipient, seconds in EDGES).encode()


@pytest.mark.parametrize("name", ["email-temporal.txt.gz", "messages.txt"])
@pytest.mark.parametrize(("given", "kept"), [(0, DAY), (START, START)], ids=["since the network's start", "since 1970"])
def test_edges_are_read_in_time_order_and_ties_keep_file_order(source, load, events, name, given, kept):
    content = edges(given)
    (source / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    log = load("snap")
    assert [(sender, recipient, time - kept) for sender, recipient, time in events(log)] == EVENTS
    assert log.notes["ledger"] == {"rows_in": 5, "rows_kept": 5, "dropped": {}}
    assert (log.num_users, log.num_items, log.item_texts, log.exclude_seen) == (2, 4, None, False)


REFUSED = {
    "no file": ({}, "snap: none; 'snap' is read from one file of edges, .txt or .txt.gz"),
    "several files": ({"b.txt": b"1 2 3\n", "a.txt.gz": b""}, "snap: a.txt.gz, b.txt; 'snap' is read from one file of edges"),
    "an empty file": ({"a.txt": b""}, "a.txt: line 1 is not 'SENDER RECIPIENT SECONDS' ("),
    "a header": ({"a.txt": b"# sender recipient time\n1 2 3\n"}, "a.txt: line 1 is not 'SENDER RECIPIENT SECONDS' ("),
    "no times": ({"a.txt": b"1 2\n"}, "a.txt: line 1 is not 'SENDER RECIPIENT SECONDS' ("),
    "a line without a time": ({"a.txt": b"1 2 3\n1 2\n"}, "a.txt: line 2, column 'seconds': fewer columns"),
    "a negative time": ({"a.txt": b"1 2 3\n1 2 -4\n"}, "a.txt: row 2, column 'seconds': '-4' is negative"),
    "a time before 1990 among those since 1970": (
        {"a.txt": f"1 2 {START}\n1 2 3\n".encode()}, "a.txt: row 2, column 'seconds': '3' is before 1990-01-01",
    ),
    "a time of text": ({"a.txt": b"1 2 3\n1 2 x\n"}, "a.txt: row 2, column 'seconds': 'x' is no number of seconds"),
    "a file that is not packed": ({"a.txt.gz": edges(0)}, "a.txt.gz: cannot be read ("),
    "a damaged file": ({"a.txt.gz": gzip.compress(b"")[:10] + b"\xff" * 40}, "a.txt.gz: cannot be read ("),
}  # fmt: skip


@pytest.mark.parametrize(("files", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_such_data_set_is_one_line_that_names_the_file(source, refusal, files, message):
    for name, content in files.items():
        (source / name).write_bytes(content)
    assert message in refusal("snap")

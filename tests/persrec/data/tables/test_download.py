"""Downloads from a server of the test's own: gone on with, checked, unpacked inside their folder, and nothing is loaded unasked."""

import hashlib
import http.server
import io
import threading
import zipfile

import pytest

from persrec.data import SourceError
from persrec.data.__main__ import main
from persrec.data.sources import movielens
from persrec.data.tables.download import Download, fetch

RATINGS = "userId,movieId,rating,timestamp\n1,5,4,978300000\n1,6,4,978300001\n"


def packed(members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return content.getvalue()


@pytest.fixture
def server():
    """Serves ``files`` by path, ranges too where ``ranges`` says so; ``asked`` are the ranges that were asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        files, asked, ranges, cut = {}, [], True, None

        def do_GET(self):
            content = self.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            self.asked.append((self.path, start))
            if start >= len(content) and start:
                self.send_error(416)
                return
            start = start if self.ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : self.cut] if self.path.endswith(".zip") else content[start:])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        Handler.files, Handler.asked = {}, []
        Handler.url = f"http://127.0.0.1:{running.server_port}"
        yield Handler
        running.shutdown()
        thread.join()


def offer(server, content, digest=None):
    stated = digest or hashlib.md5(content, usedforsecurity=False).hexdigest()
    server.files |= {"/x.zip": content, "/x.zip.md5": f"MD5 (x.zip) = {stated}".encode()}
    return Download(url=f"{server.url}/x.zip", checksum=f"{server.url}/x.zip.md5")


def test_an_archive_is_loaded_checked_and_unpacked_as_the_datasets_folder(server, tmp_path):
    told = []
    folder = fetch("x", offer(server, packed({"X-1.0/a.csv": "a", "X-1.0/deep/b.csv": "b"})), tmp_path / "data", told.append)
    assert folder == tmp_path / "data" / "x"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.csv")) == ["a.csv", "deep/b.csv"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["x"]
    assert told[-1].startswith(f"{server.url}/x.zip: ")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_was_cut_is_gone_on_with_or_begun_anew(server, tmp_path, ranges):
    content = packed({"X/a.csv": "a" * 5000})
    download = offer(server, content)
    server.cut = 100
    with pytest.raises(SourceError, match=r"x\.zip: cannot be loaded .*; without it, put the content of .*x\.zip into .*/x/$"):
        fetch("x", download, tmp_path, lambda _: None)
    assert (tmp_path / ".x.zip.part").stat().st_size == 100
    server.cut, server.ranges = None, ranges
    fetch("x", download, tmp_path, lambda _: None)
    assert ("/x.zip", 100) in server.asked
    assert (tmp_path / "x" / "a.csv").read_text() == "a" * 5000


def test_a_whole_download_that_was_not_unpacked_is_not_loaded_again(server, tmp_path):
    content = packed({"X/a.csv": "a"})
    (tmp_path / ".x.zip.part").write_bytes(content)
    fetch("x", offer(server, content), tmp_path, lambda _: None)
    assert (tmp_path / "x" / "a.csv").is_file()


def test_another_digest_is_refused_and_deleted(server, tmp_path):
    with pytest.raises(SourceError, match=r"has MD5 [0-9a-f]{32}, and .*x\.zip\.md5 says 0{32}; what was loaded is deleted"):
        fetch("x", offer(server, packed({"X/a.csv": "a"}), digest="0" * 32), tmp_path, lambda _: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../a.csv", "X/../../a.csv", "/a.csv", "a.csv", "X\\a.csv"])
def test_an_archive_that_climbs_out_of_its_folder_is_refused(server, tmp_path, name):
    with pytest.raises(SourceError, match="does not lie in a folder of the archive"):
        fetch("x", offer(server, packed({"X/good.csv": "", name: "evil"})), tmp_path / "data", lambda _: None)
    assert not (tmp_path / "data" / "x").exists()
    assert not (tmp_path / "a.csv").exists()


def test_an_archive_that_grows_beyond_measure_is_refused(server, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X/a", b"0" * (30 << 20))
    with pytest.raises(SourceError, match="more than 20 times its size"):
        fetch("x", offer(server, (tmp_path / "bomb").read_bytes()), tmp_path / "data", lambda _: None)
    assert not (tmp_path / "data" / "x").exists()


def test_what_is_no_archive_is_refused(server, tmp_path):
    with pytest.raises(SourceError, match=r"is no zip"):
        fetch("x", offer(server, b"<html>moved</html>"), tmp_path, lambda _: None)


def test_prepare_loads_only_when_asked_and_without_a_network_says_where_to_put_what(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(movielens.ROWS, "ml-latest-small", 2)
    call = ["prepare", "ml-latest-small", "--source", str(tmp_path / "data")]
    assert main(call) == 2
    assert server.asked == []
    download = offer(server, packed({"ml-latest-small/ratings.csv": RATINGS}))
    build = movielens.build_latest_small

    def offered():
        import dataclasses

        return dataclasses.replace(build(), download=download)

    monkeypatch.setattr(movielens, "build_latest_small", offered)
    assert main([*call, "--download"]) == 0
    assert "interactions       2" in capsys.readouterr().out
    assert main([*call, "--download"]) == 0
    assert server.asked.count(("/x.zip", 0)) == 1
    unreachable = Download(url="http://127.0.0.1:9/x.zip", checksum="http://127.0.0.1:9/x.zip.md5")
    monkeypatch.setattr(movielens, "build_latest_small", lambda: __import__("dataclasses").replace(build(), download=unreachable))
    capsys.readouterr()
    assert main(["prepare", "ml-latest-small", "--source", str(tmp_path / "other"), "--download"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be loaded" in error
    assert f"put the content of http://127.0.0.1:9/x.zip into {tmp_path / 'other' / 'ml-latest-small'}/" in error


def test_what_has_no_archive_says_what_to_put_where(tmp_path, capsys):
    assert main(["prepare", "ebnerd", "--source", str(tmp_path), "--download"]) == 2
    error = capsys.readouterr().err
    assert "there is no archive with a digest beside it; put train/ and validation/" in error

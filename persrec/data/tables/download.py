"""Downloads of publishers' archives: only on request, resumed after a stop, checked by the publisher's own digest, unpacked safely."""

import hashlib
import http.client
import re
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from persrec.data.errors import SourceError
from persrec.files import atomic_folder

BYTES_AT_ONCE = 1 << 20
TIMEOUT_S = 60.0
MOST_UNPACKED = 20  # times an archive's own size: one that grows more is no data set
_MD5 = re.compile(rb"\b[0-9a-fA-F]{32}\b")

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """An archive that a publisher offers.

    Attributes:
        url: of a zip with one folder in it.
        checksum: of the text that holds the zip's MD5, which the publisher puts beside it.
    """

    url: str
    checksum: str


def fetch(name: str, download: Download, data_dir: Path, tell: Tell) -> Path:
    """The folder ``data_dir/name``, downloaded, checked and unpacked.

    A download that was stopped lies in ``data_dir/.NAME.zip.part`` and is resumed.

    Args:
        name: of the dataset, and so of its folder.
        download: what to load.
        data_dir: the folder that is to hold it.
        tell: called with a line that says how far the download is.

    Raises:
        SourceError: there is no network, the digest is another, or the archive is damaged or climbs out of its folder; one line that says
            which file to put where.
    """
    part = data_dir / f".{name}.zip.part"
    by_hand = f"without it, put the content of {download.url} into {data_dir / name}/"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        expected_md5 = _published_md5(download)
        _load(download.url, part, tell)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise SourceError(f"{download.url}: cannot be loaded ({getattr(error, 'reason', error)}); {by_hand}") from error
    with part.open("rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    if md5 != expected_md5:
        part.unlink()
        raise SourceError(f"{download.url}: has MD5 {md5}, and {download.checksum} says {expected_md5}; what was loaded is deleted")
    _unpack(part, data_dir / name)
    part.unlink()
    return data_dir / name


def _published_md5(download: Download) -> str:
    """The MD5 that the publisher states."""
    with _open(download.checksum) as answer:
        match = _MD5.search(answer.read(1 << 12))
    if match is None:
        raise SourceError(f"{download.checksum}: holds no MD5")
    return match.group().decode().lower()


def _load(url: str, part: Path, tell: Tell) -> None:
    """Loads the part of a file that is not there yet."""
    offset = part.stat().st_size if part.is_file() else 0
    try:
        answer = _open(url, offset)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and offset:  # all of it is there
            return
        raise
    with answer:
        if offset and answer.status != http.client.PARTIAL_CONTENT:  # the server begins anew
            offset = 0
        total = offset + int(answer.headers.get("Content-Length") or 0)
        with part.open("ab" if offset else "wb") as file:
            while block := answer.read(BYTES_AT_ONCE):
                file.write(block)
                tell(f"{url}: {file.tell():,} of {total:,} bytes" if total > offset else f"{url}: {file.tell():,} bytes")
        if total > offset and part.stat().st_size < total:
            raise http.client.IncompleteRead(b"", total - part.stat().st_size)


def _open(url: str, start: int = 0) -> http.client.HTTPResponse:
    headers = {"Range": f"bytes={start}-"} if start else {}
    answer: http.client.HTTPResponse = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)  # noqa: S310 - declared
    return answer


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks the one folder of a zip as ``folder``, whole or not at all."""
    try:
        with zipfile.ZipFile(archive) as zip_file, atomic_folder(folder, replace=False) as part:
            members = [member for member in zip_file.infolist() if not member.is_dir()]
            if sum(member.file_size for member in members) > MOST_UNPACKED * max(archive.stat().st_size, 1 << 20):
                raise SourceError(f"{archive}: would unpack to more than {MOST_UNPACKED} times its size")
            for member in members:
                member_path = PurePosixPath(member.filename)
                if member_path.is_absolute() or ".." in member_path.parts or "\\" in member.filename or len(member_path.parts) < 2:
                    raise SourceError(f"{archive}: {member.filename!r} does not lie in a folder of the archive")
                target = part.joinpath(*member_path.parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                with zip_file.open(member) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, BYTES_AT_ONCE)
    except zipfile.BadZipFile as error:
        raise SourceError(f"{archive}: is no zip ({error})") from error

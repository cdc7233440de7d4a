"""Each committed page shows the records that are committed beside it: a record that changes is rendered again."""

import re
from pathlib import Path

import pytest

from benchmarks import store

PROJECT = Path(__file__).resolve().parent.parent
PAGES = sorted(path for path in (PROJECT / "reports").glob("*.html") if not path.name.startswith("smoke-"))


def test_there_are_pages() -> None:
    assert len(PAGES) >= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_shows_the_records_that_are_there(page: Path) -> None:
    (digest,) = re.findall(r'<meta name="records-digest" content="(\w+)">', page.read_text())
    assert digest == store.records_digest(PROJECT / "results" / page.stem)

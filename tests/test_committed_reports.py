"""Each committed page shows the records that are committed beside it: a record that changes is rendered again."""

import json
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


@pytest.mark.parametrize("cost", ["request_latency_p50_ms", "serve_peak_bytes"])
def test_nothing_is_dominated_on_a_timed_axis_by_what_computes_more(cost: str) -> None:
    """Of one backbone and one serving: a rival that needs more FLOPs and is surely quicker would be the clock's noise.

    Of kept keys and values, or of one compression, no page may say so (`benchmarks.analysis.frontier`); else the intervals alone decide.
    """
    pairs, strange = 0, []
    for page in PAGES:
        (packed,) = re.findall(r'<script type="application/json" id="compact">(.*?)</script>', page.read_text(), re.DOTALL)
        columns = json.loads(packed)["columns"]
        for row, rival in enumerate(columns.get(f"beaten:{cost}", [])):
            if rival is None or any(columns[name][row] != columns[name][rival] for name in ("backbone", "serving")):
                continue
            pairs += 1
            if columns["serve_visible_flops"][rival] > columns["serve_visible_flops"][row]:
                strange.append((page.stem, columns["label"][row], columns["label"][rival]))
    assert pairs >= 3
    assert strange == []


def test_profile_was_measured_twice_and_few_timed_values_lie_apart() -> None:
    """How many do stands in the comparison that is committed, and on the page on costs."""
    said = (PROJECT / "results" / "compare" / "profile-twice.md").read_text()
    (sentence,) = re.findall(
        r"^- (Of [\d,]+ timed values and peaks of one machine, .* lie outside each other's interval\.)$", said, re.MULTILINE
    )
    values, apart, outside = (int(number.replace(",", "")) for number in re.findall(r"(?<=Of )[\d,]+|(?<=, )\d+|(?<=and )\d+", sentence))
    assert values > 1000
    assert apart <= outside <= 0.05 * values
    page = " ".join((PROJECT / "docs" / "costs.md").read_text().split())
    assert f"of {values:,} timed values and peaks {apart} ({apart / values:.1%}) have intervals apart" in page
    assert f"{outside} ({outside / values:.1%}) lie outside each other's" in page

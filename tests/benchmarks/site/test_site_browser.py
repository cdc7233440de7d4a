"""The site in a real browser: from a file, offline, without a complaint; it fits a phone, and axe finds nothing."""

import browsers
import pytest
from fabricated_records import fabricate, slim, write

from benchmarks.cell import Cell
from benchmarks.site.command import main

pytestmark = pytest.mark.skipif(bool(browsers.missing()), reason=browsers.missing())

TRIO = [Cell(backbone="hstu", compression=name, tokens=tokens) for name, tokens in (("full", 0), ("experts", 0), ("experts", 16))]
FLOOR = Cell(backbone="popularity", compression="none", training="none")
PAGES = ("index.html", "runs/a <b>run & 100%.html")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = tmp_path_factory.mktemp("site")
    write(place / "results" / "a <b>run & 100%", [slim(fabricate(cell)) for cell in TRIO])
    write(place / "results" / "floor", [slim(fabricate(FLOOR)), fabricate(TRIO[0], status="oom")])
    assert main([str(place / "results"), "--out", str(place / "out")]) == 0
    return place / "out"


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_and_nothing_is_wider_than_the_window(site, browser, name, width, theme):
    with browsers.opened(browser, site / name, width=width, theme=theme, bypass_csp=True) as shown:
        assert shown.complaints == []
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        assert browsers.violations(shown) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_a_table_of_the_index_that_is_wider_than_its_box_scrolls_and_says_so(site, browser, width):
    with browsers.opened(browser, site / "index.html", width=width) as shown:
        boxes = shown.page.locator(".scroll")
        assert boxes.count() == shown.page.locator("table").count() == 2
        for place in range(2):
            wide = boxes.nth(place).evaluate("(box) => box.scrollWidth > box.clientWidth + 1")
            assert wide == (width == 390)
            assert shown.page.locator(".hint").nth(place).is_visible() == wide
            boxes.nth(place).focus()
            shown.page.keyboard.press("ArrowRight")
            if wide:
                shown.page.wait_for_function("(box) => box.scrollLeft > 0", arg=boxes.nth(place).element_handle())


def test_a_link_of_the_index_opens_its_report(site, browser):
    with browsers.opened(browser, site / "index.html") as shown:
        shown.page.locator("#content a", has_text="a <b>run & 100%").first.click()
        assert shown.page.locator("h1").inner_text() == "a <b>run & 100%"

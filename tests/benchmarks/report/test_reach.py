"""What lies outside of what is to be seen can be reached: every table fits or scrolls in its own box, and every point by keyboard."""

import browsers
import pytest

pytestmark = pytest.mark.skipif(bool(browsers.missing()), reason=browsers.missing())

OPEN = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
SETTLED = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))"
# of each table: what it is called, whether it is cut off, and whether its box scrolls, has the keyboard and says so
TABLES = """() => [...document.querySelectorAll("table")].map((table) => {
  const box = table.closest(".scroll");
  if (!box) return { name: table.caption?.textContent, boxed: false };
  const [style, hint] = [getComputedStyle(box), box.parentElement.querySelector(".hint")];
  const [wide, tall] = [box.scrollWidth > box.clientWidth + 1, box.scrollHeight > box.clientHeight + 1];
  const seen = box.getBoundingClientRect();
  return { name: table.caption?.textContent, boxed: true, wide, tall, scrolls: style.overflowX === "auto" && style.overflowY === "auto",
    inside: seen.left >= 0 && seen.right <= document.documentElement.clientWidth,
    keyboard: box.tabIndex === 0 && box.hasAttribute("aria-label"),
    said: hint?.checkVisibility() ? hint.textContent : "" };
})"""


def reachable(table):
    said = table.get("said", "")
    told = ("columns to the right" in said) == table.get("wide") and ("rows below" in said) == table.get("tall")
    return table["boxed"] and table["scrolls"] and table["inside"] and table["keyboard"] and told


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["grid", "evil", "costs"])
def test_every_table_fits_or_scrolls_in_its_own_box_and_says_so(pages, browser, name, width):
    with browsers.opened(browser, pages[name], width=width, bypass_csp=True) as shown:
        shown.page.evaluate(OPEN)
        if shown.page.locator("button.name").count():
            shown.page.locator("[id^=ranking-] button.name").first.click()
        shown.page.evaluate(SETTLED)
        tables = shown.page.evaluate(TABLES)
        assert [table for table in tables if not reachable(table)] == []
        assert any(table["wide"] for table in tables) or width == 1280
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width


def test_no_table_of_a_usual_run_is_wider_than_a_page_of_1280(pages, browser):
    with browsers.opened(browser, pages["grid"], bypass_csp=True) as shown:
        shown.page.evaluate(OPEN)
        wide = [table["name"] for table in shown.page.evaluate(TABLES) if table["wide"]]
        assert wide == []


def test_the_arrow_keys_go_along_the_points_of_a_panel(pages, browser):
    with browsers.opened(browser, pages["grid"]) as shown:
        page = shown.page
        panel = page.locator("svg.panel").first
        assert panel.locator("[tabindex='0']").count() == 1
        panel.locator("[tabindex='0']").focus()
        told = []
        for _ in range(3):
            told.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
            assert page.locator(".tip.shown").inner_text().partition("\n")[0] in told[-1]
            page.keyboard.press("ArrowRight")
        assert len(set(told)) == 3
        costs = [float(one.rpartition(", ")[2].split(" ")[0]) for one in told]
        assert costs == sorted(costs)
        page.keyboard.press("Home")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == told[0]
        assert panel.locator("[tabindex='0']").count() == 1
        page.keyboard.press("Enter")
        assert page.locator("dialog h2").inner_text() in told[0]
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == told[0]
        assert shown.complaints == []


def test_axe_finds_nothing_at_the_width_of_a_phone(pages, browser):
    with browsers.opened(browser, pages["grid"], width=390, theme="dark", bypass_csp=True) as shown:
        shown.page.evaluate(SETTLED)
        assert browsers.violations(shown) == []

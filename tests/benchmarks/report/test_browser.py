"""The page in a real browser: from a file, offline, without a complaint; it sorts, filters, tells, fits, and can be read by everyone."""

import re

import browsers
import pytest
from fabricated_records import configured, fabricate, grid_cells, write
from page_runs import EVIL, runs

from benchmarks.analysis.advice import Budget, advise
from benchmarks.measures import MEASURES
from benchmarks.report.names import NOT_CONVERGED, in_order
from benchmarks.report.page import render_report
from benchmarks.report.peers import peers_of

pytestmark = pytest.mark.skipif(bool(browsers.missing()), reason=browsers.missing())


def texts(page, selector):
    return [" ".join(text.split()) for text in page.locator(selector).all_inner_texts()]


def test_every_page_opens_from_a_file_offline_without_a_complaint_and_fits_its_width(pages, browser):
    for name, path in pages.items():
        for width in (1280, 390):
            with browsers.opened(browser, path, width=width) as shown:
                assert shown.complaints == [], name
                assert shown.page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
                assert shown.page.evaluate("document.documentElement.classList.contains('scripted')"), name


def test_nothing_of_a_record_is_run_or_becomes_markup(pages, browser):
    with browsers.opened(browser, pages["evil"]) as shown:
        shown.page.locator("#ranking-1 button.name").first.click()
        told = shown.page.locator("dialog").inner_text()
        assert told.count(EVIL) >= 2  # in the title of its data and in its command
        assert shown.page.evaluate("document.querySelectorAll('img').length") == 0
        assert (
            shown.page.evaluate("document.scripts.length")
            == shown.page.evaluate("[...document.scripts].filter((one) => one.type === 'application/json').length") + 1
        )
        assert shown.complaints == []


def test_a_table_sorts_by_a_click_and_filters_by_a_button(pages, browser):
    with browsers.opened(browser, pages["grid"]) as shown:
        ranks = "#ranking-1 tbody tr td:first-child"
        before = texts(shown.page, ranks)
        shown.page.locator("#ranking-1 th[data-name=request] button").click()
        costs = shown.page.locator("#ranking-1 tbody tr td:nth-child(5)").all_inner_texts()
        mega = [float(cost.split(" ")[0]) for cost in costs if cost.endswith("MFLOP")]
        assert mega == sorted(mega) and len(mega) > 10  # noqa: PT018 - one law: sorted, and there is something to sort
        assert texts(shown.page, ranks) != before
        shown.page.locator("#ranking-1 .filters button", has_text="pooling").click()
        names = texts(shown.page, "#ranking-1 tbody th")
        assert names
        assert all("pooling" in name for name in names)
        assert shown.page.locator("#ranking-1 .more-rows").inner_text().startswith(f"{len(names)} of ")
        assert shown.complaints == []


def test_drawn_rows_say_what_the_page_says_without_scripts(pages, browser):
    rows = "#ranking-1 tbody tr"
    with browsers.opened(browser, pages["grid"], scripts=False) as plain, browsers.opened(browser, pages["grid"]) as drawn:
        said, expected = (shown.page.locator(rows).all_inner_texts() for shown in (drawn, plain))
        assert [" ".join(row.split()) for row in said] == [" ".join(row.split()) for row in expected]
        assert len(said) == len(set(said)) > 20


def test_the_rest_of_a_long_table_is_drawn_and_holds_what_was_packed(pages, browser):
    with browsers.opened(browser, pages["grid"], scripts=False) as plain:
        assert "scripts draw the rest" in plain.page.locator("#reruns .without-scripts").text_content()
    with browsers.opened(browser, pages["grid"]) as shown:
        shown.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        standing = shown.page.locator("#reruns tbody tr").count()
        shown.page.locator("#reruns .more").click()
        rows = shown.page.locator("#reruns tbody tr").all_inner_texts()
        assert standing < len(rows) == 56
        commands = [record["provenance"]["rerun"] for record in runs()["grid"]]
        assert sorted(re.search(r"python -m .*'", row)[0] for row in rows) == sorted(commands)
        assert {row.split()[0] for row in rows} >= {"\N{BLACK CIRCLE}"}  # a family's glyph, which a row has by its key
        assert shown.complaints == []


def test_a_row_tells_its_numbers_its_record_and_its_command_by_keyboard(pages, browser):
    with browsers.opened(browser, pages["grid"]) as shown:
        shown.page.locator("#ranking-1 button.name").first.focus()
        shown.page.keyboard.press("Enter")
        told = shown.page.locator("dialog").inner_text()
        assert "python -m benchmarks.run --grid full --select" in told
        assert "serve latency p50 ms" in told
        link = shown.page.locator("dialog a").first.get_attribute("href")
        assert (pages["grid"].parent / link).is_file()
        shown.page.keyboard.press("Escape")
        assert not shown.page.locator("dialog").is_visible()


BUDGETS = (
    {}, {"latency": 1.2}, {"cache": 20}, {"latency": 2, "kept": 60}, {"quality": 0.05, "requests": 10}, {"latency": 0.001},
    {"cache": 12, "kept": 80, "requests": 4},
)  # fmt: skip


def test_a_budget_lists_what_the_command_would(pages, browser):
    (peers,) = peers_of(in_order(configured(runs()["grid"])))
    with browsers.opened(browser, pages["grid"]) as shown:
        inputs = dict(zip(("latency", "cache", "kept", "quality", "requests"), shown.page.locator("#budget input").all(), strict=True))
        for asked in BUDGETS:
            for name, place in inputs.items():
                place.fill(str(asked.get(name, "")))
            budget = Budget(
                max_latency_ms=asked.get("latency"),
                max_cache_bytes=asked["cache"] * 1024 if "cache" in asked else None,
                min_retention=asked["kept"] / 100 if "kept" in asked else None,
                min_quality=asked.get("quality"),
                requests_per_refresh=asked.get("requests", 1),
            )
            advice = advise(peers.configurations, budget)
            named = [name.removesuffix("not converged").strip() for name in texts(shown.page, "#budget tbody th")]
            wanted = advice.fits or advice.misses
            assert named == [peers.names(one.configuration).removesuffix(NOT_CONVERGED).strip() for one in wanted[:8]], asked
            assert "null" not in shown.page.locator("#budget").inner_text()
            said = shown.page.locator("#budget [aria-live]").inner_text()
            assert said.startswith(f"{len(advice.fits)} of " if advice.fits else "None of "), asked
        assert shown.complaints == []


def test_a_budget_tells_a_time_of_several_processes_from_one_of_one_process(browser, tmp_path):
    for bounds, shown_beside, warned in (({}, "median ", False), ({"low": None, "high": None}, "of one process", True)):
        records = [fabricate(cell) for cell in grid_cells(histories=(64,)) if cell.backbone == "hstu"]
        for record in records:
            for name in [name for name in record["metrics"] if "_latency_p" in name]:
                record["metrics"][name] |= bounds
        page = render_report(write(tmp_path / str(warned), records), tmp_path / f"{warned}.html")
        with browsers.opened(browser, page) as shown:
            beside = texts(shown.page, "#budget tbody td:nth-child(3) small")
            assert beside, shown.page.locator("#budget").inner_text()
            assert all(text.startswith(shown_beside) for text in beside)
            said = shown.page.locator("#budget [aria-live]").inner_text()
            assert ("was taken in one process" in said) == warned


@pytest.mark.parametrize(("percentile", "told"), [("p50", True), ("p95", False)])
def test_a_bound_inside_the_interval_of_a_median_may_or_may_not_be_kept(browser, tmp_path, percentile, told):
    """A higher percentile has no interval, so nothing of the kind is said of it."""
    [cell] = [cell for cell in grid_cells(histories=(64,)) if (cell.backbone, cell.compression, cell.tokens) == ("hstu", "experts", 4)][:1]
    record = fabricate(cell)
    for name in [name for name in record["metrics"] if "_latency_p" in name]:
        record["metrics"][name] |= {"value": 2.0, "low": 1.0, "high": 4.0} if name.endswith("_p50_ms") else {"value": 2.0}
        if percentile == "p50" and not name.endswith("_p50_ms"):
            record["metrics"][name] = {"value": None, "method": "too few requests"}
    page = render_report(write(tmp_path / percentile, [record]), tmp_path / f"{percentile}.html")
    with browsers.opened(browser, page) as shown:
        latency = shown.page.locator("#budget input").first
        for bound, inside in ((3, True), (5, False)):
            latency.fill(str(bound))
            beside = " ".join(texts(shown.page, "#budget tbody td:nth-child(3) small"))
            assert ("may or may not fit" in beside) == (inside and told), beside


def test_a_budget_asks_for_nothing_that_no_record_holds(browser, tmp_path):
    costless = [fabricate(cell) for cell in grid_cells(histories=(64,)) if cell.backbone == "hstu"]
    for record in costless:
        record["metrics"] = {name: entry for name, entry in record["metrics"].items() if MEASURES[name].group == "quality"}
    page = render_report(write(tmp_path / "costless", costless), tmp_path / "costless.html")
    with browsers.opened(browser, page) as shown:
        assert shown.page.locator("#budget input").count() == 2
        assert "by time, stored bytes, compute" in shown.page.locator("#budget").inner_text()
        assert shown.page.locator("#budget tbody tr").count() > 0


def test_the_figure_answers_its_controls(pages, browser):
    with browsers.opened(browser, pages["grid"]) as shown:
        page = shown.page
        assert texts(page, ".panel-of figcaption") == ["HSTU: NDCG@10", "SASRec: NDCG@10"]
        page.locator(".explorer .filters button", has_text="pooling").click()
        lit = page.locator("svg.panel .point:not(.dim)").count()
        assert lit == page.locator("svg.panel .f-pooling").count() > 0
        page.locator("[data-key=cost]").select_option("cache_bytes")
        page.locator("[data-key=scale]").select_option("linear")
        assert "cache per user" in page.locator("svg.panel").first.text_content()
        page.locator("svg.panel .f-pooling").first.hover()
        assert "pooling" in page.locator(".tip").inner_text()
        page.locator("svg.panel .f-pooling").first.click()
        assert "pooling" in page.locator("dialog h2").inner_text()
        assert page.locator("svg.panel .stopped").count() == 1
        assert "failed" in " ".join(page.locator("svg.panel").all_text_contents())
        assert shown.complaints == []


def test_the_figure_draws_the_frontier_of_the_table_at_every_cost(pages, browser):
    """With the quality of the standings: what takes no part in a frontier, such as what recomputes at stored bytes, is no point of it."""
    with browsers.opened(browser, pages["grid"]) as shown:
        page = shown.page
        columns = page.evaluate("JSON.parse(document.getElementById('compact').textContent).columns")
        costs = page.locator("[data-key=cost] option").evaluate_all("all => all.map((one) => one.value)")
        assert {"serve_flops", "cache_bytes", "request_latency_p50_ms"} <= set(costs)
        for cost in costs:
            page.locator("[data-key=cost]").select_option(cost)
            drawn = page.locator("svg.panel .point").evaluate_all("all => all.map((one) => Number(one.dataset.row))")
            assert drawn
            assert not [row for row in drawn if columns.get(f"out:{cost}", {row: None})[row]]
            on = {row for row, told in enumerate(columns[f"on:{cost}"]) if told}
            price, quality = columns[cost], columns["ndcg@10"]
            best = {row for row in drawn if not any(price[other] <= price[row] and quality[other] > quality[row] for other in drawn)}
            assert {quality[row] for row in best} >= {quality[row] for row in on}, cost
            assert on <= set(drawn)
        assert any(columns["out:cache_bytes"])


@pytest.mark.parametrize(("name", "theme", "everything"), [("grid", "light", False), ("evil", "light", True), ("costs", "dark", True)])
def test_axe_finds_nothing(pages, browser, name, theme, everything):
    with browsers.opened(browser, pages[name], theme=theme, bypass_csp=True) as shown:
        if everything:
            shown.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert browsers.violations(shown) == []


def test_two_thousand_rows_scroll_and_sort_at_once(pages, browser, tmp_path):
    """The compact table of a page, repeated: what is drawn does not grow with it, before a sort and after, so a sort is quick."""
    with browsers.opened(browser, pages["grid"], bypass_csp=True) as shown:
        grown = shown.page.evaluate("""() => {
            const table = JSON.parse(document.getElementById("compact").textContent);
            const times = Math.ceil(2000 / table.columns.label.length);
            for (const name of Object.keys(table.columns)) table.columns[name] = Array(times).fill(table.columns[name]).flat();
            return JSON.stringify(table).replaceAll("<", "\\\\u003c");
        }""")
    path = tmp_path / "grown.html"
    head, _, tail = pages["grid"].read_text().partition('<script type="application/json" id="compact">')
    path.write_text(f'{head}<script type="application/json" id="compact">{grown}</script>{tail.partition("</script>")[2]}')
    with browsers.opened(browser, path) as shown:
        assert shown.page.locator("#ranking-1 tbody tr").count() <= 200
        changed = shown.page.evaluate("""async () => {
            let rows = 0;
            const watch = new MutationObserver((all) => { for (const one of all) rows += one.addedNodes.length; });
            watch.observe(document.querySelector("#ranking-1 tbody"), { childList: true });
            document.querySelector("#ranking-1 th[data-name=request] button").click();
            await new Promise((done) => setTimeout(done));
            return rows;
        }""")
        assert 0 < changed <= 200
        assert shown.page.locator("#ranking-1 tbody tr").count() <= 200
        assert "2" in shown.page.locator("#ranking-1 .more").inner_text()
        assert shown.complaints == []

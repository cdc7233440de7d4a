"""A real browser for the tests of the page: Debian's chromium, driven with the network off; what it complains of is kept."""

import contextlib
import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")


def missing() -> str:
    """Why there is no browser to test in; empty where there is one."""
    if importlib.util.find_spec("playwright") is None or importlib.util.find_spec("axe_playwright_python") is None:
        return "playwright and axe-playwright-python are not installed: pip install -e '.[test]'"
    return "" if executable() else "chromium is not installed: apt-get install chromium"


def executable() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def started() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable(), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page that was opened from a file, and whatever went wrong in it."""

    page: Any
    complaints: list[str] = field(default_factory=list)


@contextlib.contextmanager
def opened(
    browser: Any, path: Path, *, width: int = 1280, theme: str = "light", scripts: bool = True, bypass_csp: bool = False
) -> Iterator[Opened]:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, offline=True, java_script_enabled=scripts, bypass_csp=bypass_csp
    )
    shown = Opened(page=context.new_page())
    address = path.resolve().as_uri()
    shown.page.on("console", lambda message: shown.complaints.append(f"console {message.type}: {message.text}"))
    shown.page.on("pageerror", lambda error: shown.complaints.append(f"error: {error}"))
    shown.page.on("dialog", lambda dialog: (shown.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    shown.page.on("request", lambda request: shown.complaints.append(f"request: {request.url}") if request.url != address else None)
    shown.page.goto(address)
    yield shown
    context.close()


def violations(shown: Opened) -> list[str]:
    """What axe-core finds, a line each."""
    import axe_playwright_python

    script = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
    shown.page.evaluate(script)
    found = shown.page.evaluate("axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations)")
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in found for node in rule["nodes"][:3]]

"""Pages of every kind of run, rendered once for all tests that open them."""

import pytest
from fabricated_records import write
from page_runs import runs

from benchmarks.report.page import render_report


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {
        name: render_report(write(folder / "results" / name, records), folder / "reports" / f"{name}.html")
        for name, records in runs().items()
    }

"""What the README shows runs, what it says stands in a record, and what the pages name is there."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("one_thread")

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text()
MOST_LINES = 120  # two screens


def example() -> str:
    block = re.search(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert block is not None
    return block.group(1)


def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path))
    names = {}
    exec(compile(example(), "README.md", "exec"), names)  # noqa: S102 - our own page
    assert names["scores"].shape == (1, 24 * 12 + 1)  # the categories and items of the size "tiny", and padding
    # 4 tokens, 2 layers, keys and values of 32 numbers of 4 bytes
    assert names["cache"].nbytes_per_user == 4 * 2 * 2 * 32 * 4
    assert list(tmp_path.iterdir()), "the example's data did not go to $PERSREC_CACHE"


def test_the_example_would_notice_a_history_that_is_lost(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path))
    second = "cache = model.extend(cache, window[:, 24:48])"
    assert second in example()
    with pytest.raises(AssertionError):
        exec(compile(example().replace(second, "cache = model.extend(cache, window[:, :24])"), "README.md", "exec"), {})  # noqa: S102


def test_it_fits_two_screens():
    assert len(README.splitlines()) <= MOST_LINES


def test_its_figures_stand_in_the_pages_that_it_names():
    claim = README[README.index("On synthetic interests") : README.index("## Two commands")]
    summary = (PROJECT / re.search(r"`(reports/\S+/summary\.md)`", claim)[1]).read_text()
    elsewhere = {
        **dict.fromkeys(
            ("0.5572", "0.0421", "0.0045", "0.0798", "0.0707", "0.0611", "0.0803", "0.0335", "0.0040", "0.0630"),
            "docs/better_tokens.md",
        ),
        **dict.fromkeys(("23.7%", "23.0%", "15.9%", "29.4%"), "reports/paper-synthetic-cpu/summary.md"),
    }
    assert all(f"]({page})" in claim for page in elsewhere.values())
    figures = re.findall(r"\d[\d.]*%|0\.\d+|\d[\d.]* (?:KiB|MFLOP)", claim)
    assert len(figures) == 19 + 14 + 3 + 3
    pages = {figure: (PROJECT / elsewhere[figure]).read_text() if figure in elsewhere else summary for figure in figures}
    assert [figure for figure, page in pages.items() if figure not in page] == []


def test_a_row_of_its_table_is_a_row_of_the_report():
    summary = (PROJECT / "reports/full-synthetic-cpu/summary.md").read_text().splitlines()
    rows = re.findall(r"^\| ([^|]*) \| (0\.\d+) \| [^|]* \| (\S+ MFLOP) \| (\S+ KiB) \|$", README, re.MULTILINE)
    assert [name.split()[-2:] for name, *_ in rows] == [["4", "tokens"], ["16", "tokens"], ["KV", "cache"]]
    for name, *figures in rows:
        configuration = "HSTU · full history, KV cache, elastic · 64 + 8" if "KV" in name else f"PerSRec, elastic, {name[10:]} · 64 + 8"
        assert any(configuration in line and all(f" {figure} " in line for figure in figures) for line in summary), name


def test_the_figures_of_a_report_stand_in_its_summary():
    rows = re.findall(r"^\| \[.*\]\((reports/\S+/summary\.md)\) \| (.*) \|$", README, re.MULTILINE)
    assert len(rows) >= 5
    figures = [(page, figure) for page, text in rows for figure in re.findall(r"\d\.\d+", text)]
    assert figures
    assert [(page, figure) for page, figure in figures if figure not in (PROJECT / page).read_text()] == []


@pytest.mark.parametrize("page", ["README.md", *sorted(path.name for path in (PROJECT / "docs").glob("*.md"))])
def test_every_link_to_a_file_leads_somewhere(page):
    path = PROJECT / page if page == "README.md" else PROJECT / "docs" / page
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("page", ["README.md", *sorted(path.name for path in (PROJECT / "docs").glob("*.md"))])
def test_every_path_of_the_project_that_a_page_names_is_there(page):
    path = PROJECT / page if page == "README.md" else PROJECT / "docs" / page
    named = set(re.findall(r"`((?:persrec|benchmarks|tests|docs|reports)/[\w./-]+\.(?:py|toml|md|json))`", path.read_text()))
    assert [name for name in sorted(named) if "NAME" not in name and not (PROJECT / name).exists()] == []


def test_every_test_that_a_page_names_is_there():
    named = [
        (page.name, file, function)
        for page in (PROJECT / "docs").glob("*.md")
        for file, function in re.findall(r"`(tests/\S+\.py)::(test_\w+)`", page.read_text())
    ]
    assert "differences.md" in {page for page, _, _ in named}
    assert [name for name in named if f"def {name[2]}(" not in (PROJECT / name[1]).read_text()] == []

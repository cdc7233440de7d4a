"""A report as a test reads it."""

import html
import re
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use"}


class Page(HTMLParser):
    """What a reader without scripts gets: tags, ids, attributes, texts; tags have to be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["script"], ["style"]):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def having(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def first_text(cell):
    texts = [html.unescape(text).strip() for text in re.split(r"<[^>]*>", cell)]
    return next((text for text in texts if text and text not in "●⬢✚■◆▲▼◀▶⬟★✖♦"), "")


def rows_of_tables(page):
    """The first line of every entry of every table, by the table's id."""
    tables = {}
    for key, table in re.findall(r'<div class="table[^"]*" id="([^"]+)".*?<table>(.*?)</table>', page.read_text(), flags=re.DOTALL):
        rows = re.findall(r"<tr.*?</tr>", table.split("</thead>")[-1], flags=re.DOTALL)
        tables[key] = [[first_text(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, flags=re.DOTALL)] for row in rows]
    return tables

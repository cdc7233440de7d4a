"""A figure as part of a page: with CSS variables for its colours, a title and a description, in as few bytes as possible."""

import re
from collections.abc import Callable

from markupsafe import Markup, escape

_TAG = re.compile(r"<[^>]*>")
_STYLE = re.compile(r'style="([^"]*)"')
_PLACES = re.compile(r' (?:d|x|y|transform)="[^"]*"')
_DECIMALS = re.compile(r"-?\d+\.\d{2,}")
_NO_TURN = re.compile(r' transform="rotate\(-?0 [^)]*\)"')
_GROUP_OF_MARKS = re.compile(r'<g>\n((?:<use [^>]*style="[^"]*"/>\n)+)</g>')
_GROUP_OF_PATHS = re.compile(r'<g>\n((?:<path d="[^"]*" style="[^"]*"/>\n){2,})</g>')
_EMPTY = re.compile(r"<defs>\s*</defs>\n?")


def inline(text: str, *, key: str, title: str, description: str, colour: Callable[[str], str]) -> Markup:
    """The SVG that matplotlib wrote, without namespaces, addresses and ids that nothing refers to.

    Args:
        text: what matplotlib wrote; its writer escapes every text.
        key: prefix of every id; unique in the page.
        title: what the figure shows, for readers who do not see it.
        description: what it shows, in words.
        colour: a colour of the palette as CSS.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    linked_ids = set(re.findall(r'xlink:href="#([^"]+)"', text))
    text = _TAG.sub(lambda tag: _rewrite_tag(tag.group(), key, linked_ids, colour), text)
    text = _smaller(re.sub(r"\s*\n\s*", "\n", text))
    view_box = re.search(r'viewBox="[-0-9. ]+"', text)
    head = (
        f'<svg class="figure" role="img" focusable="false" {view_box.group() if view_box else ""} '
        f'aria-labelledby="{escape(key)}-title {escape(key)}-desc">'
        f'<title id="{escape(key)}-title">{escape(title)}</title><desc id="{escape(key)}-desc">{escape(description)}</desc>'
    )
    # ours: the tags are matplotlib's, whose writer escapes every text, and the head's texts are escaped above
    return Markup(head + text[text.index(">") + 1 :].strip())  # noqa: S704


def _rewrite_tag(tag: str, key: str, linked_ids: set[str], colour: Callable[[str], str]) -> str:
    def identity(match: re.Match[str]) -> str:
        name = match.group(1)
        if name.startswith("class-"):
            return f' class="{name.removeprefix("class-").split("_")[0]}"'
        return f' id="{key}-{name}"' if name in linked_ids else ""

    tag = re.sub(r' id="([^"]*)"', identity, tag)
    tag = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{key}-\1"', tag)
    tag = _NO_TURN.sub("", tag)
    tag = _PLACES.sub(lambda places: _DECIMALS.sub(lambda number: f"{float(number.group()):.1f}".removesuffix(".0"), places.group()), tag)
    return _STYLE.sub(lambda style: f'style="{_theme_style(style.group(1), colour)}"', tag)


def _theme_style(style: str, colour: Callable[[str], str]) -> str:
    style = re.sub(r"'DejaVu Sans'[^;]*", "var(--sans, sans-serif)", style)
    return re.sub(r"#[0-9a-f]{6}", lambda match: colour(match.group()), style)


def _smaller(text: str) -> str:
    """The same drawing in fewer bytes: where all marks or lines of a group have one style, only the group has it."""
    for pattern in (_GROUP_OF_MARKS, _GROUP_OF_PATHS):
        text = pattern.sub(_style_once, text)
    return _EMPTY.sub("", text)


def _style_once(group: re.Match[str]) -> str:
    styles = set(_STYLE.findall(group.group(1)))
    if len(styles) > 1:
        return group.group()
    [style] = styles
    return f'<g style="{style}">\n{_STYLE.sub("", group.group(1)).replace(" />", "/>")}</g>'

"""Figures as themed inline SVG, and as PNG, by matplotlib over seaborn's plain style.

Every colour of a figure is one of the palette's; the SVG names it as a CSS variable, so that the page's light and dark themes reach
into the figure, with the light colour to fall back on. The same figure gives the same bytes: no date, fixed salt, fixed settings.
"""

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import seaborn
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.report.figures.svg import inline
from benchmarks.report.names import Family
from benchmarks.report.tabular import Table

INK, MUTED, GRID, PAPER = "#1c2127", "#5a6470", "#dde2e8", "#fefefe"
_THEME = {INK: ("ink", "#e8ebef"), MUTED: ("muted", "#a3acb7"), GRID: ("grid", "#343b45"), PAPER: ("paper", "#14181d")}
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "persrec",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "figure.dpi": 72,
    "figure.facecolor": "none",
    "figure.constrained_layout.w_pad": 0.06,
    "figure.constrained_layout.h_pad": 0.06,
}
WIDTH = 10.4  # inches, at 72 to the inch; the page scales it to its column
_PNG_DPI = 150


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """A figure as an image: SVG for the page, and on request PNG for elsewhere."""

    svg: Markup
    png: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A figure of the report with its title, a description of what it shows, and the table of its numbers."""

    key: str
    title: str
    description: str
    image: Image
    table: Table


def themes(families: Iterable[Family]) -> tuple[dict[str, str], dict[str, str]]:
    """The CSS variables of the palette: light and dark. A family's variable has the name of its light colour."""
    families = list(families)
    light = {name: colour for colour, (name, _) in _THEME.items()} | {_name(kind.colour): kind.colour for kind in families}
    dark = dict(_THEME.values()) | {_name(kind.colour): kind.dark for kind in families}
    return light, dark


def _name(colour: str) -> str:
    return f"c-{colour.removeprefix('#')}"


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """Matplotlib's settings for the figures, whatever the user's own are; leaving the context restores those."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the page's font has it, only its width is guessed
        mpl.rcdefaults()
        mpl.rcParams.update(seaborn.axes_style("ticks") | seaborn.plotting_context("paper") | _SETTINGS)
        yield


def new_figure(*, height: float, columns: int = 1, rows: int = 1, width: float = WIDTH, **grid: Any) -> tuple[Figure, list[Any]]:
    """A figure of the page's width and its axes, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **grid)
    return figure, [axis for row in axes for axis in row]


def settle(figure: Figure) -> Any:
    """Lays the figure out and freezes it, so that what is later added at a position stays there. Returns the renderer."""
    if figure.get_layout_engine() is not None:
        for axis in figure.axes:
            for artist in (*axis.lines, *axis.collections):  # data lie inside the axes: asking each for its extent takes seconds
                artist.set_in_layout(False)
        figure.draw_without_rendering()
        figure.set_layout_engine(None)
    return figure.canvas.get_renderer()  # type: ignore[attr-defined]


def export(figure: Figure, *, key: str, title: str, description: str, png: bool = False) -> Image:
    """The figure as SVG with title and description, and as PNG on white where ``png`` says so.

    Args:
        figure: the figure; its colours are the palette's.
        key: prefix of every id in the SVG; unique in the page.
        title: what the figure shows, for readers who do not see it.
        description: what it shows, in words.
        png: whether to make a PNG, too.
    """
    settle(figure)
    for artist in figure.findobj():  # a clipped artist refers to its clip path by url(), which a strict reader takes for a request
        artist.set_clip_on(False)
    svg = io.StringIO()
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
    image = Image(svg=inline(svg.getvalue(), key=key, title=title, description=description, colour=_variable))
    if not png:
        return image
    pixels = io.BytesIO()
    figure.savefig(pixels, format="png", dpi=_PNG_DPI, facecolor="white", metadata={"Software": None})
    return Image(svg=image.svg, png=pixels.getvalue())


def _variable(colour: str) -> str:
    if colour in _THEME:
        return f"var(--{_THEME[colour][0]}, {colour})"
    return f"var(--{_name(colour)}, {colour})"

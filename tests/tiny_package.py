"""An installed package that brings a compression and a backbone: what a wheel puts on the path, without an installer.

`write_tiny_package(folder)` writes it; a process that has the folder in ``PYTHONPATH`` knows its parts.
"""

from collections.abc import Mapping
from pathlib import Path

DECLARATIONS = '''"""What the package brings. Imports no torch."""

from persrec.names import BackbonePart, CompressionPart

LATEST = CompressionPart(
    name="latest",
    title="latest items",
    target="tiny_parts.latest:build",
    explanation="the last items of the history",
    tokens="some",
    keeps="keys_values",
    one_segment=True,
    colour="#8a2be2",
    dark="#c79bf2",
    marker="D",
    glyph="\\N{BLACK DIAMOND}",
)
RESIDUAL = BackbonePart(name="residual", title="Residual", target="tiny_parts.residual:build", optional_sizes=("feed_forward",))
'''

LATEST = '''"""The last items of the history, as they are."""

from persrec.compression import CompressionSettings
from persrec.compression.base import ItemSlots
from persrec.compression.summaries import back_from_latest, sample_chunk, summary_layout, take
from persrec.nn.cache import Chunk


class Latest:
    """The ``tokens`` last items."""

    def __init__(self, *, history: int, recent: int, tokens: int) -> None:
        self.layout = summary_layout(history=history, recent=recent, tokens=tokens)

    def history_chunk(self, segment: int, items: ItemSlots) -> Chunk:
        """These items, all of them kept."""
        tokens = self.layout.segments[segment].item_positions
        last = items.valid & (back_from_latest(items.valid) < tokens)
        return sample_chunk(self.layout, segment, take(items, last, tokens))


def build(settings: CompressionSettings) -> Latest:
    """As many items as ``settings.tokens`` says."""
    return Latest(history=settings.history, recent=settings.recent, tokens=settings.tokens)
'''

RESIDUAL = '''"""SASRec with the item's own vector added to its state."""

from persrec.backbones import BackboneSettings
from persrec.backbones.sasrec import SASRec, SASRecConfig
from persrec.nn.cache import Chunk, KVCache


class Residual(SASRec):
    """A SASRec that need not pass the item itself through its layers."""

    def forward(self, chunk: Chunk, cache: KVCache):
        """As `Backbone` says."""
        states, layers = super().forward(chunk, cache)
        return states + chunk.inputs, layers


def build(settings: BackboneSettings) -> Residual:
    """A model of these sizes."""
    s = settings
    sizes = SASRecConfig(
        width=s.width,
        layers=s.layers,
        heads=s.heads,
        inner=s.feed_forward or s.width,
        length=s.length,
        dropout=s.dropout,
        copying_start=s.copying_start,
    )
    return Residual(sizes)
'''


def write_package(folder: Path, *, name: str, modules: Mapping[str, str], entry_points: Mapping[str, str], version: str = "1.2") -> Path:
    """A package's source in ``folder``, and beside it what an installer writes of it.

    Args:
        folder: to be put on the path.
        name: of the distribution; its package is called alike, with underscores.
        modules: source by module, ``__init__`` among them.
        entry_points: what it registers under ``persrec.parts``.
        version: of the distribution.
    """
    package = name.replace("-", "_")
    for module, source in modules.items():
        path = folder / package / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    facts = folder / f"{package}-{version}.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{entry} = {target}" for entry, target in entry_points.items()]
    (facts / "entry_points.txt").write_text("\n".join(["[persrec.parts]", *lines, ""]))
    return folder


def write_tiny_package(folder: Path) -> Path:
    """The package ``tiny-parts`` 1.2, with the compression ``latest`` and the backbone ``residual``; returns ``folder``."""
    return write_package(
        folder,
        name="tiny-parts",
        modules={"__init__": "", "parts": DECLARATIONS, "latest": LATEST, "residual": RESIDUAL},
        entry_points={"latest": "tiny_parts.parts:LATEST", "residual": "tiny_parts.parts:RESIDUAL"},
    )

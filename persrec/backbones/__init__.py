"""Backbones: one file each, declared in `persrec.names`. Importing this package imports none of them."""

from persrec import names
from persrec.backbones.base import Backbone, BackboneSettings


def build_backbone(name: str, settings: BackboneSettings) -> Backbone:
    """The backbone called ``name``.

    Raises:
        ValueError: the name is unknown (the message lists the known), or a size is not one that it has.
    """
    part = names.find(names.backbones(), name)
    for size in names.OPTIONAL_SIZES:
        value = getattr(settings, size)
        if value is not None and size not in part.optional_sizes:
            raise ValueError(f"{size}: {value} for a {name}, which has none; expected None")
    if settings.weights is not None and not part.takes_weights:
        raise ValueError(f"weights: {settings.weights} for a {name}, which starts from none; expected None")
    backbone: Backbone = part.load()(settings)
    return backbone


__all__ = ["Backbone", "BackboneSettings", "build_backbone"]

"""Item encoders: one file each, named in `persrec.names.ITEM_ENCODERS`. Importing this package imports none of them."""

from persrec import names
from persrec.items.base import ItemEncoder, ItemSettings, TextEncoder


def build_items(backbone: str, settings: ItemSettings) -> ItemEncoder:
    """The item encoder under the backbone of that name, which its declaration names.

    Raises:
        ValueError: the name is unknown (the message lists the known), or a setting does not fit the encoder.
    """
    part = names.find(names.backbones(), backbone)
    encoder: ItemEncoder = names.load(names.ITEM_ENCODERS[part.items], f"item encoder {part.items!r}")(settings)
    return encoder


__all__ = ["ItemEncoder", "ItemSettings", "TextEncoder", "build_items"]

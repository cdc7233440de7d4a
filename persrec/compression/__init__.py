"""Compressions of a long history: one file each, declared in `persrec.names`. Importing this package imports none of them."""

from persrec import names
from persrec.compression.base import Compression, CompressionSettings


def build_compression(name: str, settings: CompressionSettings) -> Compression:
    """The compression called ``name``.

    Raises:
        ValueError: the name is unknown (the message lists the known), or a setting does not fit it.
    """
    compression: Compression = names.find(names.compressions(), name).load()(settings)
    return compression


__all__ = ["Compression", "CompressionSettings", "build_compression"]

"""Item encoders: one file each, one line here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from persrec.items.base import ItemEncoder, TextEncoder
from persrec.items.ids import ItemEmbedding
from persrec.items.tokens import find_tokeniser, has_tokeniser, tokenise

LONGEST_TEXT = 64
# a decoder whose blocks add nothing would give every text the same vector
TEXT_BRANCH_SCALE = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemSettings:
    """What an item encoder may need to know.

    Attributes:
        count: catalogue size ``V``, padding item 0 included.
        width: the model's width ``D``.
        layers: blocks of an item Llama.
        heads: heads a block of an item Llama.
        texts: ``V`` texts, "" for padding; None where the dataset has none.
        key_value_heads: of an item Llama, as `persrec.backbones.BackboneSettings` says.
        feed_forward: width inside the feed-forward of an item Llama, as there.
        copying_start: an item Llama passes on what it attends to from the first step on, as `persrec.backbones.BackboneSettings` says;
            of random weights alone.
        prompt: what stands before every text.
        weights: a folder of Hugging Face's form that an item Llama starts from, with its tokeniser; None starts from random
            ones, with a tokeniser trained on the texts, as where the folder has none.
    """

    count: int
    width: int
    layers: int
    heads: int
    texts: Sequence[str] | None = None
    key_value_heads: int | None = None
    feed_forward: int | None = None
    copying_start: bool = False
    prompt: str = ""
    weights: Path | None = None


def _ids(s: ItemSettings) -> ItemEncoder:
    return ItemEmbedding(count=s.count, width=s.width)


def _mapped_ids(s: ItemSettings) -> ItemEncoder:
    return ItemEmbedding(count=s.count, width=s.width, item_width=s.width)


def _texts(s: ItemSettings) -> ItemEncoder:
    # imported here, since Hugging Face transformers takes seconds to import
    from persrec.backbones.llama import Llama, check_shape, small_llama_config  # noqa: PLC0415
    from persrec.items.texts import TextItems  # noqa: PLC0415

    if s.texts is None:
        raise ValueError("texts: the dataset has none; expected one an item")
    tokeniser = find_tokeniser(s.weights, s.texts)
    tokens = tokenise(s.texts, tokeniser, prompt=s.prompt, longest=LONGEST_TEXT)
    embed_tokens = None
    if s.weights is None:
        config = small_llama_config(
            width=s.width,
            layers=s.layers,
            heads=s.heads,
            positions=LONGEST_TEXT,
            key_value_heads=s.key_value_heads,
            feed_forward=s.feed_forward,
        )
        decoder = Llama(config, length=LONGEST_TEXT, branch_scale=TEXT_BRANCH_SCALE, copying_start=s.copying_start)
    else:
        decoder, embed_tokens = Llama.from_folder(s.weights, length=LONGEST_TEXT)
        check_shape(decoder.config, folder=s.weights, width=s.width, layers=s.layers, heads=s.heads)
    items = TextItems(decoder=decoder, vocabulary=tokeniser.size, count=s.count)
    if embed_tokens is not None and has_tokeniser(s.weights):  # another tokeniser's ids are not what its rows were learnt for
        items.embed_tokens = embed_tokens
    items.set_catalogue(tokens)
    return items


# by the name of the model they belong to: hllm is text items under a Llama (persrec.backbones.BACKBONES)
ITEMS: dict[str, Callable[[ItemSettings], ItemEncoder]] = {"hstu": _ids, "sasrec": _ids, "llama": _mapped_ids, "hllm": _texts}


def build_items(name: str, settings: ItemSettings) -> ItemEncoder:
    """The item encoder of the model called ``name``.

    Raises:
        ValueError: the name is unknown; the message lists the known.
    """
    if name not in ITEMS:
        raise ValueError(f"backbone: unknown {name!r}; known: {', '.join(ITEMS)}")
    return ITEMS[name](settings)


__all__ = ["ITEMS", "ItemEmbedding", "ItemEncoder", "ItemSettings", "TextEncoder", "build_items"]

"""Texts as token ids: the model folder's own tokeniser, or a small one trained on the item texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

PLACEHOLDER = 0  # a text's last token: its embedding is replaced by the learnable vector, so that any id does
UNUSED = "<unused>"
TOKENISER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokeniser:
    """What splits texts.

    Attributes:
        encode: token ids of every text.
        size: number of token ids.
    """

    encode: Callable[[Sequence[str]], list[list[int]]]
    size: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tokens:
    """Texts as tokens.

    Attributes:
        ids: ``[n, T]`` int64, right-padded; the last token of every text is the placeholder.
        lengths: ``[n]`` int64, the placeholder counted.
    """

    ids: torch.Tensor
    lengths: torch.Tensor

    def __post_init__(self) -> None:
        if self.ids.dim() != 2 or self.lengths.shape != self.ids.shape[:1]:
            raise ValueError(f"lengths: shape {list(self.lengths.shape)} for ids of shape {list(self.ids.shape)}; expected one a row")


def train_tokeniser(texts: Sequence[str], *, size: int = 2048) -> Tokeniser:
    """A byte-level BPE tokeniser (arXiv 1508.07909) of at most ``size`` ids, or of the 256 bytes where that is more.

    The same texts give the same tokeniser; no text is out of its vocabulary. No text holds the id 0.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[UNUSED], initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Tokeniser(
        encode=lambda batch: [encoding.ids for encoding in tokenizer.encode_batch(list(batch))], size=tokenizer.get_vocab_size()
    )


def load_tokeniser(folder: Path) -> Tokeniser:
    """The tokeniser in a model's folder, with the special tokens it adds. Nothing is downloaded.

    Raises:
        ValueError: the folder holds none.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - takes seconds to import, and most runs do without it

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file fails in any way
        raise ValueError(f"folder: {folder} holds no tokeniser that can be read: {' '.join(str(error).split())}") from error
    return Tokeniser(encode=lambda batch: tokenizer(list(batch))["input_ids"] if batch else [], size=len(tokenizer))


def has_tokeniser(folder: Path | None) -> bool:
    """Whether a model's folder brings its own."""
    return folder is not None and any((folder / name).is_file() for name in TOKENISER_FILES)


def find_tokeniser(folder: Path | None, texts: Sequence[str]) -> Tokeniser:
    """The folder's own tokeniser where it has one, else one trained on ``texts``."""
    if folder is not None and has_tokeniser(folder):
        return load_tokeniser(folder)
    return train_tokeniser(texts)


def tokenise(texts: Sequence[str], tokeniser: Tokeniser, *, prompt: str = "", longest: int = 64) -> Tokens:
    """``prompt + text`` of every text, cut at ``longest - 1`` tokens, with the placeholder behind.

    Raises:
        ValueError: ``longest`` leaves no room for a text.
    """
    if longest < 2:
        raise ValueError(f"longest: {longest} tokens; expected at least 2, one of text and the placeholder")
    rows = [[*row[: longest - 1], PLACEHOLDER] for row in tokeniser.encode([prompt + text for text in texts])]
    # on the CPU, also where weights are being made without storage: tokens have values
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64, device="cpu")
    ids = torch.full((len(rows), max(map(len, rows), default=1)), PLACEHOLDER, device="cpu")
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, device="cpu")
    return Tokens(ids=ids, lengths=lengths)

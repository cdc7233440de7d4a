"""HLLM's item side (arXiv 2409.12740, section 3.1): a Llama reads an item's text, and its last state is the item's vector.

Axis legend:  n texts   T tokens of the longest   S tokens of a packed row   V items   D width
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from persrec.backbones.llama import Llama, check_shape, small_llama_config
from persrec.items.base import ItemSettings, KeptVectors
from persrec.items.tokens import Tokens, find_tokeniser, has_tokeniser, tokenise

BATCH_TOKENS = 1 << 14
LONGEST_TEXT = 64
# a decoder whose blocks add nothing would give every text the same vector
TEXT_BRANCH_SCALE = 0.1


class TextItems(nn.Module):
    """Item vectors from texts; the last token's embedding is replaced by a learnable vector, whose last state is read.

    Args:
        decoder: the item Llama; its ``length`` bounds the tokens of a text.
        vocabulary: number of token ids.
        count: catalogue size ``V``, padding item 0 included.
        causal: whether a token sees the earlier ones alone. The public code's item Llama is causal with flash attention
            and, since it passes no mask, sees whole texts without; the conformance vectors were recorded so.

    Differs: texts never see each other, in padded rows and in packed ones; the public code's packed texts do, where flash
    attention is absent. Positions start at 0 in every text; the public code's start later, which a rotary decoder cannot
    tell.

    Attributes:
        most: as `ReadsBatches` says.
    """

    token_ids: torch.Tensor | None
    lengths: torch.Tensor | None

    def __init__(self, *, decoder: Llama, vocabulary: int, count: int, causal: bool = True) -> None:
        super().__init__()
        self.count = count
        self.causal = causal
        self.decoder = decoder
        self.embed_tokens = nn.Embedding(vocabulary, decoder.width)
        self.item_token = nn.Parameter(torch.empty(decoder.width).normal_(std=0.02))
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        self.register_buffer("token_ids", None, persistent=False)
        self.register_buffer("lengths", None, persistent=False)
        self.kept = KeptVectors()
        self.most: Callable[[int], int] = int  # alone it is the largest itself
        self._shared: tuple[torch.Tensor, torch.Tensor] | None = None

    @classmethod
    def from_folder(cls, folder: Path, *, count: int, longest: int) -> Self:
        """An item Llama with the weights in a folder of Hugging Face's form, for texts of at most ``longest`` tokens.

        Raises:
            ValueError: the folder does not hold a Llama.
        """
        decoder, embed_tokens = Llama.from_folder(folder, length=longest)
        items = cls(decoder=decoder, vocabulary=embed_tokens.num_embeddings, count=count)
        items.embed_tokens = embed_tokens
        return items

    def set_catalogue(self, tokens: Tokens) -> None:
        """Takes the texts of the catalogue, a row per item, for `vectors` and `lookup`.

        They lie with the weights; on the CPU where these have no storage (``meta``), since what is counted depends on lengths.

        Raises:
            ValueError: there are more or fewer texts than items, or a token does not fit.
        """
        if len(tokens.ids) != self.count:
            raise ValueError(f"tokens: {len(tokens.ids)} texts; expected {self.count}, one an item with the padding item's")
        self._check(tokens.ids, tokens.lengths)
        device = tokens.ids.device if self.embed_tokens.weight.is_meta else self.embed_tokens.weight.device
        self.token_ids, self.lengths = tokens.ids.to(device), tokens.lengths.to(device)
        self.kept.forget()

    def encode(self, token_ids: torch.Tensor, lengths: torch.Tensor, *, packed_row: int | None = None) -> torch.Tensor:
        """Raw vectors of texts, each read on its own.

        Args:
            token_ids: ``[n, T]`` int64, right-padded.
            lengths: ``[n]`` int64, from 1 to ``T``.
            packed_row: tokens of a row that holds several texts, which a block-diagonal mask keeps apart; None gives every
                text a row, in batches of texts of like length.

        Returns:
            ``[n, D]``, not normalised.

        Raises:
            ValueError: a shape, a token or a length that does not fit.
        """
        self._check(token_ids, lengths)
        if not len(token_ids):
            return self.item_token.new_empty(0, self.decoder.width)
        if packed_row is not None:
            return self._encode_rows(token_ids, lengths, *_pack(lengths.cpu().numpy(), packed_row), packed_row)
        batches = [torch.from_numpy(batch).to(token_ids.device) for batch in _batches(lengths.cpu().numpy())]
        extra_batches = self.most(len(batches)) - len(batches) if self.training else 0  # asked before any shard is gathered
        parts = [self._encode_batch(token_ids[texts], lengths[texts]) for texts in batches]
        for _ in range(extra_batches):
            parts[0] = parts[0] + 0 * self._encode_batch(token_ids[:1], lengths[:1])  # read for the other processes alone
        return torch.cat(parts)[torch.cat(batches).argsort()]

    def vectors(self) -> torch.Tensor:
        """As `ItemEncoder` says.

        Raises:
            ValueError: the model was not given the texts of the catalogue.
        """
        token_ids, lengths = self._catalogue()
        return self.kept.get(self, lambda: self.encode(token_ids, lengths))

    def lookup(self, ids: torch.Tensor) -> torch.Tensor:
        """As `ItemEncoder` says; where no vectors are kept, each item of ``ids`` is read once."""
        if self.kept.used_by(self):
            return F.embedding(ids, self.vectors())
        if self._shared is None:
            unique_ids, rows = torch.unique(ids, return_inverse=True)
            return F.embedding(rows, self.compute(unique_ids))
        unique_ids, vectors = self._shared
        rows = torch.searchsorted(unique_ids, ids.contiguous()).clamp_(max=len(unique_ids) - 1)
        if not torch.equal(unique_ids[rows], ids):
            raise ValueError("ids: an item that is not among those given to read_once")
        return F.embedding(rows, vectors)

    @contextmanager
    def read_once(self, ids: torch.Tensor) -> Iterator[None]:
        """As `ItemEncoder` says."""
        unique_ids = torch.unique(ids)
        self._shared = (unique_ids, self.compute(unique_ids))
        try:
            yield
        finally:
            self._shared = None

    def compute(self, ids: torch.Tensor) -> torch.Tensor:
        """As `ItemEncoder` says."""
        token_ids, lengths = self._catalogue()
        return self.encode(token_ids[ids], lengths[ids])

    def lookup_macs(self, *lookups: torch.Tensor, visible: bool = False) -> dict[str, int]:
        """As `ItemEncoder` says: every item among them is read once, in rows as long as the longest of its batch."""
        unique_ids = torch.unique(torch.cat([ids.flatten() for ids in lookups]))
        lengths = self._catalogue()[1][unique_ids].cpu().numpy()
        if visible:
            positions, pairs = int(lengths.sum()), int((lengths * (lengths + 1) // 2 if self.causal else lengths**2).sum())
        else:
            rows = np.concatenate([np.full(len(batch), lengths[batch].max()) for batch in _batches(lengths)])
            positions, pairs = int(rows.sum()), int((rows**2).sum())
        macs = self.decoder.macs(positions=positions, pairs=pairs)
        return {"attention": macs["attention"], "maps": sum(count for part, count in macs.items() if part != "attention")}

    def _catalogue(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self.token_ids is None or self.lengths is None:
            raise ValueError("item_features: missing, and the model was given no texts of the catalogue; expected [V, D], or set_catalogue")
        return self.token_ids, self.lengths

    def _encode_batch(self, token_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Vectors of texts, a row each."""
        return self._encode_rows(token_ids, lengths, np.arange(len(lengths)), np.zeros(len(lengths), dtype=np.int64), int(lengths.max()))

    def _encode_rows(
        self, token_ids: torch.Tensor, lengths: torch.Tensor, rows: np.ndarray, starts: np.ndarray, row_tokens: int
    ) -> torch.Tensor:
        """Vectors of texts that stand in given rows of ``row_tokens`` tokens, from given positions on."""
        device = token_ids.device
        text = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)
        position = torch.arange(len(text), device=device) - (lengths.cumsum(0) - lengths)[text]
        row, column = torch.from_numpy(rows).to(device)[text], torch.from_numpy(starts).to(device)[text] + position
        shape = (int(rows.max()) + 1, row_tokens)
        # positions that no text fills are a text of their own, -1, so that their attention stays finite
        ids, positions, owner = (torch.full(shape, fill, device=device) for fill in (0, 0, -1))
        ids[row, column], positions[row, column], owner[row, column] = token_ids[text, position], position, text
        ends = position == lengths[text] - 1
        last = torch.zeros(shape, dtype=torch.bool, device=device)
        last[row, column] = ends
        mask = owner[:, :, None] == owner[:, None, :]
        mask = mask.tril() if self.causal else mask
        last, mask = last.to(self.item_token.device), mask.to(self.item_token.device)  # elsewhere only where weights are meta
        inputs = torch.where(last[..., None], self.item_token, self.embed_tokens(ids))
        hidden = self.decoder.masked(inputs, positions, mask)
        return hidden[row[ends], column[ends]]

    def _check(self, token_ids: torch.Tensor, lengths: torch.Tensor) -> None:
        if token_ids.dim() != 2 or token_ids.dtype != torch.int64:
            raise ValueError(f"token_ids: {token_ids.dtype} of shape {list(token_ids.shape)}; expected int64 [texts, tokens]")
        if lengths.shape != token_ids.shape[:1] or lengths.dtype != torch.int64:
            raise ValueError(f"lengths: {lengths.dtype} of shape {list(lengths.shape)}; expected int64 {list(token_ids.shape[:1])}")
        if not len(token_ids):
            return
        longest = min(token_ids.shape[1], self.decoder.length)
        if lengths.amin() < 1 or lengths.amax() > longest:
            raise ValueError(f"lengths: from {lengths.amin()} to {lengths.amax()}; expected 1 to {longest}")
        if token_ids.amin() < 0 or token_ids.amax() >= self.embed_tokens.num_embeddings:
            raise ValueError(
                f"token_ids: from {token_ids.amin()} to {token_ids.amax()}; expected 0 to {self.embed_tokens.num_embeddings - 1}"
            )


def build(settings: ItemSettings) -> TextItems:
    """Vectors of the catalogue's texts, by a small item Llama or by the one in the folder ``settings.weights``.

    Raises:
        ValueError: there are no texts, or the folder's model does not have the sizes.
    """
    s = settings
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
        check_shape(decoder.config, folder=s.weights, asked=s)
    items = TextItems(decoder=decoder, vocabulary=tokeniser.size, count=s.count)
    if embed_tokens is not None and has_tokeniser(s.weights):  # another tokeniser's ids are not what its rows were learnt for
        items.embed_tokens = embed_tokens
    items.set_catalogue(tokens)
    return items


def _batches(lengths: np.ndarray) -> list[np.ndarray]:
    """Texts by length, cut into batches of at most `BATCH_TOKENS` padded tokens."""
    order = np.argsort(lengths, kind="stable")
    batches, start = [], 0
    for stop in range(1, len(order) + 1):
        if stop == len(order) or (stop + 1 - start) * lengths[order[stop]] > BATCH_TOKENS:
            batches.append(order[start:stop])
            start = stop
    return batches


def _pack(lengths: np.ndarray, row_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and first position of every text, rows filled in the texts' order."""
    if lengths.max() > row_tokens:
        raise ValueError(f"packed_row: {row_tokens} tokens; expected at least {lengths.max()}, the longest text")
    rows, starts = np.empty(len(lengths), dtype=np.int64), np.empty(len(lengths), dtype=np.int64)
    row = used_tokens = 0
    for index, length in enumerate(lengths):
        if used_tokens + length > row_tokens:
            row, used_tokens = row + 1, 0
        rows[index], starts[index] = row, used_tokens
        used_tokens += length
    return rows, starts

"""The untrained model of a cell, and of the control beside it."""

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cell import DEFAULTS, Cell, InvalidMeasurementError, UnsupportedError
from benchmarks.settings import OF_EXPERTS, blocks_of
from persrec import names
from persrec.backbones import Backbone, BackboneSettings, build_backbone
from persrec.compression import CompressionSettings, build_compression
from persrec.compression.base import Compression, Elastic
from persrec.counting import CountingOutput
from persrec.data.interactions import InteractionLog
from persrec.items import ItemSettings, build_items
from persrec.items.base import ItemEncoder
from persrec.recommender import SequentialRecommender


def set_up(cell: Cell) -> None:
    """How a process computes: threads, and on a CPU the same numbers every time."""
    torch.set_num_threads(cell.threads)
    torch.use_deterministic_algorithms(mode=cell.device == "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # a debugging aid that would be timed


def served_model(cell: Cell, log: InteractionLog) -> SequentialRecommender:
    """The untrained model of a cell as it is served: of an elastic one, with the cell's own count of tokens."""
    items = log.num_items if cell.catalogue is None else cell.catalogue + 1  # padding is one more
    model = build_model(cell, items, log.item_texts, log.item_categories)
    if cell.token_counts:
        use_tokens(model, cell.tokens)
    return model.eval()


def build_model(
    cell: Cell, num_items: int, texts: Sequence[str] | None = None, categories: NDArray[np.int64] | None = None
) -> SequentialRecommender:
    """The untrained model of a cell; an elastic one holds its largest count and its longest history.

    Raises:
        UnsupportedError: the backbone reads item texts, or the compression pools by category, and there are none.
    """
    if names.find(names.backbones(), cell.backbone).items == "texts" and texts is None:
        raise UnsupportedError(f"backbone: {cell.backbone} reads item texts, and the dataset {cell.dataset} has none")
    if names.find(names.compressions(), cell.compression).needs_categories and categories is None:
        raise UnsupportedError(f"compression: {cell.compression} needs item categories, and the dataset {cell.dataset} has none")
    torch.manual_seed(cell.seed)
    with _weights(cell):
        compression = _compression_of(cell, categories)
        item_settings = ItemSettings(
            count=num_items,
            width=cell.width,
            layers=cell.item_layers,
            heads=cell.heads,
            texts=texts,
            key_value_heads=cell.key_value_heads,
            feed_forward=cell.feed_forward,
            copying_start=cell.copying_start,
        )
        backbone, items = _backbone_of(cell, compression), build_items(cell.backbone, item_settings)
        model = SequentialRecommender(items=items, backbone=backbone, compression=compression, counting=_counting_of(cell))
    return _placed(model, cell)


def build_control(cell: Cell, items: ItemEncoder) -> tuple[Cell, SequentialRecommender]:
    """Full attention over the same window, served by recomputing it: the same sizes and item vectors, a backbone of its own."""
    control = dataclasses.replace(
        cell, compression="full", tokens=0, segments=1, plan="equal", serving="recompute", cache_dtype="float32",
        ablation="none", staleness=0, training="none", elastic_tokens=(), elastic_history=(),
        **{name: DEFAULTS[name] for name in OF_EXPERTS},
    )  # fmt: skip
    with _weights(control):
        compression = _compression_of(control, None)
        backbone = _backbone_of(control, compression)
        model = SequentialRecommender(items=items, backbone=backbone, compression=compression, counting=_counting_of(control))
    return control, _placed(model, control).eval()


def use_tokens(model: SequentialRecommender, tokens: int) -> None:
    """Serves ``tokens`` of an elastic model's tokens from now on.

    Raises:
        UnsupportedError: the model's compression has one count alone.
    """
    if not isinstance(model.compression, Elastic):
        raise UnsupportedError(f"training: elastic with compression {type(model.compression).__name__}, which has one token count alone")
    model.compression.use(tokens)


def _weights(cell: Cell) -> AbstractContextManager[object]:
    """Inside, weights are made; without storage where they are counted alone."""
    return torch.device("meta") if cell.counted_only else nullcontext()


def _placed(model: SequentialRecommender, cell: Cell) -> SequentialRecommender:
    dtype = getattr(torch, cell.dtype)
    return model.to(dtype=dtype) if cell.counted_only else model.to(device=cell.device, dtype=dtype)


def _compression_of(cell: Cell, categories: NDArray[np.int64] | None) -> Compression:
    settings = CompressionSettings(
        history=cell.model_history,
        recent=cell.recent,
        segments=cell.segments,
        tokens=cell.model_tokens,
        width=cell.width,
        plan=cell.plan if cell.plan in names.PLANS else blocks_of(cell.plan),
        expert_start=cell.expert_start,
        categories=categories,
    )
    compression = build_compression(cell.compression, settings)
    _check_layout(cell, compression)
    return compression


def _check_layout(cell: Cell, compression: Compression) -> None:
    """Holds a compression's layout against the settings that the record says it has.

    Raises:
        InvalidMeasurementError: it reads other items, or keeps more or fewer positions than tokens.
    """
    layout, part = compression.layout, names.find(names.compressions(), cell.compression)
    sizes = {"recent": (layout.recent, cell.recent)}
    if part.needs_history:
        sizes["history"] = (layout.history, cell.model_history)
    as_tokens = part.spreads_tokens or layout.recurrent  # and not so many of each segment, or segments as they are
    keeps_segments = any(segment.stays_visible for segment in layout.segments)
    if part.tokens != "none" and as_tokens and not part.chooses_at_request and not keeps_segments:
        sizes["kept"] = (layout.kept, cell.model_tokens)
    for name, (size, expected) in sizes.items():
        if size != expected:
            raise InvalidMeasurementError(f"compression {cell.compression}: its layout has {name} {size}; the cell asks for {expected}")


def _counting_of(cell: Cell) -> CountingOutput | None:
    return None if cell.counts == "none" else CountingOutput(width=cell.width, counted=cell.counts)


def _backbone_of(cell: Cell, compression: Compression) -> Backbone:
    settings = BackboneSettings(
        width=cell.width,
        layers=cell.layers,
        heads=cell.heads,
        length=compression.layout.length,
        dropout=cell.dropout,
        key_value_heads=cell.key_value_heads,
        feed_forward=cell.feed_forward,
        divisor=cell.divisor,
        copying_start=cell.copying_start,
        request_time=cell.request_time,
    )
    return build_backbone(cell.backbone, settings)

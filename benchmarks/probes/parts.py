"""Which part of a model a product belongs to, forward and backward, for torch's counter.

The parts: ``item_encoder`` (item vectors), ``attention``, ``projections`` and ``feed_forward`` of the backbone, and
``scoring`` (states against items). Forward, a part's turn begins and ends with its module or method. Backward, a clone at
every border says whose turn it is: a pass on one device runs the newest node first, so the parts take their turns in
reverse order.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from persrec.recommender import SequentialRecommender

ITEM_ENCODER, PROJECTIONS, ATTENTION, FEED_FORWARD, SCORING = PARTS = (
    "item_encoder",
    "projections",
    "attention",
    "feed_forward",
    "scoring",
)
READERS = ("compute", "encode", "lookup", "vectors")  # what computes item vectors


class _Border(torch.autograd.Function):
    """Hands a tensor on; backward, tells that the part in front of the border begins."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, begins: Callable[[], None]) -> torch.Tensor:
        ctx.begins = begins
        return tensor.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        ctx.begins()
        return gradients[0], None


class PartCounter:
    """Torch's counter, with the multiply-adds of each part.

    Args:
        model: whose parts are told apart.
    """

    def __init__(self, model: SequentialRecommender) -> None:
        self._model = model
        self._counter = FlopCounterMode(display=False)
        self._part = SCORING
        self._flops: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()

    def count(self, call: Callable[[], object]) -> dict[str, int]:
        """Multiply-adds of ``call()`` by part."""
        with ExitStack() as borders, self._counter, sdpa_kernel(SDPBackend.MATH):
            self._set_borders(borders)
            call()
            self._turn(SCORING)
        return {part: self._flops[part] // 2 for part in PARTS}

    def _set_borders(self, borders: ExitStack) -> None:
        items, backbone = self._model.items, self._model.backbone
        for name in READERS:
            if hasattr(items, name):
                borders.enter_context(replaced(items, name, self._method))
        self._module(borders, backbone, PROJECTIONS)
        for name, module in backbone.named_modules():
            if name.rpartition(".")[2] in backbone.feed_forward:
                self._module(borders, module, FEED_FORWARD)

    def _method(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def bordered(*given: Any, **named: Any) -> Any:
            outer = self._turn(ITEM_ENCODER)
            answer = self._border(method(*given, **named), ITEM_ENCODER)
            self._turn(outer)
            return answer

        return bordered

    def _module(self, borders: ExitStack, module: nn.Module, part: str) -> None:
        outer = []

        def enter(_: nn.Module, inputs: tuple[Any, ...]) -> Any:
            outer.append(self._turn(part))
            return self._border(inputs, outer[-1])

        def leave(_: nn.Module, __: Any, answer: Any) -> Any:
            answer = self._border(answer, part)
            self._turn(outer.pop())
            return answer

        borders.callback(module.register_forward_pre_hook(enter).remove)
        borders.callback(module.register_forward_hook(leave).remove)

    def _border(self, value: Any, part: str) -> Any:
        if isinstance(value, tuple):
            return tuple(self._border(each, part) for each in value)
        if isinstance(value, torch.Tensor) and value.requires_grad:
            return _Border.apply(value, lambda: self._turn(part))  # type: ignore[no-untyped-call]
        return value

    def _turn(self, part: str) -> str:
        """Books what was counted since the last turn, and begins another; returns the part whose turn it was."""
        counts = Counter({str(operation): int(count) for operation, count in self._counter.flop_counts["Global"].items()})
        for operation, count in (counts - self._seen).items():
            # in a backbone, products of a batch of matrices are attention's alone
            self._flops[ATTENTION if self._part == PROJECTIONS and "bmm" in operation else self._part] += count
        self._seen, before, self._part = counts, self._part, part
        return before


@contextmanager
def replaced(owner: object, name: str, by: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Inside, the method ``name`` of ``owner`` is what ``by`` makes of it."""
    before = vars(owner).get(name)
    setattr(owner, name, by(getattr(owner, name)))
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)

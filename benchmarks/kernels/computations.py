"""What rows time: forward passes, training steps, compressing, serving, attention and ranking, each by any of the ways to compute it.

A computation draws its inputs once. Called with a kernel it computes by that kernel and returns what came out, so that the ways can
be compared with each other before they are timed. With ``naive`` it is the plain form.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from benchmarks.kernels.record import REQUESTS, KernelSettings
from persrec.backbones import BackboneSettings, build_backbone
from persrec.compression import CompressionSettings, build_compression
from persrec.evaluation.ranks import SAME, target_ranks
from persrec.items.ids import ItemEmbedding
from persrec.names import Kernel
from persrec.nn.attention import pointwise_attention, softmax_attention
from persrec.recommender import SequentialRecommender
from persrec.serving.compiled import CompiledRequests

ITEMS = 1000
RANKED_ITEMS, RANKED_USERS = 100_000, 2048
USERS_AT_ONCE = 128  # of the plain ranking, which holds all their scores
SMALL = 1e-3  # of the largest norm in a group; what is smaller may be rounding of the large ones and is compared on this scale

Group = tuple[torch.Tensor, ...]  # tensors of one kind, such as the gradients of all parameters
Computation = Callable[[Kernel], tuple[Group, ...]]
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def build_model(
    settings: KernelSettings, compression: str, *, backbone: str = "hstu", history: int | None = None, segments: int = 1, tokens: int = 0
) -> SequentialRecommender:
    """An untrained model; its history is the settings' unless ``history`` says another.

    Parameters that start at 0 are drawn: layers that start as the identity would give the same output whatever attention gives.
    """
    history_length = settings.history if history is None else history
    built_compression = build_compression(
        compression,
        CompressionSettings(history=history_length, recent=settings.recent, segments=segments, tokens=tokens, width=settings.width),
    )
    sizes = BackboneSettings(width=settings.width, layers=settings.layers, heads=settings.heads, length=built_compression.layout.length)
    vectors = ItemEmbedding(count=ITEMS, width=settings.width)
    model = SequentialRecommender(items=vectors, backbone=build_backbone(backbone, sizes), compression=built_compression)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=settings.width**-0.5)
    return model.eval().to(settings.device)


def forward(settings: KernelSettings, model: SequentialRecommender) -> Computation:
    """User states from whole windows."""
    items = _items(settings, model.layout.window)

    def compute(kernel: Kernel) -> tuple[Group, ...]:
        model.use_kernel(kernel)
        with torch.inference_mode():
            return ((model.user_states(items),),)

    return compute


def training(settings: KernelSettings, model: SequentialRecommender, *, timed: bool = False) -> Computation:
    """Hidden states and the gradients of all parameters, without an optimiser; with times of the items where ``timed``."""
    items = _items(settings, model.layout.window)
    times = torch.randint(1, 100_000, items.shape, device=settings.device).cumsum(1) if timed else None

    def compute(kernel: Kernel) -> tuple[Group, ...]:
        model.use_kernel(kernel)
        model.zero_grad(set_to_none=True)
        hidden, _ = model.hidden_states(items, times)
        hidden.square().mean().backward()  # type: ignore[no-untyped-call] # torch declares no types for it
        return (hidden.detach(),), tuple(parameter.grad for parameter in model.parameters() if parameter.grad is not None)

    return compute


def compressing(settings: KernelSettings, model: SequentialRecommender) -> Computation:
    """What is kept of histories."""
    history = _items(settings, model.layout.history)

    def compute(kernel: Kernel) -> tuple[Group, ...]:
        model.use_kernel(kernel)
        with torch.inference_mode():
            return (model.compress(history).tensors,)

    return compute


def serving(settings: KernelSettings, model: SequentialRecommender) -> Computation:
    """User states from recent items and what is kept of histories, which is computed once."""
    history, recent = _items(settings, model.layout.history), _items(settings, settings.recent)
    with torch.inference_mode():
        cache = model.compress(history)

    def compute(kernel: Kernel) -> tuple[Group, ...]:
        model.use_kernel(kernel)
        with torch.inference_mode():
            return ((model.user_states(recent, cache=cache),),)

    return compute


def requests(settings: KernelSettings, model: SequentialRecommender, *, compiled: bool) -> Computation:
    """`REQUESTS` requests of one user in a row, each by one compiled graph or operation by operation; the plain form is the latter."""
    history, recent = (torch.randint(1, ITEMS, (1, count), device=settings.device) for count in (model.layout.history, model.layout.recent))
    with torch.no_grad():
        cache = model.compress(history)
        cache_with_room = model.with_room(cache)
    compiled_requests = CompiledRequests(model)

    def compute(kernel: Kernel) -> tuple[Group, ...]:
        model.use_kernel(kernel)
        with torch.no_grad():
            for _ in range(REQUESTS):
                if compiled and kernel != "naive":
                    states = compiled_requests.user_states(recent, cache=cache)
                else:
                    states = model.user_states(recent, cache=cache_with_room)
        return ((states,),)

    return compute


def both(first: Computation, second: Computation) -> Computation:
    """One after the other."""
    return lambda kernel: (*first(kernel), *second(kernel))


def fused_causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The framework's fused causal attention, ``[B, H, n, d]`` as its inputs."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def flex_causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The same by FlexAttention, compiled; its mask's blocks are computed once."""
    flex, blocks = _flex(q.shape[2], q.device)
    out: torch.Tensor = flex(q, k, v, block_mask=blocks)
    return out


@functools.cache
def _flex(length: int, device: torch.device) -> tuple[Callable[..., torch.Tensor], BlockMask]:
    blocks = create_block_mask(lambda _user, _head, query, key: query >= key, None, None, length, length, device=device)
    return torch.compile(flex_attention, dynamic=False), blocks


def causal_silu(settings: KernelSettings) -> Computation:
    """HSTU's attention without any bias: its time, as a share of softmax attention's over as many pairs, is the least for any bias."""
    (q, k, v), valid = _head_inputs(settings)

    def compute(kernel: Kernel) -> tuple[Group, ...]:
        with torch.inference_mode():
            return ((pointwise_attention(q, k, v, prefix=0, valid=valid, bias=None, divisor=float(settings.window), kernel=kernel),),)

    return compute


def _head_inputs(settings: KernelSettings, *, backward: bool = False) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Queries, keys and values ``[B, H, n, d]``, and that all of them are valid, ``[B, n]``."""
    shape = (settings.users, settings.window, settings.heads, settings.width // settings.heads)
    tensors = [torch.randn(shape, device=settings.device).transpose(1, 2).requires_grad_(backward) for _ in range(3)]
    return tensors, torch.ones(settings.users, settings.window, dtype=torch.bool, device=settings.device)


def causal_softmax(settings: KernelSettings, *, backward: bool, plain: Attend = fused_causal) -> Computation:
    """Causal softmax attention and, where ``backward``, the gradients of its inputs; the plain form is one of the framework's."""
    (q, k, v), valid = _head_inputs(settings, backward=backward)

    def compute(kernel: Kernel) -> tuple[Group, ...]:
        with torch.inference_mode(mode=not backward):
            out = plain(q, k, v) if kernel == "naive" else softmax_attention(q, k, v, prefix=0, valid=valid, kernel=kernel)
        return ((out.detach(),), torch.autograd.grad(out.sum(), (q, k, v))) if backward else ((out,),)

    return compute


def ranking(settings: KernelSettings, width: int) -> Computation:
    """Ranks among a large catalogue; the plain form counts the higher scores, and leaves out ties, which move a rank by a few places."""
    vectors = F.normalize(torch.randn(RANKED_ITEMS, width, device=settings.device), dim=-1)
    states = F.normalize(torch.randn(RANKED_USERS, width, device=settings.device), dim=-1)
    targets = np.random.default_rng(0).integers(1, RANKED_ITEMS, RANKED_USERS)

    def compute(kernel: Kernel) -> tuple[Group, ...]:
        if kernel != "naive":
            return ((torch.from_numpy(target_ranks(states, vectors, targets)),),)
        target_scores = (states * vectors[torch.from_numpy(targets).to(states.device)]).sum(1, keepdim=True)
        blocks = zip(torch.split(states, USERS_AT_ONCE), torch.split(target_scores, USERS_AT_ONCE), strict=True)
        higher = [(block @ vectors[1:].T > score + SAME).sum(1) for block, score in blocks]  # item 0 is padding
        return ((1 + torch.cat(higher).cpu(),),)

    return compute


def largest_difference(ours: tuple[Group, ...], plain: tuple[Group, ...]) -> float:
    """The largest distance of any tensor from its plain form, as a share of that one's norm; infinite where a number is not finite.

    The norm counts as at least `SMALL` of the largest norm of its group. Some gradients are 0 but for rounding (those of a bias on
    the keys under a softmax): on a scale of their own they would always differ.
    """
    return max(_difference(group, plain_group) for group, plain_group in zip(ours, plain, strict=True))


def _difference(ours: Group, plain: Group) -> float:
    largest = max(_norm(tensor) for tensor in plain)
    distances = [_norm(tensor.double() - expected.double()) for tensor, expected in zip(ours, plain, strict=True)]
    shares = [
        distance / max(_norm(expected), SMALL * largest) if distance else 0.0 for distance, expected in zip(distances, plain, strict=True)
    ]
    return max(shares) if all(math.isfinite(number) for number in (*shares, largest)) else math.inf


def _norm(tensor: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor.detach().double()))


def _items(settings: KernelSettings, count: int) -> torch.Tensor:
    return torch.randint(1, ITEMS, (settings.users, count), device=settings.device)

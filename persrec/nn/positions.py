"""HSTU's relative attention bias: by slot distance and by bucketed time difference."""

import torch
from torch import nn

from persrec.nn.attention.pointwise import Bias
from persrec.nn.context import Context

TIME_BUCKETS = 128
UNKNOWN_TIME = TIME_BUCKETS
BUCKET_WIDTH = 0.301
PAIRS_AT_ONCE = 1 << 20  # a pair takes 12 bytes on its way to a bucket, and 1 as one


def time_buckets(query_times: torch.Tensor, key_times: torch.Tensor) -> torch.Tensor:
    """``floor(log(max(1, |difference|)) / 0.301)``, or `UNKNOWN_TIME` where either time is 0 (arXiv 2402.17152).

    Args:
        query_times: ``[B, n]`` seconds.
        key_times: ``[B, m]`` seconds.

    Returns:
        ``[B, n, m]`` uint8.
    """
    rows = max(1, PAIRS_AT_ONCE // max(1, int(key_times.numel())))
    parts = [_time_buckets(some, key_times) for some in torch.split(query_times, rows, dim=1)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _time_buckets(query_times: torch.Tensor, key_times: torch.Tensor) -> torch.Tensor:
    difference = (query_times[:, :, None] - key_times[:, None, :]).abs_().clamp_(min=1).float()
    buckets = difference.log_().div_(BUCKET_WIDTH).clamp_(max=TIME_BUCKETS - 1).to(torch.uint8)
    unknown = (query_times == 0)[:, :, None] | (key_times == 0)[:, None, :]
    return buckets.masked_fill_(unknown, UNKNOWN_TIME)


class PairFeatures:
    """Slot distances and time buckets of a segment's pairs, computed once and read by every layer."""

    def __init__(self, context: Context) -> None:
        queries, keys = context.query_positions.int(), context.key_positions.int()
        self.distances = (queries[:, None] - keys).clamp_(min=0)
        self.buckets = None
        if context.query_times is not None and context.key_times is not None:
            self.buckets = time_buckets(context.query_times, context.key_times)


class RelativeBias(nn.Module):
    """The bias tables of one layer, shared by its heads as in the public HSTU code.

    Args:
        length: slots of the longest joint layout.

    Differs: distances are causal, so the table holds ``length`` entries, not ``2 length - 1``; a pair whose time is
    unknown has bias 0.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.distance = nn.Parameter(torch.empty(length).normal_(std=0.02))
        self.interval = nn.Parameter(torch.empty(TIME_BUCKETS).normal_(std=0.02))

    def forward(self, pairs: PairFeatures) -> Bias:
        """The bias of a segment's pairs."""
        interval = None if pairs.buckets is None else torch.cat([self.interval, self.interval.new_zeros(1)])
        return Bias(distance=self.distance, distances=pairs.distances, interval=interval, buckets=pairs.buckets)

"""The tables of HSTU's relative attention bias."""

import torch
from torch import nn

from persrec.nn.attention.bias import TIME_BUCKETS, Bias, Pairs
from persrec.nn.context import Context


def pairs_of(context: Context) -> Pairs:
    """What the bias of a segment's pairs depends on, for every layer."""
    return Pairs.of(context.query_positions, context.key_positions, context.query_times, context.key_times)


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

    def forward(self, pairs: Pairs) -> Bias:
        """The bias of a segment's pairs."""
        interval = None if pairs.key_times is None else torch.cat([self.interval, self.interval.new_zeros(1)])
        return Bias(distance=self.distance, interval=interval, pairs=pairs)

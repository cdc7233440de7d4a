"""Inputs of one segment's attention: several folders of tests hold kernels against the naive one on them."""

import torch

from persrec.nn.attention.pointwise import Bias

BUCKETS = 6


def attention_inputs(shape, *, seed=0, bias="time", dtype=torch.float64, device="cpu"):
    """q, k, v, the keys that are not padding, and bias tables, of which q, k, v and the tables want gradients.

    ``shape`` is users, heads, queries, prefix, width of a head.
    """
    users, heads, queries, prefix, width = shape
    random = torch.Generator().manual_seed(seed)
    keys = prefix + queries
    q, k, v = (torch.randn(users, heads, count, width, generator=random, dtype=torch.float64) for count in (queries, keys, keys))
    valid = torch.rand(users, keys, generator=random) > 0.3
    if users > 1:
        valid[0] = False  # a user without any item
    distance = torch.randn(2 * keys, generator=random, dtype=torch.float64)
    interval = torch.randn(BUCKETS + 1, generator=random, dtype=torch.float64)
    distances = (torch.arange(prefix, keys)[:, None] - torch.arange(keys)[None, :]).mul(2).clamp(min=0).int().to(device)
    buckets = torch.randint(0, BUCKETS + 1, (users, queries, keys), generator=random, dtype=torch.uint8).to(device)
    tables = {"none": [], "distance": [distance], "time": [distance, interval]}[bias]
    leaves = [tensor.to(device, dtype).requires_grad_() for tensor in (q, k, v, *tables)]
    built = None
    if bias != "none":
        timed = bias == "time"
        built = Bias(distance=leaves[3], distances=distances, interval=leaves[4] if timed else None, buckets=buckets if timed else None)
    return leaves, valid.to(device), built


def outputs_and_gradients(attend, leaves, *, seen=None):
    """The output of ``attend()`` and the gradients of ``leaves`` of a weighted sum of it; ``seen`` leaves rows out."""
    out = attend()
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out)
    if seen is not None:
        out, weights = out * seen, weights * seen
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), leaves)]

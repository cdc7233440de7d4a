"""Inputs of one segment's attention: several folders of tests hold kernels against the naive one on them."""

import torch

from persrec.nn.attention.bias import TIME_BUCKETS, Bias, Pairs

TIMES = ("ascending", "unknown", "any")  # with some of unknown time among them, and in any order


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
    interval = torch.randn(TIME_BUCKETS, generator=random, dtype=torch.float64)
    tables = {"none": [], "distance": [distance], "time": [distance, interval]}[bias]
    leaves = [tensor.to(device, dtype).requires_grad_() for tensor in (q, k, v, *tables)]
    built = None
    if bias != "none":
        timed = bias == "time"
        pairs = random_pairs(users, queries, prefix, random=random, kind=TIMES[seed % len(TIMES)] if timed else None, step=1 + seed % 2)
        built = Bias(distance=leaves[3], interval=with_unknown(leaves[4]) if timed else None, pairs=on(pairs, device))
    return leaves, valid.to(device), built


def with_unknown(interval):
    """A table with its entry for unknown times, which is 0."""
    return torch.cat([interval, interval.new_zeros(1)])


def random_pairs(users, queries, prefix, *, random, kind, step=1):
    """Slots ``step`` apart, and times of the given kind, or none."""
    keys = prefix + queries
    positions = torch.arange(keys) * step
    if kind is None:
        return Pairs.of(positions[prefix:], positions)
    gaps = torch.randint(0, 10**6, (users, keys + 1), generator=random) * torch.randint(0, 2, (users, keys + 1), generator=random)
    times = 1_600_000_000 + gaps.cumsum(1)
    if kind == "any":
        times = times[:, torch.randperm(keys + 1, generator=random)]
    key_times, query_times = times[:, :keys].clone(), times[:, prefix + 1 :].clone()
    if kind != "ascending":
        key_times[torch.rand(users, keys, generator=random) > 0.7] = 0
        query_times[torch.rand(users, queries, generator=random) > 0.8] = 0
    return Pairs.of(positions[prefix:], positions, query_times, key_times)


def on(pairs, device):
    """The same facts on a device."""
    facts = (pairs.query_positions, pairs.key_positions, pairs.query_times, pairs.key_times)
    return Pairs.of(*(None if fact is None else fact.to(device) for fact in facts))


def outputs_and_gradients(attend, leaves, *, seen=None):
    """The output of ``attend()`` and the gradients of ``leaves`` of a weighted sum of it; ``seen`` leaves rows out."""
    out = attend()
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out)
    if seen is not None:
        out, weights = out * seen, weights * seen
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), leaves)]

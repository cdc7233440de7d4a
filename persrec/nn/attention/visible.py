"""The causal rule, once, which every way to compute attention reads; Triton's kernels compile these very functions.

Queries count from their segment's first position, keys from the first of the prefix: query ``i`` of the segment is key ``i + p``.
"""


def sees(query: int, key: int, prefix: int) -> bool:
    """Whether a query sees a key: any of the prefix, and of its own segment those that do not lie behind it."""
    return key <= query + prefix


def keys_seen(query: int, prefix: int) -> int:
    """How many keys a query sees: `sees` holds for so many first ones."""
    return query + prefix + 1


def first_query(key: int, prefix: int) -> int:
    """The first query that sees a key; below 0 where all do."""
    return key - prefix

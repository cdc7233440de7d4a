"""Where expert tokens stand, as a cell's setting spells it."""

import itertools

from persrec import names


def blocks_of(plan: str) -> tuple[tuple[int, int], ...]:
    """Offsets and counts of ``100:2+180:4``.

    Raises:
        ValueError: the text is no such list, or its offsets do not rise from above 0.
    """
    parts = [tuple(part.split(":")) for part in plan.split("+")]
    if not all(len(part) == 2 and all(number.isdecimal() for number in part) for part in parts):
        raise ValueError(f"plan: {plan!r}; expected {', '.join(names.PLANS)}, or offsets with counts such as 100:2+180:4")
    blocks = tuple((int(offset), int(count)) for offset, count in parts)
    offsets = [0, *(offset for offset, _ in blocks)]
    if any(later <= earlier for earlier, later in itertools.pairwise(offsets)):
        raise ValueError(f"plan: {plan!r}; expected offsets that rise from above 0")
    return blocks

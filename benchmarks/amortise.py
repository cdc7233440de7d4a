"""What one request costs when a compressed history serves several of them."""

import math
from dataclasses import dataclass
from fractions import Fraction

from benchmarks.paired import Configuration


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What is paid once per refresh and once per request, in one unit."""

    compress: float
    serve: float

    def per_request(self, requests: int) -> float:
        """``(compress + r * serve) / r`` for ``r`` requests between two refreshes.

        Raises:
            ValueError: ``requests`` is less than 1.
        """
        if requests < 1:
            raise ValueError(f"requests: {requests} per refresh is less than 1")
        return (self.compress + requests * self.serve) / requests


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakEven:
    """The numbers of requests per refresh at which one price is no higher than another: ``first`` to ``last``.

    ``first`` is ``None`` where there is no such number, ``last`` is ``None`` where there is no end.
    """

    first: int | None
    last: int | None = None

    def __str__(self) -> str:
        """``from r = 3``, ``up to r = 40`` or ``never``."""
        if self.first is None:
            return "never"
        return f"from r = {self.first:,}" if self.last is None else f"up to r = {self.last:,}"


def break_even(ours: Price, theirs: Price) -> BreakEven:
    """Where ours is no dearer than theirs, solved exactly."""
    once = Fraction(ours.compress) - Fraction(theirs.compress)
    each = Fraction(ours.serve) - Fraction(theirs.serve)
    if each < 0:
        return BreakEven(first=max(1, math.ceil(once / -each)))
    if each == 0:
        return BreakEven(first=1 if once <= 0 else None)
    last = math.floor(-once / each)
    return BreakEven(first=1, last=last) if last >= 1 else BreakEven(first=None)


def flops_price(one: Configuration) -> Price | None:
    """Forward FLOPs per user of a refresh and of a request; ``None`` where either was not measured."""
    compress, serve = one.cost("compress_flops").value, one.cost("serve_flops").value
    return None if compress is None or serve is None else Price(compress=compress, serve=serve)


def time_price(one: Configuration) -> Price | None:
    """Milliseconds per user of a refresh and of a request, from throughput; ``None`` where either was not measured.

    Where a refresh takes no FLOPs there is nothing to time, and its price is 0.
    """
    serve = one.cost("serve_users_per_second").value
    compress = one.cost("compress_users_per_second").value
    if not serve:
        return None
    if one.cost("compress_flops").value == 0:
        return Price(compress=0.0, serve=1000.0 / serve)
    return Price(compress=1000.0 / compress, serve=1000.0 / serve) if compress else None

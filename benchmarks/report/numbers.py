"""Numbers as people read them: SI for FLOPs, binary units for bytes, as many digits as mean something."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from benchmarks.analysis.estimates import Estimate

MISSING = "\N{EN DASH}"
_SI = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BINARY = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
MINUS = "\N{MINUS SIGN}"


def significant(value: float, digits: int = 3) -> str:
    """``digits`` significant digits without exponent, thousands parted by commas; zeros behind the point are kept."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    places = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{places}f}".replace("-", MINUS)


def _scaled(value: float, units: Sequence[tuple[float, str]], least: str) -> str:
    for size, name in units:
        if abs(value) >= size * 0.9995:
            return f"{significant(value / size)} {name}"
    return f"{significant(value)} {least}".rstrip()


def flops(value: float) -> str:
    """``12.3 MFLOP``."""
    scaled = _scaled(value, _SI, "")
    number, _, prefix = scaled.partition(" ")
    return f"{number} {prefix}FLOP"


def macs(value: float) -> str:
    """``6.15 MMAC``."""
    return flops(value).replace("FLOP", "MAC")


def nbytes(value: float) -> str:
    """``768 B``, ``1.50 KiB``."""
    return _scaled(value, _BINARY, "B")


def milliseconds(value: float) -> str:
    """``1.23 ms``; from 10 s on in seconds."""
    return f"{significant(value / 1000)} s" if value >= 10_000 else f"{significant(value)} ms"


def count(value: float) -> str:
    """``12.3 k``, whole numbers below 10,000 as they are."""
    if abs(value) < 10_000 and value == int(value):
        return f"{int(value):,}".replace("-", MINUS)
    return _scaled(value, _SI, "")


def rate(value: float) -> str:
    """``1,230 /s``."""
    return f"{count(float(f'{value:.2e}'))}/s"


def ratio(value: float, *, signed: bool = False) -> str:
    """Four decimals, as metrics of ranking are published."""
    return f"{round(value, 4) + 0.0:{'+' if signed else ''}.4f}".replace("-", MINUS)


def percent(value: float, *, signed: bool = False) -> str:
    """``12.3%``; whole from 100% on."""
    shown = 100 * value
    places = 0 if abs(shown) >= 99.95 else 1
    return f"{shown:{'+' if signed else ''},.{places}f}%".replace("-", MINUS)


def quantity(metric: str, value: float) -> str:
    """A metric's value in the unit that its name tells."""
    for suffix, shown in (
        ("_flops", flops),
        ("_macs", macs),
        ("_bytes", nbytes),
        ("_ms", milliseconds),
        ("_per_second", rate),
        ("_share", percent),
        ("_over_full", percent),
        ("parameters", count),
    ):
        if metric.endswith(suffix):
            return shown(value)
    if metric.endswith("_j"):
        return f"{significant(value)} J"
    return ratio(value)


def _signed(value: float) -> str:
    return ratio(value, signed=True)


_FORMS: Mapping[str, Callable[[float], str]] = MappingProxyType({"ratio": ratio, "signed": _signed, "percent": percent})


def with_interval(estimate: Estimate, shown: str = "ratio") -> str:
    """``0.1234 (0.1200 to 0.1270)`` as ``ratio``, ``signed`` or ``percent``; only the value where there is no interval."""
    form = _FORMS[shown]
    if estimate.value is None:
        return MISSING
    if estimate.low is None or estimate.high is None:
        return form(estimate.value)
    return f"{form(estimate.value)} ({form(estimate.low)} to {form(estimate.high)})"


def decimals(value: float, *, signed: bool = False) -> str:
    """A ratio as an axis says it: as few decimals as it has, up to four."""
    text = f"{value:{'+' if signed else ''}.4f}".rstrip("0").rstrip(".")
    return "0" if text in ("+0", "-0", "0") else text.replace("-", MINUS)

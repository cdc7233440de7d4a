"""Numbers and texts as people read them: SI for FLOPs, binary units for bytes, as many digits as mean something.

The one home for every command: the terminal, Markdown and the page print the same value alike. The JSON text of values is here, too:
keys are digests of it. Imports nothing of the project.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

MISSING = "\N{EN DASH}"
_SI = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BINARY = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
MINUS = "\N{MINUS SIGN}"
_HUGE, _TINY = 1e21, 1e-9  # beyond these a number is written with an exponent
_LEAST_PERCENT = 1e-4  # below it a share is written as 0
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#])")


def significant(value: float, digits: int = 3) -> str:
    """``digits`` significant digits, thousands parted by commas; zeros behind the point are kept."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return _not_finite(value)
    if not _TINY <= abs(value) < _HUGE:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
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


def milliseconds(value: float, digits: int = 3) -> str:
    """``1.23 ms``; from 10 s on in seconds."""
    return f"{significant(value / 1000, digits)} s" if value >= 10_000 else f"{significant(value, digits)} ms"


def count(value: float) -> str:
    """``12.3 k``, whole numbers below 10,000 as they are."""
    if abs(value) < 10_000 and float(value).is_integer():
        return f"{int(value):,}".replace("-", MINUS)
    return _scaled(value, _SI, "")


def amount(number: int, noun: str) -> str:
    """``1 token``, ``1,200 tokens``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def rate(value: float) -> str:
    """``1,230 /s``."""
    return f"{count(float(f'{value:.2e}'))}/s"


def ratio(value: float, *, signed: bool = False) -> str:
    """Four decimals, as metrics of ranking are published."""
    if not abs(value) < _HUGE:
        return significant(value, 5)
    return f"{round(value, 4) + 0.0:{'+' if signed else ''}.4f}".replace("-", MINUS)


def percent(value: float, *, signed: bool = False, places: int | None = None) -> str:
    """``12.3%``; whole from 100% on, two digits of a share so small that it would be 0, unless ``places`` says how many decimals."""
    percentage = 100 * value
    if not abs(percentage) < _HUGE:
        return f"{significant(percentage)}%"
    if places is None and _LEAST_PERCENT <= abs(percentage) < 0.1:
        return f"{'+' if signed and percentage > 0 else ''}{significant(percentage, 2)}%"
    if places is None:
        places = 0 if abs(percentage) >= 99.95 else 1
    return f"{percentage:{'+' if signed else ''},.{places}f}%".replace("-", MINUS)


def change(value: float) -> str:
    """The share by which a number moved: ``+3.4%``, ``+0.12%``, ``+0%``; one decimal from 1% on, two below."""
    if not math.isfinite(value):
        return _not_finite(value)
    places = 1 if abs(value) >= 0.00995 or value == 0 else 2
    return "+0%" if round(100 * value, places) == 0 else percent(value, signed=True, places=places)


def exact(value: float) -> str:
    """A number that must be told from its neighbours: whole ones in full, others with six digits."""
    return f"{int(value):,}".replace("-", MINUS) if float(value).is_integer() else f"{value:.6g}".replace("-", MINUS)


def quantity(metric: str, value: float) -> str:
    """A metric's value in the unit that its name tells."""
    for suffix, format_value in (
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
            return format_value(value)
    if metric.endswith("_j"):
        return f"{significant(value)} J"
    return ratio(value)


def decimals(value: float, *, signed: bool = False) -> str:
    """A ratio as an axis says it: as few decimals as it has, up to four."""
    if not abs(value) < _HUGE:
        return significant(value)
    text = f"{value:{'+' if signed else ''}.4f}".rstrip("0").rstrip(".")
    return "0" if text in ("+0", "-0", "0") else text.replace("-", MINUS)


def literal(text: str) -> str:
    """Text that Markdown takes literally, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join("".join(character if character.isprintable() else " " for character in text).split()))


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def some(names: Sequence[str], *, most: int = 5) -> str:
    """The names, or the first of many: ``a, b and 7 more``."""
    return listed(names) if len(names) <= most else listed([*names[:most], f"{len(names) - most} more"])


def sentence(text: str) -> str:
    """The text with its first letter as at the start of a sentence."""
    return text[:1].upper() + text[1:]


def _not_finite(value: float) -> str:
    return "not a number" if math.isnan(value) else f"{MINUS if value < 0 else ''}infinite"


def canonical(values: Mapping[str, Any]) -> str:
    """The one JSON text of ``values``: keys sorted, no spaces, floats by ``repr``."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(values).encode()).hexdigest()

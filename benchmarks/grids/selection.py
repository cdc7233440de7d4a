"""``--select``: the cells of a grid that match what was asked for, in the words of a command line."""

import re
import types
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.cell import Cell
from benchmarks.grids import SETTINGS
from benchmarks.grids.values import kinds, type_name
from persrec.names import nearest

ALWAYS_NAMED = ("backbone", "compression", "tokens", "history")
NONE = "none"  # how ``--select`` writes a setting without a value


def select(cells: Sequence[Cell], expression: str, *, grid: str) -> tuple[Cell, ...]:
    """The cells that match every term of ``backbone=hstu,tokens=0|4``; values are written as by `show`.

    Raises:
        ValueError: as `terms`, or nothing matches; the message lists what is known.
    """
    selected = list(cells)
    for name, values in terms(expression):
        selected = [cell for cell in selected if getattr(cell, name) in values]
        if not selected:
            present = sorted({show(getattr(cell, name)) for cell in cells})
            raise ValueError(f"--select: no cell of grid {grid} matches {expression!r}; {name} is one of: {', '.join(present)}")
    return tuple(selected)


def terms(expression: str) -> list[tuple[str, set[Any]]]:
    """The settings that an expression names, each with the values to match; none for an empty expression.

    Raises:
        ValueError: a term is no ``setting=value``, names no setting, or has a value of another type; the message lists what is known.
    """
    conditions = []
    for term in (part.strip() for part in expression.split(",")) if expression.strip() else ():
        name, equals, texts = (part.strip() for part in term.partition("="))
        if not equals:
            raise ValueError(f"--select: {term!r} is not setting=value")
        if name not in SETTINGS:
            raise ValueError(f"--select: unknown setting {name!r}{nearest(name, SETTINGS)}; known: {', '.join(SETTINGS)}")
        conditions.append((name, {_parsed(name, text.strip()) for text in texts.split("|")}))
    return conditions


class Selecting:
    """The shortest expressions that find a grid's cells."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        """Among ``cells``."""
        self._cells = cells
        self._names = [name for name in SETTINGS if name in ALWAYS_NAMED or len({getattr(cell, name) for cell in cells}) > 1]
        self._counts: dict[tuple[str, ...], Counter[tuple[Any, ...]]] = {}  # how many cells have the same values, by setting names

    def alone(self, cell: Cell) -> str:
        """The shortest expression, by the order of settings, with which `select` finds this cell alone.

        It names `ALWAYS_NAMED` even where less would do, so that a person sees what it finds.
        """
        names = self._names
        for name in [name for name in reversed(names) if name not in ALWAYS_NAMED]:
            fewer = [other for other in names if other != name]
            if self._alike(cell, tuple(fewer)) == 1:
                names = fewer
        return ",".join(f"{name}={show(getattr(cell, name))}" for name in names)

    def _alike(self, cell: Cell, names: tuple[str, ...]) -> int:
        """How many cells have this one's values of these settings."""
        if names not in self._counts:
            self._counts[names] = Counter(_values(one, names) for one in self._cells)
        return self._counts[names][_values(cell, names)]


def _values(cell: Cell, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(getattr(cell, name) for name in names)


def show(value: object) -> str:
    """A setting's value as ``--select`` takes it: ``none``, ``true``, ``0.001``, ``0+4``; a comma in a text is ``%2C``."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or NONE
    if isinstance(value, str):
        return re.sub(r"[%,|\s]", lambda match: urllib.parse.quote(match.group()), value)
    return str(value)


def _parsed(name: str, text: str) -> Any:
    """The value of a setting from the text of ``--select``."""
    hint = SETTINGS[name]
    possible = kinds(hint)
    try:
        if hint == tuple[int, ...]:
            return () if text == NONE else tuple(int(part) for part in text.split("+"))
        if text == NONE and types.NoneType in possible:
            return None
        if bool in possible:
            return {"true": True, "false": False}[text.lower()]
        number = next((kind for kind in (int, float) if kind in possible), None)
        return urllib.parse.unquote(text) if number is None else number(text)
    except (ValueError, KeyError) as error:
        raise ValueError(f"--select: {name}: {text!r} is no {type_name(hint)}") from error

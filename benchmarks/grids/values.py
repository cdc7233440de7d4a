"""The values of a grid file in their types; what does not hold up is one line that names file, table and field."""

import types
import typing
from typing import Any

import msgspec

from persrec.names import nearest

Typed = typing.TypeVar("Typed")


def table_of(where: str, values: object, kind: type[Typed]) -> Typed:
    """A table as a dataclass."""
    hints = typing.get_type_hints(kind)
    typed: dict[str, Any] = {}
    for name, value in as_table(where, values, f"a table with: {', '.join(hints)}").items():
        if name not in hints:
            raise ValueError(f"{where}: unknown {name!r}{nearest(name, hints)}; known: {', '.join(hints)}")
        typed[name] = typed_value(f"{where}: {name}", value, hints[name])
    try:
        return kind(**typed)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def typed_value(where: str, value: object, hint: Any) -> Any:
    """``value`` in the type ``hint``: an int may stand for a float, a list for a tuple."""
    try:
        return msgspec.convert(value, hint)
    except (ValueError, OverflowError) as error:  # a number that no float can hold
        raise ValueError(f"{where}: {shown(value)} is {type(value).__name__}; expected {type_name(hint)}") from error


def as_table(where: str, value: object, expected: str) -> dict[str, Any]:
    """What must be a table."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {shown(value)}; expected {expected}")  # noqa: TRY004 - a file's content is input, not a type error
    return value


def kinds(hint: Any) -> tuple[type, ...]:
    """The types that a setting may have."""
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def type_name(hint: Any) -> str:
    """A setting's types, for a message."""
    if hint == tuple[int, ...]:
        return "a list of int"
    return " or ".join("none" if kind is types.NoneType else kind.__name__ for kind in kinds(hint))


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, tables in tables
        return f"a very large {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."

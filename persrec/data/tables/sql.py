"""Texts and names in SQL, quoted so that no file, column or value can be anything else."""

from pathlib import Path


def literal(text: str | Path) -> str:
    """``text`` as SQL's text."""
    return "'" + str(text).replace("'", "''") + "'"


def identifier(name: str) -> str:
    """``name`` as SQL's name of a column or table."""
    return '"' + name.replace('"', '""') + '"'


def joined(columns: tuple[str, ...], separator: str = ". ") -> str:
    """An expression of one text from several columns, those that say nothing left out."""
    parts = ", ".join(f"nullif(trim(CAST({identifier(column)} AS VARCHAR)), '')" for column in columns)
    return f"concat_ws({literal(separator)}, {parts})"

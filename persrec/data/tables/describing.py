"""The items' texts and categories, from the rows themselves or from a second table."""

from persrec.data.errors import SourceError
from persrec.data.tables.engine import Engine
from persrec.data.tables.sql import identifier
from persrec.data.tables.table import EVENTS, EventTable, ItemTable


def texts_of(table: EventTable | ItemTable) -> dict[str, str]:
    """SQL's expressions of an item's ``text`` and ``category``, by name, those that the table has."""
    expressions = {"text": table.text, "category": table.category}
    return {name: expression for name, expression in expressions.items() if expression is not None}


def describe_items(engine: Engine, table: EventTable) -> None:
    """Adds ``text`` and ``category`` to the relation ``items``: of each, the first that is not empty, in the order of the rows.

    Raises:
        SourceError: the second table cannot be read, or has nothing for any item.
    """
    catalogue = table.catalogue
    columns = texts_of(catalogue or table)
    if not columns:
        return
    relation = "raw" if catalogue is None else _read(engine, catalogue, columns)
    first_values = ", ".join(f"arg_min({name}, rowid) FILTER (trim(coalesce({name}, '')) <> '') AS {name}" for name in columns)
    values = ", ".join(f"coalesce(trim({name}), '') AS {name}" for name in columns)
    engine.run(
        f"CREATE TABLE described_items AS SELECT items.raw, items.id, {values} FROM items LEFT JOIN "
        f"(SELECT item AS of, {first_values} FROM (SELECT *, rowid FROM {relation}) WHERE item IS NOT NULL GROUP BY item) ON items.raw = of"
    )
    engine.run("DROP TABLE items")
    engine.run("ALTER TABLE described_items RENAME TO items")
    if catalogue is None:
        return
    any_value = " OR ".join(f"{name} <> ''" for name in columns)
    if not engine.count(f"(SELECT 1 FROM items WHERE {any_value} LIMIT 1)"):
        missing = " and no ".join(columns)
        place = table.scans[EVENTS].place
        raise SourceError(f"{catalogue.scan.place}: gives no {missing} for any of the items of {place}; are the ids the same?")


def _read(engine: Engine, catalogue: ItemTable, columns: dict[str, str]) -> str:
    """The second table's rows as a relation, with ids of the same kind as those of ``items``."""
    catalogue.scan.check({catalogue.item: "the items' table"})
    expressions = "".join(f", {expression} AS {name}" for name, expression in columns.items())
    item = f"TRY_CAST({identifier(catalogue.item)} AS {engine.types('items')['raw']})"
    engine.read(f"CREATE TABLE described AS SELECT {item} AS item{expressions} FROM ({catalogue.scan.sql()})", catalogue.scan)
    catalogue.scan.check_rejects(engine)
    return "described"

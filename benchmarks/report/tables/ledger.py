"""The FLOP ledger: three counts side by side; and what item vectors cost."""

from collections.abc import Sequence

from benchmarks import text
from benchmarks.analysis.configurations import Configuration, ledger_row_agrees
from benchmarks.measures import LEDGER_TOLERANCE
from benchmarks.records import LedgerRow
from benchmarks.report import tabular
from benchmarks.report.names import Names, backbone_name, dataset_name, family, filter_name
from benchmarks.report.tabular import Entry, Row, Table

_ITEM_COSTS = ("item_flops", "item_vectors_per_second", "item_peak_bytes")
_LEDGER_COLUMNS = ("formula", "torch counter", "fvcore", "largest difference", "visible", "executed")


def ledger_tables(among: Sequence[Configuration], names: Names) -> list[Table]:
    """The three counts side by side: the totals of each pass, then its parts, then whatever does not agree.

    One configuration stands for all of its backbone and family: that of the longest window and the most tokens. Beside its counts stands
    the largest difference of any of them. Each record holds its own ledger.
    """
    groups: dict[tuple[str, str, bool, str, str], list[tuple[Configuration, LedgerRow]]] = {}
    wrong: list[Row] = []
    for one in sorted(among, key=lambda one: (-one.window, -one.cell.tokens)):
        for counts in next((record.ledger for record in one.measured if record.ledger), ()):
            whole = counts.part == "total"
            kind = family(one).key if whole else ""
            groups.setdefault((backbone_name(one), kind, whole, counts.phase, counts.part), []).append((one, counts))
            wrong += [] if ledger_row_agrees(counts) else [_ledger_row([(one, counts)], names)]
    ordered = sorted(groups.items(), key=lambda group: (group[0][0], family(group[1][0][0]).place))
    totals = [_ledger_row(members, names) for (*_, whole, _, _), members in ordered if whole]
    parts = [_ledger_row(members, names) for (*_, whole, _, _), members in ordered if not whole]
    headings = ("configuration", "pass", *_LEDGER_COLUMNS, "agree", "not counted")
    explanations = {"agree": f"how many configurations of this backbone and kind, whose counts agree within {LEDGER_TOLERANCE:.0%}"}
    columns = tabular.columns(*headings, numeric=_LEDGER_COLUMNS, explanations=explanations)
    captioned = (
        ("ledger-passes", "FLOP ledger: the passes", totals),
        ("ledger-wrong", "FLOP ledger: what does not agree", wrong),
        ("ledger-parts", "FLOP ledger: their parts", parts),
    )
    return [
        Table(key=key, caption=f"{caption}; {tabular.NO_SEED}", columns=columns, rows=tuple(rows), filters=True)
        for key, caption, rows in captioned
        if rows
    ]


def item_table(among: Sequence[Configuration]) -> Table | None:
    """The cost of item vectors, which are computed once and kept: a row for each backbone that computes them."""
    rows: dict[tuple[str, str, float], Row] = {}
    for one in among:
        costs = [one.cost(name) for name in _ITEM_COSTS]
        if costs[0].value is None:
            continue
        entries = (tabular.of_cost(name, cost) for name, cost in zip(_ITEM_COSTS, costs, strict=True))
        row = tabular.row(backbone_name(one), dataset_name(one), *entries, backbone=filter_name(one))
        rows.setdefault((backbone_name(one), dataset_name(one), costs[0].value), row)
    numeric = ("whole catalogue", "vectors computed", "peak memory")
    columns = tabular.columns("backbone", "dataset", *numeric, numeric=numeric)
    caption = "Item vectors: computed once, kept, and in no number of a request"
    return Table(key="item-vectors", caption=caption, columns=columns, rows=tuple(rows.values())) if rows else None


def _ledger_row(members: Sequence[tuple[Configuration, LedgerRow]], names: Names) -> Row:
    one, counts = members[0]
    widest = max(_spread(row) for _, row in members)
    agreeing = sum(ledger_row_agrees(row) for _, row in members)
    return tabular.row(
        Entry(text=names(one), family=family(one).key),
        counts.phase + ("" if counts.part == "total" else f", {counts.part.replace('_', ' ')}"),
        *(_flops(count) for count in _three(counts)),
        Entry(text=text.percent(widest), order=widest),
        _flops(counts.visible_flops),
        _flops(counts.executed_flops),
        Entry(text=f"{agreeing} of {len(members)}", tone="fine" if agreeing == len(members) else "bad"),
        _uncounted(sorted(counts.uncounted.items())),
        family=family(one).name,
        backbone=filter_name(one),
    )


def _three(counts: LedgerRow) -> tuple[float | None, float | None, float | None]:
    return counts.formula_flops, counts.torch_flops, counts.fvcore_flops


def _spread(counts: LedgerRow) -> float:
    """The largest difference of the counts, as a share of the largest count."""
    values = [count for count in _three(counts) if count is not None]
    return (max(values) - min(values)) / max(values) if values and max(values) > 0 else 0.0


def _uncounted(operations: Sequence[tuple[str, int]]) -> Entry:
    """Operations that no counter prices, such as additions and masks: how many kinds, and which ones when unfolded."""
    if not operations:
        return Entry(text="nothing", order=0, tone="muted")
    listing = ", ".join(f"{name} \N{MULTIPLICATION SIGN} {times}" for name, times in operations)
    kinds = text.amount(len(operations), "kind")
    return Entry(text=kinds, order=len(operations), tone="long", folded=listing)


def _flops(value: float | None) -> Entry:
    return tabular.NOTHING if value is None else Entry(text=text.flops(float(value)), order=float(value))

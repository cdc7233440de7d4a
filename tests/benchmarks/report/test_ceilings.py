"""What an exact predictor reaches of the recent items alone is another number for windows with other recent items."""

from fabricated_records import configured, fabricate, records_of

from benchmarks.cell import Cell
from benchmarks.report.peers import peers_of
from benchmarks.report.tables.provenance import dataset_table


def recorded(*recents):
    records = []
    for recent in recents:
        record = fabricate(Cell(backbone="hstu", compression="full", history=64, recent=recent))
        record["dataset"]["ceiling"]["last_recent"] = {"ndcg@10": recent / 100}
        records.append(record)
    return records


def test_lines_are_drawn_of_what_all_configurations_share():
    for recents, drawn in (((8,), {"whole_past", "last_recent"}), ((8, 16), {"whole_past"})):
        [peers] = peers_of(configured(recorded(*recents)))
        assert set(peers.ceiling) == drawn


def test_the_table_says_of_how_many_recent_items_a_ceiling_is():
    for recents, said in (
        ((8,), "last recent ndcg@10 0.0800"),
        ((8, 16), "last recent ndcg@10 0.0800 (8 recent items); last recent ndcg@10 0.1600 (16 recent items)"),
    ):
        table = dataset_table(records_of(*recorded(*recents)))
        place = [column.name for column in table.columns].index("ceiling of the exact predictor")
        assert said in table.rows[0].entries[place].text

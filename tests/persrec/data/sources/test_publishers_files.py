"""The publishers' own files, where they are at hand: the counts that their pages and our rules say."""

import pytest

from persrec.data import load_dataset
from persrec.data.base import Bounds

# A file that tells that the data are there, rows in, and what is left: rows (None where it is not known beforehand), users, items.
COUNTS = {
    "ml-latest-small": ("ml-latest-small/ratings.csv", 100_836, (100_836, 610, 9_724)),
    "ebnerd": ("ebnerd_demo/validation/history.parquet", None, (304_603, 1_935, 5_667)),
    "online-retail": ("online-retail/Online_Retail.parquet", 541_909, None),
}


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "file", "rows_in", "left"), [(name, *known) for name, known in COUNTS.items()], ids=COUNTS.keys())
def test_a_publishers_files_have_the_known_counts(tmp_path, at_hand, name, file, rows_in, left):
    size = "demo" if name == "ebnerd" else None
    log = load_dataset(name, size=size, data_dir=at_hand(file), cache_dir=tmp_path, bounds=Bounds(threads=1))
    ledger = log.notes["ledger"]
    assert ledger["rows_in"] == ledger["rows_kept"] + sum(ledger["dropped"].values())
    assert ledger["rows_kept"] == len(log)
    if rows_in is not None:
        assert ledger["rows_in"] == rows_in
    if left is not None:
        assert (len(log), log.num_users, log.num_items - 1) == left
    if name == "online-retail":
        assert ledger["dropped"]["no user"] == 135_080

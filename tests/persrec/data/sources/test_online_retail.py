"""Online Retail: lines of invoices, in the order of the file inside an invoice; the publisher's rules count what they drop."""

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persrec.data.sources import online_retail

START = 1_300_000_000
# In the order of the file: invoice, code, description, minutes after START, customer.
LINES = [
    ("500001", "90002A", " RED MUG ", 5, 11.0),
    ("500001", "90001", None, 5, 11.0),
    ("500001", "90002A", "red mug again", 5, 11.0),
    ("500000", "90001", "BLUE MUG", 4, 12.0),
    ("500000", "90004", None, 4, 12.0),
    ("500002", "90003", "of nobody", 6, None),
    ("500002", "90003", "of nobody", 6, float("nan")),
    ("C500003", "90002A", "RED MUG", 7, 11.0),
    ("500004", "POST", "POSTAGE", 8, 12.0),
    ("500004", "M", "Manual", 8, 12.0),
    ("500004", "C2", "CARRIAGE", 8, 12.0),
    ("500004", "DOT", "DOTCOM POSTAGE", 8, 12.0),
    ("500004", "BANK CHARGES", "Bank Charges", 8, 12.0),
    ("500004", "PADS", "PADS TO MATCH ALL CUSHIONS", 8, 12.0),
    ("C500005", "M", "Manual", 9, None),
    ("C500005", "M", "Manual", 9, 12.0),
]


def table(lines):
    moments = [datetime.datetime.fromtimestamp(START + 60 * line[3], datetime.UTC).replace(tzinfo=None) for line in lines]
    return pa.table(
        {
            "InvoiceNo": [line[0] for line in lines],
            "StockCode": [line[1] for line in lines],
            "Description": pa.array([line[2] for line in lines], pa.string()),
            "Quantity": [1] * len(lines),
            "InvoiceDate": pa.array(moments, pa.timestamp("ns")),
            "UnitPrice": [2.5] * len(lines),
            "CustomerID": pa.array([line[4] for line in lines], pa.float64()),
            "Country": ["Utopia"] * len(lines),
        }
    )


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A folder with the table; a complete one has 16 rows here."""
    monkeypatch.setattr(online_retail, "ROWS", len(LINES))
    folder = tmp_path / "online-retail"
    folder.mkdir()
    pq.write_table(table(LINES), folder / "Online_Retail.parquet")
    return folder


def test_an_invoice_is_one_time_whose_lines_keep_the_order_of_the_file(source, load, events):
    log = load("online-retail")
    assert [(user, code, (time - START) // 60) for user, code, time in events(log)] == [
        (11, "90002A", 5), (11, "90001", 5), (11, "90002A", 5), (12, "90001", 4), (12, "90004", 4),
    ]  # fmt: skip
    assert log.exclude_seen is False


def test_lines_without_a_customer_cancellations_and_codes_of_no_product_are_counted(source, load):
    # A cancellation of nobody counts as of nobody, a cancelled code of no product as a cancellation.
    assert load("online-retail").notes["ledger"] == {
        "rows_in": 16, "rows_kept": 5, "dropped": {"no user": 3, "a cancellation": 2, "not a product": 6},
    }  # fmt: skip


def test_a_products_text_is_its_first_description(source, load):
    log = load("online-retail")
    assert log.item_texts == ("", "BLUE MUG", "RED MUG", "")  # of 90001, 90002A and 90004
    assert (log.notes["items_with_text"], log.item_categories) == (2, None)


def test_the_workbooks_own_name_and_another_folder_are_known(source, tmp_path, load):
    (source / "Online_Retail.parquet").rename(source / "Online Retail.parquet")
    source.rename(tmp_path / "online_retail")
    assert len(load("online-retail")) == 5


def test_a_part_of_the_table_is_another_data_set(source, refusal, monkeypatch):
    monkeypatch.setattr(online_retail, "ROWS", 541_909)
    assert "Online_Retail.parquet: 16 rows; 'online-retail' has 541,909, and a part of them is another data set" in refusal("online-retail")


def test_a_folder_without_the_table_is_refused(source, refusal):
    (source / "Online_Retail.parquet").rename(source / "Online Retail.xlsx")
    assert "online-retail: no file Online_Retail.parquet or Online Retail.parquet" in refusal("online-retail")


@pytest.mark.parametrize("column", ["InvoiceNo", "StockCode", "Description", "InvoiceDate", "CustomerID"])
def test_a_missing_column_is_named(source, refusal, column):
    pq.write_table(table(LINES).drop_columns([column]), source / "Online_Retail.parquet")
    assert f"Online_Retail.parquet: no column '{column}', which " in refusal("online-retail")


def test_a_file_that_is_no_parquet_is_named(source, refusal):
    (source / "Online_Retail.parquet").write_bytes(b"InvoiceNo,StockCode\n")
    assert "Online_Retail.parquet: is no Parquet file" in refusal("online-retail")

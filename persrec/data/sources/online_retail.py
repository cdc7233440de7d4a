"""UCI Online Retail: invoices of a British shop. Chen, Sain and Guo, 2012; Chen, 2015 (UCI).

A line of an invoice is an interaction. An invoice has one time: inside it, lines keep the file's order.
"""

from pathlib import Path

from persrec.data.tables.scan import Scan
from persrec.data.tables.source import PublishedDataset, first_file, with_columns
from persrec.data.tables.sql import joined, literal
from persrec.data.tables.table import EVENTS, EventTable

NOT_PRODUCTS = ("POST", "M", "C2", "DOT", "BANK CHARGES", "PADS")
ROWS = 541_909


def _read(folder: Path) -> EventTable:
    codes = ", ".join(literal(code) for code in NOT_PRODUCTS)
    path = first_file(folder, ("Online_Retail.parquet", "Online Retail.parquet"))
    lines = with_columns(Scan(files=(path,), format="parquet"), ("InvoiceNo", "StockCode", "Description"), "online-retail")
    return EventTable(
        name="online-retail",
        scans={EVENTS: lines},
        user="CustomerID",
        item="StockCode",
        time="InvoiceDate",
        rules=(("a cancellation", "starts_with(InvoiceNo, 'C')"), ("not a product", f"StockCode IN ({codes})")),
        text=joined(("Description",)),
        expected_rows=ROWS,
    )


def build() -> PublishedDataset:
    """The dataset ``online-retail``."""
    return PublishedDataset(
        name="online-retail", read=_read, files=("Online_Retail.parquet",), needs="Online_Retail.parquet, the table of UCI's workbook",
        licence="CC BY 4.0 (UCI)", folders=("online-retail", "online_retail"),
    )  # fmt: skip

"""Records as types: what a cell, its quality and its cost came to, with one reader and one writer.

A *cell* is a quality beside a cost. Its record, ``cells/KEY.json``, is whole in itself and names the keys of both. A cost,
``costs/KEY.json``, is measured once per shape and shared. ``docs/records.schema.json`` is the JSON Schema of both.

For a notebook::

    from benchmarks.records import load_records

    run = load_records("results/NAME")
    run[0].metrics["ndcg@10"].value
    table = run.frame()  # pandas: a row per record, a column per setting and per metric
"""

from benchmarks.records.files import (
    RecordError,
    RunRecords,
    check_settings,
    check_version,
    load_records,
    read_cost,
    read_json,
    read_record,
    read_typed,
    record_files,
    record_of,
    schema,
    to_dict,
    to_json,
    typed,
)
from benchmarks.records.types import (
    FINDINGS,
    SCHEMA_VERSION,
    WORST_FIRST,
    Cost,
    DatasetFacts,
    Environment,
    Epoch,
    Failure,
    GroupQuality,
    Half,
    LedgerRow,
    Metric,
    Order,
    Origin,
    Parts,
    Process,
    ProtocolQuality,
    Provenance,
    Record,
    Replicates,
    Status,
    TrainedModel,
)

__all__ = [
    "FINDINGS",
    "SCHEMA_VERSION",
    "WORST_FIRST",
    "Cost",
    "DatasetFacts",
    "Environment",
    "Epoch",
    "Failure",
    "GroupQuality",
    "Half",
    "LedgerRow",
    "Metric",
    "Order",
    "Origin",
    "Parts",
    "Process",
    "ProtocolQuality",
    "Provenance",
    "Record",
    "RecordError",
    "Replicates",
    "RunRecords",
    "Status",
    "TrainedModel",
    "check_settings",
    "check_version",
    "load_records",
    "read_cost",
    "read_json",
    "read_record",
    "read_typed",
    "record_files",
    "record_of",
    "schema",
    "to_dict",
    "to_json",
    "typed",
]

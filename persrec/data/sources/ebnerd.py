"""EB-NeRD: clicks on articles of Ekstra Bladet. Kruse et al., RecSys Challenge 2024.

A history is fixed before its split's period, and the validation history repeats the train period's clicks some seconds later, so that
a plain union counts clicks twice. A user of the validation history takes that history, and then the validation clicks that are later
than its last entry; a user of the train history alone takes that one, and then the later train clicks.
Differs: the public preprocessing takes train histories alone, of users with 512 clicks or more.
"""

from pathlib import Path

from persrec.data.errors import SourceError
from persrec.data.protocol import Protocol
from persrec.data.tables.scan import Scan
from persrec.data.tables.source import PublishedDataset, optional_file, with_columns
from persrec.data.tables.table import EVENTS, EventTable, ItemTable

PARTS = ("train", "validation")
_COLUMNS = {
    "history": ("user_id", "article_id_fixed", "impression_time_fixed"),
    "behaviors": ("user_id", "impression_id", "impression_time", "article_ids_clicked"),
}
_ARTICLES = ("article_id", "title", "subtitle", "topics", "category_str")
_HISTORY = """
SELECT user_id AS "user", unnest(article_id_fixed) AS item, unnest(impression_time_fixed) AS "time",
       {number} AS part, false AS click, false AS early, 0 AS impression, unnest(range(len(article_id_fixed))) AS place
FROM {part}_history
"""
_CLICKS = """
SELECT b.user_id AS "user", unnest(article_ids_clicked) AS item, impression_time AS "time",
       {number} AS part, true AS click, coalesce(impression_time <= list_last(h.impression_time_fixed), false) AS early,
       CAST(impression_id AS BIGINT) AS impression, unnest(range(len(article_ids_clicked))) AS place
FROM {behaviors} b LEFT JOIN {part}_history h USING (user_id)
"""


def _read(folder: Path) -> EventTable:
    scans = {}
    for part in PARTS:
        for name, columns in _COLUMNS.items():
            path = folder / part / f"{name}.parquet"
            if not path.is_file():
                raise SourceError(
                    f"{path}: no such file; 'ebnerd' is read from history.parquet and behaviors.parquet of {' and '.join(PARTS)}"
                )
            relation = EVENTS if (part, name) == ("train", "behaviors") else f"{part}_{name}"
            scans[relation] = with_columns(Scan(files=(path,), format="parquet"), columns, "ebnerd")
    unions = " UNION ALL ".join(
        template.format(part=part, number=number, behaviors=EVENTS if part == "train" else f"{part}_behaviors")
        for number, part in enumerate(PARTS)
        for template in (_HISTORY, _CLICKS)
    )
    has_later_history = "EXISTS (SELECT 1 FROM validation_history v WHERE v.user_id = r.user)"
    rows = f'SELECT *, part = 0 AND {has_later_history} AS replaced FROM ({unions}) r ORDER BY "user", part, click, impression, place, item'
    articles = optional_file(folder, ("articles.parquet",))
    return EventTable(
        name="ebnerd",
        scans=scans,
        rows=rows,
        rules=(
            ("of the train part, of a user who has a validation history", "replaced"),
            ("a click at or before the history's last entry", "early"),
        ),
        catalogue=None
        if articles is None
        else ItemTable(
            scan=with_columns(Scan(files=(articles,), format="parquet"), _ARTICLES, "ebnerd"),
            item="article_id",
            text="concat_ws('. ', nullif(trim(title), ''), nullif(trim(subtitle), ''), nullif(array_to_string(topics, ', '), ''))",
            category="category_str",
        ),
        protocol=Protocol(seen_items="kept"),
    )


def build() -> PublishedDataset:
    """The dataset ``ebnerd``, of the size that is there, or of a named one."""
    return PublishedDataset(
        name="ebnerd",
        read=_read,
        files=PARTS,
        needs="train/ and validation/, each with history.parquet and behaviors.parquet, and articles.parquet for texts",
        licence="research terms; no redistribution (Ekstra Bladet)",
        folders=("ebnerd", "ebnerd_demo", "ebnerd_small", "ebnerd_large"),
        sizes=("demo", "small", "large"),
    )

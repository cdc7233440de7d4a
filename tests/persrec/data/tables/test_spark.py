"""The folder that Spark writes, as the page on scaling shows it, is read as any other."""

import datetime
import re
from pathlib import Path

import pytest

from persrec.data import load_dataset

PAGE = Path(__file__).resolve().parents[4] / "docs" / "scaling.md"
START = datetime.datetime(2024, 3, 1, tzinfo=datetime.UTC)


@pytest.fixture
def spark():
    sql = pytest.importorskip("pyspark.sql", reason="needs pyspark and Java, which no other test does: pip install pyspark")
    session = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    session.conf.set("spark.sql.session.timeZone", "UTC")
    yield session
    session.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_spark_writes_is_prepared(spark, tmp_path, monkeypatch):
    monkeypatch.setenv("PERSREC_CACHE", str(tmp_path / "cache"))
    rows = [
        (user, f"s{item}", START + datetime.timedelta(days=item, seconds=user), "buy" if item else "view")
        for user in (2, 1)
        for item in range(4)
    ]
    lines = [
        f'{{"customer": {user}, "sku": "{sku}", "ts": "{at.isoformat()}", "kind": "{kind}", "day": "{at.date()}"}}'
        for user, sku, at, kind in rows
    ]
    (tmp_path / "logs.json").write_text("\n".join(lines))
    page = PAGE.read_text()
    [code] = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    [toml] = re.findall(r"^```toml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    code = code.replace("s3://logs/2024/*", str(tmp_path / "logs.json")).replace('parquet("events")', f'parquet("{tmp_path}/events")')
    exec(compile(code, str(PAGE), "exec"), {"spark": spark})  # noqa: S102 - our own page
    assert (tmp_path / "events" / "_SUCCESS").exists()
    (tmp_path / "shop.toml").write_text(toml)
    log = load_dataset(str(tmp_path / "shop.toml"))
    assert (log.items.tolist(), log.lengths.tolist()) == ([1, 2, 3, 1, 2, 3], [3, 3])
    assert log.notes["ledger"] == {"rows_in": 6, "rows_kept": 6, "dropped": {}}

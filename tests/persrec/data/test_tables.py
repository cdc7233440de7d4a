import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persrec.data.tables import count_lines, read_columns, read_parquet

RATINGS = {"user": "int64", "item": "int64", "rating": "float64"}


def written(tmp_path, content):
    path = tmp_path / "table"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("separator", "text"), [("::", "1::10::4\n2::20::3.5\n"), ("\t", "1\t10\t4\n2\t20\t3.5\n"), (",", "1,10,4\r\n2,20,3.5")]
)
def test_columns_keep_the_order_of_the_file(tmp_path, separator, text):
    columns = read_columns(written(tmp_path, text.encode()), RATINGS, separator=separator)
    assert {name: values.tolist() for name, values in columns.items()} == {"user": [1, 2], "item": [10, 20], "rating": [4.0, 3.5]}
    assert columns["user"].dtype == np.int64


def test_text_is_latin_1_and_single_colons_and_quotes_are_text_between_double_colons(tmp_path):
    path = written(tmp_path, '1::Am\u00e9lie: "le" film, 2001\tx\n2::plain\n'.encode("latin-1"))
    columns = read_columns(path, {"item": "int64", "title": "string"}, separator="::")
    assert columns["title"].tolist() == ['Am\u00e9lie: "le" film, 2001\tx', "plain"]


def test_a_header_names_the_columns_and_quoted_fields_may_hold_the_separator(tmp_path):
    path = written(tmp_path, b'movieId,title,genres\n7,"A, B",Drama\n')
    columns = read_columns(path, {"movieId": "int64", "title": "string"}, separator=",", header=True)
    assert (columns["movieId"].tolist(), columns["title"].tolist()) == ([7], ["A, B"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1::10\n", "Expected 3 columns, got 2"),
        (b"1::10::4\n2::20\n", "CSV parse error"),
        (b"1::ten::4\n", "ten"),
        (b"", "Empty CSV file"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused_in_one_line(tmp_path, content, message):
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=message) as refused:
        read_columns(path, RATINGS, separator="::")
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_number_that_is_not_there_is_refused(tmp_path):
    path = written(tmp_path, b"1::10::4\n2::::3\n")
    with pytest.raises(ValueError, match="1 nulls in column 'item'; expected none"):
        read_columns(path, RATINGS, separator="::")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="missing: cannot be read"):
        read_columns(tmp_path / "missing", RATINGS, separator="::")


def test_parquet_columns_are_read_and_nulls_and_missing_columns_refused(tmp_path):
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"user": [2, 1], "time": pa.array([5, None], pa.int64())}), path)
    assert read_parquet(path, ("user",))["user"].tolist() == [2, 1]
    with pytest.raises(ValueError, match="1 nulls in column 'time'"):
        read_parquet(path, ("user", "time"))
    with pytest.raises(ValueError, match=r"table.parquet: .*item"):
        read_parquet(path, ("user", "item"))
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        read_parquet(written(tmp_path, b"no parquet"), ("user",))


@pytest.mark.parametrize(("content", "lines"), [(b"", 0), (b"a\n", 1), (b"a\nb", 2), (b"a\nb\n", 2), (b"\n\n", 2)])
def test_lines_are_counted_with_or_without_a_last_end(tmp_path, content, lines):
    assert count_lines(written(tmp_path, content)) == lines

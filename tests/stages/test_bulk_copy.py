"""COPY of arrays: what goes in comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seed_analytics.bulk_copy import copy_arrays
from support import Database

# PostgreSQL's text holds no NUL, and numpy's fixed-width bytes end at their last byte that is not NUL.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
ROW = st.tuples(
    st.none() | TEXT,
    st.none() | st.booleans(),
    st.none() | st.integers(-(2**31), 2**31 - 1),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.floats(allow_nan=False),
    st.none() | st.integers(-(10**15), 4 * 10**15),
    st.none() | st.integers(-100_000, 100_000),
)
TABLE = (
    "CREATE TABLE IF NOT EXISTS copied (place bigint, t text, b boolean, i integer, l bigint, f double precision,"
    " at timestamptz, day date)"
)
BACK = (
    "SELECT t, b, i, l, f, (extract(epoch FROM at) * 1000000)::bigint, day - date '1970-01-01' FROM copied"
    " ORDER BY place"
)


def masked(values: list[Any], fill: Any, dtype: str) -> np.ma.MaskedArray[Any, Any]:
    data = np.array([fill if value is None else value for value in values], dtype)
    return np.ma.masked_array(data, [value is None for value in values])


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW, min_size=1, max_size=40))
def test_every_type_and_null_comes_back(database: Database, rows: list[tuple[Any, ...]]) -> None:
    database(TABLE)
    database("TRUNCATE copied")
    t, b, i, l, f, at, day = (list(column) for column in zip(*rows, strict=True))  # noqa: E741
    written = copy_arrays(
        database.conn,
        "copied",
        {
            "place": np.arange(len(rows)),
            "t": masked([None if each is None else each.encode() for each in t], b"", "S"),
            "b": masked(b, False, "bool"),
            "i": masked(i, 0, "int32"),
            "l": masked(l, 0, "int64"),
            "f": masked(f, 0.0, "float64"),
            "at": masked(at, 0, "datetime64[us]"),
            "day": masked(day, 0, "datetime64[D]"),
        },
    )
    assert written == len(rows)
    assert database(BACK) == rows


def test_more_rows_than_one_chunk_and_unicode_arrays(database: Database) -> None:
    database(TABLE)
    n = 120_001
    copy_arrays(
        database.conn, "public.copied", {"place": np.arange(n), "t": np.char.add("ü", np.arange(n).astype("U"))}
    )
    assert database("SELECT count(*), count(DISTINCT t), bool_and(t = 'ü' || place) FROM copied") == [(n, n, True)]


def test_not_a_time_is_null(database: Database) -> None:
    database(TABLE)
    copy_arrays(database.conn, "copied", {"at": np.array(["NaT", "2025-11-02T07:15"], "datetime64[us]")})
    assert database("SELECT count(*), count(at) FROM copied") == [(2, 1)]


def test_no_rows_are_no_fault(database: Database) -> None:
    database(TABLE)
    assert copy_arrays(database.conn, "copied", {"i": np.zeros(0, "int32"), "t": np.zeros(0, "S5")}) == 0


@pytest.mark.parametrize("dtype", ["complex128", "float32", "int16", "object"])
def test_unsupported_type_is_named_and_nothing_written(database: Database, dtype: str) -> None:
    database(TABLE)
    with pytest.raises(TypeError, match=dtype):
        copy_arrays(database.conn, "copied", {"i": np.zeros(3, dtype)})
    assert database("SELECT count(*) FROM copied") == [(0,)]


def test_type_of_the_column_is_checked_by_the_server(database: Database) -> None:
    database(TABLE)
    with pytest.raises(psycopg.DataError):
        copy_arrays(database.conn, "copied", {"i": np.zeros(3, "int64")})

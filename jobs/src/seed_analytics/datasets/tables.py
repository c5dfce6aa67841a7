"""What the adapters share: read Parquet into numpy, move dates, load the platform's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from psycopg.types.json import Jsonb

from seed_analytics.bulk_copy import Array, copy_arrays
from seed_analytics.db import Connection
from seed_analytics.errors import InputFault, UsageFault
from seed_analytics.platform_tables import empty_platform_tables, finish_load

WEEK = np.timedelta64(7, "D").astype("timedelta64[us]")


def read_parquet(path: Path, columns: Sequence[str]) -> dict[str, Array]:
    """Read columns of a Parquet file as numpy arrays: text as ``U``, nulls of the others masked.

    Raises:
        UsageFault: the reader is not installed.
        InputFault: the file lacks a column or is no Parquet file.

    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an optional dependency: pods never read these files
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise UsageFault("Public data sets are Parquet files: pip install 'seed-analytics[local]'.") from error
    try:
        table = pq.read_table(path, columns=list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise InputFault(f"{path} cannot be read as Parquet: {error}") from error
    missing = set(columns) - set(table.column_names)
    if missing:
        raise InputFault(f"{path} lacks the column(s) {', '.join(sorted(missing))}.")
    return {name: _array(table[name].combine_chunks()) for name in columns}


def _array(column: Any) -> Array:
    import pyarrow as pa  # noqa: PLC0415

    if pa.types.is_dictionary(column.type):
        words = np.array(column.dictionary.to_pylist(), str)
        decoded: Array = words[column.indices.to_numpy(zero_copy_only=False)]
        return decoded
    null = column.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_timestamp(column.type):
        return np.asarray(column.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False), "datetime64[us]")
    filled: Array = column.fill_null(0).to_numpy(zero_copy_only=False)
    return np.ma.masked_array(filled, null) if null.any() else filled


def shift_to_end_by(times: Array, now: datetime) -> Array:
    """Move times by the whole number of weeks that brings the last of them closest to, and before, `now`."""
    moment = np.datetime64(now.astimezone(UTC).replace(tzinfo=None), "us")
    weeks = (moment - times.max()) // WEEK  # floor, also of negative differences
    moved: Array = times + weeks * WEEK
    return moved - WEEK if moved.max() == moment else moved


def text(values: Array | Sequence[str]) -> Array:
    """Encode texts as the UTF-8 bytes that COPY sends."""
    return np.char.encode(np.asarray(values, str), "utf-8")


def write(
    conn: Connection,
    source: str,
    now: datetime,
    attempt: Sequence[Mapping[str, Array]],
    questions: Sequence[tuple[str, str, dict[str, Any]]],
) -> dict[str, int]:
    """Replace the platform's tables by a data set.

    Args:
        conn: a connection in autocommit mode.
        source: the data set's name, for ``simulated_truth.origin``.
        now: the moment at which the data end.
        attempt: parts of the log, each column -> array.
        questions: id, topic and meta of each item.

    Returns:
        The number of rows by table.

    """
    with conn.transaction():
        empty_platform_tables(conn, source, {"now": now.isoformat()})
        with conn.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO question (id, topic_id, meta) VALUES (%s, %s, %s)",
                [(item, topic, Jsonb(meta)) for item, topic, meta in questions],
            )
        counts = {
            "question": len(questions),
            "attempt": sum(copy_arrays(conn, "attempt", part) for part in attempt),
            "features_topic_daily": finish_load(conn, now),
        }
    conn.execute("ANALYZE")
    return counts

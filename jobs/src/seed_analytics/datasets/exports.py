"""The platform's own tables, exported to files: ``attempt.csv`` or ``attempt.parquet``, and the others beside it.

A CSV file has a header. Columns are those of the platform's tables, under their names; others are left alone, and so is
``attempt.id``. ``question``, ``weekly_kpi`` and ``features_topic_daily`` may be missing. All dates move to end now,
by the same whole number of weeks.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from psycopg import sql as pgsql

from seed_analytics import db
from seed_analytics.db import Connection
from seed_analytics.errors import InputFault, UsageFault
from seed_analytics.platform_tables import create_platform_tables, empty_platform_tables

FORMATS = ("parquet", "csv")
COLUMNS = {
    "attempt": ("student_id", "item_id", "correct", "started_at", "completed_at", "response_time_ms", "hint_used",
                "session_id", "topic_id"),
    "question": ("id", "topic_id", "meta"),
    "weekly_kpi": ("user_id", "week_start", "kpis"),
    "features_topic_daily": ("user_id", "topic_id", "date", "attempts", "correct", "rt_median", "hints"),
}  # fmt: skip
"""Table -> the columns that are read of its file."""
NEEDED = 4  # of attempt's columns, the first: without them no stage has anything to read


def find(directory: Path, table: str) -> Path | None:
    """Return the file of a table, or None."""
    return next((path for form in FORMATS if (path := directory / f"{table}.{form}").is_file()), None)


def load(conn: Connection, directory: Path, now: datetime) -> dict[str, int]:
    """Load every table that has a file; returns the number of rows by table.

    Raises:
        InputFault: a file cannot be read, or lacks a column without which there is nothing to compute.

    """
    with conn.transaction():
        empty_platform_tables(conn, "exports", {"now": now.isoformat()})
        counts = {table: _copy(conn, table, path) for table in COLUMNS if (path := find(directory, table))}
        conn.execute(db.read_sql("datasets/shift.sql"), {"now": now})
        create_platform_tables(conn)  # the log's indexes, which `empty` dropped
    conn.execute("ANALYZE")
    return counts


def _copy(conn: Connection, table: str, path: Path) -> int:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an optional dependency: pods never read these files
        import pyarrow.csv as pc  # noqa: PLC0415
    except ImportError as error:
        raise UsageFault("Exports are read by pyarrow: pip install 'seed-analytics[local]'.") from error
    rows = 0
    try:
        names, batches = _read(path, COLUMNS[table])
        if table == "attempt" and (missing := set(COLUMNS[table][:NEEDED]) - set(names)):
            raise InputFault(f"{path} lacks the column(s) {', '.join(sorted(missing))}.")
        statement = pgsql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
            pgsql.Identifier(table), pgsql.SQL(", ").join(map(pgsql.Identifier, names))
        )
        with conn.cursor() as cursor, cursor.copy(statement) as copy:
            for batch in batches:
                lines = BytesIO()
                pc.write_csv(batch, lines, pc.WriteOptions(include_header=False))
                copy.write(lines.getvalue())
                rows += batch.num_rows
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeDecodeError) as error:
        raise InputFault(f"{path} cannot be read: {error}") from error
    return rows


def _read(path: Path, columns: tuple[str, ...]) -> tuple[list[str], Iterator[Any]]:
    """Return which of the columns a file has, and its rows in batches; what a CSV file holds stays text."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.csv as pc  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    if path.suffix == ".parquet":
        file = pq.ParquetFile(path)
        names = [name for name in columns if name in file.schema_arrow.names]
        return names, file.iter_batches(columns=names) if names else iter(())
    with path.open(encoding="utf-8", newline="") as text:
        header = next(csv.reader(text), [])
    names = [name for name in columns if name in header]
    as_text = pc.ConvertOptions(
        include_columns=names,
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    lines = pc.ParseOptions(newlines_in_values=True)
    return names, pc.open_csv(path, parse_options=lines, convert_options=as_text) if names else iter(())

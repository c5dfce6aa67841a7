"""The platform's tables for local runs and tests: create them, empty them, fill what derives from the log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from seed_analytics import db
from seed_analytics.db import Connection
from seed_analytics.errors import InputFault
from seed_analytics.log_view import StudentIdForm, open_log


def create_platform_tables(conn: Connection) -> None:
    """Create the tables and indexes that do not exist yet, and the schema ``simulated_truth`` beside them."""
    conn.execute(db.read_sql("platform/tables.sql"))


def is_empty(conn: Connection) -> bool:
    """Create the platform's tables where they are missing, and say whether the log has no row."""
    create_platform_tables(conn)
    return conn.execute("SELECT NOT EXISTS (SELECT FROM attempt)").fetchone() == (True,)


def empty_platform_tables(conn: Connection, source: str, detail: Mapping[str, Any]) -> None:
    """Empty the platform's tables for a new load, and note what fills them; ``finish_load`` follows the load.

    Args:
        conn: a connection, best inside the transaction of the load.
        source: what is going to be loaded, such as ``simulator`` or ``oulad``.
        detail: what one needs to load the same again.

    Raises:
        InputFault: ``attempt`` holds rows that neither the simulator nor a data set adapter put there.

    """
    foreign = conn.execute(
        "SELECT EXISTS (SELECT FROM attempt) AND NOT EXISTS (SELECT FROM simulated_truth.origin)"
    ).fetchone()
    if foreign == (True,):
        raise InputFault(
            "The table attempt holds rows that were not simulated, and they are left alone. "
            "Point DATABASE_URL at another database to load simulated or public data."
        )
    conn.execute(db.read_sql("platform/empty.sql"))
    conn.execute("INSERT INTO simulated_truth.origin (source, detail) VALUES (%s, %s)", (source, Jsonb(dict(detail))))


def finish_load(conn: Connection, as_of: datetime, student_id_form: StudentIdForm = "same") -> int:
    """Index the log after a load and derive ``features_topic_daily`` from its rows before `as_of`.

    Returns:
        The number of rows of ``features_topic_daily``.

    """
    create_platform_tables(conn)
    conn.execute("ANALYZE attempt")
    open_log(conn, as_of, student_id_form)
    return conn.execute(db.read_sql("platform/features_topic_daily.sql")).rowcount

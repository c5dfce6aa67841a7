"""The platform's tables for local runs and tests: create them, empty them, fill what derives from the log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from psycopg import sql as pgsql
from psycopg.types.json import Jsonb

from seed_analytics import db
from seed_analytics.db import Connection
from seed_analytics.errors import InputFault
from seed_analytics.log_view import StudentIdForm, open_log

TABLES = ("attempt", "weekly_kpi", "features_topic_daily", "question")


def create_platform_tables(conn: Connection) -> None:
    """Create the tables and indexes that do not exist yet, and the schema ``simulated_truth`` beside them."""
    conn.execute(db.read_sql("platform/tables.sql"))


def filled(conn: Connection) -> list[str]:
    """Return those of the platform's tables that are there and have rows."""
    return [table for table in TABLES if _has_rows(conn, table)]


def _has_rows(conn: Connection, *name: str) -> bool:
    table = pgsql.Identifier(*name)
    if conn.execute("SELECT to_regclass(%s) IS NULL", [table.as_string(conn)]).fetchone() == (True,):
        return False
    return conn.execute(pgsql.SQL("SELECT EXISTS (SELECT FROM {})").format(table)).fetchone() == (True,)


def empty_platform_tables(conn: Connection, source: str, detail: Mapping[str, Any]) -> None:
    """Empty the platform's tables for a new load, and note what fills them; ``finish_load`` follows the load.

    Tables and indexes that are not there are created, but only after it is sure that no row is somebody's own.

    Args:
        conn: a connection, best inside the transaction of the load.
        source: what is going to be loaded, such as ``simulator`` or ``oulad``.
        detail: what one needs to load the same again.

    Raises:
        InputFault: a table holds rows that neither the simulator nor a data set adapter put there.

    """
    found = filled(conn)
    if found and not _has_rows(conn, "simulated_truth", "origin"):
        raise InputFault(
            f"Rows that were not simulated are in {', '.join(found)}, and they are left alone. "
            "Point DATABASE_URL at another database to load simulated or public data."
        )
    create_platform_tables(conn)
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

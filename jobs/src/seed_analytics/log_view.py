"""The session's view of the platform's log, ``attempt_log``: every stage reads answers and visits through it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from psycopg import sql as pgsql

from seed_analytics import db
from seed_analytics.db import Connection

StudentIdForm = Literal["same", "md5-uuid"]


def open_log(conn: Connection, as_of: datetime, student_id_form: StudentIdForm = "same") -> None:
    """Create the temporary view ``attempt_log`` for this session; an earlier one is replaced.

    The view has the columns user_id, item_id, topic_id, session_id (text), correct (null: an unscored visit),
    response_time_ms, hint_used, started_at and completed_at. Rows without learner, item or time, rows at or after
    `as_of` and repeats are not in it. The moment is a literal of the view, so that the planner knows it.

    Args:
        conn: a connection that may create temporary objects; outside a read-only transaction.
        as_of: only rows that began before it are seen.
        student_id_form: how attempt.student_id is made of a user id (setting ATTEMPT_STUDENT_ID_FORM).

    """
    by_md5 = student_id_form == "md5-uuid"
    view = pgsql.Identifier("attempt_log_by_student" if by_md5 else "attempt_log")
    with conn.transaction():
        conn.execute("DROP VIEW IF EXISTS pg_temp.attempt_log, pg_temp.attempt_log_by_student")
        conn.execute("DROP TABLE IF EXISTS pg_temp.attempt_log_ids")
        conn.execute(pgsql.SQL(db.read_sql("attempt_log.sql")).format(view=view, as_of=pgsql.Literal(as_of)))
        if by_md5:
            conn.execute("CREATE TEMPORARY TABLE attempt_log_ids AS\n" + db.read_sql("attempt_log_ids.sql"))
            conn.execute("ANALYZE attempt_log_ids")
            conn.execute(db.read_sql("attempt_log_md5_uuid.sql"))

"""check-inputs: whether the platform's tables are what the stages were told they are."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from seed_analytics import db
from seed_analytics.db import Connection
from seed_analytics.errors import ExitCode, InputFault
from seed_analytics.joins import count_joins, join_sentence
from seed_analytics.settings import Settings

ID = ("text", "varchar", "bpchar", "uuid", "int8", "int4", "int2")
TEXT = ("text", "varchar")
INTEGER = ("int4", "int8", "int2")
NUMBER = (*INTEGER, "numeric", "float8", "float4")
TIME = ("timestamptz",)

CONTRACT: dict[str, dict[str, tuple[str, ...]]] = {
    "attempt": {
        "id": ID,
        "student_id": ID,
        "item_id": ID,
        "correct": ("bool",),
        "response_time_ms": INTEGER,
        "hint_used": ("bool",),
        "started_at": TIME,
        "completed_at": TIME,
        "session_id": ID,
        "topic_id": ID,
    },
    "weekly_kpi": {
        "user_id": TEXT,
        "week_start": ("date",),
        "kpis": ("jsonb",),
        "created_at": TIME,
        "updated_at": TIME,
    },
    "features_topic_daily": {
        "user_id": TEXT,
        "topic_id": ID,
        "date": ("date",),
        "attempts": INTEGER,
        "correct": INTEGER,
        "rt_median": NUMBER,
        "hints": NUMBER,
    },
    "question": {"id": ID, "topic_id": ID, "meta": ("jsonb",)},
}
"""Table -> column -> PostgreSQL types that the stages can use, the agreed one first."""


def check(settings: Settings) -> ExitCode:
    """Check tables, columns, types, values and ids, and log what was found.

    Raises:
        InputFault: a table or column is missing or of another type, or too few learners of the log are known to the
            platform's other tables.

    """
    log = structlog.get_logger()
    with (
        db.translated(),
        db.connect(settings.database_url.get_secret_value(), application="seed-analytics/check-inputs") as conn,
    ):
        faults = contract_faults(conn)
        if faults:
            raise InputFault("The platform's tables are not as agreed: " + "; ".join(faults) + ".")
        log.info("All tables and columns are there: " + ", ".join(CONTRACT))
        counts = db.fetch_one(conn, db.read_sql("check_inputs/row_counts.sql"))
        log.info("Rows: " + ", ".join(f"{table} {count}" for table, count in counts.items()))

        as_of = settings.as_of or db.present(conn)
        quality = db.fetch_one(conn, db.read_sql("check_inputs/log_quality.sql"), {"as_of": as_of})
        log.info(quality_sentence(quality))
        joins = count_joins(conn, as_of)
    if not joins["students"]:
        log.warning("The log has no learner in the last 56 days: every stage would be skipped")
    elif not joins["known"] and settings.attempt_student_id_form == "same":
        log.warning("weekly_kpi and features_topic_daily are empty, so there is nothing that ids could join with yet")
    else:
        log.info(join_sentence(joins, settings.attempt_student_id_form, settings.min_join_share))
    return ExitCode.OK


def contract_faults(conn: Connection) -> list[str]:
    """Return what is missing or of an unusable type, one phrase each."""
    rows = db.fetch_columns(conn, db.read_sql("check_inputs/columns.sql"), {"tables": list(CONTRACT)})
    found = {
        (table, column): kind for table, column, kind in zip(rows["table"], rows["column"], rows["type"], strict=True)
    }
    tables = {table for table, _ in found}
    faults = [f"table {table} is missing" for table in CONTRACT if table not in tables]
    for table in (table for table in CONTRACT if table in tables):
        for column, kinds in CONTRACT[table].items():
            kind = found.get((table, column))
            if kind is None:
                faults.append(f"column {table}.{column} is missing")
            elif kind not in kinds:
                faults.append(f"column {table}.{column} is {kind} and must be {kinds[0]}")
    if "weekly_kpi" in tables and conn.execute(db.read_sql("check_inputs/kpi_key.sql")).fetchone() != (True,):
        faults.append("weekly_kpi has no primary key or unique index on (user_id, week_start)")
    return faults


def quality_sentence(quality: Mapping[str, int]) -> str:
    """Say what share of the log cannot be used, and what the stages do with it."""

    def share(part: int, whole: int) -> str:
        return f"{100 * part / whole:.1f} %" if whole else "none"

    rows, repeats = quality["rows"], quality["recent"] - quality["recent_distinct"]
    return (
        f"attempt has {rows} rows: {share(quality['incomplete'], rows)} without learner, item or time and "
        f"{share(quality['future'], rows)} from the future (left out); {share(quality['negative'], rows)} with a "
        f"negative duration (taken as unknown); {share(quality['unscored'], rows)} unscored (visits, not answers); "
        f"{share(repeats, quality['recent'])} of the last 56 days' rows are repeats (counted once)"
    )

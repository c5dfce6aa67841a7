"""attempt_log: what the stages get to see of the platform's log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from seed_analytics.log_view import open_log
from seed_analytics.simulate import simulate
from support import Database

AS_OF = datetime(2025, 11, 5, 12, tzinfo=UTC)
BEFORE = AS_OF - timedelta(hours=1)
COLUMNS = (
    "user_id", "item_id", "topic_id", "session_id", "correct", "response_time_ms", "hint_used", "started_at",
    "completed_at",
)  # fmt: skip


def add(database: Database, **values: Any) -> None:
    row = {"student_id": "ada", "item_id": "i1", "correct": True, "started_at": BEFORE} | values
    names = ", ".join(row)
    database(f"INSERT INTO attempt ({names}) VALUES ({', '.join(['%s'] * len(row))})", *row.values())


def log(database: Database, form: str = "same") -> list[tuple[Any, ...]]:
    open_log(database.conn, AS_OF, form)
    return database(
        "SELECT user_id, item_id, correct, response_time_ms, completed_at FROM attempt_log ORDER BY 1, 2, 3"
    )


def test_columns_are_those_agreed(database: Database) -> None:
    open_log(database.conn, AS_OF)
    cursor = database.conn.execute("SELECT * FROM attempt_log")
    assert tuple(column.name for column in cursor.description or ()) == COLUMNS
    open_log(database.conn, AS_OF, "md5-uuid")
    cursor = database.conn.execute("SELECT * FROM attempt_log")
    assert tuple(column.name for column in cursor.description or ()) == COLUMNS


@pytest.mark.parametrize("name", ["student_id", "item_id", "started_at"])
def test_rows_without_learner_item_or_time_are_left_out(database: Database, name: str) -> None:
    add(database)
    add(database, **{"item_id": "i2", name: None})
    assert [row[:2] for row in log(database)] == [("ada", "i1")]


def test_rows_from_the_moment_on_are_left_out(database: Database) -> None:
    for seconds in (-1, 0, 1):
        add(database, item_id=f"i{seconds}", started_at=AS_OF + timedelta(seconds=seconds))
    assert [row[1] for row in log(database)] == ["i-1"]


def test_negative_durations_are_unknown(database: Database) -> None:
    add(database, response_time_ms=-5, completed_at=BEFORE - timedelta(seconds=1))
    add(database, item_id="i2", response_time_ms=0, completed_at=BEFORE)
    assert [row[3:] for row in log(database)] == [(None, None), (0, BEFORE)]


def test_an_event_delivered_twice_counts_once_and_the_first_delivery_wins(database: Database) -> None:
    add(database, correct=True)
    add(database, correct=False)
    add(database, item_id="i2", correct=False)
    add(database, student_id="ben", correct=False)
    assert [row[:3] for row in log(database)] == [
        ("ada", "i1", True),
        ("ada", "i2", False),
        ("ben", "i1", False),
    ]


def test_unscored_rows_stay(database: Database) -> None:
    add(database, correct=None)
    assert log(database)[0][2] is None


def test_opening_again_moves_the_moment(database: Database) -> None:
    add(database)
    open_log(database.conn, BEFORE)
    assert database("SELECT count(*) FROM attempt_log") == [(0,)]
    for form in ("same", "md5-uuid", "same"):
        open_log(database.conn, AS_OF, form)
    assert database("SELECT count(*) FROM attempt_log") == [(1,)]


def test_md5_is_turned_back_through_either_table(database: Database) -> None:
    known = "0F8FAD5B-D9CB-469F-A165-70867728950E"  # a user id that is a uuid already is stored as it is
    database("INSERT INTO weekly_kpi (user_id, week_start) VALUES ('ada', '2025-10-27'), (%s, '2025-10-27')", known)
    database(
        "INSERT INTO features_topic_daily VALUES ('ben', 't', '2025-10-27', 1, 1, 1, 0), "
        "('ada', 't', '2025-10-27', 1, 1, 1, 0)"
    )
    database("ALTER TABLE attempt ALTER student_id TYPE uuid USING student_id::uuid")
    for user in ("ada", "ben", "nobody knows"):
        database("INSERT INTO attempt (student_id, item_id, started_at) VALUES (md5(%s)::uuid, 'i1', %s)", user, BEFORE)
    add(database, student_id=known.lower())
    assert [row[0] for row in log(database, "md5-uuid")] == [known, "ada", "ben"]


def test_uuid_columns_read_as_text_in_the_same_form(database: Database) -> None:
    database("ALTER TABLE attempt ALTER student_id TYPE uuid USING student_id::uuid")
    add(database, student_id="0f8fad5b-d9cb-469f-a165-70867728950e")
    assert log(database)[0][0] == "0f8fad5b-d9cb-469f-a165-70867728950e"


def test_short_windows_and_single_learners_use_the_indexes(database: Database) -> None:
    simulate(database.conn, learners=100, weeks=16, end=AS_OF)
    open_log(database.conn, AS_OF)

    def plan(where: str) -> str:
        return "\n".join(row for (row,) in database(f"EXPLAIN SELECT * FROM attempt_log WHERE {where}"))

    assert "attempt_started_at" in plan("started_at >= '2025-11-04T00:00Z'")
    assert "attempt_student_id_started_at" in plan("user_id = 'learner-000007'")
    # one sort serves repeats and whatever follows learners through time: no second one above
    assert plan("true").count("Sort Key") == 1

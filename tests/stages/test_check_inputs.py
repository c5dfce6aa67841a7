"""check-inputs on real databases: what it accepts, what it refuses, and whether its sentence helps."""

from __future__ import annotations

import pytest
from seed_analytics.check_inputs import CONTRACT
from seed_analytics.errors import ExitCode
from seed_analytics.simulate import simulate
from support import Database, invoke


def check(database: Database, *flags: str, **env: str) -> int:
    return invoke("check-inputs", *flags, env={"DATABASE_URL": database.url, "LOG_FORMAT": "plain"} | env)


def test_simulated_platform_is_accepted_and_described(simulated: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(simulated) == ExitCode.OK
    said = capsys.readouterr().err
    (rows,) = simulated("SELECT count(*) FROM attempt")[0]
    (learners,) = simulated(
        "SELECT count(DISTINCT student_id) FROM attempt WHERE started_at > now() - interval '1344 hours'"
    )[0]
    assert f"attempt has {rows} rows: 0.0 % without learner" in said
    assert f"100% of the log's {learners} learners" in said
    assert "question 200" in said


@pytest.mark.parametrize("table", CONTRACT)
def test_missing_table_is_named(database: Database, capsys: pytest.CaptureFixture[str], table: str) -> None:
    database(f"DROP TABLE {table} CASCADE")
    assert check(database) == ExitCode.INPUT
    assert f"table {table} is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "column"), [(table, column) for table, columns in CONTRACT.items() for column in columns]
)
def test_missing_column_is_named(
    database: Database, capsys: pytest.CaptureFixture[str], table: str, column: str
) -> None:
    database(f"ALTER TABLE {table} DROP COLUMN {column} CASCADE")
    assert check(database) == ExitCode.INPUT
    assert f"column {table}.{column} is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("attempt ALTER started_at TYPE timestamp", "column attempt.started_at is timestamp and must be timestamptz"),
        ("attempt ALTER correct TYPE integer USING correct::int", "column attempt.correct is int4 and must be bool"),
        ("attempt ALTER response_time_ms TYPE text", "column attempt.response_time_ms is text and must be int4"),
        (
            "weekly_kpi ALTER kpis DROP DEFAULT, ALTER kpis TYPE json",
            "column weekly_kpi.kpis is json and must be jsonb",
        ),
        ("weekly_kpi DROP CONSTRAINT weekly_kpi_pkey", "no primary key or unique index on (user_id, week_start)"),
    ],
)
def test_unusable_type_is_named(
    database: Database, capsys: pytest.CaptureFixture[str], change: str, sentence: str
) -> None:
    database(f"ALTER TABLE {change}")
    assert check(database) == ExitCode.INPUT
    assert sentence in capsys.readouterr().err


def test_everything_that_is_missing_is_named_at_once(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    database("DROP TABLE question; ALTER TABLE attempt DROP COLUMN hint_used; ALTER TABLE weekly_kpi DROP COLUMN kpis")
    assert check(database) == ExitCode.INPUT
    said = capsys.readouterr().err
    for name in ("table question", "column attempt.hint_used", "column weekly_kpi.kpis"):
        assert f"{name} is missing" in said


def test_views_and_uuid_ids_are_as_good_as_tables(database: Database) -> None:
    simulate(database.conn, learners=20, weeks=4, student_id_form="md5-uuid")
    database(
        "ALTER TABLE attempt RENAME TO answer_event; "
        "CREATE VIEW attempt AS SELECT id::text AS id, student_id::uuid AS student_id, item_id, correct, "
        "response_time_ms, hint_used, started_at, completed_at, session_id, topic_id FROM answer_event"
    )
    assert check(database, "--attempt-student-id-form", "md5-uuid") == ExitCode.OK


@pytest.mark.parametrize(("made", "set_to"), [("same", "md5-uuid"), ("md5-uuid", "same")])
def test_wrong_form_of_ids_is_refused_and_the_right_one_named(
    database: Database, capsys: pytest.CaptureFixture[str], made: str, set_to: str
) -> None:
    simulate(database.conn, learners=20, weeks=4, student_id_form=made)
    assert check(database, ATTEMPT_STUDENT_ID_FORM=made) == ExitCode.OK
    capsys.readouterr()
    assert check(database, ATTEMPT_STUDENT_ID_FORM=set_to) == ExitCode.INPUT
    said = capsys.readouterr().err
    assert "Only 0% of the log's 20 learners" in said
    assert f"With ATTEMPT_STUDENT_ID_FORM={made} it would be 100%: set that." in said


def test_ids_that_join_in_no_form_are_refused(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(database.conn, learners=20, weeks=4)
    database("UPDATE attempt SET student_id = 'x' || student_id")
    assert check(database) == ExitCode.INPUT
    assert "find out how attempt.student_id is made of user_id" in capsys.readouterr().err


def test_share_that_must_join_is_a_setting(database: Database) -> None:
    simulate(database.conn, learners=20, weeks=4)
    database("DELETE FROM features_topic_daily WHERE user_id > 'learner-000010'")
    assert check(database, MIN_JOIN_SHARE="0.5") == ExitCode.OK
    assert check(database, MIN_JOIN_SHARE="0.51") == ExitCode.INPUT
    assert check(database, MIN_JOIN_SHARE="1.5") == ExitCode.CONFIG


def test_uuid_user_ids_join_as_they_are(database: Database) -> None:
    simulate(database.conn, learners=20, weeks=4)
    database("UPDATE attempt SET student_id = md5(student_id)::uuid::text")
    database("UPDATE features_topic_daily SET user_id = md5(user_id)::uuid::text")
    assert check(database, ATTEMPT_STUDENT_ID_FORM="same", MIN_JOIN_SHARE="1") == ExitCode.OK
    assert check(database, ATTEMPT_STUDENT_ID_FORM="md5-uuid", MIN_JOIN_SHARE="1") == ExitCode.OK


def test_bad_values_are_counted(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    planted = simulate(database.conn, learners=60, weeks=4, dirty=True)
    assert check(database) == ExitCode.OK
    said = capsys.readouterr().err
    (rows, recent) = database(
        "SELECT count(*), count(*) FILTER (WHERE started_at < now() AND student_id <> '' AND item_id <> '')"
        " FROM attempt"
    )[0]
    incomplete = planted["no_student"] + planted["no_item"] + planted["no_time"]
    assert f"{100 * incomplete / rows:.1f} % without learner, item or time" in said
    assert f"{100 * planted['future'] / rows:.1f} % from the future" in said
    assert f"{100 * planted['negative'] / rows:.1f} % with a negative duration" in said
    assert f"{100 * planted['duplicate'] / recent:.1f} % of the last 56 days' rows are repeats" in said
    assert min(planted.values()) > 0


def test_empty_log_and_new_platform_are_no_fault(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(database) == ExitCode.OK
    assert "The log has no learner in the last 56 days" in capsys.readouterr().err
    simulate(database.conn, learners=5, weeks=2)
    database("TRUNCATE features_topic_daily")
    assert check(database) == ExitCode.OK
    assert "nothing that ids could join with yet" in capsys.readouterr().err
    assert check(database, ATTEMPT_STUDENT_ID_FORM="md5-uuid") == ExitCode.INPUT

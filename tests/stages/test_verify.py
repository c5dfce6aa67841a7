"""verify's words about runs and keys, on rows that stand for any run's."""

from __future__ import annotations

import pytest
from psycopg.types.json import Jsonb
from seed_analytics.errors import ExitCode
from support import Database, invoke

STAGE, LEARNERS = "fit-survival-churn", 40
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # so that no sentence is broken over two lines


def record(database: Database, stage: str = STAGE, status: str = "succeeded", reason: str = "", **keys: int) -> None:
    """Write the record of a run that began a minute ago and wrote each key to so many learners."""
    database(
        """INSERT INTO analytics_runs (run_id, stage, status, reason, as_of, started_at, finished_at, settings, kpi_keys)
        VALUES (%s, %s, %s, %s, now(), now() - interval '1 minute', now(), %s, %s)""",
        f"{stage}-{status}",
        stage,
        status,
        reason or None,
        Jsonb({"SURVIVAL_LOOKBACK_DAYS": "90"} if stage == STAGE else {"BRMS_LOOKBACK_WEEKS": "12"}),
        Jsonb(keys),
    )


def wait_five_days(database: Database) -> None:
    database(
        "UPDATE analytics_runs SET started_at = started_at - interval '5 days', finished_at = finished_at - interval '5 days'"
    )


@pytest.fixture
def published(database: Database) -> Database:
    """A database in which survival and growth have written S, P and sigma to every learner."""
    database(
        """INSERT INTO weekly_kpi SELECT 'u' || n, date_trunc('week', now())::date - 7 * back,
            CASE WHEN back = 0 THEN '{"A_t": 0.5, "S": 0.4, "P": 0.6, "sigma": 1.7}' ELSE '{"A_t": 0.5}' END::jsonb, now(), now()
        FROM generate_series(1, %s) AS n, generate_series(0, 2) AS back""",
        LEARNERS,
    )
    record(database, STAGE, S=LEARNERS)
    record(database, "fit-bayesian-growth", P=LEARNERS, sigma=LEARNERS)
    return database


def verify(database: Database, *stages: str) -> int:
    argv = ("--verify-services", "none", "--verify-stages", ",".join(stages or (STAGE, "fit-bayesian-growth")))
    return invoke("verify", *argv, env={"DATABASE_URL": database.url})


def test_keys_that_are_all_there_are_counted(published: Database, capsys: Captured) -> None:
    assert verify(published) == ExitCode.OK
    assert "P of 40 of 40 users, S of 40 of 40 users, sigma of 40 of 40 users" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            "UPDATE weekly_kpi SET kpis = '{\"A_t\": 0.5}' WHERE right(user_id, 1)::int % 2 = 0",
            "P and S and sigma went lost",
        ),
        ("UPDATE weekly_kpi SET kpis = kpis - 'S' WHERE right(user_id, 1)::int % 2 = 0", "; S went lost"),
        (
            "UPDATE weekly_kpi SET kpis = kpis || '{\"P\": 1.5}' WHERE kpis ? 'P' AND user_id = 'u1'",
            "1 values of P are out",
        ),
        (
            "UPDATE weekly_kpi SET kpis = kpis || '{\"sigma\": -1}' WHERE kpis ? 'P' AND user_id = 'u1'",
            "1 values of sigma are",
        ),
        (
            "UPDATE weekly_kpi SET kpis = kpis || '{\"S\": \"x\"}' WHERE kpis ? 'P' AND user_id = 'u1'",
            "1 values of S are out",
        ),
    ],
    ids=["half of the learners lost all keys", "half lost S", "P above 1", "sigma below 0", "S no number"],
)
def test_keys_that_were_damaged_are_noticed(published: Database, damage: str, words: str, capsys: Captured) -> None:
    published(damage)
    assert verify(published) == ExitCode.INPUT
    shown = capsys.readouterr().out
    assert words in shown
    assert "replace kpis" in shown


def test_new_week_without_keys_is_no_fault(published: Database) -> None:
    published("UPDATE analytics_runs SET as_of = date_trunc('week', now()) - interval '1 second'")
    published("UPDATE weekly_kpi SET kpis = '{}' WHERE week_start = date_trunc('week', now())::date")
    published(
        """UPDATE weekly_kpi SET kpis = '{"S": 0.4, "P": 0.6, "sigma": 1.7}'
        WHERE week_start = date_trunc('week', now())::date - 7"""
    )
    assert verify(published) == ExitCode.OK


def test_keys_of_learners_who_left_long_ago_hide_no_loss(published: Database) -> None:
    published(
        """INSERT INTO weekly_kpi SELECT 'old' || n, date_trunc('week', now())::date - 7 * 30, '{"S": 0, "P": 0, "sigma": 1}', now(), now()
        FROM generate_series(1, 1000) AS n"""
    )
    assert verify(published) == ExitCode.OK
    published("UPDATE weekly_kpi SET kpis = '{}' WHERE user_id LIKE 'u%'")
    assert verify(published) == ExitCode.INPUT


def test_run_that_wrote_no_key_promises_none(database: Database) -> None:
    record(database)
    assert verify(database, STAGE) == ExitCode.OK


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("succeeded", "run fit-survival-churn-succeeded succeeded: All is well."),
        ("failed", "run fit-survival-churn-failed failed: All is well."),
        ("running", "run fit-survival-churn-running is running: All is well."),
        ("skipped", "run fit-survival-churn-skipped was skipped: All is well."),
        ("rejected", "run fit-survival-churn-rejected was rejected: All is well."),
    ],
)
def test_end_of_the_last_run_is_said_in_english(database: Database, status: str, words: str, capsys: Captured) -> None:
    record(database, status=status, reason="All is well.")
    verify(database, STAGE)
    assert words in capsys.readouterr().out


def test_numbers_are_as_old_as_the_run_that_published_them_however_often_it_was_skipped_since(
    database: Database, capsys: Captured
) -> None:
    record(database, status="succeeded")
    wait_five_days(database)
    record(database, status="skipped", reason="3 learners")
    assert verify(database, STAGE) == ExitCode.TRY_LATER
    assert "stale: 120 h old, at most 48 h; the last run fit-survival-churn-skipped was skipped: 3 learners" in (
        capsys.readouterr().out
    )


def test_a_stage_that_has_had_too_little_data_so_far_has_no_stale_numbers(database: Database) -> None:
    record(database, status="skipped", reason="3 learners")
    assert verify(database, STAGE) == ExitCode.OK
    wait_five_days(database)
    assert verify(database, STAGE) == ExitCode.TRY_LATER


def test_words_of_the_database_are_shown_as_they_stand(database: Database, capsys: Captured) -> None:
    record(database, status="succeeded", reason="[/x] [red]a[/red] [abc] postgresql://me:secret-word@db/x")
    assert verify(database, STAGE) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "[/x] [red]a[/red] [abc] postgresql://me:***@db/x" in shown
    assert "secret-word" not in shown

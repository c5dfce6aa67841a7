"""What every stage inherits: lock, record, all-or-nothing publishing, exit codes. Shown on cluster-segments, which
needs no service, so that each fault is PostgreSQL's or ours."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import structlog
import time_machine
from psycopg import sql
from psycopg.types.json import Jsonb
from seed_analytics import cli, db
from seed_analytics.errors import ExitCode
from seed_analytics.local import Postgres
from seed_analytics.run import Run, merge_kpis
from seed_analytics.settings import STAGES, Settings
from support import Database, invoke, until

STAGE = "cluster-segments"
DEADLINE_SECS = 60.0
Captured = pytest.CaptureFixture[str]


def segment(database: Database, *argv: str, **env: str) -> int:
    return invoke(STAGE, *argv, env={"DATABASE_URL": database.url} | env)


def contents(database: Database) -> list[tuple[object, ...]]:
    return database(
        "SELECT user_id, segment_label, cluster_id, features, run_id, updated_at FROM user_segments ORDER BY 1"
    )


def spawn(database: Database, command: str = STAGE, *argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "seed_analytics.cli", command, *argv],
        env=os.environ | {"DATABASE_URL": database.url},
        stderr=subprocess.PIPE,
    )


STAGE_LOCKS = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND datname = current_database()
"""


def waits(database: Database, command: str = STAGE, *, on: str = "Lock") -> bool:
    """Say whether a session of the command waits for a lock, or for the named event."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND %s IN (wait_event_type, wait_event)"
    return database(query, f"seed-analytics/{command}", on)[0][0] > 0


def is_gone(database: Database, command: str = STAGE) -> bool:
    """Say whether the server has no session of the command any more: then its locks are free too."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    return database(query, f"seed-analytics/{command}")[0][0] == 0


def test_run_is_recorded_with_what_it_did(simulated: Database) -> None:
    assert segment(simulated) == 0
    [row] = simulated(
        "SELECT run_id, status, reason, rows_read, rows_written, timings, versions, settings, "
        "finished_at >= started_at FROM analytics_runs WHERE stage = %s",
        STAGE,
    )
    run_id, status, reason, read, written, timings, versions, settings, in_order = row
    assert re.fullmatch(r"cluster-\d{8}-\d{6}", run_id)
    assert (status, in_order) == ("succeeded", True)
    assert reason
    assert read > 0 < written
    assert set(timings) >= {"extract", "fit", "gate"}
    assert {"seed_analytics", "python", "scikit_learn"} <= set(versions)
    assert settings["CLUSTER_LOOKBACK_WEEKS"] == "12"
    assert "postgres" not in str(settings), "the database's address is a secret"


def test_record_hides_the_password_of_an_address(database: Database) -> None:
    url = "http://me:secret-word@r-forecast-plumber:8080"
    assert invoke("forecast-prophet", env={"DATABASE_URL": database.url, "R_FORECAST_BASE_URL": url}) == 0
    [[settings]] = database("SELECT settings FROM analytics_runs")
    assert settings["R_FORECAST_BASE_URL"] == "http://me:***@r-forecast-plumber:8080/"


def test_record_of_the_kpis_speaks_of_no_fit(simulated: Database) -> None:
    assert invoke("compute-weekly-kpis", env={"DATABASE_URL": simulated.url}) == 0
    reasons = [reason for _, reason in simulated.runs("compute-weekly-kpis")]
    assert reasons[-1] == "Nothing is estimated: the definitions bound every KPI."


MONDAY = datetime(2025, 11, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("as_of", "week"),
    [(MONDAY, "2025-10-27"), (MONDAY + timedelta(microseconds=1), "2025-11-03")],
    ids=["Monday at midnight", "just after"],
)
def test_keys_are_merged_into_the_newest_week_that_has_begun(database: Database, as_of: datetime, week: str) -> None:
    weeks = ("2025-10-27", "2025-11-03", "2025-11-10")
    for start in weeks:
        database("INSERT INTO weekly_kpi VALUES ('u', %s, '{\"A_t\": 0.5}', now(), now())", start)
    run = Run("s", "r", Settings(database_url=database.url), database.conn, as_of, structlog.get_logger())
    with database.conn.transaction():
        merge_kpis(run, ["u"], {"S": [0.25]})
    found = database("SELECT week_start::text, kpis FROM weekly_kpi ORDER BY 1")
    assert found == [(start, {"A_t": 0.5} | ({"S": 0.25} if start == week else {})) for start in weeks]
    assert run.kpi_keys == {"S": 1}


def test_log_has_the_lines_that_operators_know(simulated: Database, capsys: Captured) -> None:
    segment(simulated)
    shown = capsys.readouterr().err
    users = simulated("SELECT count(*) FROM user_segments")[0][0]
    assert f"Loaded {users} users with 6 features" in shown
    assert re.search(r"Stored cluster_fit_meta: run_id=cluster-\d{8}-\d{6}", shown)
    assert f"Updated user_segments for {users} users" in shown


def test_dry_run_writes_nothing(simulated: Database) -> None:
    before = simulated("SELECT count(*) FROM analytics_runs")
    assert segment(simulated, "--dry-run") == 0
    assert contents(simulated) == []
    assert simulated("SELECT count(*) FROM cluster_fit_meta") == [(0,)]
    assert simulated("SELECT count(*) FROM analytics_runs") == before


def test_same_seed_and_date_publish_the_same(simulated: Database) -> None:
    as_of = simulated("SELECT date_trunc('week', now())::date::text")[0][0]
    published = []
    for _ in range(2):
        assert segment(simulated, "--as-of", as_of) == 0
        published.append([row[:4] for row in contents(simulated)])
    assert published[0] == published[1]
    assert len(simulated("SELECT DISTINCT centers::text FROM cluster_fit_meta")) == 1


def test_history_is_kept_and_the_newest_run_is_current(simulated: Database) -> None:
    segment(simulated)
    segment(simulated)
    runs = simulated("SELECT run_id FROM cluster_fit_meta ORDER BY fitted_at")
    assert len(runs) == 2
    assert simulated("SELECT DISTINCT run_id FROM user_segments") == [runs[1]]


def test_learner_without_kpis_leaves_the_segments(simulated: Database) -> None:
    segment(simulated)
    gone = contents(simulated)[0][0]
    simulated("DELETE FROM weekly_kpi WHERE user_id = %s", gone)
    segment(simulated)
    assert gone not in {row[0] for row in contents(simulated)}


def test_as_of_reads_nothing_later(simulated: Database) -> None:
    as_of = simulated("SELECT (date_trunc('week', now()) - interval '2 weeks')::date::text")[0][0]
    segment(simulated, "--as-of", as_of)
    before = [row[:4] for row in contents(simulated)]
    simulated(
        """UPDATE weekly_kpi SET kpis = '{"A_t": 1, "I_t": 1, "accuracy": 0}' WHERE week_start >= %s::date""", as_of
    )
    segment(simulated, "--as-of", as_of)
    assert [row[:4] for row in contents(simulated)] == before


def test_no_rows_is_skipped_with_a_reason(database: Database) -> None:
    assert segment(database) == ExitCode.OK
    assert database.runs(STAGE) == [("skipped", "0 learners have KPIs; segments need 20.")]


def test_stale_kpis_are_tried_again_later(simulated: Database) -> None:
    simulated("DELETE FROM weekly_kpi WHERE week_start > now() - interval '3 weeks'")
    assert segment(simulated) == ExitCode.TRY_LATER
    assert "Run compute-weekly-kpis" in simulated.runs(STAGE)[-1][1]


def test_constant_features_are_rejected_and_the_last_numbers_stay(simulated: Database) -> None:
    segment(simulated)
    before = contents(simulated)
    constant = {"A_t": 0.5, "I_t": 0, "E_t": 0, "R_t": 0, "accuracy": 0.7, "sessions": 3}
    simulated("UPDATE weekly_kpi SET kpis = %s", Jsonb(constant))
    assert segment(simulated) == ExitCode.REJECTED
    assert contents(simulated) == before
    status, reason = simulated.runs(STAGE)[-1]
    assert status == "rejected"
    assert "engagement is constant" in reason


def test_one_constant_feature_is_left_out_and_said(simulated: Database) -> None:
    simulated("UPDATE weekly_kpi SET kpis = kpis || '{\"R_t\": 0.5}'")
    assert segment(simulated) == 0
    assert "Left out recovery: constant (0.5)" in simulated.runs(STAGE)[-1][1]


def test_kpis_that_are_no_numbers_are_passed_over(simulated: Database) -> None:
    simulated(
        """UPDATE weekly_kpi SET kpis = kpis || '{"R_t": "n/a", "I_t": null, "E_t": [1]}'
        WHERE user_id IN (SELECT user_id FROM weekly_kpi GROUP BY 1 ORDER BY 1 LIMIT 5)"""
    )
    assert segment(simulated) == 0
    _, reason = simulated.runs("cluster-segments")[-1]
    assert "Filled by the median where missing, of 300 learners" in reason
    assert "efficiency (5), recovery (5)" in reason


@pytest.mark.parametrize("table", ["weekly_kpi", "attempt"])
def test_missing_table_of_the_platform_is_an_input_fault(simulated: Database, table: str, capsys: Captured) -> None:
    simulated(f"DROP TABLE {table} CASCADE")
    assert segment(simulated) == ExitCode.INPUT
    assert table in capsys.readouterr().err


def test_missing_column_of_the_platform_is_an_input_fault(simulated: Database, capsys: Captured) -> None:
    simulated("ALTER TABLE weekly_kpi RENAME COLUMN kpis TO indicators")
    assert segment(simulated) == ExitCode.INPUT
    assert "kpis" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        ("ALTER TABLE attempt ALTER COLUMN correct TYPE int USING correct::int", "boolean"),
        ("ALTER TABLE weekly_kpi DROP CONSTRAINT weekly_kpi_pkey", "unique"),
    ],
    ids=["other type", "no unique key"],
)
def test_table_that_is_not_as_agreed_is_an_input_fault(
    simulated: Database, damage: str, word: str, capsys: Captured
) -> None:
    simulated(damage)
    assert invoke("compute-weekly-kpis", env={"DATABASE_URL": simulated.url}) == ExitCode.INPUT
    shown = capsys.readouterr().err
    assert word in shown
    assert "check-inputs" in shown


def test_missing_output_tables_say_to_migrate(simulated: Database, capsys: Captured) -> None:
    simulated("DROP TABLE analytics_runs")
    assert segment(simulated) == ExitCode.INPUT
    assert "seed-analytics migrate" in capsys.readouterr().err


def test_user_without_rights_is_a_config_fault(simulated: Database, capsys: Captured) -> None:
    simulated("DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    assert segment(simulated, DATABASE_URL=simulated.url.replace("postgres@", "reader@")) == ExitCode.CONFIG
    assert "lacks a right" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("role", "words"),
    [("may_not_log_in", "not permitted to log in"), ("may_not_connect", "permission denied for database")],
)
def test_user_who_is_not_let_in_is_a_config_fault(database: Database, role: str, words: str, capsys: Captured) -> None:
    name = database("SELECT current_database()")[0][0]
    database(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    database(f"CREATE ROLE {role} {'NOLOGIN' if role == 'may_not_log_in' else 'LOGIN'}")
    try:
        assert segment(database, DATABASE_URL=database.url.replace("postgres@", f"{role}@")) == ExitCode.CONFIG
        assert re.search(f"DATABASE_URL: .*{words}", capsys.readouterr().err)
    finally:
        database(f"DROP ROLE {role}")


def test_database_that_is_away_is_unavailable(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://me:secret-word@127.0.0.1:1/seedtest"
    assert invoke(STAGE, env={"DATABASE_URL": url}) == ExitCode.UNAVAILABLE
    shown = capsys.readouterr().err
    assert "PostgreSQL does not answer" in shown
    assert "secret-word" not in shown


@pytest.mark.parametrize("option", ["search_pat=x", "timezone=Nowhere", "work_mem=much"])
def test_option_that_the_server_does_not_take_is_a_config_fault(
    database: Database, option: str, capsys: Captured
) -> None:
    assert segment(database, PGOPTIONS=f"-c {option}") == ExitCode.CONFIG
    assert option.partition("=")[0] in capsys.readouterr().err.lower()


def test_database_that_does_not_exist_is_a_config_fault(postgres: Postgres) -> None:
    assert invoke(STAGE, env={"DATABASE_URL": postgres.url("no_such_database")}) == ExitCode.CONFIG


def write_rules(database: Database, rules: str) -> None:
    """Set who may connect, one rule a line."""
    path = database("SHOW hba_file")[0][0]
    lines = sql.SQL("COPY (SELECT unnest(string_to_array({}, E'\\n'))) TO {}")
    database.conn.execute(lines.format(sql.Literal(rules.rstrip("\n")), sql.Literal(path)))
    database("SELECT pg_reload_conf()")


def test_wrong_password_is_a_config_fault(postgres: Postgres, database: Database, capsys: Captured) -> None:
    # The server reads and writes its own file: it may be in a container.
    before = database("SELECT pg_read_file(current_setting('hba_file'))")[0][0]
    database("CREATE ROLE guarded LOGIN PASSWORD 'the-right-word'")
    write_rules(database, f"local all guarded scram-sha-256\nhost all guarded all scram-sha-256\n{before}")
    try:
        url = database.url.replace("postgres@", "guarded:the-wrong-word@")
        shown = ""

        def refused() -> bool:  # until the server has read its file, the user is let in and lacks a right
            nonlocal shown
            code, shown = invoke("migrate", env={"DATABASE_URL": url}), capsys.readouterr().err
            return code == ExitCode.CONFIG and "password authentication failed" in shown

        until(refused)
        assert "the-wrong-word" not in shown
    finally:
        write_rules(database, before)
        database("DROP ROLE guarded")


def test_stages_do_not_lock_each_other(simulated: Database) -> None:
    with psycopg.connect(simulated.url) as other:
        other.execute(db.read_sql("run/lock.sql"), {"stage": "forecast-prophet"})
        assert segment(simulated) == ExitCode.OK


@pytest.mark.parametrize("skew", [timedelta(days=-400), timedelta(hours=-2), timedelta(days=9)], ids=str)
def test_the_clock_of_the_machine_does_not_matter(simulated: Database, skew: timedelta) -> None:
    assert segment(simulated) == 0
    before = [row[:3] for row in contents(simulated)]
    with time_machine.travel(datetime.now(UTC) + skew):
        assert segment(simulated) == 0
    assert [row[:3] for row in contents(simulated)] == before
    [[late]] = simulated("SELECT max(greatest(started_at - as_of, as_of - started_at)) FROM analytics_runs")
    assert late < timedelta(minutes=1)
    in_order = simulated("SELECT run_id FROM analytics_runs WHERE stage = %s ORDER BY started_at", STAGE)
    assert in_order == sorted(in_order)


@contextmanager
def blocked_in_publishing(database: Database) -> Iterator[subprocess.Popen[bytes]]:
    """A run that waits, within publishing, for a table that another session holds until the block's end."""
    with psycopg.connect(database.url) as blocker:
        blocker.execute("LOCK TABLE user_segments IN SHARE MODE")
        victim = spawn(database)
        until(lambda: waits(database))
        yield victim


def test_two_runs_at_once_leave_one_to_try_later(simulated: Database) -> None:
    with blocked_in_publishing(simulated) as first:
        before = simulated.runs(STAGE)
        assert segment(simulated) == ExitCode.TRY_LATER
        assert simulated.runs(STAGE) == before, "the run that waits leaves no trace"
    _, shown = first.communicate(timeout=DEADLINE_SECS)
    assert first.returncode == ExitCode.OK, shown.decode()
    assert segment(simulated) == ExitCode.OK


@pytest.mark.parametrize("argv", [(), ("--as-of", "2001-01-01")], ids=["succeeds", "is skipped"])
def test_the_lock_is_free_before_a_run_is_gone(argv: tuple[str, ...], simulated: Database) -> None:
    held: list[int] = []
    close = psycopg.Connection.close

    def watched(conn: psycopg.Connection) -> None:
        held.append(simulated(STAGE_LOCKS)[0][0])
        close(conn)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Connection, "close", watched)
        assert segment(simulated, *argv) == ExitCode.OK
    assert held[-1] == 0  # of the run's own connection; a skipped run is recorded by another one


def test_kill_in_publishing_leaves_the_old_numbers_and_the_next_run_heals(simulated: Database) -> None:
    segment(simulated)
    before, fits = contents(simulated), simulated("SELECT count(*) FROM cluster_fit_meta")
    with blocked_in_publishing(simulated) as victim:
        victim.kill()
        victim.communicate()
    until(lambda: is_gone(simulated))
    assert contents(simulated) == before
    assert simulated("SELECT count(*) FROM cluster_fit_meta") == fits
    assert simulated.runs(STAGE)[-1][0] == "running"
    until(lambda: segment(simulated) == ExitCode.OK)  # the server takes a moment to see that the session is gone
    assert [status for status, _ in simulated.runs(STAGE)] == ["succeeded", "failed", "succeeded"]


def test_sigterm_in_publishing_rolls_back_and_says_so(simulated: Database) -> None:
    segment(simulated)
    before = contents(simulated)
    with blocked_in_publishing(simulated) as victim:
        victim.send_signal(signal.SIGTERM)
        _, shown = victim.communicate(timeout=DEADLINE_SECS)
    assert victim.returncode == ExitCode.STOPPED, shown.decode()
    assert contents(simulated) == before
    status, reason = simulated.runs(STAGE)[-1]
    assert status == "failed"
    assert "told to stop" in reason


def test_sigterm_ends_the_statement_that_the_server_is_at(simulated: Database) -> None:
    with blocked_in_publishing(simulated) as victim:
        victim.send_signal(signal.SIGTERM)
        victim.communicate(timeout=DEADLINE_SECS)
        assert not waits(simulated), "the server is still at the statement"
        assert simulated(STAGE_LOCKS) == [(0,)], "the next run would find the stage locked"
        until(lambda: is_gone(simulated))


def test_server_sees_within_seconds_that_a_run_was_killed(simulated: Database) -> None:
    with blocked_in_publishing(simulated) as victim:
        victim.kill()
        victim.communicate()
        until(lambda: is_gone(simulated), within=20)


def test_sigterm_after_the_commit_leaves_the_run_succeeded(simulated: Database) -> None:
    # A commit that waits for a standby is done already: only its word to the client is held back. No other commit of
    # the session may wait: a server that has not read its new setting yet would wait at the session's end, too late.
    simulated(
        "CREATE FUNCTION hold_back() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN SET LOCAL synchronous_commit = on; RETURN NULL; END $$"
    )
    simulated(
        "CREATE TRIGGER hold_back AFTER UPDATE ON analytics_runs FOR EACH ROW "
        "WHEN (NEW.status = 'succeeded') EXECUTE FUNCTION hold_back()"
    )
    try:
        simulated("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        simulated("SELECT pg_reload_conf()")
        victim = spawn(simulated)
        until(lambda: waits(simulated, on="SyncRep"))
        victim.send_signal(signal.SIGTERM)
        _, shown = victim.communicate(timeout=DEADLINE_SECS)
    finally:
        simulated("ALTER SYSTEM RESET synchronous_standby_names")
        simulated("SELECT pg_reload_conf()")
    assert victim.returncode == ExitCode.STOPPED, shown.decode()
    assert contents(simulated)
    assert [status for status, _ in simulated.runs(STAGE)] == ["succeeded"]


@pytest.mark.parametrize("command", sorted(cli.COMMAND_SETTINGS.keys() - STAGES.keys()))
def test_commands_that_are_no_stages_hear_sigterm_too(simulated: Database, command: str) -> None:
    argv = ["--verify-services", "none"] if command == "verify" else []
    with psycopg.connect(simulated.url) as blocker:
        for (table,) in simulated("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
            blocker.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table)))
        victim = spawn(simulated, command, *argv)
        until(lambda: waits(simulated, command))
        victim.send_signal(signal.SIGTERM)
        _, shown = victim.communicate(timeout=DEADLINE_SECS)
        assert victim.returncode == ExitCode.STOPPED, shown.decode()
        assert b"told to stop" in shown
        assert not waits(simulated, command)
        until(lambda: is_gone(simulated, command))


def test_connection_cut_in_publishing_leaves_the_old_numbers(simulated: Database) -> None:
    segment(simulated)
    before = contents(simulated)
    with blocked_in_publishing(simulated) as victim:
        simulated(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
            f"seed-analytics/{STAGE}",
        )
        _, shown = victim.communicate(timeout=DEADLINE_SECS)
    assert victim.returncode == ExitCode.UNAVAILABLE, shown.decode()
    assert contents(simulated) == before
    assert simulated.runs(STAGE)[-1][0] == "failed"


def test_defect_is_internal_and_leaves_the_old_numbers(simulated: Database) -> None:
    segment(simulated)
    before = contents(simulated)
    simulated("ALTER TABLE user_segments ADD CONSTRAINT odd CHECK (cluster_id < 0) NOT VALID")
    assert segment(simulated) == ExitCode.INTERNAL
    assert contents(simulated) == before
    assert simulated.runs(STAGE)[-1][0] == "failed"


def test_two_runs_within_a_second_have_two_ids(simulated: Database) -> None:
    for _ in range(3):
        segment(simulated)
    assert len(simulated.runs(STAGE)) == 3


def test_simulating_if_empty_fills_once(database: Database) -> None:
    env = {"DATABASE_URL": database.url}
    assert invoke("simulate", "--learners", "20", "--weeks", "2", "--if-empty", env=env) == ExitCode.OK
    rows = database("SELECT count(*), min(started_at) FROM attempt")
    assert rows[0][0] > 0
    assert invoke("simulate", "--learners", "20", "--weeks", "2", "--if-empty", "--seed", "9", env=env) == ExitCode.OK
    assert database("SELECT count(*), min(started_at) FROM attempt") == rows

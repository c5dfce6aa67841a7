"""Migrations: forwards, backwards, twice, side by side; only they create tables."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import psycopg
import pytest
from seed_analytics import migrations
from seed_analytics.errors import ExitCode
from seed_analytics.local import Postgres
from support import Database, invoke

OUTPUT_TABLES = {
    "analytics_runs": "run_id stage status reason rows_read rows_written timings versions kpi_keys",
    "irt_fit_meta": "run_id",
    "irt_item_params": "run_id item_id a b se_a se_b",
    "irt_abilities": "run_id user_id theta se",
    "cluster_fit_meta": "run_id n_clusters features metrics fitted_at method centers",
    "user_segments": "user_id segment_label features updated_at cluster_id run_id",
    "survival_fit_meta": "run_id formula coefficients hazard_ratios fitted_at metrics survival_curve",
    "survival_risk": "user_id risk rank_percentile run_id updated_at",
    "prophet_fit_meta": "run_id metric changepoints forecast fitted_at metrics",
    "anomalies": "metric detected_at run_id week_start value expected lower upper score",
    "brms_fit_meta": "run_id formula priors posterior_summary diagnostics fitted_at engine",
}
COLUMNS = "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"


@pytest.fixture
def blank(postgres: Postgres) -> Iterator[Database]:
    """A database without any table."""
    url = postgres.create_database("blank")
    with psycopg.connect(url, autocommit=True) as conn:
        yield Database(url, conn)
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute("DROP DATABASE blank WITH (FORCE)")


def tables(database: Database) -> set[str]:
    return {name for name, *_ in database(COLUMNS)}


@pytest.mark.parametrize("table", OUTPUT_TABLES)
def test_table_has_the_columns_of_the_contract(database: Database, table: str) -> None:
    columns = {column for name, column, _ in database(COLUMNS) if name == table}
    assert set(OUTPUT_TABLES[table].split()) <= columns


def test_forwards_backwards_and_forwards_again_is_the_same_schema(blank: Database) -> None:
    migrations.migrate(blank.url)
    first = sorted(blank(COLUMNS))
    migrations.migrate(blank.url, "base")
    assert tables(blank) == {migrations.VERSION_TABLE}
    migrations.migrate(blank.url)
    assert sorted(blank(COLUMNS)) == first


def test_migrating_twice_changes_nothing(blank: Database) -> None:
    migrations.migrate(blank.url)
    blank("INSERT INTO analytics_runs (run_id, stage, status, as_of) VALUES ('x', 's', 'running', now())")
    assert invoke("migrate", env={"DATABASE_URL": blank.url}) == 0
    assert blank("SELECT run_id FROM analytics_runs") == [("x",)]


def test_two_releases_that_migrate_at_once_both_succeed(blank: Database) -> None:
    command = [sys.executable, "-m", "seed_analytics.cli", "migrate"]
    together = [subprocess.Popen(command, env=os.environ | {"DATABASE_URL": blank.url}) for _ in range(3)]
    assert [process.wait(60) for process in together] == [0, 0, 0]
    assert set(OUTPUT_TABLES) <= tables(blank)


def test_user_who_may_create_nothing_is_a_config_fault(blank: Database, capsys: pytest.CaptureFixture[str]) -> None:
    blank("CREATE ROLE newcomer LOGIN")
    blank("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # before version 15 everybody may
    try:
        url = blank.url.replace("postgres@", "newcomer@")
        assert invoke("migrate", env={"DATABASE_URL": url}) == ExitCode.CONFIG
        assert "lacks a right: permission denied for schema public" in capsys.readouterr().err
    finally:
        blank("DROP ROLE newcomer")


@pytest.mark.parametrize("where", ["DATABASE_URL", "PGOPTIONS"])
def test_migration_and_stages_keep_to_the_same_search_path(blank: Database, where: str) -> None:
    blank("CREATE SCHEMA ours")
    joint = "&" if "?" in blank.url else "?"
    env = {
        "DATABASE_URL": {"DATABASE_URL": f"{blank.url}{joint}options=-csearch_path%3Dours"},
        "PGOPTIONS": {"DATABASE_URL": blank.url, "PGOPTIONS": "-csearch_path=ours"},
    }[where]
    assert invoke("migrate", "--with-platform-tables", env=env) == 0
    assert tables(blank) == set()
    assert invoke("cluster-segments", env=env) == 0
    assert blank("SELECT stage, status FROM ours.analytics_runs") == [("cluster-segments", "skipped")]


def test_platform_tables_are_created_on_request_only(blank: Database) -> None:
    assert invoke("migrate", env={"DATABASE_URL": blank.url}) == 0
    assert "attempt" not in tables(blank)
    assert invoke("migrate", "--with-platform-tables", env={"DATABASE_URL": blank.url}) == 0
    assert {"attempt", "weekly_kpi", "features_topic_daily", "question"} <= tables(blank)


def test_unknown_revision_is_refused(blank: Database) -> None:
    assert invoke("migrate", "--revision", "no-such", env={"DATABASE_URL": blank.url}) == ExitCode.USAGE


def test_nothing_but_migrations_creates_lasting_tables() -> None:
    package = Path(str(files("seed_analytics")))
    creating = re.compile(r"CREATE\s+(?!TEMP)(UNLOGGED\s+)?(TABLE|VIEW|SCHEMA|MATERIALIZED)", re.IGNORECASE)
    found = {
        str(path.relative_to(package))
        for path in [*package.rglob("*.sql"), *package.rglob("*.py")]
        if creating.search(path.read_text())
    }
    assert {name for name in found if not name.startswith(("sql/migrations/", "sql/platform/"))} == set()

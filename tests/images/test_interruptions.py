"""A stage that is cut off: by a restart of PostgreSQL while it reads, fits or publishes, by the end of its container."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from psycopg import sql
from seed_analytics.demo import STAGES
from seed_analytics.errors import ExitCode
from seed_analytics.stages import SETTINGS

FIRST_TABLE = {
    "calibrate-irt-weekly": "irt_fit_meta",
    "cluster-segments": "cluster_fit_meta",
    "fit-survival-churn": "survival_fit_meta",
    "forecast-prophet": "prophet_fit_meta",
    "fit-bayesian-growth": "brms_fit_meta",
}
SERVICE = {
    "calibrate-irt-weekly": "r-irt-plumber",
    "fit-survival-churn": "r-forecast-plumber",
    "forecast-prophet": "r-forecast-plumber",
    "fit-bayesian-growth": "r-brms-plumber",
}
DEADLINE_SECS = 120.0
Rows = dict[str, tuple[int, str]]


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECS
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def contents(platform: Any) -> Rows:
    """Table -> number and digest of its rows, but for the record of runs."""
    with platform.connect() as conn:
        names = conn.execute(
            "SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public' AND relname <> 'analytics_runs'"
        ).fetchall()
        digest = sql.SQL("SELECT count(*), coalesce(md5(string_agg(t::text, E'\\n' ORDER BY t::text)), '') FROM {} t")
        return {name: conn.execute(digest.format(sql.Identifier(name))).fetchone() for (name,) in names}


def publishing(stage: str) -> sql.Composed:
    """Return the lock at which a stage waits where it publishes."""
    return sql.SQL("LOCK TABLE {} IN SHARE MODE").format(sql.Identifier(FIRST_TABLE[stage]))


def interrupted(platform: Any, stage: str, lock: sql.Composable, interrupt: Callable[[Any], None]) -> tuple[int, str]:
    """Let a stage come to a lock, interrupt it there, and return its exit code and log."""
    blocker = platform.connect()
    blocker.autocommit = False
    blocker.execute(lock)
    job = platform.start(stage)
    with platform.connect() as looking:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
        until(lambda: looking.execute(waiting, (f"seed-analytics/{stage}",)).fetchone()[0] > 0)
    interrupt(job)
    blocker.close()
    code = int(job.wait(timeout=DEADLINE_SECS)["StatusCode"])
    platform.wait()
    return code, job.logs().decode()


def test_every_stage_that_publishes_is_interrupted_here() -> None:
    assert set(STAGES) == set(FIRST_TABLE)
    assert set(STAGES) <= set(SETTINGS)


@pytest.mark.parametrize("stage", STAGES)
def test_a_restart_of_postgresql_leaves_nothing_half_published(platform: Any, stage: str) -> None:
    before = contents(platform)
    code, log = interrupted(platform, stage, publishing(stage), lambda _: platform.database.restart(timeout=30))
    assert code == ExitCode.UNAVAILABLE, log
    assert contents(platform) == before
    again = platform.run(stage)
    assert again.code == 0, again.output
    assert contents(platform) != before


@pytest.mark.parametrize("stage", STAGES)
def test_a_restart_of_postgresql_while_a_stage_reads_is_said(platform: Any, stage: str) -> None:
    before = contents(platform)
    reading = sql.SQL("LOCK TABLE attempt, weekly_kpi IN ACCESS EXCLUSIVE MODE")
    code, log = interrupted(platform, stage, reading, lambda _: platform.database.restart(timeout=30))
    assert code == ExitCode.UNAVAILABLE, log
    assert contents(platform) == before


@pytest.mark.parametrize("stage", SERVICE)
def test_a_restart_of_postgresql_while_a_service_fits_is_said(platform: Any, stage: str) -> None:
    before = contents(platform)
    service = platform.services[SERVICE[stage]]
    service.pause()
    try:
        job = platform.start(stage)
        until(lambda: b"Loaded" in job.logs())
        platform.database.restart(timeout=30)
        platform.wait()
    finally:
        service.unpause()
    code = int(job.wait(timeout=DEADLINE_SECS)["StatusCode"])
    assert code == ExitCode.UNAVAILABLE, job.logs().decode()
    assert contents(platform) == before


@pytest.mark.parametrize("stage", STAGES)
def test_a_container_killed_in_publishing_leaves_nothing_half_published(platform: Any, stage: str) -> None:
    before = contents(platform)
    code, log = interrupted(platform, stage, publishing(stage), lambda job: job.kill())
    assert code == 137, log
    assert contents(platform) == before
    # The server takes a moment to see that the client is gone, and to let go of the stage's lock.
    again = platform.run(stage)
    while again.code == ExitCode.TRY_LATER:
        again = platform.run(stage)
    assert again.code == 0, again.output
    assert contents(platform) != before
    with platform.connect() as conn:
        statuses = conn.execute("SELECT DISTINCT status FROM analytics_runs WHERE stage = %s", (stage,)).fetchall()
    assert ("running",) not in statuses

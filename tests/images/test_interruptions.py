"""A stage that is cut off: by a restart of PostgreSQL while it reads, fits or publishes, by the end of its container."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from psycopg import sql
from seed_analytics.errors import ExitCode
from seed_analytics.settings import STAGES
from support import until

LAST_LOCK = {
    # Week by week: the lock of one row of the newest.
    "compute-weekly-kpis": "SELECT FROM weekly_kpi WHERE week_start = (SELECT max(week_start) FROM weekly_kpi) FOR UPDATE",
    "calibrate-irt-weekly": "LOCK TABLE irt_abilities IN SHARE MODE",
    "cluster-segments": "LOCK TABLE user_segments IN SHARE MODE",
    "fit-survival-churn": "LOCK TABLE weekly_kpi IN SHARE MODE",
    "forecast-prophet": "LOCK TABLE anomalies IN SHARE MODE",
    "fit-bayesian-growth": "LOCK TABLE weekly_kpi IN SHARE MODE",
}
"""Stage -> what keeps it from the last that it writes, when the rest is written and not yet committed."""
READ_LOCK = "LOCK TABLE attempt, weekly_kpi IN ACCESS EXCLUSIVE MODE"
SERVICE = {stage: info.service for stage, info in STAGES.items() if info.service}
DEADLINE_SECS = 120.0
Rows = dict[str, tuple[int, str]]


def contents(platform: Any) -> Rows:
    """Table -> number and digest of its rows, but for the record of runs."""
    with platform.connect() as conn:
        names = conn.execute(
            "SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public' AND relname <> 'analytics_runs'"
        ).fetchall()
        digest = sql.SQL("SELECT count(*), coalesce(md5(string_agg(t::text, E'\\n' ORDER BY t::text)), '') FROM {} t")
        return {name: conn.execute(digest.format(sql.Identifier(name))).fetchone() for (name,) in names}


def interrupted(
    platform: Any, stage: str, lock: str, interrupt: Callable[[Any], None], *, written: bool
) -> tuple[int, str]:
    """Let a stage come to a lock, where it has `written` something or not; interrupt it, return its exit code and log."""
    with closing(platform.connect()) as blocker:
        blocker.autocommit = False
        blocker.execute(lock)
        job = platform.start(stage)
        with platform.connect() as looking:
            # A transaction has a number from its first row on.
            waiting = """
                SELECT backend_xid IS NOT NULL FROM pg_stat_activity
                WHERE application_name = %s AND wait_event_type = 'Lock'
            """
            until(lambda: looking.execute(waiting, (f"seed-analytics/{stage}",)).fetchone() is not None, DEADLINE_SECS)
            assert looking.execute(waiting, (f"seed-analytics/{stage}",)).fetchone() == (written,)
        interrupt(job)
    code = int(job.wait(timeout=DEADLINE_SECS)["StatusCode"])
    platform.wait()
    return code, job.logs().decode()


def test_every_stage_that_publishes_is_interrupted_here() -> None:
    assert set(LAST_LOCK) == set(STAGES)


@pytest.mark.parametrize("stage", LAST_LOCK)
def test_a_restart_of_postgresql_leaves_nothing_half_published(platform: Any, stage: str) -> None:
    before = contents(platform)
    code, log = interrupted(
        platform, stage, LAST_LOCK[stage], lambda _: platform.database.restart(timeout=30), written=True
    )
    assert code == ExitCode.UNAVAILABLE, log
    assert contents(platform) == before
    again = platform.run(stage)
    assert again.code == 0, again.output
    assert contents(platform) != before


@pytest.mark.parametrize("stage", LAST_LOCK)
def test_a_restart_of_postgresql_while_a_stage_reads_is_said(platform: Any, stage: str) -> None:
    before = contents(platform)
    code, log = interrupted(platform, stage, READ_LOCK, lambda _: platform.database.restart(timeout=30), written=False)
    assert code == ExitCode.UNAVAILABLE, log
    assert contents(platform) == before


@pytest.mark.parametrize("stage", SERVICE)
def test_a_restart_of_postgresql_while_a_service_fits_is_said(platform: Any, stage: str) -> None:
    before = contents(platform)
    service = platform.services[SERVICE[stage]]
    service.pause()
    try:
        job = platform.start(stage)
        until(lambda: b"Loaded" in job.logs(), DEADLINE_SECS)
        platform.database.restart(timeout=30)
        platform.wait()
    finally:
        service.unpause()
    code = int(job.wait(timeout=DEADLINE_SECS)["StatusCode"])
    assert code == ExitCode.UNAVAILABLE, job.logs().decode()
    assert contents(platform) == before


@pytest.mark.parametrize("stage", LAST_LOCK)
def test_a_container_killed_in_publishing_leaves_nothing_half_published(platform: Any, stage: str) -> None:
    before = contents(platform)
    code, log = interrupted(platform, stage, LAST_LOCK[stage], lambda job: job.kill(), written=True)
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

"""CronJobs by the clock: a time zone, runs that must not overlap, a run that hangs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cluster.kube import SERVICES_OFF, SMALL, STAGES_OFF, Cluster, Namespace, Postgres, until
from kubernetes import client

ZONE = "Asia/Kolkata"  # half an hour off all whole hours
HUNG_SECS = 75


@dataclass
class Scheduled:
    """A release whose CronJobs are due: one at a given minute, one every minute."""

    namespace: Namespace
    database: str
    due: datetime

    def jobs(self, cronjob: str) -> list[client.V1Job]:
        """Return the Jobs that the schedule has started, the oldest first."""
        found = self.namespace.cluster.batch.list_namespaced_job(self.namespace.name).items
        mine = [job for job in found if any(owner.name == cronjob for owner in job.metadata.owner_references or ())]
        return sorted(mine, key=lambda job: job.metadata.creation_timestamp)

    def active(self, cronjob: str) -> list[client.V1Job]:
        """Return those that run."""
        return [job for job in self.jobs(cronjob) if job.status.active]


@pytest.fixture(scope="module")
def scheduled(cluster: Cluster, postgres: Postgres) -> Iterator[Scheduled]:
    with cluster.namespace("schedules") as namespace:
        database = postgres.copy("schedules")
        namespace.secret("seedtest-db-credentials", DATABASE_URL=postgres.url(database))
        due = (datetime.now(ZoneInfo(ZONE)) + timedelta(seconds=100)).replace(second=0, microsecond=0)
        values = {
            "global": {"secrets": {"source": "existing"}},
            "compute-weekly-kpis": {
                "enabled": True,
                "timeZone": ZONE,
                "schedule": f"{due.minute} {due.hour} * * *",
            },
            "cluster-segments": {"enabled": True, "schedule": "* * * * *", "activeDeadlineSeconds": HUNG_SECS},
        }
        namespace.install("clock", SMALL, SERVICES_OFF, STAGES_OFF, values)
        yield Scheduled(namespace, database, due)


def test_a_schedule_fires_by_the_clock_of_its_time_zone(scheduled: Scheduled) -> None:
    (job, *_) = until("the schedule fires", lambda: scheduled.jobs("compute-weekly-kpis"), 150)
    planned = job.metadata.annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"]
    assert datetime.fromisoformat(planned) == scheduled.due
    scheduled.namespace.complete(job.metadata.name)


# Reading it never ends. A lock would not do: a run waits for one for a minute, and then leaves to try again.
HANG = """
ALTER TABLE weekly_kpi RENAME TO weekly_kpi_behind;
CREATE VIEW weekly_kpi AS
SELECT behind.* FROM weekly_kpi_behind AS behind CROSS JOIN (SELECT pg_sleep(3600)) AS never
"""
HEAL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'seed%';
DROP VIEW weekly_kpi;
ALTER TABLE weekly_kpi_behind RENAME TO weekly_kpi
"""


Hung = tuple[client.V1Job, str]


@pytest.fixture(scope="class")
def hung(scheduled: Scheduled, postgres: Postgres) -> Iterator[Hung]:
    """A Job that hangs, and the id of its run."""
    postgres.sql(HANG, scheduled.database)
    sleeping = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND application_name LIKE 'seed%'"
    until("a run reads for ever", lambda: postgres.sql(sleeping), 130)
    (job,) = scheduled.active("cluster-segments")
    (run_id,) = postgres.sql(
        "SELECT run_id FROM analytics_runs WHERE stage = 'cluster-segments' AND status = 'running'", scheduled.database
    )
    yield job, run_id
    postgres.sql(HEAL, scheduled.database)


class TestHungRun:
    """While the stage's table is read without an end, its run hangs."""

    def test_no_other_run_is_started_beside_it(self, hung: Hung, scheduled: Scheduled) -> None:
        def skipped() -> bool:
            listed = scheduled.namespace.kubectl("get", "events", "--field-selector=reason=JobAlreadyActive")
            return "cluster-segments" in listed

        until("the next minute's run is skipped", skipped, 90)
        assert [job.metadata.name for job in scheduled.active("cluster-segments")] == [hung[0].metadata.name]

    def test_it_ends_at_its_deadline(self, hung: Hung, scheduled: Scheduled, postgres: Postgres) -> None:
        job, run_id = hung
        ended = scheduled.namespace.ended(job.metadata.name, HUNG_SECS + 60)
        assert (ended.condition, ended.reason) == ("Failed", "DeadlineExceeded")
        deadline = job.status.start_time + timedelta(seconds=HUNG_SECS)
        record = f"SELECT status, finished_at >= '{deadline.isoformat()}' FROM analytics_runs WHERE run_id = '{run_id}'"
        until(
            "the run that hung until then is recorded as failed",
            lambda: postgres.sql(record, scheduled.database) == ["failed|t"],
            30,
        )


def test_the_run_after_a_hung_one_succeeds(scheduled: Scheduled) -> None:
    last = scheduled.jobs("cluster-segments")[-1].metadata.creation_timestamp

    def later() -> list[client.V1Job]:
        return [job for job in scheduled.jobs("cluster-segments") if job.metadata.creation_timestamp > last]

    scheduled.namespace.complete(until("the next minute comes", later, 90)[0].metadata.name)

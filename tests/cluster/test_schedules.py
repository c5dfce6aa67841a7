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


@pytest.fixture(scope="class")
def hung(scheduled: Scheduled, postgres: Postgres) -> Iterator[str]:
    """Name of a Job that hangs."""
    with postgres.session("BEGIN; LOCK TABLE weekly_kpi IN ACCESS EXCLUSIVE MODE", scheduled.database):
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'seed%'"
        until("a run waits for the table", lambda: postgres.sql(waiting), 130)
        (job,) = scheduled.active("cluster-segments")
        yield job.metadata.name


class TestHungRun:
    """While another session keeps the stage's table, its run waits for ever."""

    def test_no_other_run_is_started_beside_it(self, hung: str, scheduled: Scheduled) -> None:
        def skipped() -> bool:
            listed = scheduled.namespace.kubectl("get", "events", "--field-selector=reason=JobAlreadyActive")
            return "cluster-segments" in listed

        until("the next minute's run is skipped", skipped, 90)
        assert [job.metadata.name for job in scheduled.active("cluster-segments")] == [hung]

    def test_it_ends_at_its_deadline(self, hung: str, scheduled: Scheduled) -> None:
        ended = scheduled.namespace.ended(hung, HUNG_SECS + 60)
        assert (ended.condition, ended.reason) == ("Failed", "DeadlineExceeded")


def test_the_run_after_a_hung_one_succeeds(scheduled: Scheduled) -> None:
    last = scheduled.jobs("cluster-segments")[-1].metadata.creation_timestamp

    def later() -> list[client.V1Job]:
        return [job for job in scheduled.jobs("cluster-segments") if job.metadata.creation_timestamp > last]

    scheduled.namespace.complete(until("the next minute comes", later, 90)[0].metadata.name)

"""A release over its life: upgrade, rollback, one-off runs, uninstall, reinstall over the same database.

No version of the chart has been published yet. The first one is the chart as it first stood in git, the previous one as
it stood before its last change; the same, renumbered, shows what a version alone changes.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chart.harness import helm
from chart.harness.render import CHART, merged
from cluster.conftest import absent, monitoring_off
from cluster.kube import SERVICES_OFF, SMALL, STAGES_OFF, Cluster, Namespace, Postgres, until
from seed_analytics.db import read_sql
from seed_analytics.migrations import VERSION_TABLE
from support import ROOT

IRT = "r-irt-plumber"
VALUES = merged(
    SMALL,
    SERVICES_OFF,
    STAGES_OFF,
    {"global": {"secrets": {"source": "existing"}}, IRT: {"enabled": True}, "cluster-segments": {"enabled": True}},
)
CHANGED = {"cluster-segments": {"schedule": "0 8 1,15 * *"}}


def chart_of_old(commit: int, config: pytest.Config, folder: Path) -> Path:
    """Return the chart as it stood after one of the commits that changed it, the newest first."""
    if not (ROOT / ".git").exists() or (ROOT / ".git" / "shallow").exists():
        absent(config, "history", "this checkout does not hold the chart's history: clone it whole")
    git = ["git", "-C", str(ROOT)]
    log = [*git, "log", "--format=%H", "--", "charts/seed-analytics"]
    commits = subprocess.run(log, capture_output=True, text=True, check=True).stdout.split()
    archive = [*git, "archive", commits[commit], "charts/seed-analytics"]
    tar = subprocess.run(archive, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=tar, check=True)
    return folder / "charts" / "seed-analytics"


@pytest.fixture
def old_chart(which: str, cluster: Cluster, pytestconfig: pytest.Config, tmp_path: Path) -> Path:
    """A package of a lower version."""
    commits = {"first": -1, "previous": 1}
    chart = CHART if which == "renumbered" else chart_of_old(commits[which], pytestconfig, tmp_path)
    cluster.run(cluster.helm, "package", chart, "--version", "0.0.9", "--destination", tmp_path)
    return tmp_path / "seed-analytics-0.0.9.tgz"


@pytest.fixture
def database(namespace: Namespace, postgres: Postgres) -> str:
    """A database for this namespace, whose URL and token are in the Secrets that the release reads."""
    name = postgres.copy("upgrade")
    namespace.secret("seedtest-db-credentials", DATABASE_URL=postgres.url(name))
    namespace.secret("calibrate-irt-credentials", token="of-this-test")  # noqa: S106
    return name


def schedule(namespace: Namespace) -> str:
    cronjob = namespace.cluster.batch.read_namespaced_cron_job("cluster-segments", namespace.name)
    return str(cronjob.spec.schedule)


def only_pod(namespace: Namespace) -> Any:
    (pod,) = [pod for pod in namespace.pods(app=IRT) if not pod.metadata.deletion_timestamp]
    return pod


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(("which", "major"), [("first", ""), ("previous", "3"), ("renumbered", "")])
def test_an_upgrade_goes_through_and_a_rollback_undoes_it(
    which: str, major: str, old_chart: Path, cluster: Cluster, namespace: Namespace
) -> None:
    if major:  # the oldest Helm that the chart supports
        namespace = Namespace(replace(cluster, helm=helm.find(major)), namespace.name)
    namespace.install("life", VALUES, chart=old_chart)
    before = only_pod(namespace)
    namespace.install("life", VALUES, CHANGED)
    assert schedule(namespace) == "0 8 1,15 * *"
    if which == "renumbered":
        assert only_pod(namespace).metadata.uid == before.metadata.uid, "a version bump restarted a pod"
    namespace.run("cluster-segments", "after-upgrade")
    namespace.helm("rollback", "life", "1", "--wait")
    assert schedule(namespace) == "0 7 1,15 * *"
    namespace.run("cluster-segments", "after-rollback")


def test_an_upgrade_migrates_the_database(namespace: Namespace, database: str, postgres: Postgres) -> None:
    namespace.install("life", VALUES)
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
    before = postgres.sql(tables, database)
    # As a release that knew none of our tables would have left it.
    postgres.sql(f"{read_sql('migrations/0001_downgrade.sql')}; DELETE FROM {VERSION_TABLE}", database)
    assert postgres.sql(tables, database) != before
    namespace.install("life", VALUES, CHANGED)
    assert postgres.sql(tables, database) == before
    namespace.run("cluster-segments", "migrated")


def test_a_reinstall_finds_the_numbers_that_an_uninstall_left(
    cluster: Cluster, namespace: Namespace, database: str, postgres: Postgres
) -> None:
    run_now = merged(
        monitoring_off(cluster),
        {
            "global": {
                "services": {
                    "podDisruptionBudget": {"enabled": True},
                    "autoscaling": {"enabled": True, "minReplicas": 1},
                }
            },
            "dashboard": {"enabled": True},
            "cluster-segments": {"runNow": True},
        },
    )
    namespace.install("life", VALUES, run_now)
    namespace.complete("cluster-segments-now", 1)  # Helm waited for it
    namespace.helm("test", "life", check=False)
    namespace.helm("uninstall", "life", "--wait")
    yours = {"secret/seedtest-db-credentials", "secret/calibrate-irt-credentials"}
    # Documented in the chart's README.
    documented = {"job.batch/cluster-segments-now", "job.batch/verify"}
    until("nothing else is left", lambda: namespace.left() - yours == documented, 90)
    namespace.kubectl("delete", "jobs", "--selector=app.kubernetes.io/instance=life")
    until("the last pod is gone", lambda: not namespace.pods(), 90)

    namespace.install("life", VALUES, run_now)
    runs = postgres.sql("SELECT status FROM analytics_runs WHERE stage = 'cluster-segments'", database)
    assert runs == ["succeeded"] * 2

"""A release over its life: upgrade, rollback, one-off runs, uninstall, reinstall over the same database.

No version of the chart has been published yet. The first one is the chart as it first stood in git; the previous one is
the chart as it stands, packaged under a lower version.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from chart.harness.render import CHART, merged
from cluster.kube import SERVICES_OFF, SMALL, STAGES_OFF, Cluster, Namespace, Postgres, until
from support import ROOT

IRT = "r-irt-plumber"
VALUES = merged(
    SMALL,
    SERVICES_OFF,
    STAGES_OFF,
    {"global": {"secrets": {"source": "existing"}}, IRT: {"enabled": True}, "cluster-segments": {"enabled": True}},
)
CHANGED = {"cluster-segments": {"schedule": "0 8 1,15 * *"}}


def first_chart(folder: Path) -> Path:
    """Return the chart as it first stood in git."""
    git = ["git", "-C", str(ROOT)]
    log = [*git, "log", "--diff-filter=A", "--format=%H", "--", "charts/seed-analytics/Chart.yaml"]
    commits = subprocess.run(log, capture_output=True, text=True, check=False).stdout.split()
    if not commits or (ROOT / ".git" / "shallow").exists():
        pytest.skip("this checkout does not hold the chart's history: clone it whole")
    archive = subprocess.run([*git, "archive", commits[-1], "charts/seed-analytics"], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder / "charts" / "seed-analytics"


@pytest.fixture(params=["first", "previous"])
def old_chart(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> Path:
    """A package of a lower version."""
    chart, version = (first_chart(tmp_path), "0.0.1") if request.param == "first" else (CHART, "0.0.9")
    cluster.run(cluster.helm, "package", chart, "--version", version, "--destination", tmp_path)
    return tmp_path / f"seed-analytics-{version}.tgz"


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
def test_an_upgrade_goes_through_and_a_rollback_undoes_it(old_chart: Path, namespace: Namespace) -> None:
    namespace.install("life", VALUES, chart=old_chart)
    before = only_pod(namespace)
    namespace.install("life", VALUES, CHANGED)
    assert schedule(namespace) == "0 8 1,15 * *"
    if "0.0.9" in old_chart.name:
        assert only_pod(namespace).metadata.uid == before.metadata.uid, "a version bump restarted a pod"
    namespace.run("cluster-segments", "after-upgrade")
    namespace.helm("rollback", "life", "1", "--wait")
    assert schedule(namespace) == "0 7 1,15 * *"
    namespace.run("cluster-segments", "after-rollback")


def test_a_reinstall_finds_the_numbers_that_an_uninstall_left(
    namespace: Namespace, database: str, postgres: Postgres
) -> None:
    run_now = {"cluster-segments": {"runNow": True}}
    namespace.install("life", VALUES, run_now)
    namespace.complete("cluster-segments-now", 1)  # Helm waited for it
    namespace.helm("test", "life", check=False)
    namespace.helm("uninstall", "life", "--wait")
    kinds = "deployments,services,serviceaccounts,cronjobs,jobs,networkpolicies,secrets,configmaps"
    left = set(namespace.kubectl("get", kinds, "--output=name").split())
    yours = {"secret/seedtest-db-credentials", "secret/calibrate-irt-credentials"}
    the_clusters = {"serviceaccount/default", "configmap/kube-root-ca.crt"}
    # Documented in the chart's README.
    assert left - yours - the_clusters == {"job.batch/cluster-segments-now", "job.batch/verify"}
    namespace.kubectl("delete", "jobs", "--selector=app.kubernetes.io/instance=life")
    until("the last pod is gone", lambda: not namespace.pods(), 90)

    namespace.install("life", VALUES, run_now)
    runs = postgres.sql("SELECT status FROM analytics_runs WHERE stage = 'cluster-segments'", database)
    assert runs == ["succeeded"] * 2

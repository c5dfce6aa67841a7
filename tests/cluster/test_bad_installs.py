"""Installs that cannot work: `helm install --wait` fails, the command that the reader runs next names the cause, and a
corrected `helm upgrade` heals the release."""

from __future__ import annotations

from typing import Any

import pytest
from chart.harness.render import merged
from cluster.kube import SERVICES_OFF, SMALL, STAGES_OFF, Cluster, Namespace, Postgres, until

IRT = "r-irt-plumber"
SERVICE_ALONE = merged(
    SMALL,
    SERVICES_OFF,
    STAGES_OFF,
    {"global": {"secrets": {"source": "existing"}}, "migrations": {"mode": "none"}, IRT: {"enabled": True}},
)
STAGE_ALONE = merged(
    SMALL,
    SERVICES_OFF,
    STAGES_OFF,
    {
        "global": {"secrets": {"source": "existing"}},
        "cluster-segments": {"enabled": True},
        "migrations": {"backoffLimit": 0},
    },
)


def refused(namespace: Namespace, *values: Any, timeout: str = "15s") -> str:
    """Install what cannot work and return what Helm said."""
    done = namespace.install("bad", *values, timeout=timeout, check=False)
    assert done.returncode != 0, "the install was taken for good"
    return done.stderr


def test_a_missing_secret_is_named_by_describe(namespace: Namespace) -> None:
    assert IRT in refused(namespace, SERVICE_ALONE)
    described = ("describe", "pods", "-l", f"app.kubernetes.io/name={IRT}")
    missing = 'secret "calibrate-irt-credentials" not found'
    until("the cause is shown", lambda: missing in namespace.kubectl(*described), 90)
    namespace.secret("calibrate-irt-credentials", token="there-now")  # noqa: S106 - of a service that ends with the test
    namespace.install("bad", SERVICE_ALONE)


def test_a_missing_image_is_named_by_describe(namespace: Namespace) -> None:
    namespace.secret("calibrate-irt-credentials", token="any")  # noqa: S106 - of a service that ends with the test
    absent = {IRT: {"image": {"tag": "9.9.9-absent"}}}
    assert IRT in refused(namespace, SERVICE_ALONE, absent)
    described = ("describe", "pods", "-l", f"app.kubernetes.io/name={IRT}")
    until("the pull fails", lambda: "ErrImagePull" in (said := namespace.kubectl(*described)) or "BackOff" in said, 90)
    assert f"{IRT}:9.9.9-absent" in namespace.kubectl(*described)
    namespace.install("bad", SERVICE_ALONE)


@pytest.mark.parametrize(
    ("right", "wrong", "cause"),
    [
        ("throw-away", "another", "password authentication failed"),
        ("/bad_url", "/no_such_database", "does not exist"),
        ("dev-database.", "nobody.", "nobody."),
    ],
    ids=["password", "database", "host"],
)
def test_a_wrong_database_url_is_named_by_the_log_of_the_migration(
    right: str, wrong: str, cause: str, namespace: Namespace, postgres: Postgres
) -> None:
    url = postgres.url(postgres.copy("bad_url"))
    namespace.secret("seedtest-db-credentials", DATABASE_URL=url.replace(right, wrong))
    assert "migrate" in refused(namespace, STAGE_ALONE, timeout="60s")
    log = namespace.kubectl("logs", "job/migrate")
    assert "DATABASE_URL" in log
    assert cause in log
    assert "another@" not in log
    assert "throw-away" not in log
    namespace.secret("seedtest-db-credentials", DATABASE_URL=url)
    namespace.install("bad", STAGE_ALONE)
    namespace.run("cluster-segments", "healed")


def test_a_missing_crd_is_named_by_helm(namespace: Namespace, cluster: Cluster) -> None:
    if "monitoring.coreos.com" in cluster.kubectl("api-versions"):
        pytest.skip("the cluster serves monitoring.coreos.com: nothing is missing")
    namespace.secret("calibrate-irt-credentials", token="any")  # noqa: S106 - of a service that ends with the test
    monitored = merged(SERVICE_ALONE, {"global": {"services": {"serviceMonitor": {"enabled": True}}}})
    said = refused(namespace, monitored)
    assert 'no matches for kind "ServiceMonitor" in version "monitoring.coreos.com/v1"' in said
    namespace.install("bad", SERVICE_ALONE)

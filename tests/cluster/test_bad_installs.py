"""Installs that cannot work: `helm install --wait` fails, the command that the reader runs next names the cause, and a
corrected `helm upgrade` heals the release."""

from __future__ import annotations

from typing import Any

import pytest
from chart.harness.render import merged
from cluster.kube import SERVICES_OFF, SMALL, STAGES_OFF, Cluster, Namespace, Postgres

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
    assert 'secret "calibrate-irt-credentials" not found' in namespace.kubectl(
        "describe", "pods", "-l", f"app.kubernetes.io/name={IRT}"
    )
    namespace.secret("calibrate-irt-credentials", token="there-now")  # noqa: S106 - of a service that ends with the test
    namespace.install("bad", SERVICE_ALONE)


def test_a_missing_image_is_named_by_describe(namespace: Namespace) -> None:
    namespace.secret("calibrate-irt-credentials", token="any")  # noqa: S106 - of a service that ends with the test
    absent = {IRT: {"image": {"tag": "9.9.9-absent"}}}
    assert IRT in refused(namespace, SERVICE_ALONE, absent)
    described = namespace.kubectl("describe", "pods", "-l", f"app.kubernetes.io/name={IRT}")
    assert "ErrImagePull" in described or "ImagePullBackOff" in described
    assert f"{IRT}:9.9.9-absent" in described
    namespace.install("bad", SERVICE_ALONE)


def test_a_wrong_database_url_is_named_by_the_log_of_the_migration(namespace: Namespace, postgres: Postgres) -> None:
    url = postgres.url(postgres.copy("bad_url"))
    namespace.secret("seedtest-db-credentials", DATABASE_URL=url.replace("throw-away", "another"))
    assert "migrate" in refused(namespace, STAGE_ALONE, timeout="60s")
    log = namespace.log("migrate")
    assert "DATABASE_URL" in log
    assert "another@" not in log
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

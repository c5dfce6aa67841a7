"""The values of staging and production on a cluster: a PostgreSQL that is there already, Secrets by the operator."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from chart.harness.render import merged
from cluster.conftest import monitoring_off, notes_commands, production_here
from cluster.kube import SERVICES_OFF, SMALL, Cluster, Namespace, Postgres, until
from cluster.stores import TOKENS, Store, store_of, synced
from kubernetes import client
from seed_analytics.errors import ExitCode
from support import ROOT

Staging = tuple[Namespace, Store, str]
"""A release, the store of its Secrets, and what Helm printed when it was installed."""


@pytest.fixture(scope="module")
def staging(cluster: Cluster, postgres: Postgres, external_secrets: None) -> Iterator[Staging]:
    """A release of values-staging.yaml, in which one stage is run at once."""
    with cluster.namespace("staging") as namespace:
        url = postgres.url(postgres.copy("staging"))
        with store_of(cluster, namespace, {"seedtest-database-url": url, **TOKENS}) as store:
            given = merged(SMALL, monitoring_off(cluster), {"secretStore": {"name": store.name}})
            run_now = {"fit-bayesian-growth": {"runNow": True}}
            printed = namespace.install("seed-analytics", given, run_now, files=["values-staging.yaml"]).stdout
            yield namespace, store, printed


def test_staging_gets_its_secrets_from_the_store(staging: Staging) -> None:
    namespace, *_ = staging
    names = ("calibrate-irt-credentials", "r-brms-credentials", "r-forecast-credentials", "seedtest-db-credentials")
    assert synced(namespace) == dict.fromkeys(names, "SecretSynced")


def test_a_stage_that_was_asked_for_has_run_at_once(staging: Staging) -> None:
    staging[0].complete("fit-bayesian-growth-now", 1)  # Helm waited for it


def test_the_notes_of_staging_run_and_verify_every_stage_on_the_existing_database(staging: Staging) -> None:
    namespace, _, printed = staging
    secrets, stages, verify = notes_commands(printed)
    assert "SecretSynced" in namespace.cluster.run("bash", "-c", secrets).stdout
    namespace.cluster.run("bash", "-c", stages)
    assert re.search(r"All \d+ checks are well", namespace.cluster.run("bash", "-c", verify).stdout)


def test_a_secret_that_cannot_be_read_is_seen_and_mended_by_its_runbook(staging: Staging) -> None:
    namespace, store, _ = staging
    name = "r-brms-credentials"
    page = (ROOT / "docs/runbooks/SeedSecretNotSynced.md").read_text()
    describe, stores, force, restart = (
        command.replace("NAMESPACE", namespace.name).replace("NAME", name)
        for command in re.findall(r"```sh\n(.+?)\n```", page, re.DOTALL)
    )
    token = store.data.pop("r-brms-internal-token")
    store.put()
    namespace.cluster.run("bash", "-c", force)
    until("the operator cannot read it", lambda: synced(namespace)[name] == "SecretSyncedError", 60)
    assert "r-brms-internal-token" in namespace.cluster.run("bash", "-c", describe).stdout
    assert store.name in namespace.cluster.run("bash", "-c", stores).stdout
    store.put(r_brms_internal_token=token)
    namespace.cluster.run("bash", "-c", force)
    until("the operator reads it again", lambda: synced(namespace)[name] == "SecretSynced", 60)
    namespace.cluster.run("bash", "-c", restart)
    namespace.ready("r-brms-plumber")


def test_a_rotated_token_reaches_services_and_jobs(staging: Staging) -> None:
    namespace, store, _ = staging
    namespace.run("calibrate-irt-weekly", "before-rotation")
    store.put(r_irt_internal_token="irt-token-2")  # noqa: S106 - of a service that ends with the test
    secret = "calibrate-irt-credentials"  # noqa: S105 - its name
    namespace.kubectl("annotate", "externalsecret", secret, f"force-sync={time.time():.0f}", "--overwrite")
    read = ("get", "secret", secret, "--output=jsonpath={.data.token}")
    before = "aXJ0LXRva2VuLTE="
    until("the operator has written the new token", lambda: namespace.kubectl(*read) != before, 60)
    # The service still asks for the old one.
    refused = namespace.ended(namespace.run_job("calibrate-irt-weekly", "refused"))
    assert refused.exit_codes == [ExitCode.CONFIG]
    assert "token" in namespace.log("refused")
    # As the chart's README says.
    namespace.kubectl("rollout", "restart", "deployment", "--selector", "app.kubernetes.io/component=service")
    namespace.ready("r-irt-plumber")
    namespace.run("calibrate-irt-weekly", "after-rotation")


def test_an_uninstall_of_staging_takes_its_secrets_along(staging: Staging) -> None:
    namespace, *_ = staging
    namespace.helm("uninstall", "seed-analytics", "--wait")
    until("only Jobs that ran are left", lambda: all(name.startswith("job.batch/") for name in namespace.left()), 90)


def test_production_runs_through_the_proxy_beside_each_job(
    cluster: Cluster,
    namespace: Namespace,
    postgres: Postgres,
    proxy_image: dict[str, str],
    external_secrets: None,
) -> None:
    """The stand-in never ends by itself: a Job that waited for it would not be Complete."""
    url = postgres.url(postgres.copy("production"), proxied=True)
    with store_of(cluster, namespace, {"seedtest-database-url": url, **TOKENS}) as store:
        given = (SMALL, monitoring_off(cluster), production_here(postgres, proxy_image, store.name))
        installed = namespace.install("seed-analytics", *given, files=["values-prod.yaml"])
        for service in SERVICES_OFF:
            until(f"two pods of {service} are ready", lambda name=service: ready_replicas(namespace, name) == 2)
        _, stages, verify = notes_commands(installed.stdout)
        namespace.cluster.run("bash", "-c", stages)
        assert re.search(r"All \d+ checks are well", namespace.cluster.run("bash", "-c", verify).stdout)
        one, other = namespace.pods(app="r-irt-plumber")
        evict(namespace, one)
        with pytest.raises(client.ApiException, match="disruption budget") as kept:
            evict(namespace, other)
        assert kept.value.status == 429
        (pod,) = namespace.pods(job_name="calibrate-irt-weekly-first")
        assert [container.name for container in pod.spec.containers] == ["calibrate-irt-weekly"]
        assert [status.name for status in pod.status.init_container_statuses] == ["cloud-sql-proxy"]


def evict(namespace: Namespace, pod: client.V1Pod) -> None:
    name = pod.metadata.name
    namespace.cluster.core.create_namespaced_pod_eviction(name, namespace.name, {"metadata": {"name": name}})


def ready_replicas(namespace: Namespace, deployment: str) -> int:
    return namespace.cluster.apps.read_namespaced_deployment(deployment, namespace.name).status.ready_replicas or 0

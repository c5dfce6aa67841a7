"""Argo CD syncs the environments of a git repository: without drift, by waves, and not past a failed migration."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from shutil import copytree
from typing import Any

import pytest
import yaml
from chart.harness.render import merged
from cluster.conftest import absent, monitoring_off, production_here
from cluster.kube import SERVICES_OFF, SMALL, STAGES_OFF, Cluster, Namespace, Postgres, until
from cluster.stores import TOKENS, store_of
from cluster.stores import synced as secrets_synced
from support import ROOT

APPLICATIONS = ("argoproj.io", "v1alpha1", "argocd", "applications")
IRT = "r-irt-plumber"
REFRESHES = 3


@dataclass
class Synced:
    """An Application that the ApplicationSet has made, and the repository that it syncs from."""

    cluster: Cluster
    environment: str
    name: str
    namespace: Namespace
    repository: Path

    @property
    def application(self) -> dict[str, Any]:
        """Return the Application as it is now."""
        found: dict[str, Any] = self.cluster.custom.get_namespaced_custom_object(*APPLICATIONS, self.name)
        return found

    @property
    def health(self) -> tuple[str, str]:
        """Sync and health status."""
        status = self.application.get("status", {})
        return status.get("sync", {}).get("status", ""), status.get("health", {}).get("status", "")

    def git(self, *argv: str) -> str:
        """Run git in the repository."""
        who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        argv = ("git", "-C", str(self.repository), *who, *argv)
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, **values: Any) -> str:
        """Lay values over those of the environment, commit, and return the revision."""
        file = self.repository / f"charts/seed-analytics/values-{self.environment}.yaml"
        file.write_text(yaml.safe_dump(merged(yaml.safe_load(file.read_text()), values)))
        self.git("commit", "--quiet", "--all", "--message=values")
        return self.git("rev-parse", "HEAD")

    def settled(self, revision: str) -> bool:
        """Say whether a revision is synced, and all is well."""
        status = self.application.get("status", {})
        operation = status.get("operationState", {})
        return (
            self.health == ("Synced", "Healthy")
            and status["sync"].get("revision") == revision
            and operation.get("phase") == "Succeeded"
        )


@pytest.fixture(scope="module")
def synced(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    postgres: Postgres,
    proxy_image: dict[str, str],
    external_secrets: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Synced]]:
    """The environments of the repository's own manifests, from a local repository, under names of this test: each with
    one service and one stage.
    """
    if not request.config.getoption("--argocd"):
        absent(request.config, "argocd", "Argo CD must run on this machine to read a local repository: say --argocd")
    name = f"seed-e2e-{token_hex(2)}"
    repository = tmp_path_factory.mktemp("repository")
    copytree(ROOT / "charts", repository / "charts")
    copytree(ROOT / "argocd" / "environments", repository / "argocd" / "environments")
    found = {
        environment: Synced(
            cluster, environment, f"{name}-{environment}", Namespace(cluster, f"{name}-{environment}"), repository
        )
        for environment in ("dev", "staging", "prod")
    }
    found["dev"].git("init", "--quiet", "--initial-branch=main")
    one_service = merged(
        *(cluster.values, SMALL, STAGES_OFF, SERVICES_OFF),
        {IRT: {"enabled": True}, "cluster-segments": {"enabled": True}},
    )
    existing = postgres.copy("argocd")
    given = {
        "dev": {"devDatabase": {"simulator": {"learners": 100}}},
        "staging": merged(monitoring_off(cluster), {"secretStore": {"name": found["staging"].namespace.name}}),
        "prod": merged(
            monitoring_off(cluster),
            production_here(postgres, proxy_image, found["prod"].namespace.name),
            {
                # An autoscaler is Degraded where nothing measures pods, so that there is none.
                "global": {"services": {"autoscaling": {"enabled": False}, "replicas": 2}},
            },
        ),
    }
    urls = {
        "staging": postgres.url(existing),
        "prod": postgres.url(postgres.copy("argocd_prod"), proxied=True),
    }
    for environment, one in found.items():
        file = repository / f"argocd/environments/{environment}.yaml"
        file.write_text(file.read_text().replace(f"namespace: seed-{environment}", f"namespace: {one.namespace.name}"))
        one.git("add", ".")
        one.commit(**merged(one_service, given[environment]))

    project, applications = (
        yaml.safe_load((ROOT / "argocd" / f"{kind}.yaml").read_text()) for kind in ("project", "applicationset")
    )
    url = f"file://{repository}"
    project["metadata"]["name"] = applications["metadata"]["name"] = name
    project["spec"]["sourceRepos"] = [url]
    applications["spec"]["generators"][0]["git"]["repoURL"] = url
    template = applications["spec"]["template"]
    template["metadata"]["name"] = f"{name}-{{{{ .environment }}}}"
    template["spec"]["project"] = name
    template["spec"]["source"]["repoURL"] = url
    namespaces = [one.namespace for one in found.values()]
    with ExitStack() as stores:
        for environment, address in urls.items():
            data = {"seedtest-database-url": address, **TOKENS}
            stores.enter_context(store_of(cluster, found[environment].namespace, data))
        cluster.apply(project, applications, namespace="argocd")
        cluster.alive += namespaces
        try:
            yield found
            cluster.kubectl("-n", "argocd", "delete", "applicationset", name)
            gone = lambda: not any(_exists(cluster, one.name) for one in found.values())  # noqa: E731
            until("its Applications are gone", gone, 180)
            cluster.kubectl("-n", "argocd", "delete", "appproject", name)
        finally:
            for namespace in namespaces:
                cluster.alive.remove(namespace)
                cluster.kubectl("delete", "namespace", namespace.name, "--wait=false")


def _exists(cluster: Cluster, application: str) -> bool:
    return cluster.run("kubectl", "-n", "argocd", "get", "application", application, check=False).returncode == 0


def _after_first_sync(one: Synced) -> Synced:
    until("the ApplicationSet has made the Application", lambda: _exists(one.cluster, one.name), 60)
    revision = one.git("rev-parse", "HEAD")
    try:
        until("the first sync", lambda: one.settled(revision), 300)
    except AssertionError:
        pytest.fail(f"the first sync: {yaml.safe_dump(one.application.get('status'))}")
    return one


@pytest.fixture(scope="module")
def first(synced: dict[str, Synced]) -> Synced:
    """The Application dev after its first sync."""
    return _after_first_sync(synced["dev"])


@pytest.fixture(scope="module")
def staging(synced: dict[str, Synced]) -> Synced:
    """The Application staging, whose Secrets come from a store, after its first sync."""
    return _after_first_sync(synced["staging"])


@pytest.fixture(scope="module")
def prod(synced: dict[str, Synced]) -> Synced:
    """The Application prod, which reaches its database through the proxy, after its first sync."""
    return _after_first_sync(synced["prod"])


@pytest.fixture(params=["first", "staging", "prod"])
def any_environment(request: pytest.FixtureRequest) -> Synced:
    """Each of them."""
    found: Synced = request.getfixturevalue(request.param)
    return found


def test_an_environment_becomes_synced_and_healthy(any_environment: Synced) -> None:
    assert any_environment.health == ("Synced", "Healthy")


def test_the_namespace_enforces_the_restricted_level(any_environment: Synced) -> None:
    labels = any_environment.cluster.core.read_namespace(any_environment.namespace.name).metadata.labels
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_the_secrets_were_there_before_the_migration(environment: str, request: pytest.FixtureRequest) -> None:
    one: Synced = request.getfixturevalue(environment)
    assert set(secrets_synced(one.namespace).values()) == {"SecretSynced"}
    secret = one.cluster.core.read_namespaced_secret("seedtest-db-credentials", one.namespace.name)
    migrated = one.cluster.batch.read_namespaced_job("migrate", one.namespace.name)
    assert secret.metadata.creation_timestamp <= migrated.metadata.creation_timestamp
    assert migrated.status.failed is None


def test_the_migration_ran_before_the_workloads(any_environment: Synced) -> None:
    first = any_environment
    migrated = first.cluster.batch.read_namespaced_job("migrate", first.namespace.name).status.completion_time
    service = first.cluster.apps.read_namespaced_deployment(IRT, first.namespace.name)
    cronjob = first.cluster.batch.read_namespaced_cron_job("cluster-segments", first.namespace.name)
    assert migrated <= min(service.metadata.creation_timestamp, cronjob.metadata.creation_timestamp)


def test_it_stays_so_over_several_refreshes(any_environment: Synced) -> None:
    first = any_environment
    operation = first.application["status"]["operationState"]["finishedAt"]
    for _ in range(REFRESHES):
        before = first.application["status"]["reconciledAt"]
        refresh = "argocd.argoproj.io/refresh=hard"
        first.cluster.kubectl("-n", "argocd", "annotate", "application", first.name, refresh, "--overwrite")
        until("the refresh", lambda before=before: first.application["status"]["reconciledAt"] > before, 60)
        assert first.health == ("Synced", "Healthy")
        # Hooks have no status: they are not compared.
        compared = [item for item in first.application["status"]["resources"] if "status" in item]
        assert {item["status"] for item in compared} == {"Synced"}
    assert first.application["status"]["operationState"]["finishedAt"] == operation, "it was synced again"


def test_a_change_of_values_goes_through(first: Synced) -> None:
    revision = first.commit(**{IRT: {"workers": 2}})
    until("the change is synced", lambda: first.settled(revision), 180)
    assert workers(first) == "2"


def test_a_failed_migration_stops_the_sync(first: Synced) -> None:
    """The migration cannot connect: the change that was committed with it does not reach the service."""
    unusable = {"global": {"stages": {"extraEnv": [{"name": "PGSSLMODE", "value": "verify-full"}]}}}
    begun = datetime.now().astimezone()
    first.commit(**merged(unusable, {"migrations": {"backoffLimit": 0}, IRT: {"workers": 3}}))

    def failed() -> bool:
        found = first.cluster.batch.list_namespaced_job(first.namespace.name, field_selector="metadata.name=migrate")
        return any(
            job.metadata.creation_timestamp > begun and condition.type == "Failed"
            for job in found.items  # none, while the last one is being replaced
            for condition in job.status.conditions or ()
        )

    until("the migration fails", failed, 120)
    time.sleep(5)  # were the sync to go on, it would do so at once
    assert workers(first) == "2"
    assert first.health[0] == "OutOfSync"
    revision = first.commit(**{"global": {"stages": {"extraEnv": []}}})
    until("a corrected commit heals it", lambda: first.settled(revision), 240)
    assert workers(first) == "3"


def workers(synced: Synced) -> str:
    """Return the number of workers that the service's Deployment sets."""
    container = synced.cluster.apps.read_namespaced_deployment(
        IRT, synced.namespace.name
    ).spec.template.spec.containers[0]
    (value,) = (item.value for item in container.env if item.name == "WORKERS")
    return str(value)

"""What values-prod.yaml promises: two replicas over zones, budgets, scaling, monitoring, secrets from a store, the proxy, digests."""

from __future__ import annotations

import re

import pytest
from chart.harness import code
from chart.harness.render import Release, Renderer


@pytest.fixture
def prod(render: Renderer) -> Release:
    return render(files=("values-prod.yaml",))


SERVICES = pytest.mark.parametrize("name", code.SERVICES)


@SERVICES
def test_a_service_has_two_replicas_at_least_and_grows_by_its_load(name: str, prod: Release) -> None:
    scaling = prod[f"HorizontalPodAutoscaler/{name}"]["spec"]
    assert scaling["minReplicas"] >= 2
    assert scaling["maxReplicas"] > scaling["minReplicas"]
    assert "replicas" not in prod[f"Deployment/{name}"]["spec"]


@SERVICES
def test_the_replicas_of_a_service_are_spread_over_zones(name: str, prod: Release) -> None:
    pod = prod.pod(f"Deployment/{name}")
    keys = {constraint["topologyKey"] for constraint in pod.spec["topologySpreadConstraints"]}
    assert "topology.kubernetes.io/zone" in keys
    for constraint in pod.spec["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"].items() <= pod.labels.items()


@SERVICES
def test_a_drain_takes_one_pod_of_a_service_at_a_time(name: str, prod: Release) -> None:
    assert prod[f"PodDisruptionBudget/{name}"]["spec"]["maxUnavailable"] == 1


@SERVICES
def test_a_service_is_scraped(name: str, prod: Release) -> None:
    assert prod[f"ServiceMonitor/{name}"]


def test_there_are_alerts_and_a_dashboard(prod: Release) -> None:
    assert {"PrometheusRule/seed-analytics", "ConfigMap/seed-analytics-dashboard"} <= prod.ids


def test_every_credential_comes_from_the_store_of_the_environment(prod: Release) -> None:
    assert list(prod.of("Secret")) == []
    secrets = list(prod.of("ExternalSecret"))
    assert len(secrets) == len(code.CREDENTIALS)
    for secret in secrets:
        store = secret["spec"]["secretStoreRef"]
        assert prod[f"{store['kind']}/{store['name']}"]


def test_every_pod_that_talks_to_the_database_does_so_through_the_proxy(prod: Release) -> None:
    sidecars = {pod.id: [container["name"] for container in pod.spec.get("initContainers", ())] for pod in prod.pods}
    assert sidecars == {pod.id: ["cloud-sql-proxy"] if code.command_of(pod) else [] for pod in prod.pods}


def test_every_image_is_by_digest(prod: Release) -> None:
    images = {container["image"] for pod in prod.pods for container in pod.containers}
    assert len(images) == len(code.SERVICES) + 2  # the jobs and the proxy
    assert [image for image in images if not re.search(r"@sha256:[a-f0-9]{64}$", image)] == []

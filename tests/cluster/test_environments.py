"""Every environment's values against the real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from chart.harness.render import CHART
from cluster.kube import Cluster, until

ENVIRONMENTS = sorted(
    str(file.relative_to(CHART)) for file in [*CHART.glob("values-*.yaml"), *CHART.glob("ci/*-values.yaml")]
)
LABELS = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


@pytest.fixture(scope="module")
def crds(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[None]:
    """The kinds of the operators that the environments use; those that are absent come for these tests only."""
    folder: Path = request.config.getoption("--crds")
    added = []
    for file in sorted([*folder.glob("monitoring*.yaml"), *folder.glob("external-secrets*.yaml")]):
        name = yaml.safe_load(file.read_text())["metadata"]["name"]
        if cluster.run("kubectl", "get", "crd", name, check=False).returncode:
            cluster.kubectl("apply", "--server-side", "-f", str(file))
            added.append(name)
    if not added and "monitoring.coreos.com" not in cluster.kubectl("api-versions"):
        pytest.skip(f"the cluster lacks the operators' kinds, and {folder} has none: say where they are with --crds")
    until("they are served", lambda: "monitoring.coreos.com/v1" in cluster.kubectl("api-versions"))
    yield
    if added:
        cluster.kubectl("delete", "crd", *added)


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize("file", ENVIRONMENTS)
def test_a_dry_run_on_the_server_warns_of_nothing(file: str, cluster: Cluster) -> None:
    with cluster.namespace("dry-run", LABELS) as namespace:
        rendered = namespace.helm("template", "seed", CHART, f"--values={CHART / file}").stdout
        dry_run = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
        done = cluster.run("kubectl", "-n", namespace.name, *dry_run, input=rendered)
        assert done.stdout.count("serverside-applied") == rendered.count("\nkind: ")
        assert done.stderr == ""

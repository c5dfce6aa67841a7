"""Every environment's values against the real API server, and the tools of chart CI."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from chart.conftest import DEFAULT_CRDS
from chart.harness.helm import REPOSITORY
from chart.harness.render import CHART, merged
from cluster.kube import SMALL, Cluster, until

ENVIRONMENTS = sorted(
    str(file.relative_to(CHART)) for file in [*CHART.glob("values-*.yaml"), *CHART.glob("ci/*-values.yaml")]
)
LABELS = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


@pytest.fixture(scope="module")
def crds(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[None]:
    """The kinds of the operators that the environments use; those that are absent come for these tests only."""
    folder = Path(request.config.getoption("--crds", DEFAULT_CRDS))
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


@pytest.fixture
def ct() -> str:
    """Chart-testing."""
    found = shutil.which("ct")
    if not found:
        pytest.skip("chart-testing (ct) is not on PATH")
    return found


@pytest.mark.xdist_group("ct")
def test_ct_lint_passes(ct: str, cluster: Cluster) -> None:
    if not shutil.which("yamale"):
        pytest.skip("yamale, which ct lint calls, is not on PATH")
    cluster.run(ct, "lint", "--config=ct.yaml", "--charts=charts/seed-analytics", "--check-version-increment=false")


@pytest.mark.xdist_group("ct")
@pytest.mark.parametrize("file", [name for name in ENVIRONMENTS if name.startswith("ci/")])
def test_ct_install_passes(file: str, ct: str, cluster: Cluster, tmp_path: Path) -> None:
    # On a copy of the chart with one file in ci/, which also names the images: ct has no other way to add values.
    chart = tmp_path / "charts" / "seed-analytics"
    shutil.copytree(CHART, chart)
    for other in chart.glob("ci/*"):
        other.unlink()
    values = yaml.safe_load((CHART / file).read_text())
    chart.joinpath(file).write_text(yaml.safe_dump(merged(values, cluster.values, SMALL)))
    with cluster.namespace("ct") as namespace:
        cluster.run(
            *(ct, "install", f"--config={REPOSITORY / 'ct.yaml'}", f"--charts={chart}"),
            *(f"--namespace={namespace.name}", "--release-label=app.kubernetes.io/instance"),
        )

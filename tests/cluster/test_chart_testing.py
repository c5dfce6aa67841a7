"""chart-testing (`ct`), the tool of chart CI, on a real cluster. Runs where `ct` is on PATH; `ct lint` is in tests/chart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from chart.harness.helm import REPOSITORY
from chart.harness.render import CHART, merged
from cluster.conftest import absent
from cluster.kube import SMALL, Cluster


@pytest.fixture
def ct(request: pytest.FixtureRequest) -> str:
    """Chart-testing."""
    found = shutil.which("ct")
    if not found:
        absent(request.config, "ct", "chart-testing (ct) is not on PATH")
    return found


@pytest.mark.parametrize("file", sorted(f"ci/{file.name}" for file in CHART.glob("ci/*-values.yaml")))
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

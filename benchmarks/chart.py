"""The chart: one full render, and its test suite.

CHART_PEER names the folder of a published chart to render beside it, CHART_PEER_VALUES a values file of that chart
(in its folder; default values.yaml). Without them the render is set against its bound alone. JupyterHub's chart renders
some 30 objects and needs no dependency:

    git clone --depth 1 https://github.com/jupyterhub/zero-to-jupyterhub-k8s /tmp/peer
    CHART_PEER=/tmp/peer/jupyterhub python -m benchmarks chart
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks._measure import Row, beside, seconds, within

ROOT = Path(__file__).resolve().parents[1]
CHART, VALUES = ROOT / "charts" / "seed-analytics", "values-prod.yaml"
RENDER_MS, SUITE_SECS, RUNS = 150, 60, 15


def rows() -> Iterator[Row]:
    helm = Path(_output(sys.executable, ROOT / "tests" / "chart" / "harness" / "helm.py").strip())
    ours = _render(helm, CHART, VALUES)
    what = f"render {VALUES}, {_objects(ours())} objects"
    ours()
    yield within(what, 1000 * statistics.median(seconds(ours) for _ in range(RUNS)), RENDER_MS, "ms")
    peer = os.environ.get("CHART_PEER")
    if peer:
        theirs = _render(helm, Path(peer), os.environ.get("CHART_PEER_VALUES", "values.yaml"))
        yield beside(what, ours, f"{Path(peer).name}, {_objects(theirs())} objects", theirs, runs=RUNS)
    tests = ("-q", "-n2", str(ROOT / "tests" / "chart"), "--ignore-glob=*test_properties.py")
    took = seconds(lambda: _output(sys.executable, "-m", "pytest", *tests))
    yield within("chart suite without the property run", took, SUITE_SECS, "s")


def _render(helm: Path, chart: Path, values: str) -> Callable[[], str]:
    return lambda: _output(helm, "template", "seed", chart, f"--values={chart / values}")


def _objects(text: str) -> int:
    return sum(line.startswith("kind: ") for line in text.splitlines())


def _output(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout

"""The suite itself: what it says without a cluster, and that it knows the place of each of its files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from cluster.conftest import GROUPS
from support import ROOT


def test_without_a_cluster_it_says_what_to_do(tmp_path: Path) -> None:
    for name in ("bash", "dirname", "kubectl"):  # kind is not among them
        found = subprocess.run(["which", name], capture_output=True, text=True, check=False).stdout.strip()
        if found:
            (tmp_path / name).symlink_to(found)
    env = os.environ | {"PATH": str(tmp_path), "KUBECONFIG": os.devnull}
    done = subprocess.run([ROOT / "tests/cluster/run"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "point KUBECONFIG at one, or install kind" in done.stderr


def test_every_file_has_its_group() -> None:
    """A file of no group would get a worker, and with it a release, of its own."""
    assert {file.stem for file in Path(__file__).parent.glob("test_*.py")} == GROUPS.keys()

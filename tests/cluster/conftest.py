"""A real cluster: the current context of KUBECONFIG. Every test has namespaces of its own, deleted when it ends."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any, NoReturn

import pytest
from chart.harness import helm
from cluster.kube import (
    RESTRICTED,
    SERVICES_OFF,
    SMALL,
    STAGES_OFF,
    Cluster,
    Namespace,
    Postgres,
    connected,
    merged,
    until,
)
from containers import IMAGES, REGISTRY, VERSION
from support import ROOT
from xdist.scheduler import LoadScopeScheduling

PUBLISHED_POSTGRES, PUBLISHED_UID = "docker.io/library/postgres:17", 999
LOCAL_POSTGRES = "seed-analytics-test-postgres:17"
PROXY = "seed-analytics-test-proxy:1"
GROUPS = {
    **dict.fromkeys(("test_install", "test_exit_codes", "test_network", "test_runbooks", "test_faults"), "demo"),
    **dict.fromkeys(("test_environment_values", "test_bad_installs", "test_environments"), "operators"),
    **dict.fromkeys(("test_schedules", "test_upgrade", "test_install_guide"), "platform"),
    "test_argocd": "argocd",
    "test_chart_testing": "ct",
    "test_run": "ct",
}
"""File -> what its tests share: the release of the dev values, the operators' kinds, which come and go, ..."""
PARTS = ("cluster", "external-secrets", "proxy", "argocd", "history", "ct")
"""What tests are skipped without, unless --require names it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cluster")
    group.addoption(
        "--load-images",
        metavar="COMMAND",
        default=os.environ.get("LOAD_IMAGES", ""),
        help="copies the images named after it from the local Docker to the cluster, such as 'kind load docker-image'; "
        "without it, the cluster pulls them",
    )
    group.addoption(
        "--require",
        metavar="PARTS",
        default="",
        help=f"of {', '.join(PARTS)}: what must be there; without one of these, tests fail instead of being skipped",
    )
    group.addoption(
        "--argocd", action="store_true", help="Argo CD runs on this machine, and reads repositories of its file system"
    )


def absent(config: pytest.Config, part: str, reason: str) -> NoReturn:
    """Skip a test for want of one of PARTS, or fail it where --require names that part."""
    assert part in PARTS
    if part in config.getoption("--require").split(","):
        pytest.fail(f"--require names {part}, but {reason}", pytrace=False)
    pytest.skip(reason)


def _group(nodeid: str) -> str:
    """Return the group of a test's file; any other test is its own."""
    return GROUPS.get(Path(nodeid.partition("::")[0]).stem, nodeid)


class _ByRelease(LoadScopeScheduling):
    """Gives the tests of a group to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Keep tests that share a release together, where xdist runs several at once."""
    return _ByRelease(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files in the order of GROUPS: the longest group first, and faults after those who only look."""
    order = list(GROUPS)
    items.sort(key=lambda item: order.index(item.path.stem) if item.path.stem in order else len(order))


# --- The cluster and its images ---------------------------------------------------------------------------------------


def _full_name(image: str) -> str:
    """Return the name by which a kubelet knows an image of the local Docker."""
    first, _, rest = image.partition("/")
    if not rest:
        return f"docker.io/library/{image}"
    return image if "." in first or ":" in first else f"docker.io/{image}"


def _docker(*argv: str) -> str:
    command = (os.environ.get("DOCKER") or "docker", *argv)
    env = os.environ | {"DOCKER_BUILDKIT": "1"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout


def _image(name: str) -> dict[str, str]:
    path, _, tag = name.rpartition(":")
    registry, _, repository = path.rpartition("/")
    return {"registry": registry, "repository": repository, "tag": tag}


def _loader(config: pytest.Config) -> list[str]:
    return shlex.split(config.getoption("--load-images"))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Copy the images to the cluster, once for all workers."""
    session.config.stash[BEGUN] = time.monotonic()
    load = _loader(session.config)
    if not load or hasattr(session.config, "workerinput") or connected():
        return
    if "POSTGRES_IMAGE" in os.environ:
        _docker("tag", os.environ["POSTGRES_IMAGE"], LOCAL_POSTGRES)
    else:
        _docker("build", "--tag", LOCAL_POSTGRES, str(ROOT / "tests/images/postgres"))
    jobs = f"{REGISTRY}seed-analytics-jobs:{VERSION}"
    _docker("build", "--build-arg", f"BASE_IMAGE={jobs}", "--tag", PROXY, str(ROOT / "tests/cluster/proxy"))
    subprocess.run([*load, *(f"{REGISTRY}{name}:{VERSION}" for name in IMAGES), LOCAL_POSTGRES, PROXY], check=True)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The cluster, with the images in it."""
    if reason := connected():
        absent(request.config, "cluster", f"no cluster answers ({reason}): set KUBECONFIG")
    postgres, uid = os.environ.get("POSTGRES_IMAGE", PUBLISHED_POSTGRES), PUBLISHED_UID
    ours: dict[str, Any] = {}  # without a registry of our own and without images that were loaded: the published ones
    if REGISTRY or _loader(request.config):
        ours = {"global": {"image": {"registry": _image(_full_name(f"{REGISTRY}x:y"))["registry"]}}}
    if _loader(request.config):
        # Debian's package and the published image name another user each.
        postgres = LOCAL_POSTGRES
        uid = int(_docker("run", "--rm", "--entrypoint", "id", postgres, "-u", "postgres"))
    # By the clock of a zone where it is noon: the schedules are of the night, and only tests are to start runs.
    noon = {"global": {"stages": {"timeZone": f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"}}}
    database = {"devDatabase": {"image": _image(_full_name(postgres)), "runAsUser": uid}}
    return Cluster(merged(ours, noon, database), helm.find(request.config.getoption("--helm")))


@pytest.fixture(scope="session")
def proxy_image(request: pytest.FixtureRequest) -> dict[str, str]:
    """Image settings of a stand-in for the Cloud SQL proxy."""
    if not _loader(request.config):
        absent(request.config, "proxy", "the stand-in for the Cloud SQL proxy is built here: give --load-images")
    return _image(_full_name(PROXY))


# --- Namespaces -------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show what is in the namespaces when a test fails, before they go."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and report.when != "teardown" and cluster:
        report.sections += [(f"namespace {namespace.name}", namespace.story()) for namespace in cluster.alive]
    return report


@pytest.fixture
def new_namespace(cluster: Cluster) -> Iterator[Callable[..., Namespace]]:
    """Make namespaces of this test."""
    with ExitStack() as stack:
        yield lambda purpose: stack.enter_context(cluster.namespace(purpose))


@pytest.fixture
def namespace(request: pytest.FixtureRequest, new_namespace: Callable[..., Namespace]) -> Namespace:
    """A namespace that enforces the restricted Pod Security level."""
    return new_namespace(Path(request.node.path).stem.removeprefix("test_").replace("_", "-"))


# --- Releases that several tests share --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres(cluster: Cluster) -> Iterator[Postgres]:
    """The platform's PostgreSQL, in a namespace of its own: a log, our tables and all weekly KPIs."""
    with cluster.namespace("postgres") as namespace:
        namespace.install(
            "platform",
            *(SMALL, STAGES_OFF, SERVICES_OFF),
            {
                "global": {"networkPolicy": {"enabled": False}},
                "devDatabase": {"simulator": {"learners": 300}},
                "verify": {"enabled": False},
            },
            files=["values-dev.yaml"],
        )
        namespace.run("compute-weekly-kpis", "kpis")
        yield Postgres(namespace)


@dataclass
class Demo:
    """A release of values-dev.yaml, installed and used as its notes say.

    Attributes:
        namespace: where it is.
        installed: what `helm install` printed.
        printed: command of the notes -> its exit code and what it printed.
        seconds: part -> how long it took.

    """

    namespace: Namespace
    installed: subprocess.CompletedProcess[str]
    printed: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def postgres(self) -> Postgres:
        """Its database."""
        return Postgres(self.namespace)


BEGUN = pytest.StashKey[float]()
_measured: dict[str, str] = {}


@pytest.fixture(scope="session")
def measured() -> dict[str, str]:
    """What the suite has measured: name -> value with unit; printed at its end."""
    return _measured


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a worker has measured to the session that started it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["measured"] = _measured


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker has measured."""
    _measured.update(getattr(node, "workeroutput", {}).get("measured", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    if _measured:
        minutes, seconds = divmod(time.monotonic() - terminalreporter.config.stash[BEGUN], 60)
        _measured["the whole suite, loading of images included"] = f"{minutes:.0f} min {seconds:.0f} s"
        terminalreporter.section("measured on the cluster")
        for name, value in _measured.items():
            terminalreporter.write_line(f"{name:<58} {value:>12}")


@pytest.fixture(scope="session")
def demo(cluster: Cluster, measured: dict[str, str]) -> Iterator[Demo]:
    """The newcomer's release: installed, and every command of its notes run as printed."""
    with cluster.namespace("demo", RESTRICTED) as namespace:
        begun = time.monotonic()
        found = Demo(namespace, namespace.install("demo", files=["values-dev.yaml"], check=False))
        found.seconds["helm install --wait"] = time.monotonic() - begun
        if found.installed.returncode == 0:
            for command in notes_commands(found.installed.stdout):
                at = time.monotonic()
                found.printed[command] = cluster.run("bash", "-c", command, check=False)
                found.seconds[command[:60]] = time.monotonic() - at
        measured.update({f"  {part}": f"{seconds:.1f} s" for part, seconds in found.seconds.items()})
        measured["install to first verified run"] = f"{sum(found.seconds.values()):.1f} s"
        yield found


def notes_commands(notes: str) -> list[str]:
    """Return the commands that the notes tell to run next: the lines that are indented deepest."""
    return [line.strip() for line in notes.partition("\nNext:\n")[2].splitlines() if line.startswith("     ")]


def monitoring_off(cluster: Cluster) -> dict[str, Any]:
    """Return values without the Prometheus operator's kinds, where the cluster does not serve them."""
    if "monitoring.coreos.com/v1" in cluster.kubectl("api-versions"):
        return {}
    return {
        "global": {"services": {"serviceMonitor": {"enabled": False}}},
        "prometheusRule": {"enabled": False},
    }


def production_here(postgres: Postgres, proxy_image: dict[str, str], store: str) -> dict[str, Any]:
    """Return what values-prod.yaml names of Google's, replaced: images without a digest, a stand-in for the proxy before a
    PostgreSQL of this cluster, and a store of Secrets.
    """
    no_digest = {"image": {"digest": ""}}
    return {
        "global": {
            "cloudSqlProxy": {
                "image": {**proxy_image, "digest": ""},
                "instance": f"{postgres.namespace.name}:test-region1:dev-database",
            },
            # The stand-in reaches PostgreSQL by its Service, not Google by its API.
            "networkPolicy": {"enabled": False},
            "stages": no_digest,
        },
        "secretStore": {"create": False, "kind": "ClusterSecretStore", "name": store},
        **dict.fromkeys(SERVICES_OFF, no_digest),
    }


# --- Operators --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def external_secrets(request: pytest.FixtureRequest, cluster: Cluster) -> None:
    """The External Secrets operator."""
    part = "external-secrets"
    # Every worker probes, at times two at once, and takes its own store away again.
    name = f"seed-e2e-probe-{token_hex(2)}"
    store = {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ClusterSecretStore",
        "metadata": {"name": name},
        "spec": {"provider": {"fake": {"data": [{"key": "probe", "value": "x"}]}}},
    }
    names = ("external-secrets.io", "v1", "clustersecretstores", name)
    try:
        cluster.apply(store)
    except AssertionError:
        absent(
            request.config, part, "the cluster serves no external-secrets.io/v1: install the External Secrets operator"
        )
    try:
        until(
            "the operator looks at a store",
            lambda: cluster.custom.get_cluster_custom_object(*names).get("status", {}).get("conditions"),
            60,
        )
    except AssertionError:
        absent(request.config, part, "no External Secrets operator looks at a ClusterSecretStore: start it")
    finally:
        cluster.custom.delete_cluster_custom_object(*names)

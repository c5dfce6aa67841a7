"""What the cluster's tests call: a cluster, a namespace of its own for each test, a release of the chart in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

import yaml
from chart.harness import helm
from chart.harness.render import CHART, merged
from kubernetes import client, config

T = TypeVar("T")

MINE = {"seed-analytics/tests": "true"}  # what an interrupted run has left is deleted by this label
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
Change = Callable[[dict[str, Any]], None]
"""Changes the spec of a Job before it is started."""
PASSWORD = "throw-away"  # noqa: S105 - of the database of values-dev.yaml, which is thrown away
STAGES_OFF = {
    name: {"enabled": False}
    for name in (
        "calibrate-irt-weekly",
        "cluster-segments",
        "fit-survival-churn",
        "forecast-prophet",
        "fit-bayesian-growth",
    )
}
SERVICES_OFF = {name: {"enabled": False} for name in ("r-irt-plumber", "r-forecast-plumber", "r-brms-plumber")}
_SMALL = {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}
SMALL = {
    "global": {"stages": _SMALL, "services": _SMALL},
    **dict.fromkeys(SERVICES_OFF, _SMALL),
    "migrations": _SMALL,
    "verify": _SMALL,
    "devDatabase": _SMALL,
}
"""Values that let several releases share the two cores of a small node."""


def with_env(**env: str) -> Change:
    """Return a change of a Job: variables that it is given instead of, or besides, its own."""

    def change(spec: dict[str, Any]) -> None:
        container = spec["template"]["spec"]["containers"][0]
        kept = [item for item in container["env"] if item["name"] not in env]
        container["env"] = kept + [{"name": name, "value": value} for name, value in env.items()]

    return change


def until(what: str, look: Callable[[], T | None], seconds: float = 120) -> T:
    """Wait until `look` returns something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.3)
    return found


@dataclass
class Cluster:
    """A Kubernetes cluster, by the current context of KUBECONFIG.

    Attributes:
        values: of the chart: where the kubelet finds the images.
        helm: the Helm that installs.
        alive: the namespaces that tests have made and not yet deleted.

    """

    values: Mapping[str, Any]
    helm: Path
    core: client.CoreV1Api = field(default_factory=client.CoreV1Api)
    batch: client.BatchV1Api = field(default_factory=client.BatchV1Api)
    apps: client.AppsV1Api = field(default_factory=client.AppsV1Api)
    custom: client.CustomObjectsApi = field(default_factory=client.CustomObjectsApi)
    alive: list[Namespace] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a command that finds helm and kubectl."""
        folders = [str(self.helm.parent), os.environ["PATH"], str(Path(sys.executable).parent)]
        if not shutil.which("kubectl"):
            folders.append(str(helm.pinned(max(helm.PINNED)).parent))
        return os.environ | {"PATH": ":".join(folders)}

    def run(
        self,
        *argv: str | Path,
        input: str | None = None,  # noqa: A002
        check: bool = True,
        timeout: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with helm and kubectl on its PATH, and fail with what it said."""
        done = subprocess.run(
            argv,
            input=input,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env=self.environment,
            cwd=helm.REPOSITORY,
        )
        if check:
            assert done.returncode == 0, f"{' '.join(map(str, argv))}: {done.stderr or done.stdout}"
        return done

    def kubectl(self, *argv: str, **options: Any) -> str:
        """Run kubectl and return what it printed."""
        return self.run("kubectl", *argv, **options).stdout

    def apply(self, *objects: Mapping[str, Any], namespace: str = "default") -> str:
        """Create or change objects on the server's side."""
        text = yaml.safe_dump_all(objects)
        return self.kubectl("apply", "--server-side", "--force-conflicts", "-n", namespace, "-f", "-", input=text)

    @contextmanager
    def namespace(self, purpose: str, labels: Mapping[str, str] = RESTRICTED) -> Iterator[Namespace]:
        """Make a namespace, and delete it afterwards with all that is in it."""
        name = f"seed-e2e-{purpose}-{token_hex(2)}"
        self.core.create_namespace({"metadata": {"name": name, "labels": MINE | dict(labels)}})
        self.alive.append(Namespace(self, name))
        try:
            yield self.alive[-1]
        finally:
            self.alive.remove(Namespace(self, name))
            self.core.delete_namespace(name)


@dataclass
class Ended:
    """How a Job ended.

    Attributes:
        condition: Complete or Failed.
        reason: the condition's, for example PodFailurePolicy.
        exit_codes: of its pods, in the order of their creation.

    """

    condition: str
    reason: str
    exit_codes: list[int]


@dataclass
class Namespace:
    """A namespace of one test."""

    cluster: Cluster
    name: str

    def kubectl(self, *argv: str, **options: Any) -> str:
        """Run kubectl here and return what it printed."""
        return self.cluster.kubectl("--namespace", self.name, *argv, **options)

    def helm(self, *argv: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run Helm here."""
        return self.cluster.run(self.cluster.helm, *argv, "--namespace", self.name, **options)

    def install(
        self,
        release: str,
        *values: Mapping[str, Any],
        files: Sequence[str] = (),
        chart: Path = CHART,
        wait: bool = True,
        timeout: str = "5m",
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Install a release, or upgrade the one that is there; later values are laid over earlier ones, and all over the
        files of the chart.
        """
        given = merged(self.cluster.values, *values)
        verb = "install" if self.helm("status", release, check=False).returncode else "upgrade"
        return self.helm(
            *(verb, release, chart, f"--timeout={timeout}", *(["--wait"] if wait else [])),
            *(f"--values={CHART / file}" for file in files),
            "--values=-",
            input=json.dumps(given),
            check=check,
        )

    def run_job(self, cronjob: str, name: str, change: Change = lambda spec: None) -> str:
        """Start a Job from a CronJob, after `change` of its spec; return its name."""
        template = self.cluster.batch.read_namespaced_cron_job(cronjob, self.name).spec.job_template
        job = self.cluster.batch.api_client.sanitize_for_serialization(template)
        change(job["spec"])
        job["metadata"]["name"] = name
        self.cluster.batch.create_namespaced_job(self.name, job)
        return name

    def ended(self, job: str, seconds: float = 180) -> Ended:
        """Wait until a Job has ended, and say how."""

        def look() -> Ended | None:
            for condition in self.cluster.batch.read_namespaced_job(job, self.name).status.conditions or ():
                if condition.status == "True" and condition.type in {"Complete", "Failed"}:
                    return Ended(condition.type, condition.reason or "", self.exit_codes(job))
            return None

        return until(f"Job {job} ends", look, seconds)

    def complete(self, job: str, seconds: float = 180) -> None:
        """Wait until a Job is Complete, and fail with its log where it is not."""
        ended = self.ended(job, seconds)
        assert ended.condition == "Complete", f"{job}: {ended}\n{self.log(job)}"

    def run(self, cronjob: str, name: str, seconds: float = 180) -> None:
        """Run a CronJob once as its users do, to a good end."""
        self.kubectl("create", "job", name, f"--from=cronjob/{cronjob}")
        self.complete(name, seconds)

    def pods(self, **labels: str) -> list[client.V1Pod]:
        """Return the pods with these labels, the oldest first; `_` stands for `-`, `app` for app.kubernetes.io/name."""
        names = {"app": "app.kubernetes.io/name"}
        selector = ",".join(f"{names.get(key, key.replace('_', '-'))}={value}" for key, value in labels.items())
        found = self.cluster.core.list_namespaced_pod(self.name, label_selector=selector).items
        return sorted(found, key=lambda pod: pod.metadata.creation_timestamp)

    def exit_codes(self, job: str) -> list[int]:
        """Return the exit codes of a Job's pods that have ended."""
        states = [s.state for pod in self.pods(job_name=job) for s in pod.status.container_statuses or ()]
        return [state.terminated.exit_code for state in states if state.terminated]

    def log(self, job: str) -> str:
        """Return the log of all pods of a Job that have started."""
        names = [pod.metadata.name for pod in self.pods(job_name=job) if pod.status.container_statuses]
        return "".join(self.kubectl("logs", name, check=False) for name in names)

    def running(self, seconds: float = 120, **labels: str) -> client.V1Pod:
        """Wait for a running pod that is not being deleted."""

        def look() -> client.V1Pod | None:
            alive = [
                p for p in self.pods(**labels) if p.status.phase == "Running" and not p.metadata.deletion_timestamp
            ]
            return alive[0] if alive else None

        return until(f"a pod with {labels} runs", look, seconds)

    def ready(self, deployment: str, seconds: float = 180) -> None:
        """Wait until a Deployment is rolled out."""
        self.kubectl("rollout", "status", f"deployment/{deployment}", f"--timeout={seconds:.0f}s")

    def secret(self, name: str, **data: str) -> None:
        """Create or change a Secret."""
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}, namespace=self.name
        )

    def left(self) -> set[str]:
        """Return what is here of every kind but pods, which go with their owners, and what the cluster itself makes."""
        every = self.cluster.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
        passing = {"pods", "events", "events.events.k8s.io", "endpoints", "endpointslices.discovery.k8s.io"}
        kinds = ",".join(kind for kind in every if kind not in passing and not kind.startswith("pods."))
        asked = ("get", kinds, "--output=name", "--ignore-not-found")
        listed = self.cluster.run("kubectl", "--namespace", self.name, *asked, check=False)
        if listed.returncode:  # a kind that another test has removed in between: who waits looks again
            return {listed.stderr}
        return set(listed.stdout.split()) - {"serviceaccount/default", "configmap/kube-root-ca.crt"}

    def story(self) -> str:
        """Return what is here, and the events, the oldest first."""
        listed = self.kubectl("get", "pods,jobs,cronjobs,deployments,services", check=False)
        return f"{listed}\n{self.kubectl('get', 'events', '--sort-by=.lastTimestamp', check=False)}"


@dataclass
class Postgres:
    """The PostgreSQL of a release with devDatabase."""

    namespace: Namespace

    def url(self, database: str = "seedtest", *, proxied: bool = False) -> str:
        """Return the URL of a database, from any namespace, or from beside a proxy."""
        host = "127.0.0.1" if proxied else f"dev-database.{self.namespace.name}.svc"
        return f"postgresql://seedtest:{PASSWORD}@{host}:5432/{database}"

    def sql(self, statement: str, database: str = "seedtest") -> list[str]:
        """Run statements in one session and return the lines of their results."""
        psql = (
            "psql",
            "--username=seedtest",
            "--no-align",
            "--tuples-only",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            database,
        )
        return self.namespace.kubectl(
            "exec", "-i", "deployment/dev-database", "--", *psql, input=statement
        ).splitlines()

    def copy(self, purpose: str) -> str:
        """Make a database with the same contents, and return its name."""
        name = f"{purpose}_{token_hex(2)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE seedtest", "postgres")
        return name

    @contextmanager
    def session(self, statement: str, database: str = "seedtest") -> Iterator[None]:
        """Keep a session open that has run a statement: a lock is held until the block ends."""
        psql = ("psql", "--username=seedtest", "--quiet", "--set=ON_ERROR_STOP=1", database)
        argv = ("kubectl", "--namespace", self.namespace.name, "exec", "-i", "deployment/dev-database", "--", *psql)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(argv, **pipes, env=self.namespace.cluster.environment) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.write(f"{statement};\n\\echo held\n")
            process.stdin.flush()
            while process.stdout.readline().strip() != "held":
                assert process.poll() is None, f"psql ended: {statement}"
            yield
            process.stdin.close()


def connected() -> str:
    """Connect to the cluster of the current context; return why not, or ""."""
    try:
        config.load_kube_config()
        client.VersionApi().get_code(_request_timeout=5)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return ""

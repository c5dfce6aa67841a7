"""Containers as the chart runs them: read-only root, no capability, no new privilege, limited memory."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NoReturn

import docker
import httpx
import pytest
import yaml
from docker.errors import DockerException, ImageNotFound
from docker.models.containers import Container
from docker.models.images import Image
from support import ROOT
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

VERSION = re.search(r'^version = "(.+)"$', (ROOT / "jobs/pyproject.toml").read_text(), re.MULTILINE)[1]  # type: ignore[index]
DOCKER = os.environ.get("DOCKER", "docker")
REGISTRY = os.environ.get("REGISTRY", "")
BASE_IMAGE = os.environ.get("BASE_IMAGE", "debian:trixie-slim")
SERVICES = ("r-irt-plumber", "r-forecast-plumber", "r-brms-plumber")
JOBS = "seed-analytics-jobs"
IMAGES = (JOBS, *SERVICES)
READY_SECS = 180
TOKEN = secrets.token_urlsafe(32)
HTTP = httpx.Client()  # one for all: to make one takes longer than a service needs to reply

RESTRICTED: Mapping[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "pids_limit": 256,
}


def limits(name: str) -> dict[str, Any]:
    """Return the memory and size of /tmp that the chart gives a service or, for the jobs, a stage; it limits no CPU."""
    chart = ROOT / "charts/seed-analytics"
    values = yaml.safe_load((chart / "values.yaml").read_text())["global"]["stages" if name == JOBS else "services"]
    if name != JOBS:
        values |= yaml.safe_load((chart / "charts" / name / "values.yaml").read_text())
    resources = values["resources"]
    assert "cpu" not in resources["limits"], "the chart limits CPU, and these containers do not"
    memory, tmp = (size.replace("i", "").lower() for size in (resources["limits"]["memory"], values["tmpSizeLimit"]))
    return {
        "mem_limit": memory,
        "memswap_limit": memory,
        "tmpfs": {"/tmp": f"exec,mode=1777,size={tmp}"},  # noqa: S108 - in the container
    }


def connect() -> docker.DockerClient:
    """Return the Docker daemon; what needs it is skipped where none answers."""
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        missing(f"no Docker daemon answers ({type(error).__name__}): this runs the images")
    return client


def missing(why: str) -> NoReturn:
    """Skip, or fail where DOCKER names a client: whoever set it counts on a daemon and its images."""
    if os.environ.get("DOCKER"):
        pytest.fail(why)
    pytest.skip(why)


def reap_ourselves() -> None:
    """Do without the reaper of testcontainers, which needs an image of its own: whoever starts a container ends it."""
    testcontainers_config.ryuk_disabled = True


def find_image(engine: docker.DockerClient, name: str) -> Image:
    """Return an image that `make images` has built."""
    reference = f"{REGISTRY}{name}:{VERSION}"
    try:
        return engine.images.get(reference)
    except ImageNotFound:
        missing(f"there is no image {reference}: run `make images` (and `make base-image` before, without a registry)")


@dataclass
class Ended:
    """What a container that has ended left."""

    code: int
    output: str


class Containers(AbstractContextManager["Containers"]):
    """Starts containers, and removes at its end what is left of them."""

    def __init__(self, engine: docker.DockerClient) -> None:
        self._engine = engine
        self._started: list[DockerContainer] = []

    def start(self, image: Image | str, *command: str, **options: Any) -> Container:
        """Start a restricted container, ours with the chart's limits.

        `options` are docker-py's, laid over these: `environment`, `ports`, `tmpfs` and `volumes` as dictionaries.
        """
        if isinstance(image, str):
            options = limits(image) | options
            image = find_image(self._engine, image)
        reap_ourselves()
        container = DockerContainer("", name=options.pop("name", None))
        container.image = str(image.id)  # as it is: DockerContainer would put a registry's name before it
        if command:
            container.with_command(list(command))
        # What testcontainers passes on by itself may be given once only.
        container.env = options.pop("environment", {})
        container.ports = options.pop("ports", {})
        container.tmpfs = options.pop("tmpfs", {})
        container.volumes = options.pop("volumes", {})
        container.with_kwargs(**{**RESTRICTED, **options})
        self._started.append(container)
        return container.start().get_wrapped_container()

    def run(self, image: Image | str, *command: str, **options: Any) -> Ended:
        """Run a restricted container to its end."""
        container = self.start(image, *command, **options)
        code = int(container.wait(timeout=600)["StatusCode"])
        return Ended(code, container.logs().decode())

    def shell(self, image: Image | str, script: str, **options: Any) -> Ended:
        """Run a script by the image's own shell."""
        return self.run(image, "-c", script, entrypoint="sh", **options)

    def __exit__(self, *_: object) -> None:
        """Remove every container that was started, with its volumes."""
        for container in self._started:
            container.stop()


@dataclass
class Service:
    """A service in a container, published on the loopback interface."""

    name: str
    container: Container
    base_url: str
    token: str = TOKEN

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """Ask for a fit."""
        return HTTP.post(
            self.base_url + path, json=body, headers={"Authorization": f"Bearer {self.token}"}, timeout=300
        )

    def wait(self, done: Callable[[], bool], what: str) -> None:
        """Wait until `done`, as long as the container runs."""
        deadline = time.monotonic() + READY_SECS
        while not done():
            self.container.reload()
            assert self.container.status == "running", self.container.logs().decode()
            assert time.monotonic() < deadline, f"{what}: not in {READY_SECS} s\n{self.container.logs().decode()}"
            time.sleep(0.05)

    def memory_mb(self) -> float:
        """Memory without the file cache that the kernel gives back, MB."""
        used: dict[str, Any] = self.container.stats(stream=False)["memory_stats"]
        cache = used["stats"].get("inactive_file", used["stats"].get("total_inactive_file", 0))
        return float(used["usage"] - cache) / 2**20

    def busy(self) -> bool:
        """Say whether a worker fits."""
        reply = self.get("/metrics")
        lines = reply.text.splitlines() if reply else []
        return any(line.startswith("seed_workers_busy{") and not line.endswith(" 0") for line in lines)

    def get(self, path: str) -> httpx.Response | None:
        """Return a reply, or None while nothing listens."""
        try:
            return HTTP.get(self.base_url + path, timeout=10)
        except httpx.TransportError:
            return None


def serve(containers: Containers, name: str, *, ready: bool = True, **options: Any) -> Service:
    """Start a service and wait until it is ready, unless told not to."""
    env = options["environment"] = {"INTERNAL_TOKEN": TOKEN, **options.get("environment", {})}
    container = containers.start(name, ports={"8080/tcp": ("127.0.0.1", None)}, **options)
    container.reload()
    port = container.ports["8080/tcp"][0]["HostPort"]
    service = Service(name, container, f"http://127.0.0.1:{port}", env["INTERNAL_TOKEN"])
    if ready:
        service.wait(
            lambda: (reply := service.get("/readyz")) is not None and reply.status_code == 200, f"{name} is ready"
        )
    return service

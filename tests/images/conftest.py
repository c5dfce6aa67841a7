"""The four images in turn, and the services in their containers."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import docker
import psycopg
import pytest
from containers import (
    BASE_IMAGE,
    IMAGES,
    JOBS,
    READY_SECS,
    REGISTRY,
    SERVICES,
    TOKEN,
    VERSION,
    Containers,
    Ended,
    Service,
    connect,
    find_image,
    serve,
)
from docker.errors import DockerException, ImageNotFound
from docker.models.containers import Container
from docker.models.images import Image
from postgres import DEFAULT_IMAGE
from seed_analytics.settings import SERVICES as SERVICE_OF_PREFIX
from support import ROOT

WEEKS = "16"


def pytest_report_header() -> list[str]:
    """Say which revision each image is of, beside the checkout's: images are not built by the tests."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    try:
        with closing(docker.from_env()) as client:
            labels = {name: client.images.get(f"{REGISTRY}{name}:{VERSION}").labels for name in IMAGES}
    except DockerException:
        return []
    revisions = {name: label.get("org.opencontainers.image.revision", "unknown") for name, label in labels.items()}
    said = (f"{name} {'HEAD' if of == head.strip() else of[:9]}" for name, of in revisions.items())
    return [f"images of revision: {', '.join(said)} (HEAD is {head[:9]})"]


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The Docker daemon."""
    client = connect()
    yield client
    client.close()


@pytest.fixture(params=IMAGES, scope="session")
def image(request: pytest.FixtureRequest, engine: docker.DockerClient) -> Image:
    """Each of the four images in turn."""
    return find_image(engine, request.param)


@pytest.fixture
def containers(engine: docker.DockerClient) -> Iterator[Containers]:
    """Containers of one test."""
    with Containers(engine) as started:
        yield started


@pytest.fixture(scope="session")
def lasting(engine: docker.DockerClient) -> Iterator[Containers]:
    """Containers that several tests share."""
    with Containers(engine) as started:
        yield started


@pytest.fixture(params=SERVICES, scope="session")
def service(request: pytest.FixtureRequest, lasting: Containers) -> Service:
    """Each of the three services in turn, ready."""
    return serve(lasting, request.param)


@pytest.fixture(scope="session")
def postgres_image(engine: docker.DockerClient) -> Image:
    """PostgreSQL: what POSTGRES_IMAGE names, pulled where it is not here; else the published one where it is, or Debian's."""
    name = os.environ.get("POSTGRES_IMAGE")
    try:
        return engine.images.get(name or DEFAULT_IMAGE)
    except ImageNotFound:
        if name:
            return engine.images.pull(name)
    built, _ = engine.images.build(
        path=str(ROOT / "tests/images/postgres"),
        buildargs={"BASE_IMAGE": BASE_IMAGE},
        tag="seed-analytics-test-postgres",
        rm=True,
    )
    return built


@dataclass
class Platform:
    """PostgreSQL and the three services in a network that has no way out, and the jobs image beside them."""

    containers: Containers
    network: str
    database: Container
    services: dict[str, Container]
    password: str
    env: dict[str, str]

    def start(self, *argv: str, **options: Any) -> Container:
        """Start ``seed-analytics ARGV``."""
        return self.containers.start(JOBS, *argv, network=self.network, environment=self.env, **options)

    def run(self, *argv: str, **options: Any) -> Ended:
        """Run ``seed-analytics ARGV`` to its end."""
        return self.containers.run(JOBS, *argv, network=self.network, environment=self.env, **options)

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Look at the database from this machine, which is the network's gateway."""
        self.database.reload()
        host = self.database.attrs["NetworkSettings"]["Networks"][self.network]["IPAddress"]
        return psycopg.connect(
            host=host, user="seedtest", dbname="seedtest", password=self.password, autocommit=True, connect_timeout=5
        )

    def wait(self) -> None:
        """Wait until the database answers."""
        deadline = time.monotonic() + READY_SECS
        while not self._answers():
            assert self.database.status == "running", self.database.logs().decode()
            assert time.monotonic() < deadline, self.database.logs().decode()
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture(scope="module")
def platform(engine: docker.DockerClient, postgres_image: Image) -> Iterator[Platform]:
    """A platform whose database holds simulated learners and their KPIs, and nothing of any stage."""
    network = engine.networks.create(f"seed-analytics-test-{secrets.token_hex(4)}", internal=True)
    try:
        with Containers(engine) as containers:
            password = secrets.token_urlsafe(16)
            database = containers.start(
                postgres_image,
                name=f"{network.name}-database",
                network=network.name,
                read_only=False,
                cap_drop=[],
                environment={
                    "POSTGRES_USER": "seedtest",
                    "POSTGRES_DB": "seedtest",
                    "POSTGRES_PASSWORD": password,
                    "POSTGRES_INITDB_ARGS": "--encoding=UTF8 --locale=C.UTF-8",
                },
            )
            env = {"DATABASE_URL": f"postgresql://seedtest:{password}@{database.name}:5432/seedtest"}
            services = {}
            for prefix, name in SERVICE_OF_PREFIX.items():
                services[name] = service = containers.start(
                    name, name=f"{network.name}-{name}", network=network.name, environment={"INTERNAL_TOKEN": TOKEN}
                )
                env |= {f"{prefix}_BASE_URL": f"http://{service.name}:8080", f"{prefix}_INTERNAL_TOKEN": TOKEN}
            made = Platform(containers, str(network.name), database, services, password, env)
            made.wait()
            for argv in (
                ("migrate", "--with-platform-tables"),
                ("simulate", "--learners", "150", "--weeks", WEEKS, "--seed", "1"),
                ("compute-weekly-kpis", "--kpi-lookback-weeks", WEEKS),
            ):
                ended = made.run(*argv)
                assert ended.code == 0, ended.output
            yield made
    finally:
        network.remove()

"""The four images in turn, and the services in their containers."""

from __future__ import annotations

import os
from collections.abc import Iterator

import docker
import pytest
from containers import BASE_IMAGE, IMAGES, SERVICES, Containers, Service, connect, find_image, serve
from docker.models.images import Image
from support import ROOT


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
    started = Containers(engine)
    yield started
    started.remove()


@pytest.fixture(scope="session")
def lasting(engine: docker.DockerClient) -> Iterator[Containers]:
    """Containers that several tests share."""
    started = Containers(engine)
    yield started
    started.remove()


@pytest.fixture(params=SERVICES, scope="session")
def service(request: pytest.FixtureRequest, lasting: Containers) -> Service:
    """Each of the three services in turn, ready."""
    return serve(lasting, request.param)


@pytest.fixture(scope="session")
def postgres_image(engine: docker.DockerClient) -> Image:
    """PostgreSQL: the image that POSTGRES_IMAGE names, else one that is built from Debian's package."""
    if name := os.environ.get("POSTGRES_IMAGE"):
        return engine.images.get(name)
    built, _ = engine.images.build(
        path=str(ROOT / "tests/images/postgres"),
        buildargs={"BASE_IMAGE": BASE_IMAGE},
        tag="seed-analytics-test-postgres",
        rm=True,
    )
    return built

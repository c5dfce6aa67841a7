"""The PostgreSQL that the suites run against: in a container where a Docker daemon has its image, else embedded.

``pytest --postgres embedded|container`` chooses; POSTGRES_IMAGE names the image, ``postgres:17`` by default.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import docker
import pytest
from containers import reap_ourselves
from docker.errors import DockerException, ImageNotFound
from seed_analytics.local import Postgres
from testcontainers.community.postgres import PostgresContainer

DEFAULT_IMAGE = "postgres:17"
MODES = ("auto", "container", "embedded")
# Nobody needs these data after a power cut; times are read in UTC, as from the embedded server.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class Choice:
    """Which server the session has, and why: `image` is None for the embedded one."""

    image: str | None
    why: str


def choose(mode: str) -> Choice:
    """Choose the server of a session.

    Raises:
        pytest.UsageError: a container is asked for, and no Docker daemon answers.

    """
    if mode == "embedded":
        return Choice(None, "as --postgres says")
    image = os.environ.get("POSTGRES_IMAGE") or DEFAULT_IMAGE
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        if mode == "container":
            raise pytest.UsageError(f"--postgres container: no daemon answers ({type(error).__name__})") from None
        return Choice(None, "no Docker daemon answers")
    with closing(client):
        if mode == "auto" and not client.images.list(name=image):
            return Choice(None, f"the Docker daemon has no image {image}; --postgres container pulls it")
    return Choice(image, "a Docker daemon answers; --postgres embedded does without")


class ContainerPostgres:
    """A throw-away PostgreSQL server in a container, published on the loopback interface: another `local.Postgres`."""

    create_database = Postgres.create_database

    def __init__(self, image: str) -> None:
        self._image = image
        options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        self._container = (
            PostgresContainer(image, username="postgres", dbname="postgres", driver=None)
            .with_env("POSTGRES_HOST_AUTH_METHOD", "trust")
            .with_env("POSTGRES_INITDB_ARGS", "--encoding=UTF8 --locale=C.UTF-8")
            .with_command(options)
            .with_kwargs(shm_size="256m")
        )
        self._container.ports = {"5432/tcp": ("127.0.0.1", None)}

    def url(self, database: str = "postgres") -> str:
        """Return the DATABASE_URL of a database of this server."""
        return f"postgresql://postgres@127.0.0.1:{self._container.get_exposed_port(5432)}/{database}"

    def __enter__(self) -> Self:
        """Start the server, pulling its image where that is not here, and wait until it answers."""
        reap_ourselves()
        try:
            self._container.start()
        except ImageNotFound:
            pytest.fail(
                f"there is no image {self._image}, and it cannot be pulled: set POSTGRES_IMAGE, "
                "or run pytest with --postgres embedded",
                pytrace=False,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the container and its data."""
        self._container.stop()

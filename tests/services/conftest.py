"""The three services in turn, from the working tree and from the images, and services with settings of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest
from containers import SERVICES, Containers, Service, connect, serve
from fits import FITS
from seed_analytics.local import RService

SOURCES = ("working tree", "images")
FORECAST = "r-forecast-plumber"
Served = RService | Service


@pytest.fixture(params=SOURCES, scope="session")
def services(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Served]]:
    """The three services, ready, from each source in turn; name -> service."""
    if request.param == "working tree":
        yield request.getfixturevalue("working_tree")
        return
    with Containers(connect()) as containers:
        yield {name: serve(containers, name) for name in SERVICES}


@pytest.fixture(params=FITS, scope="session")
def service(request: pytest.FixtureRequest, services: Mapping[str, Served]) -> Served:
    """Each of the three services in turn."""
    return services[request.param]


@pytest.fixture
def start() -> Iterator[Callable[..., RService]]:
    """Start r-forecast-plumber from the working tree with settings of its own: ``start(QUEUE_LENGTH="0")``."""
    started = []

    def start_service(*, token: str | None = None, ready: bool = True, **env: str) -> RService:
        service = RService(FORECAST, token=token, env=env)
        started.append(service)
        service.start()
        if ready:
            service.wait_ready()
        return service

    yield start_service
    for service in started:
        service.stop()


@pytest.fixture(params=SOURCES)
def start_any(request: pytest.FixtureRequest) -> Iterator[Callable[..., Served]]:
    """Start r-forecast-plumber from each source in turn with settings of its own."""
    if request.param == "working tree":
        yield request.getfixturevalue("start")
        return
    with Containers(connect()) as containers:

        def start_container(*, token: str | None = None, ready: bool = True, **env: str) -> Service:
            environment = env if token is None else {"INTERNAL_TOKEN": token, **env}
            return serve(containers, FORECAST, ready=ready, environment=environment)

        yield start_container
